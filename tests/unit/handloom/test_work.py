"""``handloom.curate`` and ``handloom.sample`` ask for what the commands ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

import handloom
from schemas.errors import ConfigError


@pytest.mark.parametrize("many", [False, True])
def test_a_request_that_is_wrong_writes_nothing(tmp_path, many) -> None:
    source = tmp_path / "gone"
    with pytest.raises(ConfigError, match="gone"):
        handloom.curate([source] if many else source, tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_the_changes_of_the_command(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"speech\.gate\.require_speeech: unknown key"):
        handloom.curate(tmp_path, tmp_path / "root", settings={"speech.gate.require_speeech": True})
    with pytest.raises(ConfigError, match=r"steps"):
        handloom.sample(tmp_path, settings={"steps": 0})


def test_an_empty_folder_becomes_a_root_whose_gate_failed(tmp_path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/note.txt").write_text("no video")
    root = handloom.curate(tmp_path / "videos", tmp_path / "root", settings={"run.runner": "here"})
    assert root.clips() == ()
    assert root.runs() == (root.run_id,)
    assert root.report().verdict == "FAIL"
    assert Path(root.uri, "runs", root.run_id, "report/index.html").is_file()


def test_a_sample_needs_a_checkpoint(tmp_path) -> None:
    with pytest.raises(ConfigError, match="checkpoint"):
        handloom.sample(tmp_path, prompt="A person holds a box.")
