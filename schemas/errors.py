"""Every error that Handloom raises on purpose.

    HandloomError
    ├── ConfigError            the request is wrong: exit code 2, before Ray starts
    ├── DataError              one row's data is bad: the row becomes ``failed``, the run goes on
    │   ├── DecodeError        a media file could not be decoded
    │   └── ModelOutputError   a model returned something unusable
    ├── ChildCrashError        the row's child process died or ran out of time: ``quarantined``
    ├── TransientError         worth a bounded retry (storage, network)
    ├── ResumeMismatchError    the output root was written by something incompatible
    └── InvariantError         a promise of ours is broken: crash loudly

A message says what happened, what was expected and what to do. All of them survive pickling.
"""

from __future__ import annotations

from schemas.text import shorten


class HandloomError(Exception):
    """Base of all errors raised on purpose. A message has an end, whatever it quotes."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(shorten(a) if isinstance(a, str) else a for a in args))


class ConfigError(HandloomError):
    """The request cannot be carried out as written. Ends a command with exit code 2."""


class DataError(HandloomError):
    """One row's data is bad.

    Args:
        code: Reason code from the stage's closed set, such as ``not_video``.
        detail: What was found, for people.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = shorten(detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class DecodeError(DataError):
    """A media file could not be decoded."""


class ModelOutputError(DataError):
    """A model returned something unusable, such as NaNs or an empty mesh."""


class ChildCrashError(DataError):
    """The child process that worked on a row crashed or ran out of time or memory."""


class TransientError(HandloomError):
    """A storage or network fault that a bounded retry may cure."""


class ResumeMismatchError(HandloomError):
    """The output root was written by an incompatible version or for another purpose."""


class InvariantError(HandloomError):
    """A promise of Handloom's own is broken, such as the conservation law."""
