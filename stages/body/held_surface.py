"""Where the points of a hand lie on the product that it holds: beside its outline, before it or behind it.

The product is known by its mask alone. Its convex hull stands for its outline, so that fingers before it, which are cut
out of the mask, do not dent it. In depth it is taken for round: as thick at its middle as a share of its narrow width, thin
at its outline; for an upright cylinder that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F64, Mask

_FINGER_HEAD = 0.035
"""Half a finger's width in head heights: a point counts as covered where most of the pixels this near are."""
_SPECK = 0.1
"""Parts of a mask smaller than so much of the largest one say nothing of the outline."""
_THICK, _MAX_HALF_M = 0.7, 0.02
"""Half thickness over half the narrow width, and at most; studio boxes and tubes have 0.6 to 0.7, bottles 1, cards 0.1."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Points (T,K) of one hand against the product's outline; frames without mask or hand have infinite gaps."""

    gap_px: F64
    """(T,K) distance to the outline, negative inside it."""
    covered: F64
    """(T,K) share of the pixels about a point that show the product."""
    nearest_px: F64
    """(T,K,2) nearest point of the outline."""
    radius_px: F64
    """(T,) half the product's narrow width; NaN without a mask."""
    spots_px: F64
    """(T,5,2) the outline's middle and half way from there to its ends; NaN without a mask."""


def touch_product(
    points_px: F64, masks: Mask, outlines: Sequence[F64 | None], head_px: float
) -> Touch:
    """Compare points (T,K,2), NaN where unseen, with masks (T,H,W) and their outlines."""
    count, num_points = points_px.shape[:2]
    gap, covered = np.full((count, num_points), np.inf), np.zeros((count, num_points))
    nearest = np.zeros((count, num_points, 2))
    radius, spots = np.full(count, np.nan), np.full((count, 5, 2), np.nan)
    for t in np.flatnonzero(np.isfinite(points_px).all(axis=(1, 2))).tolist():
        outline = outlines[t]
        if outline is None:
            continue
        gap[t], nearest[t] = signed_gap(points_px[t], outline)
        covered[t] = share_covered(points_px[t], masks[t], _FINGER_HEAD * head_px)
        radius[t] = min(cv2.minAreaRect(outline.astype(np.float32))[1]) / 2
        spots[t] = spots_of(outline)
    return Touch(gap, covered, nearest, radius, spots)


def hull_of(mask: Mask) -> F64 | None:
    """Corners (N,2) of a mask's convex hull in pixels; None where the mask is empty or a line."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return None
    part = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    areas = np.array([cv2.contourArea(c) for c in contours])
    kept = [c for c, a in zip(contours, areas, strict=True) if a >= _SPECK * areas.max()]
    hull = cv2.convexHull(np.concatenate(kept))[:, 0].astype(np.float64)
    return hull + np.array([x, y]) if len(hull) > 2 else None


def signed_gap(points: F64, hull: F64) -> tuple[F64, F64]:
    """Distance (K,) of points (K,2) to a convex outline (N,2), negative inside, and its nearest points (K,2).

    >>> square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    >>> signed_gap(np.array([[1.0, 2], [7, 2]]), square)[0].tolist()
    [-1.0, 3.0]
    """
    edges = np.roll(hull, -1, axis=0) - hull
    away = points[:, None] - hull
    along = (away * edges).sum(-1) / np.maximum((edges**2).sum(-1), 1e-12)
    foot = hull + np.clip(along, 0, 1)[..., None] * edges
    distance = np.linalg.norm(points[:, None] - foot, axis=-1)
    first = distance.argmin(axis=1)
    row = np.arange(len(points))
    turn = edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0]
    is_inside = (turn >= 0).all(axis=1) | (turn <= 0).all(axis=1)
    return np.where(is_inside, -1.0, 1.0) * distance[row, first], foot[row, first]


def share_covered(points: F64, mask: Mask, reach_px: float) -> F64:
    """(K,) share of thirteen pixels about each point (K,2) that the mask covers; none outside the picture."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    offsets = np.concatenate([np.zeros((1, 2)), 0.5 * ring, ring]) * reach_px
    spots = np.round(points[:, None] + offsets).astype(np.intp)
    height, width = mask.shape
    x, y = spots[..., 0], spots[..., 1]
    is_in = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    hit = mask[y.clip(0, height - 1), x.clip(0, width - 1)] & is_in
    return np.asarray(hit.mean(axis=1))


def spots_of(hull: F64) -> F64:
    """(5,2) middle of an outline's box, and half way from there to the corners at its four sides."""
    middle = (hull.min(axis=0) + hull.max(axis=0)) / 2
    ends = hull[[*hull.argmin(axis=0), *hull.argmax(axis=0)]]
    return np.concatenate([middle[None], (middle + ends) / 2])


def half_thickness_m(radius_px: F64, metres_per_px: F64) -> float:
    """Half of the product's thickness, from its narrowest views: (T,) each, NaN where it is not seen."""
    half = float(np.nanpercentile(radius_px * metres_per_px, 20))
    return min(_THICK * half, _MAX_HALF_M)


def bulge(gap_px: F64, radius_px: F64) -> F64:
    """(T,K) half thickness over the one at the middle, 0 from the outline on outwards: a circle's profile."""
    depth = np.clip(-gap_px / radius_px[:, None], 0, 1)
    return np.asarray(np.sqrt(np.maximum(1 - (1 - np.nan_to_num(depth)) ** 2, 0)))
