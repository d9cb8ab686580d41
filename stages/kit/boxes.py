"""Boxes in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.kit.arrays import F32, U8, Mask


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open pixel rectangle of an upright raw frame."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Intersection over union of two boxes xyxy.

    >>> box_iou(np.array([0, 0, 2, 2.0]), np.array([1, 0, 3, 2.0]))
    0.3333333333333333
    """
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    total = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / total if total > 0 else 0.0


def box_of(mask: Mask) -> F32:
    """Box (4,) xyxy of a mask (H,W); NaN where it is empty.

    >>> box_of(np.array([[0, 0, 0], [0, 1, 1]], bool)).tolist(), box_of(np.zeros((2, 2), bool)).tolist()
    ([1.0, 1.0, 3.0, 2.0], [nan, nan, nan, nan])
    """
    if not mask.any():
        return np.full(4, np.nan, np.float32)
    rows, cols = window_of(mask)
    return np.array([cols.start, rows.start, cols.stop, rows.stop], np.float32)


def window_of(mask: Mask, margin_px: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the box of a mask (H,W) that is not empty, and a margin around it."""
    rows, cols = (
        slice(max(0, int(where[0]) - margin_px), int(where[-1]) + 1 + margin_px)
        for where in (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
    )
    return rows, cols


def grown(mask: Mask, kernel: U8) -> Mask:
    """Dilate a mask (H,W) by a kernel (k,k), k odd: looks only where it can change something.

    >>> mask = np.zeros((5, 9), bool); mask[2, 1] = True
    >>> grown(mask, np.ones((3, 3), np.uint8)).sum().item()
    9
    """
    out = np.zeros_like(mask)
    if mask.any():
        near = window_of(mask, len(kernel) // 2)
        out[near] = cv2.dilate(mask[near].astype(np.uint8), kernel) > 0
    return out
