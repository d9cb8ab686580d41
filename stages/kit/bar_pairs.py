"""Bars that are not flat: shaded ones, and a blurred copy of the picture. Always a pair of equal width.

Both end on a straight line over the whole height of the picture, at the same distance on either side. Between
those lines and the border a shaded bar never changes and has no texture; a blurred copy is soft and
follows the zoomed or stretched picture. A background out of focus does none of this.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.kit.arrays import F32, F64, Grey
from stages.kit.line_cells import Lines

_MIN_SHARE, _MAX_SHARE = 0.03, 0.42
_STEP_PX, _PAIR_PX = 3, 2
_STEP_LUMA = 5
_MIN_STEP, _MIN_STEP_EVER, _MIN_STEP_ALONE = 0.4, 0.7, 0.6
_MAX_SHADE_LUMA, _MIN_STILL = 4, 0.97
_MAX_SOFTNESS = 0.4
_MIN_LIKENESS, _MIN_LIKENESS_ALONE = 0.7, 0.9
_ZOOMS = (1.0, 1.15, 1.3)
_MAX_FRAMES = 6


def bar_pair(lines: Lines, small: Grey) -> int:
    """Width in lines of each of two equal bars that are shaded or a blurred copy; 0 where there are none.

    Args:
        lines: The axis that bars cut off.
        small: (P,h,w) luma of the same frames, that axis across.
    """
    step = _step_share(lines)
    mirrored = np.maximum.reduce(
        [np.roll(step[::-1], 1 + shift) for shift in range(-_PAIR_PX, _PAIR_PX + 1)]
    )
    ends = np.arange(len(step)) / len(step)
    is_allowed = (ends >= _MIN_SHARE) & (ends <= _MAX_SHARE)
    both, either = (np.where(is_allowed, of(step, mirrored), 0) for of in (np.minimum, np.maximum))
    end = int(np.argmax(both))
    if both[end] >= _MIN_STEP:
        if _is_shaded(lines, end) and _is_shaded(lines.reversed(), end):
            return end
        if is_blurred_copy(small, end / len(step), _MIN_LIKENESS):
            return end
    end = int(np.argmax(either))  # a plain wall hides the line on one side
    is_line = either[end] >= _MIN_STEP_ALONE
    return end if is_line and is_blurred_copy(small, end / len(step), _MIN_LIKENESS_ALONE) else 0


def _step_share(lines: Lines) -> F64:
    """(L,) share of cells that jump at a line, over time; 0 where the jump leaves out an end of the line."""
    jump = np.zeros(lines.middle.shape, np.bool_)
    inner = slice(_STEP_PX, -_STEP_PX)
    change = lines.middle[:, 2 * _STEP_PX :] - lines.middle[:, : -2 * _STEP_PX]
    jump[:, inner] = np.abs(change) > _STEP_LUMA
    ever = np.asarray(jump.any(axis=0))
    is_whole = (ever.mean(axis=1) >= _MIN_STEP_EVER) & ever[:, :2].any(1) & ever[:, -2:].any(1)
    return np.where(is_whole, jump.mean(axis=(0, 2)), 0.0).astype(np.float64)


def _is_shaded(lines: Lines, end: int) -> bool:
    """True where the margin never changes and has no texture: no line differs much from the next but two."""
    margin = slice(0, end - _STEP_PX)
    if lines.still[margin].mean() < _MIN_STILL:
        return False
    shade = np.abs(np.diff(lines.middle[0, margin], axis=0))
    grain = lines.high[margin].astype(int) - lines.low[margin]
    is_plain = (shade <= _MAX_SHADE_LUMA).mean() >= _MIN_STILL
    return bool(is_plain and np.median(grain) <= 16)


def is_blurred_copy(small: Grey, share: float, least: float) -> bool:
    """True where both sides are soft and look like the picture between them, enlarged.

    Args:
        small: (P,h,w) luma.
        share: Width of each side over the picture's.
        least: Correlation with the enlarged picture that is enough.
    """
    chosen = small[np.linspace(0, len(small) - 1, min(len(small), _MAX_FRAMES)).round().astype(int)]
    width = small.shape[2]
    side = max(2, round(share * width))
    centre = chosen[:, :, side + 1 : width - side - 1]
    sides = [chosen[:, :, : side - 1], chosen[:, :, width - side + 1 :]]
    softness = np.mean([_detail(part) for part in sides]) / max(_detail(centre), 1e-6)
    if softness > _MAX_SOFTNESS:
        return False
    grounds = [_enlarged(centre, (small.shape[1], width), zoom) for zoom in (None, *_ZOOMS)]
    return max(_likeness(chosen, ground, side - 1) for ground in grounds) >= least


def _detail(pictures: Grey) -> float:
    """Mean strength of fine structure of (P,h,w)."""
    return float(np.mean([np.abs(cv2.Laplacian(p, cv2.CV_32F)).mean() for p in pictures]))


def _enlarged(centre: Grey, size: tuple[int, int], zoom: float | None) -> F32:
    """The picture over the whole frame (P,h,w): stretched, or covering it ``zoom`` times over, blurred."""
    height, width = size
    grounds = []
    for picture in np.ascontiguousarray(centre):
        rows, columns = picture.shape
        scale = zoom and max(height / rows, width / columns) * zoom
        shape = (width, height) if not scale else (round(columns * scale), round(rows * scale))
        large = cv2.resize(picture, shape, interpolation=cv2.INTER_LINEAR)
        top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
        grounds.append(_blurred(large[top : top + height, left : left + width]))
    return np.stack(grounds)


def _blurred(picture: Grey) -> F32:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 5), np.float32)


def _likeness(pictures: Grey, ground: F32, side: int) -> float:
    """Median over frames of the correlation of both sides with a ground, whatever its brightness."""
    found = []
    for picture, expected in zip(pictures, ground, strict=True):
        parts = [
            (_blurred(picture[:, part]).ravel(), expected[:, part].ravel())
            for part in (slice(0, side), slice(-side, None))
        ]
        seen, wanted = (np.concatenate(p) for p in zip(*parts, strict=True))
        if min(seen.std(), wanted.std()) < 1:
            return 0.0
        found.append(float(np.corrcoef(seen, wanted)[0, 1]))
    return float(np.median(found))
