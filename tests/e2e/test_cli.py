"""The command line as a user meets it: wrong requests end with code 2 and one clear message."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def handloom(*argv, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, argv)],
        capture_output=True, text=True, check=False, timeout=300, **kwargs,
    )  # fmt: skip


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "raw" / "some.mp4"
    path.parent.mkdir()
    path.write_bytes(b"not a video at all")
    return path


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.mp4", "--out", "{root}"], "does not exist"),
        (["{empty}", "--out", "{root}"], "no files"),
        (["{video}", "--out", "{root}", "--set", "segmnt.num_frames=3"], "did you mean segment"),
        (
            ["{video}", "--out", "{root}", "--set", "segment.numframes=3"],
            "segment.numframes: unknown",
        ),
        (["{video}", "--out", "{root}", "--recipe", "nope"], "no recipe 'nope'"),
        (["{video}", "--out", "/proc/nowhere"], "cannot be used"),
        (["{video}", "--out", "ftp://host/x"], "expected a local path"),
        (["{video}", "--out", "{root}", "--sample", "2"], "--sample belongs to --dry-run"),
        (["{video}", "--out", "/proc/nowhere", "--dry-run"], "/proc cannot be written"),
    ],
)
def test_a_wrong_request_ends_before_ray_with_one_message(tmp_path, video, argv, message):
    (tmp_path / "empty").mkdir()
    places = {"root": tmp_path / "root", "video": video, "empty": tmp_path / "empty"}
    done = handloom("curate", *[a.format(**places) for a in argv])
    assert done.returncode == 2
    assert message in (done.stdout + done.stderr).replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "root" / "runs").exists()


def test_a_foreign_folder_is_left_alone(tmp_path, video):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").write_text("not ours")
    done = handloom("curate", video, "--out", foreign)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [p.name for p in foreign.iterdir()] == ["letters.txt"]


def test_the_sources_own_folder_is_no_output(video):
    done = handloom("curate", video, "--out", video.parent)
    assert done.returncode == 2
    assert "what Handloom wrote is no source" in " ".join(done.stderr.split())
    assert [p.name for p in video.parent.iterdir()] == ["some.mp4"]


def test_reports_and_training_need_a_root(tmp_path):
    for command in (["report"], ["train"], ["explain"]):
        extra = ["abc"] if command == ["explain"] else []
        done = handloom(*command, tmp_path / "none", *extra)
        assert done.returncode == 2, done.stderr
        assert "not a Handloom root" in done.stderr.replace("\n", " ")


def test_help_is_fast_and_names_every_command():
    done = handloom("--help")
    assert done.returncode == 0
    for name in ("curate", "report", "explain", "train", "sample", "doctor", "studio", "models"):
        assert name in done.stdout
