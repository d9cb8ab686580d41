"""Black bars: constant dark margins of a whole shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.geometry import Box

_BAR_LUMA_MAX = 32
_BAR_SPREAD_MAX = 10
_MIN_SHARE = 0.015
_BLEED_PX = 2
_CELL = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """Brightest and darkest luma of each row and column of one frame, noise averaged over 8 pixels."""

    row_max: NDArray[np.uint8]
    row_min: NDArray[np.uint8]
    column_max: NDArray[np.uint8]
    column_min: NDArray[np.uint8]


def profile(grey: NDArray[np.uint8]) -> Profile:
    """Profile an upright grey picture (H,W)."""
    rows = _cells(grey)
    columns = _cells(grey.T)
    return Profile(rows.max(1), rows.min(1), columns.max(1), columns.min(1))


def _cells(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average each line over cells of 8 pixels: (lines, cells)."""
    whole = grey.shape[1] // _CELL * _CELL
    if whole == 0:
        return grey
    cells = grey[:, :whole].reshape(len(grey), -1, _CELL)
    return np.asarray(cells.mean(axis=2), np.uint8)


def inner_box(profiles: list[Profile]) -> Box:
    """The part of the picture inside bars that stay constant over all profiles.

    A bar is a margin of at least 1.5 % of its axis whose lines never get brighter than 32 of 255 nor
    vary by more than 10: a camera's dark background has more texture. Two pixels beside a bar
    go with it (they mix bar and picture). A frame that is all bar is returned whole.
    """
    row_bar = _is_bar([p.row_max for p in profiles], [p.row_min for p in profiles])
    column_bar = _is_bar([p.column_max for p in profiles], [p.column_min for p in profiles])
    top, bottom = _margins(row_bar)
    left, right = _margins(column_bar)
    height, width = len(row_bar), len(column_bar)
    if width - left - right < 0.1 * width or height - top - bottom < 0.1 * height:
        return Box(0, 0, width, height)
    return Box(left, top, width - right, height - bottom)


def _is_bar(highs: list[NDArray[np.uint8]], lows: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    high, low = np.max(highs, axis=0).astype(int), np.min(lows, axis=0).astype(int)
    return np.asarray((high <= _BAR_LUMA_MAX) & (high - low <= _BAR_SPREAD_MAX))


def _margins(is_bar: NDArray[np.bool_]) -> tuple[int, int]:
    if is_bar.all():
        return len(is_bar), len(is_bar)
    ends = int(np.argmin(is_bar)), int(np.argmin(is_bar[::-1]))
    least = _MIN_SHARE * len(is_bar)
    first, last = (end + _BLEED_PX if end >= least else 0 for end in ends)
    return first, last
