"""A body fitted to the clip's landmarks, one mesh a frame, smooth over time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.backend import by_name
from schemas.facets import BodyFacet
from schemas.rows import Clip
from schemas.settings import BESIDE
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.body.detections import Detections, read_detections
from stages.body.fitted import AnnyConfig, SmplxConfig
from stages.body.recorded import Sam3dConfig
from stages.body.recovery import BodyBackend, BodyView, Scored
from stages.files import Files
from stages.gates import AtLeast, AtMost, first_failure
from stages.kit.arrays import F32, F64, Flags
from stages.kit.landmarks import Landmarks
from stages.kit.scores import known_median


class BodyGate(GateConfig):
    """When a fit is not worth drawing. Lengths in head heights (crown to chin, about 23 cm)."""

    min_valid_share: float = Field(default=0.8, ge=0, le=1)
    max_reprojection_error_head: float = Field(default=0.15, gt=0)
    """Beyond this the mesh is visibly beside the person: 3.5 cm."""
    max_hand_reprojection_error_head: float = Field(default=0.20, gt=0)
    """About two finger widths."""
    max_jerk: float = Field(default=0.08, gt=0)
    """Third difference per frame^3; a waving hand stays below 0.03."""


BodyChoice = Annotated[
    AnnyConfig | SmplxConfig | Sam3dConfig,
    Field(discriminator="name"),
    by_name("anny"),
    BESIDE,
]


class BodyConfig(StageConfig):
    """Which body model, and how it is fitted."""

    backend: BodyChoice = AnnyConfig()
    """``sam3d-body`` takes meshes from SAM 3D Body, saved ones or its package's; the others are fitted."""
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

    def __init__(self, config: BodyConfig) -> None:
        super().__init__(config)
        self._body: BodyBackend = config.backend.build()
        self.backends = (self._body,)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Fit the clip; see the class of the facet for what is stored.

        Raises:
            DataError: ``fit_failed`` if the fit does not give finite numbers, ``no_results`` or ``bad_result``
                if saved results are missing or broken.
        """
        landmarks = Landmarks.read(files.arrays(row.need("detect").arrays))
        seen = read_detections(landmarks, row.media.width_px, row.media.height_px)
        target = slice(row.media.num_motion_frames, None)
        if seen.head_px <= 0 or not seen.is_valid[target].any():
            return Dropped("no_pose", "no target frame shows a torso")
        found = self._body.recover(BodyView(row, files, landmarks, seen))
        if isinstance(found, Dropped):
            return found
        scores = fit_scores(found.scored, seen, target)
        facet = BodyFacet(arrays=files.put_arrays(found.arrays), backend=self._body.ref, **scores)
        return Kept((row.with_facet("body", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Judge the fit."""
        facet, gate = row.need("body"), self.config.gate
        return first_failure([
            AtLeast("no_pose", "valid_share", facet.valid_share, gate.min_valid_share),
            AtMost("poor_fit", "reprojection_error_head", facet.reprojection_error_head,
                   gate.max_reprojection_error_head),
            AtMost("hand_misfit", "hand_reprojection_error_head", facet.hand_reprojection_error_head,
                   gate.max_hand_reprojection_error_head),
            AtMost("jittery", "jerk", facet.jerk, gate.max_jerk),
        ])  # fmt: skip


def fit_scores(fit: Scored, seen: Detections, target: slice) -> dict[str, Any]:
    """The facet's numbers over the target frames."""
    hands = fit.hand_error_head[target]
    width, height = seen.size_px
    return {
        "reprojection_error_head": known_median(fit.body_error_head[target]),
        "hand_reprojection_error_head": known_median(hands),
        "hand_tracked_share": float(np.isfinite(hands).any(1).mean()),
        "jerk": jerk(
            fit.joints_px[target] / seen.head_px, inside(fit.joints_px[target], width, height)
        ),
        "valid_share": float(fit.is_valid[target].mean()),
        "num_left_right_flips": left_right_flips(seen.pose_px[target] / seen.head_px),
    }


def inside(joints_px: F32, width: int, height: int) -> Flags:
    """(T,J) joints within the picture."""
    return np.asarray(((joints_px >= 0) & (joints_px < [width, height])).all(-1))


def jerk(joints: NDArray[np.floating[Any]], counted: Flags) -> float:
    """Median length of the third difference of joints (T,J,2) over counted (T,J) ones.

    >>> jerk(np.arange(12.0).reshape(6, 1, 2), np.ones((6, 1), bool))
    0.0
    """
    if len(joints) < 4:
        return 0.0
    third = np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1)[counted[3:]]
    return float(np.median(third)) if third.size else 0.0


def left_right_flips(pose_head: F64) -> int:
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


def _distance(a: F64, b: F64) -> F64:
    return np.asarray(np.nan_to_num(np.linalg.norm(a - b, axis=-1)))
