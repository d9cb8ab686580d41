"""Numbers of a clip out of numbers of its frames."""

from __future__ import annotations

import numpy as np

from stages.kit.arrays import Array


def known_median(values: Array) -> float:
    """Median of the values that are known (finite); 0 where none is.

    >>> known_median(np.array([np.nan, 1.0, 3.0])), known_median(np.array([np.nan]))
    (2.0, 0.0)
    """
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else 0.0
