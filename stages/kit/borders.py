"""Bars around a shot: black, of any flat colour, shaded, or a blurred copy of the picture.

A product on a plain ground has flat margins too. What tells bars from a ground is where they end: the picture
beside a bar begins on one straight line, over the bar's whole length, while a ground ends wherever the
subject happens to reach. Bars that are not flat are believed only as a pair of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import Flags, Grey
from stages.kit.bar_pairs import bar_pair
from stages.kit.boxes import Box
from stages.kit.line_cells import NUM_CELLS, Lines, cells

THUMB_SIDE_PX = 192
_BLACK_LUMA_MAX, _BLACK_SPREAD_MAX = 32, 10
_FLAT_LUMA, _STEP_LUMA = 6, 9
_MIN_SHARE, _MIN_PICTURE_SHARE = 0.015, 0.1
_BLEED_PX, _STEP_PX, _PAIR_PX = 2, 3, 3
_LIMITS = (0.5, 0.8, True)
_BLACK_LIMITS, _BLACK_PAIR_LIMITS = (0.3, 0.7, False), (0.2, 0.6, False)
"""What must not be the bar's colour behind it, see ``_picture_begins``: pictures may be dark in part."""
_MIN_PURE, _MIN_FLAT = 0.95, 0.5
"""Cells of a line of a flat bar that have its colour: where it is bare, and where a logo lies on it."""
_MIN_MOVING = 0.3


@dataclass(frozen=True, slots=True)
class Profile:
    """Each row and column of one frame in 16 cells, and the frame in small.

    Args:
        rows: (H,16,2) brightest and darkest luma of the cell, noise averaged over 8 pixels.
        columns: (W,16,2), the same for columns.
        small: (h,w) luma, longer side 192 pixels.
    """

    rows: Grey
    columns: Grey
    small: Grey


def profile(grey: Grey) -> Profile:
    """Profile an upright grey picture (H,W)."""
    height, width = small_size(*grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return Profile(cells(grey), cells(grey.T), np.asarray(small, np.uint8))


def small_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Height and width of a profile's small picture."""
    scale = THUMB_SIDE_PX / max(height_px, width_px)
    return max(1, round(height_px * scale)), max(1, round(width_px * scale))


def unpack_profile(data: Grey, height_px: int, width_px: int) -> Profile:
    """A profile of a picture of some size from its arrays' bytes in a row."""
    row_bytes, column_bytes = (n * NUM_CELLS * 2 for n in (height_px, width_px))
    rows, columns, small = np.split(data, np.cumsum([row_bytes, column_bytes]))
    return Profile(
        rows.reshape(height_px, NUM_CELLS, 2),
        columns.reshape(width_px, NUM_CELLS, 2),
        small.reshape(small_size(height_px, width_px)),
    )


def inner_box(profiles: Sequence[Profile]) -> Box:
    """The part of the picture inside bars that stay over all profiles of a shot.

    A bar is a margin of at least 1.5 % of its axis. Two pixels beside it go with it (they mix bar and
    picture). A frame that is all bar is returned whole.
    """
    small = np.stack([p.small for p in profiles])
    rows = Lines.of(np.stack([p.rows for p in profiles]))
    columns = Lines.of(np.stack([p.columns for p in profiles]))
    top, bottom = _margins(rows, columns, small.transpose(0, 2, 1))
    left, right = _margins(columns, rows, small)
    height, width = len(rows), len(columns)
    least = _MIN_PICTURE_SHARE
    if width - left - right < least * width or height - top - bottom < least * height:
        return Box(0, 0, width, height)
    return Box(left, top, width - right, height - bottom)


def _margins(lines: Lines, across: Lines, small: Grey) -> tuple[int, int]:
    """Bars before and after the picture along one axis, in lines; ``small`` (P,h,w) has it across."""
    ends = flat_bars(lines, across)
    if ends == (0, 0):
        width = bar_pair(lines, small)
        ends = (width, width)
    first, last = (end + _BLEED_PX if end else 0 for end in ends)
    return first, last


def flat_bars(lines: Lines, across: Lines) -> tuple[int, int]:
    """Flat bars before and after the picture, in lines; 0 where there is none."""
    sides = lines, lines.reversed()
    first, last = (_flat_end(side, across) for side in sides)
    if bool(first) != bool(last):  # the picture may be as light as the bar on one side
        first, last = _twin(sides[0], sides[1], last) or first, _twin(*sides[::-1], first) or last
    black = _black_end(sides[0]), _black_end(sides[1])
    are_pair = min(black) > 0 and abs(black[0] - black[1]) <= _PAIR_PX
    limits = _BLACK_PAIR_LIMITS if are_pair else _BLACK_LIMITS
    first, last = (
        end or (dark if dark and _picture_begins(side, 0, _span(across), limits)[dark] else 0)
        for end, dark, side in zip((first, last), black, sides, strict=True)
    )
    return first, last


def _twin(lines: Lines, other: Lines, end: int) -> int:
    """The ``end`` of the bar on the other side if the margin here is at least as wide and as coloured."""
    colours = [float(np.median(side.middle[:, :_STEP_PX])) for side in (lines, other)]
    if not end or abs(colours[0] - colours[1]) > _FLAT_LUMA:
        return 0
    return end if _is_bar(lines, colours[0])[: end - _STEP_PX].all() else 0


def _flat_end(lines: Lines, across: Lines) -> int:
    """Width of a bar of any colour before the picture, a logo on it included; 0 where there is none."""
    edge = slice(0, _STEP_PX)
    colour = float(np.median(lines.middle[:, edge]))
    if _bare(lines, colour)[edge].mean(axis=1).min() < _MIN_PURE:
        return 0
    end = _run(_is_bar(lines, colour))
    if end == len(lines):
        return 0
    begins = _picture_begins(lines, max(1, colour), _span(across), _LIMITS)
    if not begins[: end + 1].any():
        return 0
    end = min(end, int(np.argmax(begins)) + _STEP_PX)  # what lies behind may be as light as the bar
    return end if end >= _MIN_SHARE * len(lines) else 0


def _is_bar(lines: Lines, colour: float) -> Flags:
    """(L,) lines of one colour, or with something that stays on them."""
    share = _bare(lines, colour).mean(axis=1)
    has_logo = (share >= _MIN_FLAT) & (lines.still.mean(axis=1) >= _MIN_PURE)
    return np.asarray((share >= _MIN_PURE) | has_logo)


def _bare(lines: Lines, colour: float) -> Flags:
    """(L,16) cells that have one colour all the time."""
    return np.asarray((lines.high <= colour + _FLAT_LUMA) & (lines.low >= colour - _FLAT_LUMA))


def _picture_begins(
    lines: Lines, colour: float, span: slice, limits: tuple[float, float, bool]
) -> Flags:
    """(L,) lines behind which picture lies over the length that is not bar across.

    Args:
        lines: The axis.
        colour: Luma of the bar; black stands for all that is as dark.
        span: Cells that count.
        limits: Least share of them that are not the bar's colour on average and at one time or another, and
            whether both ends of the line must be among them.
    """
    inside = np.roll(lines.middle, -_STEP_PX, axis=1)[:, :, span]
    differs = np.abs(inside - colour) > (_STEP_LUMA if colour else _BLACK_LUMA_MAX)
    ever = differs.any(axis=0)
    least_mean, least_ever, with_ends = limits
    begins = (differs.mean(axis=(0, 2)) >= least_mean) & (ever.mean(axis=1) >= least_ever)
    if with_ends:
        begins &= ever[:, 0] & ever[:, -1]
    begins[-_STEP_PX:] = False
    return np.asarray(begins)


def _span(across: Lines) -> slice:
    """Cells of a line that are not margins of the other axis, where what they hold moves; else all."""
    colour = float(np.median(across.middle[:, :_STEP_PX]))
    is_plain = np.asarray(_bare(across, colour).all(axis=1), np.bool_)
    first, last = _run(is_plain), _run(is_plain[::-1])
    moving = 1 - across.still[first : len(across) - last].mean() if first < len(across) else 0.0
    if moving < _MIN_MOVING:
        return slice(0, NUM_CELLS)
    edges = np.linspace(0, len(across), NUM_CELLS + 1)
    inside = (edges[:-1] >= first) & (edges[1:] <= len(across) - last)
    if not inside.any():
        return slice(0, NUM_CELLS)
    return slice(int(np.argmax(inside)), NUM_CELLS - int(np.argmax(inside[::-1])))


def _black_end(lines: Lines) -> int:
    """Width of a black margin, be it a bar or a dark ground; 0 where there is none."""
    high, low = lines.high.max(axis=1).astype(int), lines.low.min(axis=1).astype(int)
    end = _run((high <= _BLACK_LUMA_MAX) & (high - low <= _BLACK_SPREAD_MAX))
    return end if _MIN_SHARE * len(lines) <= end < len(lines) else 0


def _run(flags: Flags) -> int:
    """Length of the run of True at the start."""
    return len(flags) if flags.all() else int(np.argmin(flags))
