"""What hands and objects do in the picture, from per-frame masks. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, U8, Mask
from stages.kit.spans import runs

BODY, LEFT_HAND, RIGHT_HAND = 1, 2, 3
_DEPTH_SLACK_M = 0.06
"""What is held may stand out behind the hand by so much: half a product's thickness."""


@dataclass(frozen=True, slots=True)
class FrameMetrics:
    """One frame; areas are shares of the picture."""

    matte_iou: float
    contact: tuple[bool, bool]
    penetration: float
    """Share of the object's mask on the body but outside the hands; NaN without an object."""
    depth_conflict: float
    """Share of the object's mask where the body is nearer to the camera than the hand that holds it; NaN
    without a touching hand."""
    is_cut: bool
    """The object reaches the picture's border."""
    body_area: float
    hand_area: float
    object_area: float


def frame_metrics(
    part: U8, depth_m: F32, object_mask: Mask, matte: Mask, *, reach_px: float, band_px: float
) -> FrameMetrics:
    """Measure one frame.

    Args:
        part: (H,W) rendered parts: 0 nothing, 1 body, 2 left hand, 3 right hand.
        depth_m: (H,W) distance of the mesh along the view axis.
        object_mask: (H,W) the product.
        matte: (H,W) the person.
        reach_px: A hand within this distance of the object touches it.
        band_px: Half width of the band around the mesh's outline that clothes and hair may fill.
    """
    size = float(part.size)
    return FrameMetrics(
        matte_iou=matte_iou(part > 0, matte, object_mask, band_px),
        contact=hand_contact(part, object_mask, reach_px),
        penetration=penetration_share(part, object_mask),
        depth_conflict=depth_conflict_share(part, depth_m, object_mask, reach_px),
        is_cut=touches_border(object_mask),
        body_area=float(np.count_nonzero(part)) / size,
        hand_area=float(np.count_nonzero(part >= LEFT_HAND)) / size,
        object_area=float(np.count_nonzero(object_mask)) / size,
    )


def hand_contact(part: U8, object_mask: Mask, reach_px: float) -> tuple[bool, bool]:
    """Does the left, the right hand come within ``reach_px`` of the object?"""
    if not object_mask.any():
        return False, False
    near = _distance_to(object_mask) <= reach_px
    return bool(near[part == LEFT_HAND].any()), bool(near[part == RIGHT_HAND].any())


def _distance_to(mask: Mask) -> F32:
    """Distance of every pixel to the mask, in pixels."""
    away = np.where(mask, 0, 1).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, 3), np.float32)


def penetration_share(part: U8, object_mask: Mask) -> float:
    """Share of the object's mask that lies on the body outside the hands; NaN without an object."""
    area = int(np.count_nonzero(object_mask))
    if area == 0:
        return float("nan")
    return float(np.count_nonzero(part[object_mask] == BODY)) / area


def depth_conflict_share(part: U8, depth_m: F32, object_mask: Mask, reach_px: float) -> float:
    """Share of the object's mask that hides a part of the body which is in front of the holding hand.

    The object is as far away as the hand that touches it. Where body, arm or head are nearer than that, the
    picture's order (object over mesh) and the mesh's depth disagree. NaN where no hand touches the object.
    """
    area = int(np.count_nonzero(object_mask))
    if area == 0:
        return float("nan")
    holding = (part >= LEFT_HAND) & (_distance_to(object_mask) <= reach_px)
    if not holding.any():
        return float("nan")
    in_front = (part == BODY) & (depth_m < np.median(depth_m[holding]) - _DEPTH_SLACK_M)
    return float(np.count_nonzero(in_front & object_mask)) / area


def touches_border(mask: Mask) -> bool:
    """Does a mask reach the picture's border, so that a part of it may be outside?"""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def matte_iou(mesh: Mask, matte: Mask, excluded: Mask, band_px: float) -> float:
    """Intersection over union of mesh and person, leaving out the object and a band.

    The band lies around the mesh's outline: bare skin against clothes and hair is no error, a limb or a head
    in the wrong place is. Returns 0 where nothing of the two is left.
    """
    band = _band(mesh, band_px)
    counted = ~(excluded | band)
    both = np.count_nonzero(mesh & matte & counted)
    either = np.count_nonzero((mesh | matte) & counted)
    return float(both) / either if either else 0.0


def _band(mask: Mask, width_px: float) -> Mask:
    radius = max(round(width_px), 0)
    if radius == 0:
        return np.zeros_like(mask)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    flat = mask.astype(np.uint8)
    # A mesh cut by the frame has no outline there, hence the replicated border.
    wide = cv2.dilate(flat, kernel, borderType=cv2.BORDER_REPLICATE)
    thin = cv2.erode(flat, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(wide != thin)


def debounce(touches: Mask, min_frames: int) -> Mask:
    """Fill gaps shorter than ``min_frames`` between touches, then drop touches shorter than that; (T,).

    >>> debounce(np.array([0, 1, 0, 1, 1, 0, 0, 0, 1], bool), 2).astype(int).tolist()
    [0, 1, 1, 1, 1, 0, 0, 0, 0]
    """
    out = touches.copy()
    for gap in runs(~out):
        if len(gap) < min_frames and gap.start > 0 and gap.stop < len(out):
            out[gap.slice] = True
    for run in runs(out):
        if len(run) < min(min_frames, len(out)):
            out[run.slice] = False
    return out


def count_onsets(contact: Mask, min_frames: int = 3) -> int:
    """How often a hand takes hold, over both hands; (T,2).

    Contact from the first frame on is no onset: the taking was not seen.
    """
    steady = np.stack([debounce(contact[:, hand], min_frames) for hand in range(2)], 1)
    return int(np.count_nonzero(steady[1:] & ~steady[:-1]))
