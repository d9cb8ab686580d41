"""Overlay text: subtitles, prices, watermarks burnt into the picture.

Text printed on a held product moves with the hand; an overlay keeps its pixels. A line of text counts as
overlay where its edges stay in place for half a second before and after. Captions that show a word at a time do
not stay so long: they are told by other words that stand, for a moment, in the same place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Protocol

import cv2
import numpy as np

from stages.kit.arrays import F32, Frames
from stages.screening.rapidocr import TextBox

_STEP_FRAMES = 12
_MIN_STABILITY = 0.55
_MAX_SLOPE_DEG = 3.0
_MIN_CONFIDENCE = 0.6
_MIN_CHARACTERS = 2
_STRONG_EDGES_PERCENTILE = 60
_WORD_STEP_FRAMES = 2
_MIN_WORDS = 3
_SAME_WORD = 0.6
_BAND_HEIGHTS, _BAND_WIDTHS, _TALLEST = 0.5, 0.08, 1.7
"""Words of one caption: distance of their middles in heights and frame widths, ratio of their heights."""


class TextReader(Protocol):
    """Finds and reads lines of text."""

    def find(self, image: Frames) -> list[TextBox]:
        """Find text lines in an RGB picture (H,W,3)."""

    def confidences(self, image: Frames, boxes: Sequence[TextBox]) -> list[tuple[str, float]]:
        """Read each box: (text, confidence)."""


@dataclass(frozen=True, slots=True)
class OverlayText:
    """Overlay text of a clip: the sampled frame, or the caption, with the largest covered area."""

    area_share: float
    num_regions: int


def overlay_text(frames: Frames, reader: TextReader) -> OverlayText:
    """Look for overlay text on (T,H,W,3): lines that stay, and captions a word at a time.

    Lines are looked for at one, two and three quarters. Only where one of them shows text that holds still
    for a moment, more frames are read for captions.
    """
    count = len(frames)
    indices = sorted({count // 4, count // 2, 3 * count // 4})
    looks = {index: _Look.at(frames, index, reader) for index in indices}
    found, has_brief = [], False
    for look in looks.values():
        lasting = _lasting(frames, look)
        words = _read(frames, look.index, lasting, reader)
        found.append(_covered(frames, [word.box for word in words]))
        has_brief = has_brief or any(box not in lasting for box in _held(frames, look))
    if has_brief:
        found.append(_captions(frames, looks, reader))
    return max(found, key=lambda text: text.area_share)


@dataclass(frozen=True, slots=True)
class _Look:
    """Level lines of text of one frame."""

    index: int
    boxes: tuple[TextBox, ...]
    edges: F32

    @classmethod
    def at(cls, frames: Frames, index: int, reader: TextReader) -> _Look:
        boxes = [b for b in reader.find(frames[index]) if abs(b.slope_deg) <= _MAX_SLOPE_DEG]
        return cls(index, tuple(boxes), _edges(frames[index]))


@dataclass(frozen=True, slots=True)
class _Word:
    """Text that holds still for a moment."""

    index: int
    box: TextBox
    text: str


def _lasting(frames: Frames, look: _Look) -> list[TextBox]:
    """Lines that keep their place for half a second before and after."""
    others = _around(frames, look.index, _STEP_FRAMES)
    return [
        box
        for box in look.boxes
        if min((stability(look.edges, o, box) for o in others), default=0.0) >= _MIN_STABILITY
    ]


def _held(frames: Frames, look: _Look) -> list[TextBox]:
    """Lines that keep their place for a moment before or after."""
    if not look.boxes:
        return []
    others = _around(frames, look.index, _WORD_STEP_FRAMES)
    return [
        box
        for box in look.boxes
        if max((stability(look.edges, o, box) for o in others), default=0.0) >= _MIN_STABILITY
    ]


def _captions(frames: Frames, looks: dict[int, _Look], reader: TextReader) -> OverlayText:
    """What the words of one place cover together, where at least three different ones stand in turn."""
    words: list[_Word] = []
    for index in range(_STEP_FRAMES // 2, len(frames), _STEP_FRAMES):
        look = looks.get(index) or _Look.at(frames, index, reader)
        words += _read(frames, index, _held(frames, look), reader)
    for word in words:
        others = [w for w in words if _same_place(word.box, w.box, frames.shape[2])]
        if _num_different([w.text for w in others]) >= _MIN_WORDS:
            return OverlayText(_covered(frames, [w.box for w in others]).area_share, 1)
    return OverlayText(0.0, 0)


def _same_place(one: TextBox, other: TextBox, width_px: int) -> bool:
    heights = one.bottom - one.top, other.bottom - other.top
    down = abs(one.top + one.bottom - other.top - other.bottom) / 2
    middle = abs(one.left + one.right - other.left - other.right) / 2
    across = min(middle, abs(one.left - other.left))  # centred, or flush left
    return (
        max(heights) <= _TALLEST * min(heights)
        and down <= _BAND_HEIGHTS * max(heights)
        and across <= _BAND_WIDTHS * width_px
    )


def _num_different(texts: Sequence[str]) -> int:
    """How many of some texts are not another reading of one before."""
    different: list[str] = []
    for text in texts:
        if all(SequenceMatcher(None, text, d).ratio() < _SAME_WORD for d in different):
            different.append(text)
    return len(different)


def _read(frames: Frames, index: int, boxes: Sequence[TextBox], reader: TextReader) -> list[_Word]:
    """What can be read with some certainty."""
    read = reader.confidences(frames[index], boxes)
    return [
        _Word(index, box, re.sub(r"\W", "", words).lower())
        for box, (words, confidence) in zip(boxes, read, strict=True)
        if confidence >= _MIN_CONFIDENCE and len(words.strip()) >= _MIN_CHARACTERS
    ]


def _around(frames: Frames, index: int, step: int) -> list[F32]:
    """Edges of the frames some steps before and after."""
    others = {max(0, index - step), min(len(frames) - 1, index + step)} - {index}
    return [_edges(frames[i]) for i in sorted(others)]


def _covered(frames: Frames, boxes: Sequence[TextBox]) -> OverlayText:
    covered = np.zeros(frames.shape[1:3], np.bool_)
    for box in boxes:
        covered[_region(box)] = True
    return OverlayText(float(covered.mean()), len(boxes))


def stability(edges: F32, other: F32, box: TextBox) -> float:
    """How much of a box's strong edges is still there in another frame: 1 all, 0 none.

    Shared over united edge strength, on the box's strongest 40 % of pixels.
    """
    here, there = edges[_region(box)], other[_region(box)]
    if here.size == 0:
        return 0.0
    strong = here >= np.percentile(here, _STRONG_EDGES_PERCENTILE)
    united = float(np.maximum(here, there)[strong].sum())
    return float(np.minimum(here, there)[strong].sum()) / united if united > 0 else 0.0


def _edges(picture: Frames) -> F32:
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down), np.float32)


def _region(box: TextBox) -> tuple[slice, slice]:
    rows = slice(max(0, int(box.top)), max(0, int(np.ceil(box.bottom))))
    return rows, slice(max(0, int(box.left)), max(0, int(np.ceil(box.right))))
