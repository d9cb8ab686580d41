"""Every command through the real command line: what it prints with --json, and how it refuses."""

from __future__ import annotations

import json

import pytest

from jobs.outputs import OUTPUTS, check_output, models_of
from tests.support.command_line import handloom
from tests.support.furniture import write_catalogue

pytestmark = pytest.mark.slow

REFUSED = {
    "curate": ["{none}", "--out", "{root}"],
    "report": ["{none}"],
    "runs": ["{none}"],
    "explain": ["{none}", "abc"],
    "show": ["{none}", "abc", "--out", "{none}/x.mp4"],
    "shards": ["{none}"],
    "diff": ["{none}", "{none}"],
    "retry": ["{none}", "--reason", "crash"],
    "vacuum": ["{none}"],
    "verify": ["{none}"],
    "bench curation": ["{none}"],
    "train": ["{none}"],
    "sample": ["{none}", "--root", "{none}", "--out", "{none}/x.mp4"],
    "studio": ["--out", "{root}", "--clip", "no-such-clip"],
    "doctor": ["--no-ray"],  # on a machine without ffmpeg
    "bench accuracy": ["--studio", "{root}", "--clip", "no-such-clip"],
    "bench model": ["--device", "cuda"],
    "models list": ["--no-such-option"],
    "models check": ["--recipe", "no-such-recipe"],
    "models pin": ["{none}"],
    "models convert-smplx": ["{none}", "{none}.npz"],
}


def answer(command, *argv):
    done = handloom(*command.split(), *argv, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    check_output(command, document)
    return document


def test_every_command_is_here():
    assert set(REFUSED) == set(OUTPUTS) - {"error"}


@pytest.mark.parametrize("command", REFUSED)
def test_a_command_refuses_with_one_message_for_people_and_for_programs(command, tmp_path):
    argv = [a.format(none=tmp_path / "none", root=tmp_path / "root") for a in REFUSED[command]]
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    shown = handloom(*command.split(), *argv, env=env)
    told = handloom(*command.split(), *argv, "--json", env=env)
    assert shown.returncode == told.returncode == 2, shown.stderr + shown.stdout
    assert "Traceback" not in shown.stderr + told.stderr
    document = json.loads(told.stdout)
    if command == "doctor":
        assert "apt-get install ffmpeg" in shown.stdout
        assert not all(check["is_ok"] for check in document["checks"])
        return
    check_output("error", document)
    assert document["error"]["exit_code"] == 2
    words = shown.stderr.split()
    assert words[0] in ("error:", "Usage:")
    assert len(words) > 4


def test_the_studio_says_what_it_rendered(tmp_path):
    (clip,) = answer("studio", "--out", tmp_path, "--clip", "clean", "--size", "96x160")["clips"]
    assert clip == str(tmp_path / "videos/clean.mp4")


def test_the_studio_lists_the_objects_that_it_can_hold(tmp_path):
    folder = write_catalogue(tmp_path)
    objects = answer("studio", "--list-objects", "--catalogue", folder)["objects"]
    assert [(o["key"], o["author"], o["licence"]) for o in objects] == [
        ("Tiny/tile", "Ann", "Public domain"),
        ("Tiny/cup", "Ben", "Public domain"),
        ("Tiny/wardrobe", "Cho", "Public domain"),
    ]
    assert "Tile" in handloom("studio", "--list-objects", "--catalogue", folder).stdout
    done = handloom("studio", "--out", tmp_path, "--objects", 3, "--catalogue", folder)
    assert (done.returncode, "2 hand-sized" in done.stderr) == (2, True)
    assert "--out DIR is missing" in handloom("studio").stderr


@pytest.mark.long
def test_benches_say_what_they_measured(tmp_path):
    assert answer("bench model", "--quick")["measured"]
    impossible = ("--set", "objects.gate.min_area_share=1")
    found = answer("bench accuracy", "--studio", tmp_path, "--clip", "clean", *impossible)
    assert found["figures"]
    assert set(found["dropped"].values()) == {"objects: object_too_small"}


def test_documents_that_are_not_promised_are_refused():
    with pytest.raises(ValueError, match="extra"):
        check_output("models pin", {"file": "a", "sha256": "b", "extra": 1})
    assert models_of("curate --dry-run")[0].__name__ == "Plan"
