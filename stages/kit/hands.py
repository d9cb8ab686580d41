"""One hand in one frame: its size, its grasp, its fingers drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, Mask
from stages.kit.boxes import grown

FINGERS = (
    (0, 1, 2, 3, 4),
    (0, 5, 6, 7, 8),
    (0, 9, 10, 11, 12),
    (0, 13, 14, 15, 16),
    (0, 17, 18, 19, 20),
)


_GRASP_POINTS = [4, 5, 8, 9, 12]


@dataclass(frozen=True)
class Hand:
    """One hand in one frame: 21 points in small pixels, its length, and where it would hold things."""

    points_px: F32
    size_px: float
    grasp_px: F32

    @classmethod
    def of(cls, points_px: F32) -> Hand:
        """From landmarks (21,2+)."""
        xy = points_px[:, :2]
        # the longest finger's path keeps its length in a fist, unlike the extent of the points
        paths = [np.linalg.norm(np.diff(xy[list(f)], axis=0), axis=1).sum() for f in FINGERS[1:]]
        size = float(max(paths))
        return cls(xy, max(size, 4.0), xy[_GRASP_POINTS].mean(axis=0))


def hand_mask(hand: Hand, shape: tuple[int, int]) -> Mask:
    """Fingers and palm as thick lines through the landmarks (H,W)."""
    canvas = np.zeros(shape, np.uint8)
    points = hand.points_px.round().astype(np.int32)
    thick = max(1, round(0.075 * hand.size_px))
    for finger in FINGERS:
        cv2.polylines(canvas, [points[list(finger)]], isClosed=False, color=1, thickness=thick)
    cv2.fillConvexPoly(canvas, cv2.convexHull(points[[0, 1, 5, 9, 13, 17]]), 1)
    return canvas.astype(bool)


def finger_mask(hand: Hand, shape: tuple[int, int], thickness: float) -> Mask:
    """Fingers from their knuckles to their tips, ``thickness`` hand lengths wide (H,W)."""
    canvas = np.zeros(shape, np.uint8)
    points = hand.points_px.round().astype(np.int32)
    thick = max(2, round(thickness * hand.size_px))
    for finger in FINGERS:
        cv2.polylines(canvas, [points[list(finger[1:])]], isClosed=False, color=1, thickness=thick)
    return canvas.astype(bool)


def broad_hands(hands: list[Hand], shape: tuple[int, int], width_hands: float) -> Mask:
    """Hands (H,W) as broad as real fingers are: grown by ``width_hands`` hand lengths in all."""
    out = np.zeros(shape, bool)
    for hand in hands:
        width = max(3, round(width_hands * hand.size_px)) | 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        out |= grown(hand_mask(hand, shape), np.asarray(kernel, np.uint8))
    return out
