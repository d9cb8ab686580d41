"""Log lines of one form: an event's name and what it is about, ``event key=value key=value``.

Levels and format are set in jobs alone. What a worker process logs travels to the driver with its rows
(``kept_lines``, ``say_again``): its own standard error is read by nobody. What a row's worker said before it died of
the row is lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

EVENTS = {
    "run_begun": "`run`, `inputs` found, `rows` among them, results `known` from before",
    "run_ended": "`run`, `clips` seen, `units` computed, `snapshot`, `seconds`",
    "group_begun": "`stages` that are run together, rows `known` from before, rows `todo`",
    "group_ended": "`stages`, `rows` that came through, `seconds`",
    "commit": "`txn` of the log entry, `units` in it",
    "backend_loaded": "`stage`, its `backends`, `seconds`; once for each worker",
    "attempt": "warning: the worker of a `row` had died at a `stage`, this was the next `attempt` `of` so many",
    "quarantined": "warning: a `row` is set aside at a `stage`, with `reason` and `detail`",
    "unexpected_error": "error: Handloom's own code broke on a `row` at a `stage`; the traceback follows",
    "retry": "`units` whose results no longer count, by `txn` of the log entry",
    "store_retry": "what could not be done (`what`), `attempt`, `error`; it is tried again",
}
"""Every event, and what its line tells. INFO where nothing else is said."""
_WORKERS = "curation"
"""The logger below which a worker's lines are kept."""


def tell(
    log: logging.Logger,
    event: str,
    *,
    level: int = logging.INFO,
    exc_info: bool = False,
    **about: object,
) -> None:
    """Log one event. The fields travel as ``record.fields`` too, for formats that have a place for them.

    Args:
        log: The caller's logger.
        event: One of ``EVENTS``.
        level: One of logging's.
        exc_info: Add the traceback of the exception at hand.
        about: What it is about, in the order in which it is read.
    """
    assert event in EVENTS, event
    if log.isEnabledFor(level):
        fields = {"event": event, **{key: _simple(value) for key, value in about.items()}}
        log.log(level, "%s", line_of(event, about), exc_info=exc_info, extra={"fields": fields})


def line_of(event: str, about: dict[str, object]) -> str:
    """An event as text.

    >>> line_of("group_ended", {"stages": ["probe", "segment"], "seconds": 1.23456, "detail": "no room"})
    'group_ended stages=probe,segment seconds=1.235 detail="no room"'
    """
    return " ".join([event, *(f"{key}={_text(value)}" for key, value in about.items())])


def _simple(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list | tuple):
        return [_simple(item) for item in value]
    return value if value is None or isinstance(value, bool | int) else str(value)


def _text(value: object) -> str:
    simple = _simple(value)
    text = ",".join(map(str, simple)) if isinstance(simple, list) else str(simple)
    is_word = text and not any(c.isspace() or c in '"=' for c in text)
    return text if is_word else json.dumps(text, ensure_ascii=False)


class _Keeper(logging.Handler):
    """Keeps records as JSON instead of writing them."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, a traceback as part of its text."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        kept = {"name": record.name, "level": record.levelno, "text": text}
        self._lines.append(json.dumps(kept | {"fields": getattr(record, "fields", None)}))


@contextmanager
def kept_lines() -> Iterator[list[str]]:
    """What this process logs about its rows within the block, from INFO on, to be said again elsewhere."""
    log, lines = logging.getLogger(_WORKERS), list[str]()
    keeper, before = _Keeper(lines), log.level
    log.addHandler(keeper)
    log.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        log.removeHandler(keeper)
        log.setLevel(before)


def say_again(lines: Sequence[str]) -> None:
    """Log here, under the same names and levels, what ``kept_lines`` kept in another process."""
    for line in lines:
        kept = json.loads(line)
        extra = {"fields": kept["fields"]} if kept["fields"] else None
        logging.getLogger(kept["name"]).log(kept["level"], "%s", kept["text"], extra=extra)
