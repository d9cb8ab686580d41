"""Tracks over time: short gaps filled and marked, light smoothing, boxes from points.

A track is (T, ...) f32 with NaN where nothing was seen.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

Track = NDArray[np.float32]
Flags = NDArray[np.bool_]


def is_seen(track: Track) -> Flags:
    """True for frames (T,) whose every value is finite."""
    return np.asarray(np.isfinite(track.reshape(len(track), -1)).all(axis=1))


def fill_gaps(track: Track, max_gap_frames: int) -> tuple[Track, Flags]:
    """Fill gaps of at most ``max_gap_frames`` between two seen frames by interpolation.

    Returns:
        The filled track and (T,) bool, True where a frame was filled.

    >>> t = np.array([0, np.nan, 2, np.nan, np.nan, 8], np.float32)[:, None]
    >>> fill_gaps(t, 1)[0].ravel().tolist()
    [0.0, 1.0, 2.0, nan, nan, 8.0]
    """
    seen = np.flatnonzero(is_seen(track))
    filled = np.zeros(len(track), bool)
    out = track.copy()
    for before, after in itertools.pairwise(seen):
        gap = after - before - 1
        if 0 < gap <= max_gap_frames:
            weight = np.arange(1, gap + 1, dtype=np.float32) / (gap + 1)
            weight = weight.reshape(-1, *[1] * (track.ndim - 1))
            out[before + 1 : after] = track[before] * (1 - weight) + track[after] * weight
            filled[before + 1 : after] = True
    return out, filled


def smooth(track: Track, window_frames: int = 5) -> Track:
    """Savitzky-Golay smoothing (quadratic) inside each run of seen frames."""
    out = track.copy()
    for start, stop in runs(is_seen(track)):
        length = min(window_frames, (stop - start - 1) // 2 * 2 + 1)
        if length >= 5:
            out[start:stop] = savgol_filter(track[start:stop], length, 2, axis=0)
    return out


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Half-open intervals of True.

    >>> runs(np.array([0, 1, 1, 0, 1], bool))
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def drop_blips(track: Track, min_run_frames: int) -> Track:
    """Blank runs shorter than ``min_run_frames``: detections that come and go are not trusted."""
    out = track.copy()
    for start, stop in runs(is_seen(track)):
        if stop - start < min_run_frames:
            out[start:stop] = np.nan
    return out


def boxes_around(points_px: Track, margin: float, width_px: int, height_px: int) -> Track:
    """Boxes (T,4) xyxy around points (T,N,2+), grown by a share of their size, inside the frame.

    >>> boxes_around(np.array([[[10, 10], [30, 20]]], np.float32), 0.1, 100, 100).tolist()
    [[8.0, 9.0, 32.0, 21.0]]
    """
    low, high = points_px[..., :2].min(axis=1), points_px[..., :2].max(axis=1)
    grow = margin * (high - low)
    box = np.concatenate([low - grow, high + grow], axis=1)
    limits = np.array([width_px, height_px, width_px, height_px], np.float32)
    box = np.clip(box, 0, limits)
    box[(box[:, 2] - box[:, 0] < 1) | (box[:, 3] - box[:, 1] < 1)] = np.nan
    return box.astype(np.float32)


def share(flags: Flags) -> float:
    """Share of True, 0 for none at all."""
    return float(flags.mean()) if flags.size else 0.0
