"""Overlay text: subtitles, prices, watermarks burnt into the picture.

Text printed on a held product moves with the hand; an overlay keeps its pixels. A line of text counts as
overlay where its edges stay in place for half a second before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.backends.rapidocr import TextBox

Frames = NDArray[np.uint8]
_STEP_FRAMES = 12
_MIN_STABILITY = 0.55
_MAX_SLOPE_DEG = 3.0
_MIN_CONFIDENCE = 0.6
_MIN_CHARACTERS = 2
_STRONG_EDGES_PERCENTILE = 60


class TextReader(Protocol):
    """Finds and reads lines of text."""

    def find(self, image: Frames) -> list[TextBox]:
        """Find text lines in an RGB picture (H,W,3)."""

    def confidences(self, image: Frames, boxes: Sequence[TextBox]) -> list[tuple[str, float]]:
        """Read each box: (text, confidence)."""


@dataclass(frozen=True, slots=True)
class OverlayText:
    """Overlay text of a clip: the sampled frame with the largest covered area."""

    area_share: float
    num_regions: int


def overlay_text(frames: Frames, reader: TextReader) -> OverlayText:
    """Look for overlay text on frames at one and three quarters of (T,H,W,3)."""
    count = len(frames)
    found = [_on_frame(frames, index, reader) for index in sorted({count // 4, (3 * count) // 4})]
    return max(found, key=lambda text: text.area_share)


def _on_frame(frames: Frames, index: int, reader: TextReader) -> OverlayText:
    picture = frames[index]
    level = [box for box in reader.find(picture) if abs(box.slope_deg) <= _MAX_SLOPE_DEG]
    others = {max(0, index - _STEP_FRAMES), min(len(frames) - 1, index + _STEP_FRAMES)} - {index}
    edges, others_edges = _edges(picture), [_edges(frames[i]) for i in sorted(others)]
    stable = [
        box for box in level
        if min((stability(edges, o, box) for o in others_edges), default=0.0) >= _MIN_STABILITY
    ]  # fmt: skip
    read = reader.confidences(picture, stable)
    text = [
        box for box, (words, confidence) in zip(stable, read, strict=True)
        if confidence >= _MIN_CONFIDENCE and len(words.strip()) >= _MIN_CHARACTERS
    ]  # fmt: skip
    height, width = picture.shape[:2]
    covered = np.zeros((height, width), np.bool_)
    for box in text:
        covered[_region(box)] = True
    return OverlayText(float(covered.mean()), len(text))


def stability(edges: NDArray[np.float32], other: NDArray[np.float32], box: TextBox) -> float:
    """How much of a box's strong edges is still there in another frame: 1 all, 0 none.

    Shared over united edge strength, on the box's strongest 40 % of pixels.
    """
    here, there = edges[_region(box)], other[_region(box)]
    if here.size == 0:
        return 0.0
    strong = here >= np.percentile(here, _STRONG_EDGES_PERCENTILE)
    united = float(np.maximum(here, there)[strong].sum())
    return float(np.minimum(here, there)[strong].sum()) / united if united > 0 else 0.0


def _edges(picture: Frames) -> NDArray[np.float32]:
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down), np.float32)


def _region(box: TextBox) -> tuple[slice, slice]:
    rows = slice(max(0, int(box.top)), max(0, int(np.ceil(box.bottom))))
    return rows, slice(max(0, int(box.left)), max(0, int(np.ceil(box.right))))
