"""Optical flow: made, kept between key frames of a clip, and masks and planes pulled along it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from stages.kit.arrays import F32, Grey, Mask

MAX_GAP_STEPS = 4
"""Key frames farther apart than this many steps are not neighbours: the hands were out of sight."""


def make_flow(*, is_fine: bool = False) -> Any:
    """Dense inverse search flow (Kroeger et al. 2016): the fast preset, or the medium one for long ways."""
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if is_fine else cv2.DISOPTICAL_FLOW_PRESET_FAST
    return cv2.DISOpticalFlow_create(preset)  # type: ignore[attr-defined]


class KeyFlows:
    """Flows between frames of a clip, each computed once and kept: 8 bytes a pixel for every pair of frames.

    Args:
        grey: (T,h,w) the clip, small.
        is_fine: As for ``make_flow``.
    """

    def __init__(self, grey: Grey, *, is_fine: bool = False) -> None:
        self._grey, self._engine = grey, make_flow(is_fine=is_fine)
        self._known: dict[tuple[int, int], F32] = {}

    def back(self, t: int, other: int) -> F32:
        """(h,w,2) pixels: how far from its place in frame ``t`` each pixel lies in frame ``other``."""
        if (t, other) not in self._known:
            self._known[t, other] = self._engine.calc(self._grey[t], self._grey[other], None)
        return self._known[t, other]

    def forget_before(self, t: int) -> None:
        """Let go of flows from or to frames before ``t``."""
        self._known = {pair: flow for pair, flow in self._known.items() if min(pair) >= t}


def warp_plane(plane: F32, flow: F32) -> F32:
    """Pull a plane (H,W) along a backward flow (H,W,2): out(p) = plane(p + flow(p)); 0 from outside."""
    rows, cols = np.indices(plane.shape, dtype=np.float32)
    return np.asarray(
        cv2.remap(plane, cols + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR), np.float32
    )


def warp(mask: Mask, flow: F32) -> Mask:
    """Pull a mask (H,W) along a backward flow (H,W,2)."""
    return np.asarray(warp_plane(mask.astype(np.float32), flow) > 0.5)
