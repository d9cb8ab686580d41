"""Judging scores by thresholds: the one way in which gates do it.

A score or a limit may be None, for what was not measured or is not to be judged: such a check never fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.base import Dropped


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Fails with ``reason`` where ``value < limit``; ``seen`` says in words what was seen then."""

    reason: str
    name: str
    value: float | None
    limit: float | None
    seen: str = ""

    @property
    def fails(self) -> bool:
        """Below the limit."""
        return self.value is not None and self.limit is not None and self.value < self.limit

    def __str__(self) -> str:
        return _words(self.seen, f"{self.name}={self.value:.4g}, at least {self.limit:g}")


@dataclass(frozen=True, slots=True)
class AtMost:
    """Fails with ``reason`` where ``value > limit``; ``seen`` says in words what was seen then."""

    reason: str
    name: str
    value: float | None
    limit: float | None
    seen: str = ""

    @property
    def fails(self) -> bool:
        """Above the limit."""
        return self.value is not None and self.limit is not None and self.value > self.limit

    def __str__(self) -> str:
        return _words(self.seen, f"{self.name}={self.value:.4g}, at most {self.limit:g}")


@dataclass(frozen=True, slots=True)
class Never:
    """Fails with ``reason`` where something is so that must not be; ``seen`` says it in words."""

    reason: str
    fails: bool
    seen: str

    def __str__(self) -> str:
        return self.seen


def _words(seen: str, figures: str) -> str:
    return f"{seen}: {figures}" if seen else figures


def first_failure(checks: Sequence[AtLeast | AtMost | Never]) -> Dropped | None:
    """The first check that fails, as a decision.

    >>> first_failure([AtMost("loud", "peak", 1.0, 2.0), AtLeast("quiet", "level", 1.0, 2.0)])
    Dropped(reason='quiet', detail='level=1, at least 2')
    >>> first_failure([AtMost("loud", "peak", None, 2.0), Never("cut", True, "the border cuts it")])
    Dropped(reason='cut', detail='the border cuts it')
    """
    return next((Dropped(c.reason, str(c)) for c in checks if c.fails), None)
