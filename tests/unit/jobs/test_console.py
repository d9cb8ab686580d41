"""Log lines as users get them: text that steers no terminal, or one JSON object a line."""

from __future__ import annotations

import json
import logging

import pytest
import typer

from curation.log_lines import tell
from jobs.console import set_up_logging

log = logging.getLogger("curation.somewhere")


@pytest.fixture(autouse=True)
def own_handlers():
    """``set_up_logging`` replaces the handlers of the root logger, pytest's too."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_as_text_and_as_an_object(capsys):
    set_up_logging("info", "text")
    tell(log, "group_ended", stages=["probe", "segment"], rows=3, seconds=0.12345)
    text = "group_ended stages=probe,segment rows=3 seconds=0.123"
    assert capsys.readouterr().err == f"INFO curation.somewhere: {text}\n"
    set_up_logging("info", "json")
    tell(log, "group_ended", stages=["probe", "segment"], rows=3, seconds=0.12345)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time")
    assert line == {
        "level": "info", "logger": "curation.somewhere", "message": text, "event": "group_ended",
        "stages": ["probe", "segment"], "rows": 3, "seconds": 0.123,
    }  # fmt: skip


def test_foreign_text_in_an_event_steers_no_terminal(capsys):
    set_up_logging("warning", "text")
    tell(log, "quarantined", level=logging.WARNING, detail='a "name"\n\x1b[31mred')
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert told.count("\n") == 1


def test_events_wait_until_they_are_asked_for(capsys):
    set_up_logging("warning", "text")
    tell(log, "commit", units=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "form"), [("loud", "text"), ("info", "xml")])
def test_a_level_or_form_that_is_none_is_refused(level, form):
    with pytest.raises(typer.BadParameter, match="expected"):
        set_up_logging(level, form)
