"""Segment: exact windows on one clock, geometry, sound, and identity."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from schemas.errors import ChildCrashError
from stages.base import Dropped
from stages.kit import media
from stages.source import segment_passes, segment_worker
from stages.source.downmix import mix_down
from stages.source.segment import SegmentStage
from stages.source.segment_config import SegmentConfig
from tests.unit.stages.source.synth import source_of, textured, tone, toy_files, write_source

SMALL = {
    "detector": "pyscenedetect",
    "num_frames": 9,
    "max_motion_frames": 5,
    "stride_frames": 9,
    "buckets": ((128, 224), (224, 128), (160, 160)),
}


@pytest.fixture(autouse=True)
def _in_process(request, monkeypatch):
    """Run the child's functions here, but for tests about the child itself: a start costs 0.3 s."""
    if "child" not in request.node.name:
        monkeypatch.setattr(segment_passes, "run_isolated", call_directly)


def call_directly(function: str, payload: dict, budget) -> dict:
    return getattr(segment_worker, function.partition(":")[2])(json.loads(json.dumps(payload)))


def run(path: Path, tmp_path: Path, **changes):
    """Segment one file: (outcome, files)."""
    files = toy_files(tmp_path)
    stage = SegmentStage(SegmentConfig(**(SMALL | changes)))
    stage.check()
    stage.setup()
    with files.row_scope():
        done = stage.process(source_of(path), files)
    return done, files


def clips(path: Path, tmp_path: Path, **changes):
    done, files = run(path, tmp_path, **changes)
    assert not isinstance(done, Dropped), done
    return done.rows, files


def decoded(files, ref) -> np.ndarray:
    return media.read_video(files.local(ref))


def moving_square(num_frames: int, fps: int = 25, click_every: int = 5, rate_hz: int = 48_000):
    """A white square whose left edge is at 4 px per frame, and a click at every fifth frame's start."""
    frames = np.full((num_frames, 128, 224, 3), 60, np.uint8)
    for t in range(num_frames):
        frames[t, 50:80, 4 * t % 192 : 4 * t % 192 + 24] = 230
    sound = np.zeros(num_frames * rate_hz // fps, np.float32)
    for t in range(0, num_frames, click_every):
        at = t * rate_hz // fps
        sound[at : at + rate_hz // 500] = 0.8
    return frames, sound


def square_left_px(picture: np.ndarray) -> float:
    """Left edge of the square, to a fraction of a pixel."""
    profile = picture[55:75].mean(axis=(0, 2))
    edge = int(np.argmax(profile > 145))
    return edge - (profile[edge] - 145) / max(1.0, profile[edge] - profile[edge - 1]) + 0.5


def click_samples(samples: np.ndarray) -> np.ndarray:
    """Onsets of clicks, in samples."""
    loud = np.abs(samples) > 0.25
    onset = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))
    return onset[np.concatenate([[True], np.diff(onset) > 400])]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_picture_and_sound_have_offset_zero_with_and_without_context(tmp_path, suffix):
    frames, sound = moving_square(40)
    path = write_source(tmp_path / f"clock{suffix}", frames, audio=sound)
    rows, files = clips(path, tmp_path, cut_margin_frames=0)
    assert {row.media.num_motion_frames for row in rows} == {0, 5}
    for row in rows:
        first_tick = round(row.motion_start_s * 25)
        pictures = decoded(files, row.media.video)
        for index, picture in enumerate(pictures):
            assert square_left_px(picture) == pytest.approx(4 * (first_tick + index) % 192, abs=0.6)
        samples = media.read_wav(files.local(row.media.audio))
        expected = [
            640 * (t - first_tick)
            for t in range(0, 40, 5)
            if first_tick < t < first_tick + len(pictures)
        ]
        heard = [c for c in click_samples(samples) if c > 100]
        assert len(heard) == len(expected) > 0
        assert np.abs(np.array(heard) - expected).max() <= 16  # 1 ms


def test_files_hold_exactly_what_the_row_says(tmp_path):
    path = write_source(tmp_path / "a.mp4", textured(60), audio=tone(1.0))
    rows, files = clips(path, tmp_path)
    assert len(rows) == 6
    for row in rows:
        facet = row.media
        with av.open(str(files.local(facet.video))) as container:
            stream = container.streams.video[0]
            pts = [float(f.pts * f.time_base) for f in container.decode(stream)]
            assert stream.average_rate == 25
            assert (stream.width, stream.height) == (facet.width_px, facet.height_px)
        assert len(pts) == facet.num_frames
        assert np.allclose(np.diff(pts), 0.04)
        assert len(media.read_wav(files.local(facet.audio))) == facet.num_frames * 640
        assert row.end_s - row.start_s == pytest.approx(9 / 25)
        assert row.start_s - row.motion_start_s == pytest.approx(facet.num_motion_frames / 25)
        assert facet.num_motion_frames == 0 or facet.num_motion_frames % 4 == 1
    # the sound ends after one second: the rest is silence, not repeated or cut
    last = media.read_wav(files.local(rows[-1].media.audio))
    assert not last[640:].any()


def test_no_window_crosses_a_cut(tmp_path):
    dark = textured(23, seed=1, speed=1) // 3 + 20
    light = 235 - textured(30, seed=9, speed=1) // 3
    path = write_source(tmp_path / "cut.mp4", np.concatenate([dark, light]))
    rows, files = clips(path, tmp_path)
    assert {row.media.shot_index for row in rows} == {0, 1}
    means = {0: dark.mean(), 1: light.mean()}
    for row in rows:
        assert row.media.shot_start_s <= row.motion_start_s
        assert row.end_s <= row.media.shot_end_s
        bound = 23 / 25
        assert row.end_s <= bound or row.motion_start_s >= bound
        pictures = decoded(files, row.media.video)
        assert np.abs(pictures.mean(axis=(1, 2, 3)) - means[row.media.shot_index]).max() < 12


def test_a_hole_in_time_separates_shots(tmp_path):
    pts = [*range(20), *range(60, 80)]
    path = write_source(tmp_path / "hole.mp4", textured(40), pts=pts)
    rows, _ = clips(path, tmp_path)
    for row in rows:
        assert row.end_s <= 20 / 25 or row.motion_start_s >= 60 / 25
    assert any(row.motion_start_s >= 60 / 25 for row in rows)


def test_variable_frame_rate_is_resampled_by_time(tmp_path):
    """The square moves 100 px/s in real time although frames come irregularly."""
    steps = np.tile([1, 3, 2], 30)[:60]
    pts = np.concatenate([[0], np.cumsum(steps)])[:60]  # units of 1/100 s
    frames = np.full((60, 128, 224, 3), 60, np.uint8)
    for picture, at in zip(frames, pts, strict=True):
        picture[50:80, int(at) : int(at) + 24] = 230
    path = write_source(tmp_path / "vfr.mp4", frames, pts=pts.tolist(), time_base=Fraction(1, 100))
    rows, files = clips(path, tmp_path)
    for row in rows:
        for index, picture in enumerate(decoded(files, row.media.video)):
            time_s = row.motion_start_s + index / 25
            assert square_left_px(picture) == pytest.approx(100 * time_s, abs=2.1)


def test_fifteen_fps_becomes_twenty_five(tmp_path):
    frames, _ = moving_square(30, fps=15)
    path = write_source(tmp_path / "slow.mp4", frames, fps=15)
    rows, files = clips(path, tmp_path)
    assert len(rows) == 5
    picture = decoded(files, rows[0].media.video)[-1]
    time_s = rows[0].end_s - 1 / 25
    assert square_left_px(picture) == pytest.approx(4 * round(time_s * 15), abs=4.1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_matches_ffmpeg(tmp_path, rotation):
    """A red corner and a blue corner end up where the ffmpeg command shows them."""
    frames = np.full((15, 128, 224, 3), 90, np.uint8)
    frames[:, :40, :60] = (220, 30, 30)
    frames[:, -40:, :60] = (30, 30, 220)
    path = write_source(tmp_path / "turned.mp4", frames, rotation=rotation)
    rows, files = clips(path, tmp_path)
    ours = decoded(files, rows[0].media.video)[0]
    portrait = rotation % 180 != 0
    assert ours.shape[:2] == ((224, 128) if portrait else (128, 224))
    png = tmp_path / "truth.png"
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", png], check=True)
    truth = media.read_png(png)
    assert truth.shape == ours.shape
    assert np.abs(truth.astype(int) - ours).mean() < 6


def test_square_pixels_and_the_transform_map_points(tmp_path):
    """A mark of the display picture lands where the row's transform says, bars and aspect included."""
    frames = np.full((15, 160, 200, 3), 110, np.uint8)
    frames[:, :, :30] = 0
    frames[:, :, -30:] = 0
    frames[:, 70:90, 90:110] = (240, 240, 240)
    path = write_source(tmp_path / "wide.mp4", frames, sar=Fraction(2, 1))
    rows, files = clips(path, tmp_path)
    facet = rows[0].media
    assert (facet.width_px, facet.height_px) == (224, 128)
    picture = decoded(files, facet.video)[0].mean(axis=2)
    assert picture.min() > 80  # no bar is left
    rows_px, columns_px = np.nonzero(picture > 200)
    t = facet.transform
    left, right = (2 * x * t.scale_x + t.offset_x_px for x in (90, 110))
    top, bottom = (y * t.scale_y + t.offset_y_px for y in (70, 90))
    assert columns_px.min() == pytest.approx(left, abs=1.5)
    assert columns_px.max() + 1 == pytest.approx(right, abs=1.5)
    assert rows_px.min() == pytest.approx(top, abs=1.5)
    assert rows_px.max() + 1 == pytest.approx(bottom, abs=1.5)


def test_sound_that_starts_late_stays_late(tmp_path):
    frames, sound = moving_square(40, click_every=4)
    late_s = 0.2
    path = write_source(
        tmp_path / "late.mkv", frames, audio=sound, audio_start=int(late_s * 48_000)
    )
    rows, files = clips(path, tmp_path, max_motion_frames=0, stride_frames=31, num_frames=33)
    onsets = click_samples(media.read_wav(files.local(rows[0].media.audio)))
    first_tick = round(rows[0].start_s * 25)
    at_source_s = onsets[1] / 16_000 + first_tick / 25
    assert (at_source_s - late_s) / 0.16 == pytest.approx(
        round((at_source_s - late_s) / 0.16), abs=0.03
    )


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [
        (1.0, -1.0, 0.3),  # swapped poles
        (0.8, -1.0, 0.27),  # and another gain
        (1.0, 1.0, 0.3),
        (1.0, 0.0, 0.15),
    ],
)
def test_channels_in_opposite_phase_do_not_become_silence(tmp_path, left, right, level):
    sound = np.stack([left * tone(1.2), right * tone(1.2)])
    path = write_source(tmp_path / "a.mkv", textured(30), audio=sound, audio_codec="flac")
    rows, files = clips(path, tmp_path)
    with files.row_scope():
        samples = media.read_wav(files.local(rows[0].media.audio))
    assert np.abs(samples).max() == pytest.approx(level, rel=0.03)


def test_unrelated_channels_are_added(tmp_path):
    noise = 0.2 * np.random.default_rng(0).standard_normal((2, 16_000))
    mixed = mix_down((32767 * noise.T).astype(np.int16))
    assert mixed == pytest.approx(noise.mean(0), abs=1e-4)


def test_silent_source_has_no_audio_file(tmp_path):
    rows, _ = clips(write_source(tmp_path / "mute.mp4", textured(12)), tmp_path)
    assert rows[0].media.audio is None


def test_too_short_and_too_small_are_decisions(tmp_path):
    path = write_source(tmp_path / "short.mp4", textured(8))
    done, _ = run(path, tmp_path)
    assert isinstance(done, Dropped)
    assert done.reason == "too_short"
    assert "8 frames" in done.detail
    done, _ = run(write_source(tmp_path / "a.mp4", textured(12)), tmp_path, buckets=((832, 480),))
    assert isinstance(done, Dropped)
    assert done.reason == "too_small"


def test_same_bytes_and_config_give_the_same_clips_in_a_child(tmp_path):
    path = write_source(tmp_path / "a.mp4", textured(30), audio=tone(1.2))
    first, _ = clips(path, tmp_path / "one", max_clips_per_source=2)
    second, _ = clips(path, tmp_path / "two", max_clips_per_source=2)
    assert [r.model_dump() for r in first] == [r.model_dump() for r in second]
    assert len({r.clip_id for r in first}) == len(first)
    other, _ = clips(path, tmp_path / "three", crf=20, max_clips_per_source=1)
    assert not {r.clip_id for r in first} & {r.clip_id for r in other}


def test_limit_keeps_an_even_spread(tmp_path):
    path = write_source(tmp_path / "long.mp4", textured(91))
    rows, _ = clips(path, tmp_path, max_clips_per_source=2)
    assert len(rows) == 2
    assert rows[1].start_s - rows[0].end_s > 1


def test_a_child_out_of_memory_is_quarantined_not_fatal(tmp_path):
    path = write_source(tmp_path / "a.mp4", textured(30))
    with pytest.raises(ChildCrashError) as caught:
        run(path, tmp_path, memory_bytes=100_000_000)
    assert caught.value.code in SegmentStage.reasons


@pytest.mark.parametrize("bad", [{"num_frames": 80}, {"buckets": ((480, 833),)}, {"buckets": ()}])
def test_config_that_cannot_work_is_refused(bad):
    with pytest.raises(ValidationError):
        SegmentConfig(**bad)


def test_thresholds_of_the_other_detector_and_gate_do_not_matter_to_weights():
    assert SegmentStage(SegmentConfig(detector="pyscenedetect")).weights_sha256 == ""
    assert len(SegmentStage(SegmentConfig(detector="transnetv2")).weights_sha256) == 64
