"""Tables of landmarks for tests: what a test gives, the rest unseen."""

from __future__ import annotations

import numpy as np

from stages.kit.arrays import Arrays
from stages.kit.landmarks import Landmarks, matte_runs


def unseen(num_frames: int) -> Arrays:
    """The arrays of a ``detect`` facet that found nobody."""

    def nan(*dims):
        return np.full((num_frames, *dims), np.nan, np.float32)

    arrays = {
        "pose_landmarks_px": nan(33, 4), "pose_world_m": nan(33, 3), "face_landmarks_px": nan(468, 3),
        "person_count": np.ones(num_frames, np.int32),
        **matte_runs(np.zeros((num_frames, 1, 1), bool)),
    }  # fmt: skip
    for side in ("left", "right"):
        arrays |= {f"{side}_hand_landmarks_px": nan(21, 3), f"{side}_hand_world_m": nan(21, 3)}
    for part in ("face", "left_hand", "right_hand"):
        arrays[f"{part}_box_xyxy_px"] = nan(4)
        arrays[f"{part}_score"] = np.ones(num_frames, np.float32)
        arrays[f"{part}_is_filled"] = np.zeros(num_frames, np.uint8)
    return arrays


def whole(some: Arrays) -> Arrays:
    """Some arrays of a ``detect`` facet, and the others as of nobody."""
    num_frames = next(len(value) for key, value in some.items() if "rle" not in key)
    return unseen(num_frames) | some


def table(some: Arrays) -> Landmarks:
    """The table that ``whole`` arrays hold."""
    return Landmarks.read(whole(some))
