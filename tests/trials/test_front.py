"""Recordings of the field that were refused, or mixed up."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from stages.kit.spans import Span
from stages.source.probe import ProbeConfig, ProbeStage
from stages.source.probe_worker import probe_file
from stages.source.segment_worker import scan
from stages.source.shots import shots
from tests.unit.stages.source.synth import source_of, toy_files

pytestmark = pytest.mark.trials
BUDGET = {"max_frame_pixels": 1 << 24, "max_frames": 100_000}


def probe(path: Path) -> dict:
    return probe_file({"path": str(path), **BUDGET})


def seen(path: Path, folder: Path) -> dict:
    """What stage ``segment`` sees: times, brightness and breaks of the frames, and the sound."""
    payload = {"path": str(path), "folder": str(folder), "thumbnail_size": (32, 24), **BUDGET}
    found = scan(payload)
    times = np.fromfile(folder / "times.f64")
    luma = np.fromfile(folder / "thumbnails.u8", np.uint8).reshape(len(times), -1).mean(1)
    sound = np.fromfile(folder / "audio.i16", "<i2").reshape(-1, 2).mean(1)
    return found | {"times": times, "luma": luma, "sound": sound}


def pitch_hz(sound: np.ndarray, start_s: float, stop_s: float) -> float:
    part = sound[round(start_s * 16_000) : round(stop_s * 16_000)]
    return float(np.abs(np.fft.rfft(part)).argmax()) * 16_000 / len(part)


@pytest.mark.parametrize(
    "name", ["T2_camera_trailer.mp4", "T5_midpacket.ts", "T25_h264_bframes.avi"]
)
def test_good_video_is_read_to_its_end(trials, name):
    found = probe(trials / name)
    assert found["num_frames"] == 100
    assert found["duration_s"] == pytest.approx(4.0)
    assert found["left_out"] == []


def test_a_clock_that_starts_again_begins_another_recording_for_pictures_and_sound(
    trials, tmp_path
):
    path = tmp_path / "restart.ts"
    path.write_bytes(gzip.decompress((trials / "T4_ts_clock_restart.ts.gz").read_bytes()))
    found, media = probe(path), seen(path, tmp_path)
    assert found["num_recordings"] == 2
    left_out_s = sum(part["seconds"] for part in found["left_out"])
    assert found["duration_s"] + left_out_s == pytest.approx(48.0, abs=0.01)
    (first,) = media["breaks"]
    border_s = media["times"][first]
    assert border_s == pytest.approx(44.0, abs=0.2)
    assert pitch_hz(media["sound"], border_s - 2, border_s - 0.05) == pytest.approx(440, abs=3)
    assert pitch_hz(media["sound"], border_s + 0.05, border_s + 2) == pytest.approx(1000, abs=3)


@pytest.mark.parametrize(
    ("name", "duration_s", "border_s", "onsets_s"),
    [("T23_pid_change.ts", 12, 6, [2, 4, 8, 10]), ("T24_pause.mkv", 10, 45, [2, 4, 46, 48])],
)
def test_flash_and_beep_stay_together(trials, tmp_path, name, duration_s, border_s, onsets_s):
    found, media = probe(trials / name), seen(trials / name, tmp_path)
    assert found["duration_s"] == pytest.approx(duration_s, abs=0.01)
    assert found["average_fps"] == pytest.approx(15, abs=0.1)
    flashes = media["times"][1:][np.diff(media["luma"]) > 15]
    assert flashes == pytest.approx(onsets_s, abs=0.04)
    for at in onsets_s:
        assert pitch_hz(media["sound"], at + 0.02, at + 0.18) == pytest.approx(1000, abs=10)
        assert pitch_hz(media["sound"], at - 0.22, at - 0.02) < 900
    breaks = [Span(at, at) for at in media["breaks"]]
    cut = shots(len(media["times"]), breaks, media["times"], 0.5)
    assert len(cut) == 2
    assert media["times"][cut[1].start] == pytest.approx(border_s, abs=0.02)


def test_the_paused_recorder_passes_the_gate_for_its_rate(trials, tmp_path):
    files, stage = toy_files(tmp_path), ProbeStage(ProbeConfig(gate={"min_side_px": 1}))
    with files.row_scope():
        row = stage.process(source_of(trials / "T24_pause.mkv"), files).rows[0]
    assert stage.gate(row) is None
    assert {p.reason: p.seconds for p in row.probe.left_out} == {"pause": pytest.approx(40)}
