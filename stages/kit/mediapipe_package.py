"""The mediapipe package: is it there, loading it quietly, and its landmarks as arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.backend import About
from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.arrays import F32, Image

NUM_HAND = 21
ABOUT = About("mediapipe", "mediapipe", "Apache-2.0", "in the package")
MEDIAPIPE = BackendRef(name=ABOUT.name, version="0.10.21", licence=ABOUT.licence)


def check_mediapipe() -> None:
    """Check the package.

    Raises:
        ConfigError: It is missing.
    """
    if not ABOUT.is_installed:
        raise ConfigError("mediapipe is not installed; run make setup")


def load_solutions() -> Any:
    """``mediapipe.solutions``, its C++ side told to keep quiet."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import mediapipe as mp

    return mp.solutions


def points_of(landmarks: Any, width: float, height: float, count: int) -> F32:
    """Landmarks as (count,3) f32, scaled by a picture's width and height in pixels; z has x's scale."""
    scale = (width, height, width)
    values = [(p.x, p.y, p.z) for p in landmarks.landmark[:count]]
    return np.asarray(values, np.float32) * np.asarray(scale, np.float32)


def hands_in(picture: Image, crop: tuple[int, int, int, int], hands: Any) -> list[SeenHand]:
    """All hands in a part of a picture.

    Args:
        picture: (H,W,3) RGB.
        crop: Corners xyxy of the part, in pixels.
        hands: A ``mediapipe.solutions.hands.Hands``.

    Returns:
        Hands in pixels of the whole picture.
    """
    x0, y0, x1, y1 = crop
    seen = hands.process(np.ascontiguousarray(picture[y0:y1, x0:x1]))
    out = []
    for marks, world, label in zip(
        seen.multi_hand_landmarks or [],
        seen.multi_hand_world_landmarks or [],
        seen.multi_handedness or [],
        strict=False,
    ):
        points = points_of(marks, x1 - x0, y1 - y0, NUM_HAND) + np.array([x0, y0, 0], np.float32)
        named = label.classification[0]
        # the model was made for mirrored pictures: what it calls right is a left hand
        sign = 1.0 if named.label == "Right" else -1.0
        chirality = sign * (2 * float(named.score) - 1)
        out.append(
            SeenHand(points, points_of(world, 1, 1, NUM_HAND), float(named.score), chirality)
        )
    return out


@dataclass(frozen=True, eq=False)
class SeenHand:
    """One sighting."""

    points_px: F32
    """(21,3)."""
    world_m: F32
    """(21,3), NaN where unknown."""
    score: float
    chirality: float
    """-1 a right hand, 1 a left one."""

    @property
    def size_px(self) -> float:
        """Wrist to middle knuckle."""
        return max(float(np.linalg.norm(self.points_px[9, :2] - self.points_px[0, :2])), 1.0)
