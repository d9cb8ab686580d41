"""Removing a region from a frame: borrow what other frames of the clip show there, inpaint the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, Image, Mask
from stages.product.flow import make_flow

_FLOW_SHORT_SIDE_PX = 240
_MAX_RING_ERROR = 18.0
_RING_PX = 15


@dataclass(frozen=True)
class Donor:
    """Another frame of the clip, and where it must not be copied from."""

    frame: Image
    forbidden: Mask
    """(H,W): product and hands there."""


def fill_region(
    frame: Image, hole: Mask, donors: Sequence[Donor], front: Mask | None = None
) -> tuple[Image, float]:
    """Replace the pixels of ``hole``.

    Each donor is aligned by optical flow of the surround, which is extended smoothly into the hole. Donors
    whose surround fits best come first; what no donor shows is inpainted (Telea 2004).

    Args:
        frame: (H,W,3) u8 RGB.
        hole: (H,W) what to remove.
        donors: Other frames of the same clip.
        front: (H,W) what stands before the hole, such as fingers: nothing is inpainted from it.

    Returns:
        The filled picture and the share of the hole that came from donors (1 where there is no hole).
    """
    if not hole.any():
        return frame.copy(), 1.0
    out, left = frame.copy(), hole.copy()
    fits = []
    for order, donor in enumerate(donors):
        aligned, usable = _align(frame, hole, donor)
        error = _ring_error(frame, aligned, hole, usable)
        if error <= _MAX_RING_ERROR:
            fits.append((error, order, aligned, usable))
    for _, _, aligned, usable in sorted(fits, key=lambda fit: fit[:2]):
        take = left & usable
        take = (
            cv2.morphologyEx(take.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
        )
        out[take] = aligned[take]
        left &= ~take
    borrowed = 1.0 - float(left.sum() / hole.sum())
    if left.any():
        unknown = left if front is None else left | front
        guess = cv2.inpaint(out, unknown.astype(np.uint8), 5, cv2.INPAINT_TELEA)
        out = np.where(left[..., None], guess, out).astype(np.uint8)
    return _soften_seam(out, frame, hole), borrowed


def _align(frame: Image, hole: Mask, donor: Donor) -> tuple[Image, Mask]:
    """The donor seen from ``frame``, and where it is usable."""
    height, width = hole.shape
    scale = min(1.0, _FLOW_SHORT_SIDE_PX / min(height, width))
    size = (round(width * scale), round(height * scale))
    grey = [
        cv2.cvtColor(cv2.resize(f, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for f in (frame, donor.frame)
    ]
    flow = make_flow().calc(grey[0], grey[1], None)
    unknown = hole | donor.forbidden
    small = cv2.resize(unknown.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    unreliable = cv2.dilate(small, np.ones((9, 9), np.uint8)) > 0
    flow = cv2.resize(_extend(flow, ~unreliable), (width, height)) / np.float32(scale)
    rows, cols = np.indices((height, width), dtype=np.float32)
    map_x, map_y = cols + flow[..., 0], rows + flow[..., 1]
    aligned = cv2.remap(
        donor.frame, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    blocked = cv2.remap(
        donor.forbidden.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT, borderValue=1,
    )  # fmt: skip
    return np.asarray(aligned, np.uint8), np.asarray(blocked == 0)


def _extend(flow: F32, known: Mask) -> F32:
    """Spread known vectors (H,W,2) smoothly over the unknown ones (normalised blurs, widening)."""
    out, done = np.where(known[..., None], flow, 0).astype(np.float32), known.copy()
    sigma = 2.0
    while not done.all() and sigma <= 128:
        weight = cv2.GaussianBlur(done.astype(np.float32), (0, 0), sigma)
        spread = cv2.GaussianBlur(out, (0, 0), sigma) / np.maximum(weight, 1e-6)[..., None]
        new = ~done & (weight > 0.05)
        out[new] = spread[new]
        done |= new
        sigma *= 2
    return out


def _ring_error(frame: Image, aligned: Image, hole: Mask, usable: Mask) -> float:
    """Mean absolute difference around the hole; infinite where nothing can be compared."""
    size = 2 * _RING_PX + 1
    ring = (cv2.dilate(hole.astype(np.uint8), np.ones((size, size), np.uint8)) > 0) & ~hole & usable
    if ring.sum() < 50:
        return float("inf")
    return float(np.abs(frame[ring].astype(np.int16) - aligned[ring]).mean())


def _soften_seam(filled: Image, frame: Image, hole: Mask) -> Image:
    """Fade over a few pixels outside the hole, never letting the removed pixels back in."""
    alpha = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 2.0)
    alpha = np.where(hole, 1.0, alpha)[..., None]
    smooth = cv2.GaussianBlur(filled, (0, 0), 1.0)
    mixed = np.where(hole[..., None], filled, frame * (1 - alpha) + smooth * alpha)
    return np.asarray(mixed.round(), np.uint8)
