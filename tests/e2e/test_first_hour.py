"""A new user's first hour, command by command, as docs/first-hour.md shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.first_hour import STEPS, page, play
from stages.kit import media

PAGE = Path(__file__).resolve().parents[2] / "docs/first-hour.md"


def test_the_page_shows_the_commands_of_the_script():
    shown = re.findall(r"^\$ (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert shown[1:] == [step.command.splitlines()[0] for step in STEPS]


@pytest.mark.slow
@pytest.mark.long
def test_the_first_hour(tmp_path):
    played = []
    for step in STEPS:
        played.append(play(step, tmp_path))
        assert played[-1].code == step.code, played[-1].output
        assert "Traceback" not in played[-1].output
    told = {p.step.command: p.output for p in played}
    stopped = next(p for p in played if p.step.stop_when)
    assert "kept" in stopped.output
    plans = [text for command, text in told.items() if "--dry-run" in command]
    assert "a sample of 1 sources" in plans[0]
    again = played[[p.step.stop_when != "" for p in played].index(True) + 1].output
    assert re.search(r"^ *segment +2 ", again, flags=re.MULTILINE), again
    stricter = next(text for command, text in told.items() if "min_confidence" in command)
    assert "0 stage calls" in stricter
    assert media.read_video(tmp_path / "clip.mp4").shape[2] == 4 * 480
    assert len(media.read_video(tmp_path / "sample.mp4")) >= 77
    assert sum(p.seconds for p in played) < 1500
    assert all(step.why in page(played, tmp_path) for step in STEPS)
