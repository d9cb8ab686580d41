"""Shots: where one continuous camera take ends and the next begins.

Detectors look at thumbnails of all frames and name *transitions*, half-open frame ranges that belong
to no shot: a fade or dissolve covers many frames, a hard cut covers none (``start == stop``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from schemas.backend import Backend
from stages.kit.arrays import F64, Frames
from stages.kit.spans import Span, runs

_BLACK_LUMA = 12.0
FLASH_FRAMES = 5
"""A shot this short is part of the transition around it: the knee of a fade, a camera flash."""
_LUMA_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)


class ShotDetector(Backend):
    """Finds transitions: the contract of the ``segment`` stage's backends."""

    thumbnail_size: ClassVar[tuple[int, int]]
    """(width, height) that it wants to look at."""

    @abstractmethod
    def transitions(self, thumbnails: Frames) -> list[Span]:
        """Find transitions in (N,h,w,3) u8 RGB thumbnails, which may be memory-mapped."""


def shots(
    num_frames: int, transitions: Sequence[Span], times_s: F64, max_gap_s: float
) -> list[Span]:
    """Frames between transitions; holes in time longer than ``max_gap_s`` separate shots as well.

    >>> shots(10, [Span(4, 4), Span(7, 9)], np.arange(10) / 25, 0.5)
    [Span(start=0, stop=4), Span(start=4, stop=7), Span(start=9, stop=10)]
    """
    holes = [Span(int(i) + 1, int(i) + 1) for i in np.flatnonzero(np.diff(times_s) > max_gap_s)]
    found: list[Span] = []
    start = 0
    for transition in sorted([*transitions, *holes]):
        found.append(Span(start, transition.start))
        start = max(start, transition.stop)
    found.append(Span(start, num_frames))
    return [s for s in found if len(s)]


def black_spans(thumbnails: Frames, chunk: int = 4096) -> list[Span]:
    """Runs of frames that are as good as black: the bottom of a fade, or nothing to train on.

    Mean luma below 12 of 255: video black is 0 after range expansion, a dark room lies above 20.
    """
    luma = [
        (thumbnails[i : i + chunk].reshape(-1, thumbnails[0].size // 3, 3).mean(1) @ _LUMA_WEIGHTS)
        for i in range(0, len(thumbnails), chunk)
    ]
    return runs(np.concatenate(luma) < _BLACK_LUMA)
