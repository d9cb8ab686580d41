"""Similarity transforms from one picture to another: by matched corners, or by the moments of masks."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from stages.kit.arrays import F32, Image, Mask

_RATIO = 0.8
_MIN_CORNERS, _CORNER_ERROR_PX = 8, 3.0
_LONG = 0.2
"""How uneven a mask's moments are, 0 for a disc or a square: 0.2 is an axis longer by a quarter."""


class Matches(NamedTuple):
    """Corners of two pictures that look alike."""

    a_px: F32
    """(N,2)."""
    b_px: F32
    """(N,2)."""
    num_corners: int
    """Of the first picture, matched or not."""


def match_corners(a: Image, where_a: Mask, b: Image, where_b: Mask) -> Matches:
    """SIFT corners inside two masks that match (Lowe 2004, section 7.1: nearer than 0.8 times the next best)."""
    sift = cv2.SIFT_create(nfeatures=400, contrastThreshold=0.02)  # type: ignore[attr-defined]
    (keys_a, marks_a), (keys_b, marks_b) = (
        sift.detectAndCompute(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), m.astype(np.uint8))
        for i, m in ((a, where_a), (b, where_b))
    )
    if marks_a is None or marks_b is None or len(keys_b) < 2:
        none = np.zeros((0, 2), np.float32)
        return Matches(none, none, len(keys_a))
    pairs = cv2.BFMatcher().knnMatch(marks_a, marks_b, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < _RATIO * p[1].distance]
    return Matches(
        np.array([keys_a[m.queryIdx].pt for m in good], np.float32).reshape(-1, 2),
        np.array([keys_b[m.trainIdx].pt for m in good], np.float32).reshape(-1, 2),
        len(keys_a),
    )


def fit_similarity(matches: Matches, max_error_px: float) -> tuple[F32 | None, int]:
    """The similarity (2,3) on which most matches agree (RANSAC), and how many do; at least two matches."""
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.estimateAffinePartial2D(
        matches.a_px, matches.b_px, ransacReprojThreshold=max_error_px
    )
    agreeing = 0 if inliers is None else int(inliers.sum())
    return (None if matrix is None else np.asarray(matrix, np.float32)), agreeing


def by_corners(a: Image, where_a: Mask, b: Image, where_b: Mask) -> F32 | None:
    """Similarity (2,3) from ``a`` to ``b`` on which eight corners inside both masks agree to 3 px; None without them."""
    matches = match_corners(a, where_a, b, where_b)
    if len(matches.a_px) < _MIN_CORNERS:
        return None
    matrix, agreeing = fit_similarity(matches, _CORNER_ERROR_PX)
    return matrix if agreeing >= _MIN_CORNERS else None


def by_moments(a: Mask, b: Mask) -> F32:
    """Similarity (2,3) that brings a mask's centre, size and long axis onto another's, the smaller turn."""
    (xa, ya, ta), (xb, yb, tb) = _pose(a), _pose(b)
    scale = float(np.sqrt(b.sum() / a.sum()))
    turn = 0.0 if ta is None or tb is None else (tb - ta + np.pi / 2) % np.pi - np.pi / 2
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    return np.array(
        [[cos, -sin, xb - cos * xa + sin * ya], [sin, cos, yb - sin * xa - cos * ya]], np.float32
    )


def _pose(mask: Mask) -> tuple[float, float, float | None]:
    """Centre xy and direction of the long axis, None where no axis is much longer."""
    m = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    x, y = m["m10"] / m["m00"], m["m01"] / m["m00"]
    between = float(np.hypot(2 * m["mu11"], m["mu20"] - m["mu02"]))
    if between < _LONG * (m["mu20"] + m["mu02"]):
        return x, y, None
    return x, y, 0.5 * float(np.arctan2(2 * m["mu11"], m["mu20"] - m["mu02"]))
