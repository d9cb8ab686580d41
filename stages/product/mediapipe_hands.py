"""Hands around a place in a single picture, with mediapipe's hand model from its wheel."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.backend import Backend
from schemas.base import BackendRef
from stages.kit.arrays import F32, Image
from stages.kit.mediapipe_package import MEDIAPIPE, check_mediapipe, hands_in, load_solutions

_SIDES_OF_EXTENT, _MIN_SIDE_PX = (2.2, 3.2), 48.0
"""A square as detect looks at, and a wider one where that shows nothing: 60 and 64 of 72 hands are found."""


class MediapipeHands(Backend):
    """Finds hands afresh in every picture: nothing is tracked.

    Args:
        min_confidence: Of the palm detector.
    """

    def __init__(self, min_confidence: float = 0.5) -> None:
        self._min_confidence = min_confidence
        self._hands: Any = None

    @property
    def ref(self) -> BackendRef:
        """The package."""
        return MEDIAPIPE

    def check(self) -> None:
        """Check the package.

        Raises:
            ConfigError: It is missing.
        """
        check_mediapipe()

    def setup(self) -> None:
        """Load the model."""
        self._hands = load_solutions().hands.Hands(
            static_image_mode=True,
            max_num_hands=2,
            model_complexity=1,
            min_detection_confidence=self._min_confidence,
        )

    def find(self, image: Image, near_px: F32) -> list[F32]:
        """Hands (21,3) in pixels of the image, z at x's scale; nearest wrist first.

        Args:
            image: (H,W,3) RGB.
            near_px: (N,2): a square of 2.2 times their extent is looked at, then a wider one.
        """
        if self._hands is None:
            self.setup()
        for share in _SIDES_OF_EXTENT:
            corners = square_around(near_px, image.shape[:2], share)
            if found := self._look(image, corners):
                return sorted(found, key=lambda h: float(np.linalg.norm(h[0, :2] - near_px[0])))
        return []

    def _look(self, image: Image, corners: tuple[int, int, int, int]) -> list[F32]:
        x0, y0, x1, y1 = corners
        if min(x1 - x0, y1 - y0) < _MIN_SIDE_PX / 2:
            return []
        return [hand.points_px for hand in hands_in(image, corners, self._hands)]


def square_around(
    points_px: F32, shape: tuple[int, int], share: float
) -> tuple[int, int, int, int]:
    """Corners xyxy of a square around points (N,2), ``share`` times their extent, inside a picture (h,w).

    >>> square_around(np.array([[40, 40], [60, 80]], np.float32), (100, 90), 2.2)
    (6, 16, 90, 100)
    """
    low, high = points_px.min(axis=0), points_px.max(axis=0)
    half = max(_MIN_SIDE_PX, share * float((high - low).max())) / 2
    x, y = (low + high) / 2
    return (
        max(0, int(x - half)),
        max(0, int(y - half)),
        min(shape[1], int(x + half)),
        min(shape[0], int(y + half)),
    )
