"""Rows and columns of a picture in cells, over time: what bars are told by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.kit.arrays import F32, Flags, Grey

NUM_CELLS = 16
_AVERAGED_PX = 8
_STILL_LUMA = 8


def cells(grey: Grey) -> Grey:
    """Brightest and darkest average of 8 pixels in each of 16 cells of each row: (H,16,2) of (H,W)."""
    averaged = max(1, min(_AVERAGED_PX, grey.shape[1] // NUM_CELLS))
    whole = grey.shape[1] // averaged * averaged
    means = grey[:, :whole].reshape(len(grey), -1, averaged).mean(axis=2, dtype=np.float32)
    starts = np.linspace(0, means.shape[1], NUM_CELLS, endpoint=False).astype(int)
    ends = [np.maximum.reduceat(means, starts, 1), np.minimum.reduceat(means, starts, 1)]
    return np.stack(ends, axis=2).round().astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of one axis over all profiles of a shot.

    Args:
        middle: (P,L,16) f32 middle of each cell.
        high, low: (L,16) extremes of each cell over all profiles.
        still: (L,16) cells that never change.
    """

    middle: F32
    high: Grey
    low: Grey
    still: Flags

    @classmethod
    def of(cls, ends: Grey) -> Lines:
        """From cells of several frames: (P,L,16,2)."""
        span = ends.max(axis=0).astype(int) - ends.min(axis=0)
        return cls(
            middle=ends.mean(axis=3, dtype=np.float32),
            high=ends[..., 0].max(axis=0),
            low=ends[..., 1].min(axis=0),
            still=(span <= _STILL_LUMA).all(axis=2),
        )

    def __len__(self) -> int:
        return len(self.high)

    def reversed(self) -> Lines:
        """The same from the other side of the picture."""
        return Lines(self.middle[:, ::-1], self.high[::-1], self.low[::-1], self.still[::-1])
