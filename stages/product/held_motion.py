"""Chances of the held product made surer by motion.

What is held moves with what was found of it, not with the body or the room.
The flow to a few frames before and after is compared with two affine motions: the one of what was taken for the product,
and the nearest of those of the body, of the room and of standing still. Where these are the same nothing is learned;
where they differ, the rest of a product that was found in part comes back, and a patch of the shirt goes.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from stages.kit.arrays import F32, Mask
from stages.kit.hands import broad_hands
from stages.product import cues
from stages.product.flow import KeyFlows
from stages.product.scene import Scene

_GAPS = (-16, -8, 8, 16)
"""Frames to compare with: far enough for a slow hand to have moved by pixels, near enough for flow to follow a fast one."""
_WEIGHT = 2.0
_NOISE_PX, _NOISE_SHARE = 0.8, 0.12
"""Deviation of flow from an affine motion: pixels, and a share of the motion's length for what turns or bends."""
_FAR = 3.0
"""A motion missed by this many deviations is missed; how far is no further evidence."""
_MAX_ONE, _MAX_EVIDENCE, _GAIN = 2.0, 3.0, 2.0
"""Log odds that one frame may give, and all together: the mean counts twice, as frames are not independent but not one."""
_UNSURE_PX = 2.0
"""Flow that does not lead back to within about this was not found."""
_MIN_PIXELS, _MAX_PIXELS = 30, 1500
_ROUNDS = 5
_STIFFNESS = np.diag([5e-2, 5e-2, 1e-3])
"""Keeps the slopes of an affine motion small where few pixels tell them."""
_ARM_HANDS = 0.5
"""An arm's width in hand lengths."""


def with_motion(scene: Scene, chances: Mapping[int, F32]) -> dict[int, F32]:
    """Chances (h,w) per key frame, moved by whether the pixel moves as the product does."""
    flows, out = KeyFlows(scene.grey, is_fine=True), {}
    for t in sorted(chances):
        flows.forget_before(t + min(_GAPS))
        out[t] = _moved(scene, flows, t, chances[t])
    return out


def _moved(scene: Scene, flows: KeyFlows, t: int, chance: F32) -> F32:
    inside = chance > 0.5
    if int(inside.sum()) < _MIN_PIXELS:
        return chance
    hands = broad_hands(scene.hands_at(t), scene.shape, 0.25)
    limbs = broad_hands(scene.hands_at(t), scene.shape, 0.15) | _arms(scene, t)
    apart = ~cv2.dilate((inside | hands).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    places = [scene.matte[t] & apart & ~limbs, ~scene.matte[t] & apart]
    gaps = [g for g in _GAPS if 0 <= t + g < len(scene.grey)]
    found = [e for g in gaps if (e := _evidence(flows, t, t + g, inside, places)) is not None]
    if not found:
        return chance
    evidence = np.clip(_GAIN * np.mean(found, axis=0), -_MAX_EVIDENCE, _MAX_EVIDENCE)
    evidence[limbs] = np.minimum(evidence[limbs], 0)  # hands move with what they hold
    p = np.clip(chance, 0.01, 0.99)
    return np.asarray(1 / (1 + (1 - p) / p * np.exp(-_WEIGHT * evidence)), np.float32)


def _arms(scene: Scene, t: int) -> Mask:
    size = max((hand.size_px for hand in scene.hands_at(t)), default=0.0)
    return cues.forearm_mask(scene.arms_px[t], scene.shape, _ARM_HANDS * size)


def _evidence(flows: KeyFlows, t: int, other: int, inside: Mask, places: list[Mask]) -> F32 | None:
    """(h,w) log odds of moving with the product from ``t`` to ``other``; None where that motion is not known."""
    flow = flows.back(t, other)
    trust = _trust(flow, flows.back(other, t))
    product = _affine(flow, trust, inside)
    if product is None:
        return None
    rest = [motion for place in places if (motion := _affine(flow, trust, place)) is not None]
    noise = _NOISE_PX + _NOISE_SHARE * _length(flow)
    misses = [
        np.minimum(_length(flow - motion) / noise, _FAR)
        for motion in (product, *rest, np.zeros_like(flow))
    ]
    odds = (np.min(misses[1:], axis=0) ** 2 - misses[0] ** 2) / 2
    return np.asarray(np.clip(odds, -_MAX_ONE, _MAX_ONE) * trust, np.float32)


def _trust(flow: F32, back: F32) -> F32:
    """(h,w) 0..1: does the way back lead to where the way began?"""
    rows, cols = np.indices(flow.shape[:2], dtype=np.float32)
    returned = cv2.remap(
        back,
        cols + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    gap = _length(flow + returned)
    return np.asarray(np.exp(-((gap / _UNSURE_PX) ** 2)), np.float32)


def _length(flow: F32) -> F32:
    """(h,w)."""
    return np.asarray(np.hypot(flow[..., 0], flow[..., 1]), np.float32)


def _affine(flow: F32, trust: F32, where: Mask) -> F32 | None:
    """(h,w,2) the affine motion that most of the flow in a mask follows; None where too few pixels tell it.

    Iteratively reweighted least squares with Geman-McClure weights, twice the median residual as scale.
    """
    rows, cols = np.nonzero(where)
    if len(rows) < _MIN_PIXELS:
        return None
    some = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_PIXELS)).astype(int)
    rows, cols = rows[some], cols[some]
    x = np.stack([cols, rows, np.ones(len(rows))], axis=1)
    y, prior = flow[rows, cols].astype(np.float64), trust[rows, cols] + 1e-3
    weights, motion = prior.astype(np.float64), np.zeros((3, 2))
    for _ in range(_ROUNDS):
        weighted = x * weights[:, None]
        motion = np.linalg.solve(weighted.T @ x + _STIFFNESS, weighted.T @ y)
        squared = ((x @ motion - y) ** 2).sum(axis=1)
        scale = 4 * max(float(np.median(squared)), 0.09)
        weights = prior * (scale / (scale + squared)) ** 2
    (a, b), (c, d), (e, f) = motion.astype(np.float32)
    x_px = np.arange(flow.shape[1], dtype=np.float32)[None]
    y_px = np.arange(flow.shape[0], dtype=np.float32)[:, None]
    return np.stack([a * x_px + c * y_px + e, b * x_px + d * y_px + f], axis=-1)
