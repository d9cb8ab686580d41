"""Do the lips and the voice belong together? Two shares that tell when they surely do not.

They find speech of somebody else over a closed mouth, and a mouth that talks without a sound. They do not find speech
that is late: how wide a mouth is open follows loudness too loosely for that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stages.kit.arrays import F32, Array, Flags

_UPPER_LIP, _LOWER_LIP, _BROW, _CHIN = 13, 14, 10, 152
"""Of mediapipe's face mesh: the inner lips' middles, the top of the forehead, the chin."""
_REACH_FRAMES = 6
"""A quarter of a second: lips that meet for a sound open again within it."""
_STILL, _MOVING = 0.01, 0.03
"""Face heights by which the gap changes within the reach: less is a mouth at rest (whose landmarks shake by up to 0.006),
more is one that talks."""
_MIN_FRAMES = 12


class LipShares(NamedTuple):
    """Over the frames with a face; None where there are too few frames to tell."""

    still_while_voiced: float | None
    """Share of voiced frames around which the lips do not move for a quarter of a second before and after."""
    moving_while_silent: float | None
    """Share of frames a quarter of a second or more away from any voice in which the lips move."""


def lip_gap(face_px: F32) -> F32:
    """Gap of the lips (T,) in face heights, NaN without a face.

    Args:
        face_px: (T,468,3) face mesh in pixels.
    """
    xy = face_px[..., :2]
    gap = np.linalg.norm(xy[:, _UPPER_LIP] - xy[:, _LOWER_LIP], axis=-1)
    height = np.linalg.norm(xy[:, _BROW] - xy[:, _CHIN], axis=-1)
    return np.asarray(gap / np.where(height > 0, height, np.nan), np.float32)


def lip_shares(gap: F32, voiced: Flags) -> LipShares:
    """Shares of frames in which lips and voice contradict each other.

    Args:
        gap: (T,) of ``lip_gap``.
        voiced: (T,) somebody speaks.
    """
    seen = np.isfinite(gap)
    if not seen.any():
        return LipShares(None, None)
    widest = _around(np.where(seen, gap, -np.inf)).max(axis=1)
    narrowest = _around(np.where(seen, gap, np.inf)).min(axis=1)
    quiet = ~_around(voiced).any(axis=1)
    change = widest - narrowest
    return LipShares(_share(change < _STILL, seen & voiced), _share(change > _MOVING, seen & quiet))


def _around(values: Array) -> Array:
    """(T, 2 reach + 1): each frame's values within the reach; the first and last frame go on."""
    padded = np.pad(values, _REACH_FRAMES, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * _REACH_FRAMES + 1)


def _share(what: Flags, among: Flags) -> float | None:
    return float(what[among].mean()) if among.sum() >= _MIN_FRAMES else None
