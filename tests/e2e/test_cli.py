"""The command line as a user meets it: wrong requests end with code 2 and one clear message."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import handloom

pytestmark = pytest.mark.slow


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
            "segment.numframes: unknown key; did you mean num_frames?",
        ),
        (
            ["{video}", "--out", "{root}", "--set", "objects.gate.min_confidnce=1"],
            "objects.gate.min_confidnce: unknown key; did you mean min_confidence?",
        ),
        (
            ["{video}", "--out", "{root}", "--set", "run.gates.min_kept=1"],
            "run.gates.min_kept: unknown key; did you mean min_kept_clips?",
        ),
        (["--out", "{root}"], "nothing to curate"),
        (["--files-from", "{list}", "--out", "{root}"], "line 3: gone.mp4 does not exist"),
        (["--files-from", "{root}/none", "--out", "{root}"], "cannot be read as a list of files"),
        (["{video}", "--out", "{root}", "--recipe", "nope"], "no recipe 'nope'"),
        (["{video}", "--out", "/proc/nowhere"], "cannot be used"),
        (["{video}", "--out", "ftp://host/x"], "expected a local path"),
        (["{video}", "--out", "{root}", "--sample", "2"], "--sample belongs to --dry-run"),
        (["{video}", "--out", "/proc/nowhere", "--dry-run"], "/proc cannot be written"),
    ],
)
def test_a_wrong_request_ends_before_ray_with_one_message(tmp_path, video, argv, message):
    (tmp_path / "empty").mkdir()
    listing = tmp_path / "list.txt"
    listing.write_text(f"# mine\n{video}\ngone.mp4\n")
    places = {
        "root": tmp_path / "root",
        "video": video,
        "empty": tmp_path / "empty",
        "list": listing,
    }
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


def test_a_list_of_files_and_a_limit_say_what_is_used(tmp_path, video):
    for name in ("b.mp4", "c.mp4", "d.mp4"):
        (video.parent / name).write_bytes(name.encode())
    told = handloom(
        "curate",
        "--files-from",
        "-",
        "--limit",
        "2",
        "--out",
        tmp_path / "root",
        "--dry-run",
        "--json",
        input=f"{video.parent / 'd.mp4'}\n\n# no\n{video.parent / 'b.mp4'}\n{video.parent / 'c.mp4'}\n",
    )
    assert told.returncode == 0, told.stderr
    plan = json.loads(told.stdout)
    assert plan["num_unread"] == 2
    assert plan["not_used"] == {"over_limit": 1}
    both = handloom("curate", video.parent, "--limit", "3", "--out", tmp_path / "r", "--dry-run")
    assert "not used: 1 over_limit" in both.stdout
