"""Tracks over time: short gaps filled and marked, light smoothing, boxes from points.

A track is (T, ...) f32 with NaN where nothing was seen.
"""

from __future__ import annotations

import itertools

import numpy as np

from stages.kit.arrays import F32, Flags
from stages.kit.landmarks import is_seen
from stages.kit.spans import runs


def fill_gaps(track: F32, max_gap_frames: int) -> tuple[F32, Flags]:
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


def smooth(track: F32, window_frames: int = 5) -> F32:
    """Savitzky-Golay smoothing (quadratic) inside each run of seen frames."""
    from scipy.signal import savgol_filter

    out = track.copy()
    for run in runs(is_seen(track)):
        length = min(window_frames, (len(run) - 1) // 2 * 2 + 1)
        if length >= 5:
            out[run.slice] = savgol_filter(track[run.slice], length, 2, axis=0)
    return out


def drop_blips(track: F32, min_run_frames: int) -> F32:
    """Blank runs shorter than ``min_run_frames``: detections that come and go are not trusted."""
    out = track.copy()
    for run in runs(is_seen(track)):
        if len(run) < min_run_frames:
            out[run.slice] = np.nan
    return out


def boxes_around(points_px: F32, margin: float, width_px: int, height_px: int) -> F32:
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


def drop_doubles(left: F32, right: F32, wrists: F32, max_apart: float = 0.35) -> None:
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


def swapped_sides(left: F32, right: F32, wrists: F32, chirality: F32 | None = None) -> Flags:
    """Frames (T,) whose left and right hands carry each other's names.

    The cheapest naming over the whole clip, exactly: a state is how the frame is named and where each side was last
    seen, which is all that later costs depend on. A frame costs the hands' distances to the wrists of the body's sides
    they are named after, what their own looks say against it, and twice their ways since those sides were last seen
    (six hand lengths for the first time); a change of naming one hand length more. A single frame's mistake makes two
    jumps, which two changes spare; arms that cross make none.

    Args:
        left: (T,21,2+) NaN where unseen.
        right: Likewise.
        wrists: (T,2,2) the body's left and right wrist, NaN where unseen.
        chirality: (T,2) -1..1 how much the hands named left, right look like a left hand; NaN where unknown.
    """
    hands = np.stack([left[:, 0, :2], right[:, 0, :2]], axis=1)
    size = _median_length(left, right)
    own = _naming_costs(hands, wrists, size, chirality)
    states: dict[_Naming, float] = {(0, (-1, 0), (-1, 1)): 0.0}  # right until shown wrong
    steps: list[dict[_Naming, _Naming]] = []
    for t in range(len(hands)):
        following: dict[_Naming, float] = {}
        step: dict[_Naming, _Naming] = {}
        for state, cost in states.items():
            for now in (0, 1):
                after, way = _named(hands, t, now, state, size)
                total = cost + way + own[t, now] + size * (now != state[0])
                if total < following.get(after, np.inf):
                    following[after], step[after] = total, state
        states = following
        steps.append(step)
    out = np.zeros(len(hands), bool)
    if steps:
        state = min(states, key=lambda one: states[one])
        for t in range(len(hands) - 1, -1, -1):
            out[t] = state[0] == 1
            state = steps[t][state]
    return out


def _median_length(left: F32, right: F32) -> float:
    """Pixels from wrist to middle knuckle over both tracks (T,21,2+); 1 where no hand is seen."""
    lengths = np.linalg.norm(np.stack([h[:, 9, :2] - h[:, 0, :2] for h in (left, right)]), axis=2)
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) if known.size else 1.0


_Naming = tuple[int, tuple[int, int], tuple[int, int]]
"""0 as named or 1 swapped, and where the left and the right side were last seen: frame (-1 never) and track."""


def _named(hands: F32, t: int, now: int, state: _Naming, size: float) -> tuple[_Naming, float]:
    """The state after naming frame ``t``, and twice the ways that its hands came."""
    places, way = [], 0.0
    for side in (0, 1):
        frame, track = state[2] if side else state[1]
        mine = side ^ now
        if np.isfinite(hands[t, mine, 0]):
            gone = (
                3 * size
                if frame < 0
                else float(np.linalg.norm(hands[t, mine] - hands[frame, track]))
            )
            way += 2 * gone
            frame, track = t, mine
        places.append((frame, track))
    return (now, places[0], places[1]), way


def _naming_costs(hands: F32, wrists: F32, size: float, chirality: F32 | None) -> F32:
    """(T,2) what bodies and the hands' own looks say against naming a frame as it is, or swapped."""
    costs = []
    mean = _mean_distance(hands, wrists)
    for now in (0, 1):
        named = hands[:, ::-1] if now else hands
        away = np.linalg.norm(named - wrists, axis=2)
        # a side whose wrist is not seen says nothing: as far as hands are from wrists in the mean
        cost = np.where(np.isfinite(away), away, mean)
        cost = np.where(np.isfinite(named[..., 0]), cost, 0.0).sum(axis=1)
        if chirality is not None:
            looks = np.nan_to_num(chirality[:, ::-1] if now else chirality) * (1, -1)
            cost = cost + size * np.maximum(-looks, 0).sum(axis=1)
        costs.append(cost)
    return np.stack(costs, axis=1)


def _mean_distance(hands: F32, wrists: F32) -> F32:
    """(T,1) pixels: the mean distance of the hands that are seen to the wrists that are, 0 where none are."""
    away = np.linalg.norm(hands[:, :, None] - wrists[:, None], axis=3).reshape(len(hands), -1)
    known = np.isfinite(away)
    filled = np.where(known, away, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.asarray(filled[:, None])
