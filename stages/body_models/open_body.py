"""Body models: what the body stage fits and what the structure stage draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from schemas.base import BackendRef
from stages.body_models.rig import Roles, anny_roles
from stages.kit.arrays import F32, I32, U8, Array


class BodyModel(Protocol):
    """Turns the parameters of a body facet's arrays into a mesh in camera axes."""

    @property
    def faces(self) -> I32:
        """(F,3)."""

    @property
    def part_labels(self) -> U8:
        """(V,) 0 body, 1 left hand, 2 right hand, 3 head."""

    def vertices(self, arrays: Mapping[str, Array], start: int, stop: int) -> F32:
        """Vertices (stop-start,V,3) of some frames, metres, camera looks along -z."""


@dataclass(frozen=True, slots=True)
class LinearBodyModel:
    """Draws what was fitted to a ``LinearBody``: rotations, translation, shape."""

    body: Any

    @property
    def faces(self) -> I32:
        """(F,3)."""
        return np.asarray(self.body.faces)

    @property
    def part_labels(self) -> U8:
        """(V,)."""
        return np.asarray(self.body.part_labels)

    def vertices(self, arrays: Mapping[str, Array], start: int, stop: int) -> F32:
        """Skin frames ``[start, stop)``."""
        import torch

        with torch.inference_mode():
            vertices, _ = self.body.forward(
                torch.from_numpy(arrays["rotations"][start:stop]),
                torch.from_numpy(arrays["translation_m"][start:stop]),
                torch.from_numpy(arrays["shape"]),
            )
        return np.asarray(vertices.numpy())


@dataclass(frozen=True, slots=True)
class MeshSequenceModel:
    """Draws a mesh that was recorded frame by frame: the facet's arrays hold all of it."""

    arrays: Mapping[str, Array]

    @property
    def faces(self) -> I32:
        """(F,3)."""
        return self.arrays["faces"]

    @property
    def part_labels(self) -> U8:
        """(V,)."""
        return self.arrays["part_labels"]

    def vertices(self, arrays: Mapping[str, Array], start: int, stop: int) -> F32:
        """Frames ``[start, stop)`` where the root was."""
        shapes = arrays["vertices_m"][start:stop].astype(np.float32)
        return np.asarray(shapes + arrays["translation_m"][start:stop, None])


class BodySource(ABC):
    """A fitted model: is it here, which is it, and the model itself."""

    @property
    @abstractmethod
    def ref(self) -> BackendRef:
        """How reports name it."""

    @abstractmethod
    def check(self) -> None:
        """Raise ConfigError, saying what to install or where to put a file, if it is missing."""

    @abstractmethod
    def open(self) -> LinearBodyModel:
        """Load it; cheap when it is loaded already."""

    @abstractmethod
    def roles(self, bone_names: tuple[str, ...]) -> Roles:
        """Which of its bones are what."""


class AnnySource(BodySource):
    """Anny, from its package."""

    @property
    def ref(self) -> BackendRef:
        """Name, version, licence."""
        from stages.body_models.anny_package import anny_ref

        return anny_ref()

    def check(self) -> None:
        """Check the package."""
        from stages.body_models.anny_package import check_anny

        check_anny()

    def open(self) -> LinearBodyModel:
        """Load its table, which the first use builds."""
        from stages.body_models.anny import load_anny

        self.check()
        return LinearBodyModel(load_anny())

    def roles(self, bone_names: tuple[str, ...]) -> Roles:
        """By its bones' names."""
        return anny_roles(bone_names)


@dataclass(frozen=True, slots=True)
class SmplxSource(BodySource):
    """SMPL-X, from the user's file."""

    model_file: str

    @property
    def ref(self) -> BackendRef:
        """Name, digest of the file, licence."""
        from stages.body_models.smplx import smplx_ref

        return smplx_ref(self.model_file)

    def check(self) -> None:
        """Check package and file."""
        from stages.body_models.smplx import check_smplx

        check_smplx(self.model_file)

    def open(self) -> LinearBodyModel:
        """Load the file."""
        from stages.body_models.smplx import load_smplx

        self.check()
        return LinearBodyModel(load_smplx(self.model_file))

    def roles(self, bone_names: tuple[str, ...]) -> Roles:
        """By its bones' names."""
        from stages.body_models.smplx import smplx_roles

        return smplx_roles(bone_names)


def stored_body(name: str, model_file: str, arrays: Mapping[str, Array]) -> BodyModel:
    """The model that draws a body facet's arrays.

    Args:
        name: The backend that the facet names.
        model_file: Where SMPL-X is.
        arrays: The facet's.
    """
    if "vertices_m" in arrays:
        return MeshSequenceModel(arrays)
    return (SmplxSource(model_file) if name == "smplx" else AnnySource()).open()
