"""Tracks over time: short gaps filled and marked, light smoothing, boxes from points.

A track is (T, ...) f32 with NaN where nothing was seen.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

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
    from scipy.signal import savgol_filter

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


def drop_doubles(left: Track, right: Track, wrists: Track, max_apart: float = 0.35) -> None:
    """Blank, in place, the second sighting of a hand that was found for both sides.

    Two hands (T,21,2+) whose middles are nearer than ``max_apart`` hand lengths (wrist to middle knuckle) are
    one. It stays with the side whose body wrist (T,2,2: left, right) is nearer to the hand's own.
    """
    for t in np.flatnonzero(is_seen(left) & is_seen(right)):
        lengths = [float(np.linalg.norm(h[t, 9, :2] - h[t, 0, :2])) for h in (left, right)]
        size = max(*lengths, 1.0)
        if (
            np.linalg.norm(left[t, :, :2].mean(axis=0) - right[t, :, :2].mean(axis=0))
            > max_apart * size
        ):
            continue
        middle = (left[t, 0, :2] + right[t, 0, :2]) / 2
        to_left, to_right = (np.linalg.norm(middle - wrist) for wrist in wrists[t])
        (right if to_left <= to_right else left)[t] = np.nan


def swapped_sides(left: Track, right: Track, wrists: Track) -> Flags:
    """Frames (T,) whose left and right hands carry each other's names.

    The cheapest naming over the whole clip (Viterbi over two states: as named, or swapped). A frame costs the
    hands' distances to the wrists of the body's sides they are named after, and twice their ways since those
    sides were last seen (six hand lengths for the first time); a change of state one hand length more.
    A single frame's mistake makes two jumps, which two changes spare; arms that cross make none.

    Args:
        left: (T,21,2+) NaN where unseen.
        right: Likewise.
        wrists: (T,2,2) the body's left and right wrist, NaN where unseen.
    """
    hands = np.stack([left[:, 0, :2], right[:, 0, :2]], axis=1)
    lengths = np.linalg.norm(np.stack([h[:, 9, :2] - h[:, 0, :2] for h in (left, right)]), axis=2)
    size = float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else 1.0
    back = np.zeros((len(hands), 2), np.intp)
    cost = np.array([0.0, size])  # names are right until shown wrong
    last = [np.full((2, 2), np.nan), np.full((2, 2), np.nan)]  # per state: where each side was
    for t, pair in enumerate(hands):
        named = (pair, pair[::-1])
        step = np.zeros((2, 2))
        for before, now in np.ndindex(2, 2):
            seen = np.isfinite(named[now][:, 0])
            ways = np.linalg.norm(named[now] - last[before], axis=1)[seen]
            step[before, now] = 2 * np.nan_to_num(ways, nan=3 * size).sum() + size * (before != now)
        own = [np.nansum(np.linalg.norm(n - wrists[t], axis=1)) for n in named]
        total = cost[:, None] + step + own
        back[t], cost = total.argmin(axis=0), total.min(axis=0)
        last = [np.where(np.isfinite(named[s]), named[s], last[back[t, s]]) for s in (0, 1)]
    state, out = int(cost.argmin()), np.zeros(len(hands), bool)
    for t in range(len(hands) - 1, -1, -1):
        out[t] = state == 1
        state = int(back[t, state])
    return out


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Intersection over union of two boxes xyxy.

    >>> box_iou(np.array([0, 0, 2, 2.0]), np.array([1, 0, 3, 2.0]))
    0.3333333333333333
    """
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    total = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / total if total > 0 else 0.0
