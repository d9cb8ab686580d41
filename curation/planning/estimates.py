"""Totals of what was not looked at yet, from what was: ratio estimates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.base import Model

CONFIDENCE = 0.9


class Estimate(Model):
    """A total that is expected, and the interval that nine in ten such totals lie in."""

    value: float
    low: float | None = None
    """None, as ``high``: one source alone says nothing of how much sources differ."""
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """A predicted total: its value, the variance of its error, and what that variance was estimated from."""

    value: float = 0.0
    variance: float | None = 0.0
    num_samples: int = 0
    """Sources behind it; 0: it is no guess."""

    def __add__(self, other: Total) -> Total:
        """The sum of two totals of different rows."""
        known = [n for n in (self.num_samples, other.num_samples) if n]
        both = (self.variance, other.variance)
        variance = None if None in both else sum(v for v in both if v is not None)
        return Total(self.value + other.value, variance, min(known, default=0))

    def estimate(self, at_least: float = 0.0) -> Estimate:
        """The interval of Student's t, cut below."""
        if not self.num_samples:
            return Estimate(value=self.value, low=self.value, high=self.value)
        if self.variance is None or self.num_samples < 2:
            return Estimate(value=self.value)
        from scipy.special import stdtrit  # a tenth of a second that most commands need not spend

        quantile = float(stdtrit(self.num_samples - 1, (1 + CONFIDENCE) / 2))
        half = quantile * math.sqrt(self.variance)
        return Estimate(
            value=self.value, low=max(at_least, self.value - half), high=self.value + half
        )


def predict(samples: Sequence[tuple[float, float]], size: float) -> Total | None:
    """The total amount of new sources of a total size, by the ratio of amount to size in a sample.

    The error of a ratio estimate of a total (Cochran, Sampling Techniques, 3rd ed., section 6.4), for sources that
    are not among the sample: what new sources scatter plus what the ratio itself is unsure of.

    Args:
        samples: (size, amount) of each source looked at; sizes above 0.
        size: Of all new sources together.

    Returns:
        None if there is no sample.
    """
    samples = [(x, y) for x, y in samples if x > 0]
    if not size:
        return Total()
    if not samples:
        return None
    count, total_x = len(samples), sum(x for x, _ in samples)
    ratio = sum(y for _, y in samples) / total_x
    if count == 1:
        return Total(ratio * size, None, 1)
    scatter = sum((y - ratio * x) ** 2 for x, y in samples) / (count - 1)
    num_new = size / (total_x / count)
    return Total(ratio * size, scatter * (num_new + num_new**2 / count), count)


def add_up(totals: Iterable[Total | None]) -> Total | None:
    """The sum, None if a part of it is not known."""
    result = Total()
    for total in totals:
        if total is None:
            return None
        result = result + total
    return result
