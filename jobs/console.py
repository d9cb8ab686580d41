"""What all commands share: exit codes, error messages, signals, logs, JSON output."""

from __future__ import annotations

import functools
import json
import logging
import math
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, NoReturn, ParamSpec

import typer

from schemas.errors import ConfigError, HandloomError, ResumeMismatchError
from schemas.text import plain, shorten

P = ParamSpec("P")
_LEVELS = ("debug", "info", "warning", "error")
_RED, _RESET = "\x1b[31m", "\x1b[0m"
_MAX_SHOWN_CHARS = 8000


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    REQUEST = 2
    GATE = 3
    INTERRUPTED = 130
    TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def guarded(command: Callable[P, Exit | None]) -> Callable[P, None]:
    """Turn our errors into one clear message and the right exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            with _terminable():
                code = command(*args, **kwargs)
        except (ConfigError, ResumeMismatchError) as error:
            code = fail(str(error), Exit.REQUEST, as_json=as_json)
        except HandloomError as error:
            code = fail(str(error), Exit.FAILED, as_json=as_json)
        except KeyboardInterrupt as stop:
            is_term = isinstance(stop, Terminated)
            code = Exit.TERMINATED if is_term else Exit.INTERRUPTED
            fail(
                "interrupted; what was finished is kept: the same command again goes on from there",
                code,
                as_json=as_json,
            )
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # the last one: whoever read our output has seen enough
        except Exception:  # noqa: BLE001 - a bug: its traceback may quote hostile names too
            code = fail(
                f"a fault of Handloom's own: {traceback.format_exc()}", Exit.FAILED, as_json=as_json
            )
        raise typer.Exit(code or Exit.DONE)

    return run


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that leases and scratch files go."""

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: somebody else minds the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(message: str, code: Exit, *, as_json: bool = False) -> Exit:
    """Say why a command ends without success: a line on stderr, and a JSON document where JSON was asked for."""
    shown = plain(shorten(message, _MAX_SHOWN_CHARS))
    if as_json:
        print_json("error", {"error": {"exit_code": int(code), "message": shown}})
    head = "failed:" if code == Exit.FAILED else "error:"
    if code in {Exit.INTERRUPTED, Exit.TERMINATED}:
        head = "stopped:"
    if sys.stderr.isatty():
        head = f"{_RED}{head}{_RESET}"
    sys.stderr.write(f"{head} {shown}\n")
    return code


def note(text: str) -> None:
    """Tell something on stderr that a user might not expect."""
    sys.stderr.write(f"note: {plain(text)}\n")


def wants_json(argv: Sequence[str]) -> bool:
    """Does a command line that could not be parsed ask for JSON?"""
    return "--json" in argv


def set_up_logging(level: str, form: str) -> None:
    """Send log lines to stderr: ``debug`` to ``error``, as text or as one JSON object a line.

    Raises:
        typer.BadParameter: No such level or format.
    """
    if level not in _LEVELS:
        raise typer.BadParameter(f"{level!r}: expected one of {', '.join(_LEVELS)}")
    if form not in {"text", "json"}:
        raise typer.BadParameter(f"{form!r}: expected text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if form == "json" else _PlainLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _PlainLines(logging.Formatter):
    """Log lines, their tracebacks too, may quote hostile names."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One record without control characters, and with an end."""
        return plain(shorten(super().format(record), _MAX_SHOWN_CHARS))


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, the fields of an event, and a traceback where there is one."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def print_json(command: str, value: Mapping[str, Any]) -> None:
    """Print one JSON document on standard output.

    Args:
        command: Whose document it is: it is checked to be what docs/commands.md promises.
        value: Plain values; numbers that JSON does not know (NaN, infinity) become null.
    """
    from jobs.outputs import check_output

    document = _finite(value)
    check_output(command, document)
    sys.stdout.write(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def say(text: str, *, as_json: bool = False) -> None:
    """Print a line for people, unless standard output belongs to JSON."""
    if not as_json:
        sys.stdout.write(plain(text) + "\n")
