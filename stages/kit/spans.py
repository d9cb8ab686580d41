"""Spans of frames: half-open ranges, runs of flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.kit.arrays import Flags


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Frames ``[start, stop)``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    @property
    def slice(self) -> slice:
        """For indexing arrays over frames."""
        return slice(self.start, self.stop)


def runs(flags: Flags) -> list[Span]:
    """Maximal runs of True.

    >>> runs(np.array([True, False, True, True]))
    [Span(start=0, stop=1), Span(start=2, stop=4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [Span(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def merge(spans: Sequence[Span], max_gap: int = 0) -> list[Span]:
    """Union of spans; those at most ``max_gap`` frames apart become one.

    >>> merge([Span(5, 8), Span(1, 2), Span(7, 9), Span(6, 6)])
    [Span(start=1, stop=2), Span(start=5, stop=9)]
    """
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].stop + max_gap:
            merged[-1] = Span(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return merged
