"""``handloom sample``: the written mp4 carries the sound that the network heard, from the right moment on."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from typer.testing import CliRunner

from jobs.cli import app
from model.training.trainer import train
from schemas.clock import SAMPLE_RATE_HZ
from schemas.errors import DecodeError
from stages.files import Files, FolderBlobs
from stages.kit import media
from stages.packing.latents import LatentsConfig, LatentsStage
from stages.source.foreign_sound import read_foreign_sound
from tests.support.clips import make_clip, square_frames
from tests.support.roots import finish_run, new_root
from tests.support.shards import TINY_NETWORK, make_shards
from tests.support.train_recipes import train_recipe

RATE = SAMPLE_RATE_HZ
NUM_MOTION = 25
CHANGES = ("--set", "steps=1", "--set", "num_latents=5")  # 20 frames, 0.8 s
FAST = {
    "network": {"overrides": TINY_NETWORK},
    "data": {"transcode": None},
    "eval_every": 9,
    "eval_sigmas": (0.5,),
    "eval_clips": 1,
}


def beep(at_s: float, length_s: float, rate_hz: int = RATE) -> np.ndarray:
    """Silence with 60 ms of a tone."""
    samples = np.zeros(round(length_s * rate_hz), np.float32)
    tone = 0.8 * np.sin(np.arange(round(0.06 * rate_hz)) * 2 * np.pi * 1000 / rate_hz)
    start = round(at_s * rate_hz)
    samples[start : start + len(tone)] = tone
    return samples


def onset_s(video) -> float:
    """Where the mp4's sound begins, as a player hears it."""
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", video, "-f", "s16le", "-ac", "1", "-ar", str(RATE), "-"],
        capture_output=True,
        check=True,
    ).stdout
    level = np.abs(np.frombuffer(raw, "<i2").astype(np.float32))
    assert level.max() > 3000, "no beep in the mp4"
    return float(np.argmax(level > level.max() / 4)) / RATE


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, one_thread):
    return make_shards(tmp_path_factory.mktemp("shards"))


def trained(shards, out, steps_full=0, steps_asymmetric=1, **network):
    overrides = {"network": {"overrides": {**TINY_NETWORK, **network}}}
    steps = {"steps_full": steps_full, "steps_asymmetric": steps_asymmetric}
    train(train_recipe("smoke", {**FAST, **overrides, **steps}), shards, out)
    return out


@pytest.fixture(scope="module")
def folder(shards, tmp_path_factory):
    return trained(shards, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One clip whose sound beeps once in its motion context and once 0.4 s into its target."""
    path = tmp_path_factory.mktemp("root")
    ledger = new_root(path)
    files = Files(FolderBlobs(path), path / "scratch")
    stage = LatentsStage(LatentsConfig())
    stage.setup()
    with files.row_scope():
        clip = make_clip(files, num_target=21, num_motion=NUM_MOTION)
        total_s = clip.media.num_frames / 25
        sound = beep(0.2, total_s) + beep(NUM_MOTION / 25 + 0.4, total_s)
        media.write_wav(files.scratch / "beeps.wav", sound)
        audio = files.put(files.scratch / "beeps.wav", ".wav")
        clip = clip.replace(media=clip.media.replace(audio=audio))
        (row,) = stage.process(clip, files).rows
    finish_run(ledger, [row])
    return path


def handloom_sample(*args: object, code: int = 0):
    done = CliRunner().invoke(app, ["sample", *map(str, args), *CHANGES, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.output


def test_sound_of_a_root_starts_at_the_target(folder, root, tmp_path) -> None:
    answer = handloom_sample(folder, "--root", root, "--out", tmp_path / "a.mp4")
    assert answer["num_frames"] == 20
    assert onset_s(tmp_path / "a.mp4") == pytest.approx(0.4, abs=0.02)


def test_own_sound_is_taken_from_its_first_sample_on(folder, root, tmp_path) -> None:
    media.write_wav(tmp_path / "own.wav", beep(0.3, 2.0))
    own = ("--audio", tmp_path / "own.wav")
    handloom_sample(folder, "--root", root, *own, "--out", tmp_path / "a.mp4")
    assert onset_s(tmp_path / "a.mp4") == pytest.approx(0.3, abs=0.02)
    media.write_png(tmp_path / "p.png", square_frames(1, 64, 96)[0])
    files = ("--person", tmp_path / "p.png", "--product", tmp_path / "p.png", "--prompt", "A box.")
    handloom_sample(folder, *files, *own, "--out", tmp_path / "b.mp4")
    assert onset_s(tmp_path / "b.mp4") == pytest.approx(0.3, abs=0.02)


def test_sound_of_any_rate_and_length_lasts_as_long_as_the_video(folder, root, tmp_path) -> None:
    left = beep(0.25, 0.5, 44_100)
    wavfile.write(tmp_path / "own.wav", 44_100, np.stack([left, -left], axis=1))
    out = tmp_path / "a.mp4"
    answer = handloom_sample(folder, "--root", root, "--audio", tmp_path / "own.wav", "--out", out)
    assert onset_s(out) == pytest.approx(0.25, abs=0.02)
    assert answer["notes"] == ["the sound is 0.50 s long, the video 0.80 s: silence follows"]
    probe = ["ffprobe", "-v", "error", "-show_entries", "stream=duration", "-of", "csv=p=0", out]
    lengths = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.split()
    assert [float(x) for x in lengths] == pytest.approx([0.8, 0.8], abs=0.07)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", "No such file"),
        ("folder", "cannot read"),
        ("text", "expected wav, flac"),
        ("nothing", "expected wav, flac"),
        ("empty", "holds no sound"),
        ("nan", "NaN or infinite"),
        ("video", "no sound stream"),
    ],
)
def test_sound_that_cannot_be_used_is_refused_before_any_work(
    folder, root, tmp_path, what, message
) -> None:
    path = tmp_path / "own.wav"
    if what == "folder":
        path.mkdir()
    elif what in ("text", "nothing"):
        path.write_text("no sound\n" * 99 if what == "text" else "")
    elif what == "empty":
        media.write_wav(path, np.zeros(0, np.float32))
    elif what == "nan":
        wavfile.write(path, RATE, np.array([0.1, np.nan] * 900, np.float32))
    elif what == "video":
        path = tmp_path / "own.mp4"
        media.write_video(path, square_frames(3, 64, 96))
    out = tmp_path / "a.mp4"
    text = handloom_sample(folder, "--root", root, "--audio", path, "--out", out, code=2)
    assert message in " ".join(text.split()), text
    assert not out.exists()


@pytest.mark.parametrize("suffix", ["flac", "mp3", "m4a", "ogg"])
def test_common_sound_files_are_read(tmp_path, suffix) -> None:
    media.write_wav(tmp_path / "a.wav", beep(0.5, 1.0))
    target = tmp_path / f"a.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", target], check=True)
    samples = read_foreign_sound(target)
    assert np.argmax(np.abs(samples) > 0.2) / RATE == pytest.approx(0.5, abs=0.06)
    with pytest.raises(DecodeError, match="audio_unreadable"):
        read_foreign_sound(tmp_path / "none.wav")


def test_a_checkpoint_of_stage_one_is_sampled_as_trained_and_the_user_is_told(
    shards, root, tmp_path
) -> None:
    unmasked = trained(shards, tmp_path / "run", steps_full=1, steps_asymmetric=0)
    as_trained = handloom_sample(unmasked, "--root", root, "--out", tmp_path / "a.mp4")
    assert as_trained["attention"] == "full"
    assert "full attention, as the checkpoint was trained" in as_trained["notes"][0]
    masked = ("--set", "attention=asymmetric")
    other = handloom_sample(unmasked, "--root", root, *masked, "--out", tmp_path / "b.mp4")
    assert other["attention"] == "asymmetric"
    assert "trained with full attention" in other["notes"][0]


def test_a_network_without_hearing_samples_and_says_that_there_is_no_sound(
    shards, root, tmp_path
) -> None:
    deaf = trained(shards, tmp_path / "run", audio_inject_layers=())
    answer = handloom_sample(deaf, "--root", root, "--out", tmp_path / "a.mp4")
    assert not answer["has_sound"]
    assert answer["notes"] == ["the checkpoint was trained without sound: the video has none"]
    media.write_wav(tmp_path / "own.wav", beep(0.3, 1.0))
    own = ("--audio", tmp_path / "own.wav", "--out", tmp_path / "b.mp4")
    assert "trained without sound" in handloom_sample(deaf, "--root", root, *own, code=2)
