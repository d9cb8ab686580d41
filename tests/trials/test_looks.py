"""Trial inputs about how a video looks and when: orientation, colours, HDR, times of pictures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DecodeError
from stages.kit import media
from stages.source import segment_passes, segment_worker
from stages.source.foreign_picture import read_foreign_picture
from stages.source.framing import orientation_of
from stages.source.segment import SegmentStage
from stages.source.segment_config import SegmentConfig
from stages.source.video_reader import ReadBudget, VideoReader, to_rgb
from tests.unit.stages.source.synth import source_of, toy_files

pytestmark = pytest.mark.trials
BUDGET = ReadBudget(4096 * 2304, 1000)


def upright_pictures(path: Path):
    reader = VideoReader(path, BUDGET)
    for _, frame in reader.frames():
        yield orientation_of(frame, reader.info["sample_aspect_ratio"]).upright(to_rgb(frame))


def test_a_mirrored_front_camera_is_shown_as_ffmpeg_shows_it(trials):
    path = trials / "T6_hflip_matrix.mp4"
    argv = ["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt"]
    done = subprocess.run([*argv, "rgb24", "-"], check=True, capture_output=True)
    picture = next(upright_pictures(path))
    truth = np.frombuffer(done.stdout, np.uint8).reshape(picture.shape)
    assert np.abs(truth.astype(int) - picture).mean() < 8


def test_colours_of_an_untagged_square_video(trials):
    picture = next(upright_pictures(trials / "T7_square1080_untagged.mp4")).astype(int)
    for colour in [(208, 32, 32), (32, 176, 64)]:
        near = np.abs(picture - colour).max(axis=2) <= 4
        assert near.mean() > 0.05


def test_dolby_vision_told_by_the_container_is_refused(trials):
    with pytest.raises(DecodeError, match="Dolby Vision") as caught:
        next(upright_pictures(trials / "T9_dovi_p5.mp4"))
    assert caught.value.code == "unsupported_hdr"


def test_flash_and_beep_stay_together_at_a_variable_frame_rate(trials, tmp_path, monkeypatch):
    def call(function: str, payload: dict, budget) -> dict:
        return getattr(segment_worker, function.partition(":")[2])(json.loads(json.dumps(payload)))

    monkeypatch.setattr(segment_passes, "run_isolated", call)
    files = toy_files(tmp_path)
    config = SegmentConfig(
        detector="pyscenedetect", pyscenedetect_threshold=1000, buckets=((416, 240),)
    )
    stage = SegmentStage(config)
    stage.setup()
    pairs = []
    with files.row_scope():
        for row in stage.process(source_of(trials / "T35_vfr_bursts.mp4"), files).rows:
            luma = media.read_video(files.local(row.media.video)).mean(axis=(1, 2, 3))
            sound = np.abs(media.read_wav(files.local(row.media.audio)))
            flashes = onsets(luma > luma.min() + 12, 1 / 25)
            beeps = onsets(np.convolve(sound, np.ones(160) / 160, "same") > 0.05, 1 / 16_000)
            pairs += [(f, min(beeps, key=lambda b: abs(b - f))) for f in flashes if len(beeps)]
    assert len(pairs) >= 2
    assert max(abs(flash - beep) for flash, beep in pairs) <= 0.03


def test_a_phone_picture_is_upright(trials):
    """200 wide and 300 high, as its EXIF orientation asks."""
    path = trials / "T33_exif6.jpg"
    found = read_foreign_picture(path)
    assert found.shape == (300, 200, 3)
    stored = media.read_png(path)
    assert np.abs(np.rot90(stored, -1).astype(int) - found).mean() < 3


def onsets(is_on: np.ndarray, step_s: float) -> np.ndarray:
    """Seconds at which something begins that was off before."""
    return (np.flatnonzero(is_on[1:] & ~is_on[:-1]) + 1) * step_s
