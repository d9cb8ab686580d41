"""How a hand holds: which of its points lie before the product, behind it, at its outline, and how deep it lies.

The product lies at the hand's depth, as thick as ``held_surface`` says. A point of the hand that the picture shows
inside the product's outline is on its front face, one that the product covers is on its back face, a tip beside it within
reach is at its outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.body.held_surface import Touch, bulge, half_thickness_m, touch_product
from stages.body.hoi_metrics import debounce
from stages.kit.arrays import F64, Mask

TIPS, KNUCKLES = [4, 8, 12, 16, 20], [5, 9, 13, 17]
_THUMB, _FINGER_TIPS = [2, 3, 4], [8, 12, 16, 20]
_REACH_HEAD = 0.12
"""A tip this near to the outline (3 cm) is meant to touch it."""
_MIN_FRAMES, _WINDOW = 6, 9
"""A hold lasts so long; sides and depths are means over so many frames."""
_SURE = 0.2
"""A finger whose sides, 1 before and -1 behind, have a smaller mean than this has none."""
_PALM_POINTS = 2
"""Knuckles that must lie on a face for the palm to lie on it."""
_APART_HEAD = 0.12
"""Two fingers nearer than this (3 cm) may hide each other."""
_FINGER_M, _PALM_M = 0.008, 0.013
"""Half thickness of a finger, of the palm."""
_MAX_PULL_HEAD = 0.02
"""A tip beside the product aims so far from its landmark, towards the outline, at most."""
_EDGE_TRUST = 0.3
"""What a tip at the outline says of the product's depth, against one on a face."""


@dataclass(frozen=True, slots=True)
class Grip:
    """One hand at the product, T frames, 21 landmarks."""

    is_held: Mask
    """(T,) the hand is seen and holds."""
    side: F64
    """(T,21) 1 before the product, -1 behind it, 0 neither."""
    height_m: F64
    """(T,21) from the product's middle plane to the middle of the finger or palm on its face."""
    is_edge: Mask
    """(T,21) tips beside the product and within reach."""
    aim_px: F64
    """(T,21,2) the landmarks; tips beside the product moved a little towards it."""
    spots_px: F64
    """(T,5,2) places of the product."""
    flesh_m: F64
    """(21,) half thickness of finger or palm."""
    half_m: float
    """Half of the product's thickness at its middle."""


def grip_of(
    points_px: F64,
    masks: Mask,
    outlines: Sequence[F64 | None],
    metres_per_px: F64,
    head_px: float,
) -> Grip | None:
    """How a hand holds the product; None where it holds nothing.

    Args:
        points_px: (T,21,2) the hand's landmarks, NaN where unseen.
        masks: (T,H,W) the product.
        outlines: Its convex hulls, see ``held_surface.hull_of``.
        metres_per_px: (T,) scale at the hand.
        head_px: Head height.
    """
    touch = touch_product(points_px, masks, outlines, head_px)
    near = touch.gap_px[:, TIPS].min(axis=1) <= _REACH_HEAD * head_px
    is_held = debounce(near, _MIN_FRAMES) & np.isfinite(touch.radius_px)
    if not is_held.any():
        return None
    half_m = half_thickness_m(touch.radius_px[is_held], metres_per_px[is_held])
    side = sides(touch, is_held, points_px, head_px)
    flesh_m = np.full(21, _FINGER_M)
    flesh_m[[0, *KNUCKLES]] = _PALM_M
    is_edge = np.zeros(side.shape, bool)
    is_edge[:, TIPS] = touch.gap_px[:, TIPS] <= _REACH_HEAD * head_px
    is_edge &= is_held[:, None] & (touch.gap_px >= 0)
    return Grip(
        is_held,
        side,
        half_m * bulge(touch.gap_px, touch.radius_px) + flesh_m,
        is_edge,
        aims(points_px, touch, is_edge, _MAX_PULL_HEAD * head_px),
        touch.spots_px,
        flesh_m,
        half_m,
    )


def sides(touch: Touch, is_held: Mask, points_px: F64, head_px: float) -> F64:
    """(T,21) 1 for points before the product, -1 for those behind it, 0 outside the outline; steady over time.

    The three outer points of a finger decide together, since a landmark errs by a finger's width; palm points decide alone.
    """
    is_inside = (touch.gap_px < 0) & is_held[:, None]
    mean = steady(np.where(touch.covered >= 0.5, -1.0, 1.0) * is_inside, is_held)
    fingers = mean[:, 1:].reshape(len(mean), 5, 4)
    fingers[..., 1:] = fingers[..., 1:].mean(axis=-1, keepdims=True)
    mean[:, 1:] = fingers.reshape(len(mean), 20)
    side = np.sign(mean) * (np.abs(mean) > _SURE)
    side[:, _THUMB] = thumb_side(side, points_px, head_px)[:, None]
    return side * is_inside


def thumb_side(side: F64, points_px: F64, head_px: float) -> F64:
    """(T,) the face that the thumb lies on: the one that the fingers (sides (T,21)) are not on.

    Where the palm lies on a face itself, or the thumb is seen apart from all fingers, it lies where the picture has it.
    Beside a finger, what is seen in its place may be that finger.
    """
    fingers = np.sign(side[:, _FINGER_TIPS].sum(axis=1))
    is_beside = np.abs(side[:, KNUCKLES].sum(axis=1)) < _PALM_POINTS
    gap = np.linalg.norm(points_px[:, 5:] - points_px[:, 4:5], axis=-1)
    is_apart = gap.min(axis=1) > _APART_HEAD * head_px
    is_own = (fingers == 0) | ~is_beside | (is_apart & (side[:, 4] > 0))
    return np.where(is_own, side[:, 4], -fingers)


def aims(points_px: F64, touch: Touch, is_edge: Mask, most_px: float) -> F64:
    """Points (T,21,2), those at the edge moved towards the outline by ``most_px`` at most."""
    share = np.minimum(most_px / np.maximum(touch.gap_px, 1e-9), 1.0) * is_edge
    return points_px + share[..., None] * (touch.nearest_px - points_px)


def product_depth(grip: Grip, z_m: F64) -> F64:
    """(T,) depth of the product's middle plane, for which the hand's points at depths (T,21) move least."""
    counted = [*TIPS, *KNUCKLES]
    side, is_edge = grip.side[:, counted], grip.is_edge[:, counted]
    depth = z_m[:, counted] - side * grip.height_m[:, counted]
    weight = np.where(side != 0, 1.0, _EDGE_TRUST * is_edge) + 1e-3
    depth = (weight * depth).sum(axis=1) / weight.sum(axis=1)
    return steady(depth[:, None], grip.is_held)[:, 0]


def steady(values: F64, is_held: Mask) -> F64:
    """Mean of (T,K) over the held frames about each one; 0 where none is near."""
    kernel = np.ones(_WINDOW)
    weight = np.convolve(is_held, kernel)[_WINDOW // 2 :][: len(is_held)]
    total = [
        np.convolve(column, kernel)[_WINDOW // 2 :][: len(is_held)]
        for column in (values * is_held[:, None]).T
    ]
    return np.stack(total, -1) / np.maximum(weight, 1e-9)[:, None]
