"""What all commands share: exit codes, error messages, progress, JSON output."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.errors import ConfigError, HandloomError, ResumeMismatchError

P = ParamSpec("P")
stderr = Console(stderr=True, highlight=False)


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    REQUEST = 2
    GATE = 3


def guarded(command: Callable[P, Exit | None]) -> Callable[P, None]:
    """Turn our errors into one clear message and the right exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        try:
            code = command(*args, **kwargs)
        except (ConfigError, ResumeMismatchError) as error:
            stderr.print(f"[red]error:[/red] {_plain(error)}", soft_wrap=True)
            raise typer.Exit(Exit.REQUEST) from None
        except HandloomError as error:
            stderr.print(f"[red]failed:[/red] {_plain(error)}", soft_wrap=True)
            raise typer.Exit(Exit.FAILED) from None
        raise typer.Exit(code or Exit.DONE)

    return run


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def say(text: str, *, as_json: bool = False) -> None:
    """Print a line for people, unless standard output belongs to JSON."""
    if not as_json:
        sys.stdout.write(text + "\n")


class RunProgress:
    """A progress bar per group of stages, with outcome counts and an estimate, on stderr."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[outcomes]}"),
            console=stderr,
            transient=False,
        )
        self._task: Any = None

    def __enter__(self) -> RunProgress:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._progress.stop()

    def group(self, names: Sequence[str], known: int, todo: int) -> None:
        """A group of stages begins."""
        text = ", ".join(names)
        self._task = self._progress.add_task(
            text, total=todo, outcomes=f"({known} known)" if known else ""
        )

    def advance(self, outcomes: Counter[str]) -> None:
        """One row of the group is done."""
        text = " ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        self._progress.update(self._task, advance=1, outcomes=text)

    def step(self, name: str, done: int, total: int) -> None:
        """Progress of work that is not a curation group."""
        if self._task is None or self._progress.tasks[self._task].description != name:
            self._task = self._progress.add_task(name, total=total, outcomes="")
        self._progress.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """Show a short text beside the current bar."""
        if self._task is not None:
            self._progress.update(self._task, outcomes=text)


def _plain(error: Exception) -> str:
    """An error's text without control characters or markup: it may quote hostile names."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(error))
    return text.replace("[", r"\[")
