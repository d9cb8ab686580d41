"""A body model fitted to a clip's landmarks, its girth to the outline, its hands to the product."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from schemas.backend import About, BackendConfig, Resources
from schemas.base import BackendRef
from schemas.errors import ModelOutputError
from schemas.rows import Clip
from schemas.settings import PLACE
from stages.body.detections import Detections
from stages.body.fit import BodyFit, FitOptions, fit_body, with_shape
from stages.body.grasp import close_on_product
from stages.body.outline import Still, shape_from_outline
from stages.body.recovery import BodyBackend, BodyView, Recovered
from stages.body.targets import joints_seen
from stages.body_models.open_body import AnnySource, BodySource, LinearBodyModel, SmplxSource
from stages.files import Files
from stages.kit.arrays import Arrays
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks


class FittedConfig(BackendConfig):
    """How a model is fitted; a member of the recipe's choice adds its name."""

    focal_ratio: float = Field(default=1.2, gt=0.3, lt=10)
    """Assumed focal length over the picture's longer side; a phone's main camera has about 0.75 to 1.5."""
    rounds: int = Field(default=4, ge=1, le=20)
    steps: int = Field(default=3, ge=1, le=50)
    finger_steps: int = Field(default=6, ge=1, le=50)
    num_shape: int = Field(default=9, ge=1, le=20)
    outline_frames: int = Field(default=6, ge=0, le=50)
    """Frames whose matte says how thick the body is; 0 for none."""
    grasp: bool = True
    """Close the fingers of a holding hand on the product, and bring both before the trunk."""


class AnnyConfig(FittedConfig):
    """The Anny body; its data come with its package."""

    about: ClassVar[About] = About("anny", "anny", "Apache-2.0, assets CC0", "in the package")
    name: Literal["anny"] = "anny"

    def build(self) -> FittedBody:
        """The fit."""
        return FittedBody(AnnySource(), self)


class SmplxConfig(FittedConfig):
    """SMPL-X with your model file."""

    about: ClassVar[About] = About("smplx", "smplx", "MPI non-commercial", "your file", "smplx")
    name: Literal["smplx"] = "smplx"
    model_file: Annotated[str, PLACE] = ""
    """Path of your SMPLX_NEUTRAL.npz."""

    def build(self) -> FittedBody:
        """The fit."""
        return FittedBody(SmplxSource(self.model_file), self)


class FittedBody(BodyBackend):
    """Fits a body model.

    Args:
        source: Where the model comes from.
        config: How it is fitted.
    """

    def __init__(self, source: BodySource, config: FittedConfig) -> None:
        self._source, self._config = source, config

    @property
    def ref(self) -> BackendRef:
        """The model's."""
        return self._source.ref

    @property
    def weights_sha256(self) -> str:
        """Digest of the model's data."""
        return self.ref.weights_sha256

    @property
    def resources(self) -> Resources:
        """The fit is one thread of linear algebra; the model's table is small."""
        return Resources(num_cpus=0.5, memory_bytes=1_500_000_000)

    def check(self) -> None:
        """Raise ConfigError if the package or the model file is missing."""
        self._source.check()

    def setup(self) -> None:
        """Load the model; the first Anny of a user builds its table, about a minute."""
        _ = self._model

    @cached_property
    def _model(self) -> LinearBodyModel:
        return self._source.open()

    def recover(self, view: BodyView) -> Recovered:
        """Fit the clip."""
        fit = self._filled(self._fit(view.seen), view.seen, view.row, view.landmarks)
        fit = self._grasping(fit, view.seen, view.row, view.files)
        return Recovered(fit_arrays(fit), fit)

    def _fit(self, seen: Detections) -> BodyFit:
        tables, config = self._model.body.tables, self._config
        roles = self._source.roles(tables.bone_names)
        options = FitOptions(
            config.focal_ratio, config.rounds, config.steps, config.finger_steps, config.num_shape
        )
        try:
            fit = fit_body(tables, roles, seen, options)
        except np.linalg.LinAlgError as error:
            raise ModelOutputError("fit_failed", f"normal equations: {error}") from error
        if not (np.isfinite(fit.rotations).all() and np.isfinite(fit.translation).all()):
            raise ModelOutputError("fit_failed", "the fit gave values that are not finite")
        return fit

    def _filled(self, fit: BodyFit, seen: Detections, row: Clip, landmarks: Landmarks) -> BodyFit:
        """The fit with the girth that the person's outline shows."""
        usable = np.flatnonzero(seen.is_valid)
        if not self._config.outline_frames:
            return fit
        picked = usable[
            np.linspace(0, len(usable) - 1, min(self._config.outline_frames, len(usable)))
            .round()
            .astype(int)
        ]
        mattes = landmarks.matte(row.media.height_px, row.media.width_px)[picked]
        body = self._model.body
        roles = self._source.roles(body.bone_names)
        still = Still(
            fit.rotations[picked],
            fit.translation[picked],
            mattes,
            joints_seen(roles, seen, len(body.bone_names))[picked],
            np.nanmax(seen.pose_px[picked][:, 11:13, 1], axis=1),
        )
        shape = shape_from_outline(body, fit.shape, still, fit.camera, seen.head_px)
        return with_shape(body.tables, roles, seen, fit, shape)

    def _grasping(self, fit: BodyFit, seen: Detections, row: Clip, files: Files) -> BodyFit:
        """The fit with hands closed on the product; as it is where no product is known."""
        if not self._config.grasp or row.objects is None:
            return fit
        masks = decode_masks(
            files.arrays(row.objects.arrays),
            "mask",
            row.media.height_px,
            row.media.width_px,
        )
        tables = self._model.body.tables
        roles = self._source.roles(tables.bone_names)
        return close_on_product(tables, roles, seen, fit, masks)


def fit_arrays(fit: BodyFit) -> Arrays:
    """What is stored: parameters, camera, joints in the picture."""
    return {
        "rotations": fit.rotations,
        "translation_m": fit.translation,
        "shape": fit.shape,
        "joints_px": fit.joints_px,
        "is_valid": fit.is_valid.astype(np.uint8),
        "focal_px": np.array([fit.camera.focal_px], np.float32),
        "principal_px": np.array(fit.camera.principal_px, np.float32),
    }
