"""Stage 9: a body fitted to the clip's landmarks, one mesh a frame, smooth over time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.errors import InvariantError, ModelOutputError
from schemas.facets import BodyFacet
from schemas.rows import Clip
from schemas.settings import PIN, PLACE, UsedWhen, used_by
from stages.base import Dropped, GateConfig, Kept, Resources, Stage, StageConfig
from stages.body.fit import BodyFit, FitOptions, fit_body, with_shape
from stages.body.grasp import close_on_product
from stages.body.outline import Still, shape_from_outline
from stages.body.sequence import Recorded, record
from stages.body.targets import Detections, joints_seen, read_detections
from stages.body_models.open_body import (
    BackendName,
    FittedName,
    LinearBodyModel,
    body_ref,
    check_body,
    open_body,
)
from stages.body_models.rig import Roles, anny_roles
from stages.body_models.sam3d import Sam3dBody, Sam3dFiles
from stages.files import Files
from stages.kit.arrays import Arrays
from stages.kit.masks import decode_masks

Float = NDArray[np.float64]
_TAKEN = used_by("backend", "sam3d-body")
_FITTED = used_by("backend", "anny", "smplx")
_LENS = UsedWhen(lambda config: not config.results_dir or config.backend != "sam3d-body")
"""Saved results bring their own focal length."""


class BodyGate(GateConfig):
    """When a fit is not worth drawing. Lengths in head heights (crown to chin, about 23 cm)."""

    min_valid_share: float = Field(default=0.8, ge=0, le=1)
    max_reprojection_error_head: float = Field(default=0.15, gt=0)
    """Beyond this the mesh is visibly beside the person: 3.5 cm."""
    max_hand_reprojection_error_head: float = Field(default=0.20, gt=0)
    """About two finger widths."""
    max_jerk: float = Field(default=0.08, gt=0)
    """Third difference per frame^3; a waving hand stays below 0.03."""


class BodyConfig(StageConfig):
    """Which body model, and how it is fitted."""

    backend: BackendName = "anny"
    """``sam3d-body`` takes meshes from SAM 3D Body, saved ones or its package's; the others are fitted."""
    model_file: Annotated[str, PLACE] = ""
    """``smplx``: path of the user's SMPLX_NEUTRAL.npz."""
    results_dir: Annotated[str, PLACE] = ""
    """``sam3d-body``: saved results, ``<clip id>/<frame:06d>.npz``, in a folder that every worker can read."""
    faces_file: Annotated[str, PLACE] = ""
    """``sam3d-body`` with saved results: npz with the mesh's triangles, ``faces`` (F,3)."""
    checkpoint_file: Annotated[str, PLACE] = ""
    """``sam3d-body`` without saved results: path of model.ckpt. The package unpickles it: pin it."""
    checkpoint_sha256: Annotated[str, PIN] = ""
    """Pins ``checkpoint_file``; empty for any."""
    mhr_file: Annotated[str, PLACE] = ""
    """``sam3d-body`` without saved results: path of mhr_model.pt."""
    mhr_sha256: Annotated[str, PIN] = ""
    """Pins ``mhr_file``; empty for any."""
    max_gap_frames: Annotated[int, _TAKEN] = Field(default=8, ge=0)
    """``sam3d-body``: longer runs of frames without a result drop the clip, shorter ones are interpolated."""
    smooth_frames: Annotated[int, _TAKEN] = Field(default=7, ge=1, le=51)
    """``sam3d-body``: window of the smoothing over time; below 5 none."""
    focal_ratio: Annotated[float, _LENS] = Field(default=1.2, gt=0.3, lt=10)
    """Assumed focal length over the picture's longer side; a phone's main camera has about 0.75 to 1.5."""
    rounds: Annotated[int, _FITTED] = Field(default=4, ge=1, le=20)
    steps: Annotated[int, _FITTED] = Field(default=3, ge=1, le=50)
    finger_steps: Annotated[int, _FITTED] = Field(default=6, ge=1, le=50)
    num_shape: Annotated[int, _FITTED] = Field(default=9, ge=1, le=20)
    outline_frames: Annotated[int, _FITTED] = Field(default=6, ge=0, le=50)
    """Frames whose matte says how thick the body is; 0 for none."""
    grasp: Annotated[bool, _FITTED] = True
    """Close the fingers of a holding hand on the product, and bring both before the trunk."""
    gate: BodyGate = Field(default_factory=BodyGate)


class BodyStage(Stage[BodyConfig, Clip, Clip]):
    """Fits a body model to the landmarks of the ``detect`` stage, its hands to the product of ``objects``."""

    name: ClassVar[str] = "body"
    version: ClassVar[int] = 4
    facet: ClassVar[str] = "body"
    config_type: ClassVar[type[StageConfig]] = BodyConfig
    row_in: ClassVar[type[Clip]] = Clip
    row_out: ClassVar[type[Clip]] = Clip
    needs: ClassVar[tuple[str, ...]] = ("segment", "detect", "objects")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"no_pose", "poor_fit", "hand_misfit", "jittery", "fit_failed", "no_results", "bad_result"}
    )
    _model: LinearBodyModel | None = None

    def __init__(self, config: BodyConfig) -> None:
        super().__init__(config)
        self._sam3d: Sam3dBody | None = None
        if config.backend == "sam3d-body":
            names = Sam3dFiles.__dataclass_fields__
            files = Sam3dFiles(**{name: getattr(config, name) for name in names})
            self._sam3d = Sam3dBody(files, config.focal_ratio)

    @property
    def resources(self) -> Resources:
        """The fit is one thread of linear algebra; the model's table is small."""
        if self._sam3d is not None and self._sam3d.runs_package:
            return Resources(num_cpus=1.0, num_gpus=1.0, memory_bytes=12_000_000_000)
        return Resources(num_cpus=0.5, memory_bytes=1_500_000_000)

    @property
    def weights_sha256(self) -> str:
        """Digest of the model's data."""
        return self._ref.weights_sha256

    @property
    def _ref(self) -> BackendRef:
        if self._sam3d is not None:
            return self._sam3d.ref
        return body_ref(_fitted(self.config.backend), self.config.model_file)

    def check(self) -> None:
        """Raise ConfigError if the backend's package or model file is missing."""
        if self._sam3d is not None:
            self._sam3d.check()
        else:
            check_body(_fitted(self.config.backend), self.config.model_file)

    def setup(self) -> None:
        """Load the model; the first Anny of a user builds its table, about a minute."""
        if self._sam3d is not None:
            self._sam3d.setup()
        else:
            self._model = open_body(_fitted(self.config.backend), self.config.model_file)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Fit the clip; see the class of the facet for what is stored.

        Raises:
            DataError: ``fit_failed`` if the fit does not give finite numbers, ``no_results`` or ``bad_result``
                if saved results are missing or broken.
        """
        if row.boxes is None:
            raise InvariantError("body ran before detect")
        boxes = files.arrays(row.boxes.arrays)
        seen = read_detections(boxes, row.media.width_px, row.media.height_px)
        target = slice(row.media.num_motion_frames, None)
        if seen.head_px <= 0 or not seen.is_valid[target].any():
            return Dropped("no_pose", "no target frame shows a torso")
        if self._sam3d is not None:
            recorded = self._record(self._sam3d, row, files, boxes, seen)
            if recorded is None:
                return Dropped(
                    "no_pose", f"over {self.config.max_gap_frames} frames have no result"
                )
            stored, scores = sequence_arrays(recorded), fit_scores(recorded, seen, target)
        else:
            fit = self._filled(self._fit(seen), seen, row, boxes)
            fit = self._grasping(fit, seen, row, files)
            stored, scores = fit_arrays(fit), fit_scores(fit, seen, target)
        facet = BodyFacet(arrays=files.put_arrays(stored), backend=self._ref, **scores)
        return Kept((row.with_facet("body", facet),))

    def _record(
        self, sam3d: Sam3dBody, row: Clip, files: Files, boxes: Arrays, seen: Detections
    ) -> Recorded | None:
        """Read or run SAM 3D Body; None where too many frames in a row have no result."""
        num_frames, config = len(seen.pose_px), self.config
        if sam3d.runs_package:
            mattes = decode_masks(boxes, "matte", row.media.height_px, row.media.width_px)
            results = sam3d.run(files.frames(row.media.video), mattes)
        else:
            results = sam3d.read(row.clip_id, num_frames)
        return record(results, sam3d.faces, seen, config.max_gap_frames, config.smooth_frames)

    def _fit(self, seen: Detections) -> BodyFit:
        if self._model is None:
            self.setup()
        if self._model is None:
            raise InvariantError("body model not loaded")
        tables = self._model.body.tables
        roles = _roles(self.config.backend, tables.bone_names)
        config = self.config
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

    def _filled(self, fit: BodyFit, seen: Detections, row: Clip, boxes: Arrays) -> BodyFit:
        """The fit with the girth that the person's outline shows."""
        usable = np.flatnonzero(seen.is_valid)
        if not self.config.outline_frames or self._model is None:
            return fit
        picked = usable[
            np.linspace(0, len(usable) - 1, min(self.config.outline_frames, len(usable)))
            .round()
            .astype(int)
        ]
        mattes = decode_masks(boxes, "matte", row.media.height_px, row.media.width_px)[picked]
        body = self._model.body
        roles = _roles(self.config.backend, body.bone_names)
        still = Still(
            fit.rotations[picked], fit.translation[picked], mattes,
            joints_seen(roles, seen, len(body.bone_names))[picked],
            np.nanmax(seen.pose_px[picked][:, 11:13, 1], axis=1),
        )  # fmt: skip
        shape = shape_from_outline(body, fit.shape, still, fit.camera, seen.head_px)
        return with_shape(body.tables, roles, seen, fit, shape)

    def _grasping(self, fit: BodyFit, seen: Detections, row: Clip, files: Files) -> BodyFit:
        """The fit with hands closed on the product; as it is where no product is known."""
        if not self.config.grasp or row.objects is None or self._model is None:
            return fit
        masks = decode_masks(
            files.arrays(row.objects.arrays), "mask", row.media.height_px, row.media.width_px
        )
        tables = self._model.body.tables
        roles = _roles(self.config.backend, tables.bone_names)
        return close_on_product(tables, roles, seen, fit, masks)

    def gate(self, row: Clip) -> Dropped | None:
        """Judge the fit."""
        facet, gate = row.body, self.config.gate
        if facet is None:
            raise InvariantError("body gate without its facet")
        if facet.valid_share < gate.min_valid_share:
            return Dropped("no_pose", f"valid_share={facet.valid_share:.3f}")
        if facet.reprojection_error_head > gate.max_reprojection_error_head:
            return Dropped("poor_fit", f"reprojection={facet.reprojection_error_head:.3f} heads")
        if facet.hand_reprojection_error_head > gate.max_hand_reprojection_error_head:
            return Dropped("hand_misfit", f"hands={facet.hand_reprojection_error_head:.3f} heads")
        if facet.jerk > gate.max_jerk:
            return Dropped("jittery", f"jerk={facet.jerk:.4f}")
        return None


class Scored(Protocol):
    """What the scores are computed from."""

    @property
    def is_valid(self) -> NDArray[np.bool_]:
        """(T,)."""

    @property
    def joints_px(self) -> NDArray[np.float32]:
        """(T,J,2)."""

    @property
    def body_error_head(self) -> Float:
        """(T,K), NaN where nothing was seen."""

    @property
    def hand_error_head(self) -> Float:
        """(T,42), likewise."""


def _fitted(backend: BackendName) -> FittedName:
    if backend == "sam3d-body":
        raise InvariantError("sam3d-body is recorded, not fitted")
    return backend


def _roles(backend: BackendName, bone_names: tuple[str, ...]) -> Roles:
    if backend == "smplx":
        from stages.body_models.smplx import smplx_roles

        return smplx_roles(bone_names)
    return anny_roles(bone_names)


def fit_arrays(fit: BodyFit) -> dict[str, NDArray[Any]]:
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


def sequence_arrays(body: Recorded) -> dict[str, NDArray[Any]]:
    """What is stored of a recorded body: all that the structure stage draws."""
    return {
        "vertices_m": body.vertices_m,
        "translation_m": body.translation_m,
        "faces": body.faces,
        "part_labels": body.part_labels,
        "joints_px": body.joints_px,
        "is_valid": body.is_valid.astype(np.uint8),
        "focal_px": np.array([body.camera.focal_px], np.float32),
        "principal_px": np.array(body.camera.principal_px, np.float32),
    }


def fit_scores(fit: Scored, seen: Detections, target: slice) -> dict[str, Any]:
    """The facet's numbers over the target frames."""
    hands = fit.hand_error_head[target]
    width, height = seen.size_px
    return {
        "reprojection_error_head": _median(fit.body_error_head[target]),
        "hand_reprojection_error_head": _median(hands),
        "hand_tracked_share": float(np.isfinite(hands).any(1).mean()),
        "jerk": jerk(
            fit.joints_px[target] / seen.head_px, inside(fit.joints_px[target], width, height)
        ),
        "valid_share": float(fit.is_valid[target].mean()),
        "num_left_right_flips": left_right_flips(seen.pose_px[target] / seen.head_px),
    }


def _median(errors: Float) -> float:
    seen = errors[np.isfinite(errors)]
    return float(np.median(seen)) if seen.size else 0.0


def inside(joints_px: NDArray[np.float32], width: int, height: int) -> NDArray[np.bool_]:
    """(T,J) joints within the picture."""
    return np.asarray(((joints_px >= 0) & (joints_px < [width, height])).all(-1))


def jerk(joints: NDArray[np.floating[Any]], counted: NDArray[np.bool_]) -> float:
    """Median length of the third difference of joints (T,J,2) over counted (T,J) ones.

    >>> jerk(np.arange(12.0).reshape(6, 1, 2), np.ones((6, 1), bool))
    0.0
    """
    if len(joints) < 4:
        return 0.0
    third = np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1)[counted[3:]]
    return float(np.median(third)) if third.size else 0.0


def left_right_flips(pose_head: Float) -> int:
    """Frames in which the detector swapped the person's sides.

    Args:
        pose_head: (T,33,2) pose landmarks in head heights; NaN where missing.

    A step is a swap when the crossed assignment (left to former right and back) is less than half as far as
    the straight one for most of shoulders, elbows, wrists and hips that stand apart.
    """
    left, right = pose_head[:, [11, 13, 15, 23]], pose_head[:, [12, 14, 16, 24]]
    straight = _distance(left[1:], left[:-1]) + _distance(right[1:], right[:-1])
    crossed = _distance(left[1:], right[:-1]) + _distance(right[1:], left[:-1])
    apart = _distance(left[1:], right[1:]) > 0.3
    swapped = (crossed < 0.5 * straight) & apart
    return int((swapped.sum(1) > np.maximum(apart.sum(1) / 2, 0.5)).sum())


def _distance(a: Float, b: Float) -> Float:
    return np.asarray(np.nan_to_num(np.linalg.norm(a - b, axis=-1)))
