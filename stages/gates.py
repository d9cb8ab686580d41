"""Judging scores by thresholds: shared by the gates of stages with many scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.base import Dropped


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Fails with ``reason`` where ``value < limit``."""

    reason: str
    name: str
    value: float
    limit: float

    @property
    def fails(self) -> bool:
        """Below the limit."""
        return self.value < self.limit

    def __str__(self) -> str:
        return f"{self.name}={self.value:.4g}, at least {self.limit:g}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """Fails with ``reason`` where ``value > limit``."""

    reason: str
    name: str
    value: float
    limit: float

    @property
    def fails(self) -> bool:
        """Above the limit."""
        return self.value > self.limit

    def __str__(self) -> str:
        return f"{self.name}={self.value:.4g}, at most {self.limit:g}"


def first_failure(checks: Sequence[AtLeast | AtMost]) -> Dropped | None:
    """The first check that fails, as a decision.

    >>> first_failure([AtMost("loud", "peak", 1.0, 2.0), AtLeast("quiet", "level", 1.0, 2.0)])
    Dropped(reason='quiet', detail='level=1, at least 2')
    """
    return next((Dropped(c.reason, str(c)) for c in checks if c.fails), None)
