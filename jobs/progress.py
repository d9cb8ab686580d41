"""How far a command is, on stderr: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from schemas.text import plain

_LINE_EVERY_S = 10.0


class RunProgress:
    """How far a run is, with outcome counts and an estimate, on stderr.

    A bar per group of stages on a terminal; elsewhere a plain line now and then.
    """

    def __init__(self) -> None:
        self._bars = _Bars() if sys.stderr.isatty() else None
        self._lines = _Lines()
        self._name, self._done, self._total, self._text = "", 0, 0, ""

    def __enter__(self) -> RunProgress:
        """Start drawing."""
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if self._bars:
            self._bars.stop()

    def group(self, names: Sequence[str], known: int, todo: int) -> None:
        """A group of stages begins."""
        self._begin(", ".join(names), todo, f"({known} known)" if known else "")

    def advance(self, outcomes: Counter[str]) -> None:
        """One row of the group is done."""
        text = " ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        self._draw(self._done + 1, text)

    def step(self, name: str, done: int, total: int) -> None:
        """Progress of work that is not a curation group."""
        if self._name != name:
            self._begin(name, total, "")
        self._draw(done, self._text)

    def note(self, text: str) -> None:
        """Show a short text beside the current bar."""
        if self._name:
            self._draw(self._done, text)

    def _begin(self, name: str, total: int, text: str) -> None:
        self._name, self._done, self._total, self._text = name, 0, total, text
        if self._bars:
            self._bars.begin(name, total, text)
        else:
            self._lines.begin(name, total, text)

    def _draw(self, done: int, text: str) -> None:
        self._done, self._text = done, text
        if self._bars:
            self._bars.draw(done, text)
        else:
            self._lines.draw(done, text)


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console  # a tenth of a second that pipes need not spend
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[outcomes]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=False,
        )
        self.start, self.stop = self._progress.start, self._progress.stop
        self._task: Any = None

    def begin(self, name: str, total: int, text: str) -> None:
        self._task = self._progress.add_task(plain(name), total=total, outcomes=plain(text))

    def draw(self, done: int, text: str) -> None:
        self._progress.update(self._task, completed=done, outcomes=plain(text))


class _Lines:
    """For pipes and log files: at the beginning, every ten seconds, and at the end."""

    def begin(self, name: str, total: int, text: str) -> None:
        self._name, self._total, self._begun = name, total, time.monotonic()
        self._last = self._begun
        self._print(0, text)

    def draw(self, done: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S or done == self._total:
            self._last = now
            self._print(done, text)

    def _print(self, done: int, text: str) -> None:
        left = ""
        if 0 < done < self._total:
            spent = time.monotonic() - self._begun
            left = f" about {spent / done * (self._total - done):.0f} s left"
        line = f"{self._name}: {done}/{self._total}{left} {text}".rstrip()
        sys.stderr.write(plain(line) + "\n")
        sys.stderr.flush()
