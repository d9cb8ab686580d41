"""Body models by name: what the body stage fits and what the structure stage draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef

FittedName = Literal["anny", "smplx"]
"""Models that the body stage fits itself."""
BackendName = Literal["anny", "smplx", "sam3d-body"]
Float = NDArray[np.float32]


class BodyModel(Protocol):
    """Turns the parameters of a body facet's arrays into a mesh in camera axes."""

    @property
    def faces(self) -> NDArray[np.int32]:
        """(F,3)."""

    @property
    def part_labels(self) -> NDArray[np.uint8]:
        """(V,) 0 body, 1 left hand, 2 right hand, 3 head."""

    def vertices(self, arrays: Mapping[str, NDArray[Any]], start: int, stop: int) -> Float:
        """Vertices (stop-start,V,3) of some frames, metres, camera looks along -z."""


@dataclass(frozen=True, slots=True)
class LinearBodyModel:
    """Draws what was fitted to a ``LinearBody``: rotations, translation, shape."""

    body: Any

    @property
    def faces(self) -> NDArray[np.int32]:
        """(F,3)."""
        return np.asarray(self.body.faces)

    @property
    def part_labels(self) -> NDArray[np.uint8]:
        """(V,)."""
        return np.asarray(self.body.part_labels)

    def vertices(self, arrays: Mapping[str, NDArray[Any]], start: int, stop: int) -> Float:
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

    arrays: Mapping[str, NDArray[Any]]

    @property
    def faces(self) -> NDArray[np.int32]:
        """(F,3)."""
        return self.arrays["faces"]

    @property
    def part_labels(self) -> NDArray[np.uint8]:
        """(V,)."""
        return self.arrays["part_labels"]

    def vertices(self, arrays: Mapping[str, NDArray[Any]], start: int, stop: int) -> Float:
        """Frames ``[start, stop)`` where the root was."""
        shapes = arrays["vertices_m"][start:stop].astype(np.float32)
        return np.asarray(shapes + arrays["translation_m"][start:stop, None])


def stored_body(name: str, model_file: str, arrays: Mapping[str, NDArray[Any]]) -> BodyModel:
    """The model that draws a body facet's arrays."""
    if "vertices_m" in arrays:
        return MeshSequenceModel(arrays)
    return open_body("smplx" if name == "smplx" else "anny", model_file)


def check_body(name: FittedName, model_file: str) -> None:
    """Raise ConfigError, saying what to install or where to put a file, if a model is missing."""
    if name == "anny":
        from stages.body_models.anny_package import check_anny

        check_anny()
    else:
        from stages.body_models.smplx import check_smplx

        check_smplx(model_file)


def body_ref(name: FittedName, model_file: str) -> BackendRef:
    """How reports name a backend."""
    if name == "anny":
        from stages.body_models.anny_package import anny_ref

        return anny_ref()
    from stages.body_models.smplx import smplx_ref

    return smplx_ref(model_file)


def open_body(name: FittedName, model_file: str) -> LinearBodyModel:
    """Load a model; cheap when it is loaded already."""
    check_body(name, model_file)
    if name == "anny":
        from stages.body_models.anny import load_anny

        return LinearBodyModel(load_anny())
    from stages.body_models.smplx import load_smplx

    return LinearBodyModel(load_smplx(model_file))
