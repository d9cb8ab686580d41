"""The square around hands that the held-product network looks at, and how hands are drawn for it.

Used where the network is trained as well, so that both see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from stages.kit.arrays import F32, U8
from stages.kit.hands import FINGERS, Hand

CROP_PX = 192
A = TypeVar("A", U8, F32)
_PALM = [0, 1, 5, 9, 13, 17]
_SIDE_OF_HAND, _SIDE_OF_EXTENT = 3.0, 1.6
_FINGER_WIDTH = 0.13
"""Of a hand's length."""


def hand_size_px(points_px: F32) -> float:
    """A hand's length: its longest finger's path from the wrist; the extent of points shrinks in a fist."""
    return Hand.of(points_px).size_px


@dataclass(frozen=True)
class Crop:
    """A square of a picture: centre and side in pixels."""

    x_px: float
    y_px: float
    side_px: float

    @property
    def matrix(self) -> F32:
        """(2,3): picture to crop."""
        s = CROP_PX / self.side_px
        half = CROP_PX / 2
        return np.array([[s, 0, half - s * self.x_px], [0, s, half - s * self.y_px]], np.float32)

    def warp(self, image: A, outside: float | None = None) -> A:
        """The square of an image (H,W) or (H,W,c) as (N,N) or (N,N,c); beyond its edge the edge goes on, or ``outside``."""
        size, matrix = (CROP_PX, CROP_PX), self.matrix
        if self.side_px > 2 * CROP_PX:  # else fine things would be missed between samples
            image = cv2.blur(image, (round(self.side_px / CROP_PX),) * 2)
        if outside is None:
            return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        return cv2.warpAffine(image, matrix, size, borderValue=outside)

    def back(self, plane: F32, shape: tuple[int, int]) -> F32:
        """A plane of the square (N,N) in a picture of ``shape`` (h,w); 0 outside the square."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(plane, self.matrix, shape[::-1], flags=flags), np.float32)

    def apply(self, points_px: F32) -> F32:
        """Points (n,2) of the picture in pixels of the square."""
        matrix = self.matrix
        return np.asarray(points_px @ matrix[:, :2].T + matrix[:, 2], np.float32)


def crop_around(hands: Sequence[F32]) -> Crop:
    """The square around one hand or two (21,2)."""
    points = np.concatenate(list(hands))
    low, high = points.min(axis=0), points.max(axis=0)
    size = max(hand_size_px(h) for h in hands)
    side = max(_SIDE_OF_HAND * size, _SIDE_OF_EXTENT * float((high - low).max()))
    x, y = (low + high) / 2
    return Crop(float(x), float(y), side)


def draw_hands(hands: Sequence[F32]) -> F32:
    """(N,N) 0..1: palms and fingers of hands (21,2) in pixels of the square."""
    out = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for hand in hands:
        points = np.clip(hand, -4 * CROP_PX, 4 * CROP_PX)
        cv2.fillConvexPoly(out, cv2.convexHull(points[_PALM].astype(np.int32)), 255)
        width = max(2, round(_FINGER_WIDTH * hand_size_px(hand)))
        for finger in FINGERS:
            cv2.polylines(out, [points[list(finger)].astype(np.int32)], False, 255, width)
    return np.asarray(out / 255, np.float32)
