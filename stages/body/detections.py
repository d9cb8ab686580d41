"""One clip's landmarks as the fit takes them: camera axes, sides L and R, the head's height as the yardstick.

Landmark numbers are mediapipe's: pose 0 to 32, hand 0 to 20, face mesh 0 to 467. Left is the person's own.
Image axes (x right, y down, z away) become camera axes (x right, y up, z towards the camera).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.body_models.rig import SIDES
from stages.kit.arrays import F64, Flags
from stages.kit.landmarks import Landmarks

HEAD_M = 0.23
"""Height of an adult's head, crown to chin; the yardstick of all pixel errors."""
FACE_TO_HEAD = 1.28
"""Head height over the face mesh's height (10 to 152)."""
MIN_VISIBILITY = 0.5


@dataclass(frozen=True, slots=True)
class Detections:
    """One clip's landmarks in camera axes; NaN where missing."""

    pose_px: F64
    """(T,33,2)."""
    visibility: F64
    """(T,33), 0 where there is no pose."""
    pose_m: F64
    """(T,33,3) camera axes."""
    face_px: F64
    """(T,468,3) x, y in pixels, z towards the camera in the same scale."""
    hand_px: Mapping[str, F64]
    """Per side (T,21,2)."""
    hand_m: Mapping[str, F64]
    """Per side (T,21,3) camera axes."""
    head_px: float
    """Median head height."""
    size_px: tuple[int, int]
    """Width, height."""

    @property
    def is_valid(self) -> Flags:
        """(T,) a torso and something of the head or an arm was seen."""
        torso = (self.visibility[:, 11:13] >= MIN_VISIBILITY).all(1)
        return np.asarray(torso & ((self.visibility >= MIN_VISIBILITY).sum(1) >= 5))


def read_detections(landmarks: Landmarks, width_px: int, height_px: int) -> Detections:
    """Turn what ``detect`` found into camera axes, without hands that cannot be the person's own."""
    flip = np.array([1.0, -1.0, -1.0])
    pose = landmarks.pose_px.astype(np.float64)
    face = landmarks.face.points_px.astype(np.float64) * [1.0, 1.0, -1.0]
    visibility = np.nan_to_num(pose[..., 3])
    pose_m = landmarks.pose_world_m.astype(np.float64) * flip
    head_px = head_height_px(pose[..., :2], visibility, pose_m, face)
    hand_px = {
        s: hand.points_px[..., :2].astype(np.float64)
        for s, hand in zip(SIDES, landmarks.hands, strict=True)
    }
    wrists = {
        s: np.where(visibility[:, [i]] >= MIN_VISIBILITY, pose[:, i, :2], np.nan)
        for s, i in (("L", 15), ("R", 16))
    }
    hand_px = own_hands(hand_px, wrists, head_px)
    return Detections(
        pose_px=pose[..., :2],
        visibility=visibility,
        pose_m=pose_m,
        face_px=face,
        hand_px=hand_px,
        hand_m={
            s: world.astype(np.float64) * flip
            for s, world in zip(SIDES, landmarks.hands_world_m, strict=True)
        },
        head_px=head_px,
        size_px=(width_px, height_px),
    )


def head_height_px(pose_px: F64, visibility: F64, pose_m: F64, face_px: F64) -> float:
    """Median height of the head in pixels: from the face mesh, else from the pose's scale.

    Returns 0.0 where neither was ever seen.
    """
    face = np.linalg.norm(face_px[:, 10] - face_px[:, 152], axis=-1)
    if np.isfinite(face).any():
        return float(np.nanmedian(face) * FACE_TO_HEAD)
    seen = (visibility[:, 11:13] >= MIN_VISIBILITY).all(1)
    if not seen.any():
        return 0.0
    pixels = np.linalg.norm(pose_px[seen][:, [11, 12]] - pose_px[seen][:, [23, 24]], axis=-1)
    metres = np.linalg.norm(pose_m[seen][:, [11, 12]] - pose_m[seen][:, [23, 24]], axis=-1)
    return float(np.median(pixels / np.maximum(metres, 0.1)) * HEAD_M)


def own_hands(
    hand_px: Mapping[str, F64], wrists: Mapping[str, F64], head_px: float
) -> dict[str, F64]:
    """Hands without those that cannot be the person's own at that side; (T,21,2), NaN where dropped.

    A hand goes where its wrist lies more than a head from the pose's wrist of its side, and where both
    sides hold the same hand (closer than a third of a head on average): then the one farther from its own
    wrist goes.
    """
    away = {s: np.linalg.norm(hand_px[s][:, 0] - wrists[s], axis=-1) for s in SIDES}
    drop = {s: np.nan_to_num(away[s]) > head_px for s in SIDES}
    gap = np.linalg.norm(hand_px["L"] - hand_px["R"], axis=-1).mean(-1)
    is_same = np.nan_to_num(gap, nan=np.inf) < head_px / 3
    left, right = (np.nan_to_num(away[s], nan=np.inf) for s in SIDES)
    drop["L"] |= is_same & (left > right)
    drop["R"] |= is_same & (left <= right)
    return {s: np.where(drop[s][:, None, None], np.nan, hand_px[s]) for s in SIDES}
