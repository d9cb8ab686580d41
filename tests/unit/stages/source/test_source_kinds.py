"""Recordings of the field: clocks that jump, files joined end to end, odd packets, damage that is left out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DecodeError
from stages.source.opening import ReadBudget
from stages.source.packet_index import find_breaks
from stages.source.probe_worker import probe_file, timing
from stages.source.video_reader import VideoReader, to_rgb
from tests.unit.stages.source import synth_streams as field
from tests.unit.stages.source.synth import textured, write_source
from tests.unit.stages.source.synth_streams import (
    AUDIO_PID,
    VIDEO_PID,
    ffmpeg,
    moments,
    record,
    together,
)

BUDGET = {"max_frame_pixels": 1 << 24, "max_frames": 100_000}


def probe(path: Path, *, salvage: bool = False) -> dict:
    return probe_file({"path": str(path), "salvage": salvage, **BUDGET})


def left_out(facts: dict) -> dict[str, float]:
    return {part["reason"]: part["seconds"] for part in facts["left_out"]}


def total_s(facts: dict) -> float:
    return facts["duration_s"] + sum(left_out(facts).values())


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> dict[str, bytes]:
    """Four-second live recordings: one, a second, one that began long ago, one whose clock runs over."""
    folder = tmp_path_factory.mktemp("live")
    made = {
        "one": (),
        "two": (),
        "old": ("-output_ts_offset", 9000),
        "over": ("-output_ts_offset", 95441),
        "pids": ("-mpegts_start_pid", 600, "-mpegts_pmt_start_pid", 5000),
        "same_map": ("-mpegts_start_pid", 600),
    }
    return {
        name: record(folder / f"{name}.ts", *options).read_bytes() for name, options in made.items()
    }


@pytest.mark.parametrize(
    ("names", "num_recordings"),
    [
        (["one", "two"], 2),  # back by seconds
        (["old", "one"], 2),  # back by hours: no clock that ran over
        (["one", "old", "one"], 3),  # ahead by hours, then back
        (["over"], 1),  # a clock that runs over goes on
        (["over", "one"], 2),
        (["one", "pids"], 2),
        (["one", "same_map", "one"], 3),
    ],
)
def test_pictures_and_sound_of_one_recording_stay_together(live, tmp_path, names, num_recordings):
    path = put(tmp_path / "live.ts", b"".join(live[name] for name in names))
    facts = probe(path)
    flashes, beeps, breaks = moments(path)
    assert facts["num_recordings"] == num_recordings == len(breaks) + 1
    assert together(flashes, beeps)
    assert len(flashes) == 2 * len(names)
    assert total_s(facts) == pytest.approx(4 * len(names), abs=0.2)
    assert facts["duration_s"] > 4 * len(names) - 0.4


@pytest.mark.parametrize(
    ("pid", "seconds"), [(VIDEO_PID, -1.5), (AUDIO_PID, -1.5), (VIDEO_PID, 100), (AUDIO_PID, 100)]
)
def test_a_clock_that_jumps_alone_ends_use_and_the_rest_is_named(live, tmp_path, pid, seconds):
    half = len(live["one"]) // 188 // 2
    path = put(tmp_path / "alone.ts", field.shift_clock(live["one"], pid, half, seconds))
    facts = probe(path)
    flashes, beeps, _ = moments(path)
    assert 1 < left_out(facts)["clock_jump"] < 3
    assert total_s(facts) == pytest.approx(4.0, abs=0.2)
    assert together(flashes, beeps)


def test_both_clocks_ahead_are_a_pause(live, tmp_path):
    half = len(live["one"]) // 188 // 2
    data = live["one"]
    for pid in (VIDEO_PID, AUDIO_PID):
        data = field.shift_clock(data, pid, half, 100)
    path = put(tmp_path / "ahead.ts", data)
    facts = probe(path)
    assert facts["num_recordings"] == 1
    assert facts["duration_s"] == pytest.approx(4.0, abs=0.1)
    assert left_out(facts)["pause"] == pytest.approx(100, abs=0.2)
    flashes, beeps, _ = moments(path)
    assert together(flashes, beeps)


def clocks(video, audio):
    """Stations of two streams that take turns in the file."""
    video, audio = np.asarray(video, float), np.asarray(audio, float)
    return (video, 2 * np.arange(len(video))), (audio, 2 * np.arange(len(audio)) + 1)


def ramp(*parts: tuple[float, int]) -> np.ndarray:
    return np.concatenate([start + np.arange(count) / 25 for start, count in parts])


@pytest.mark.parametrize(
    ("video", "audio", "starts", "stop"),
    [
        (ramp((0, 200)), ramp((0, 200)), [], 200),
        (ramp((50, 100), (0, 100)), ramp((50, 102), (0, 98)), [(100, 102)], 200),
        (ramp((50, 100), (0, 100)), ramp((50, 200)), [], 100),
        (ramp((50, 200)), ramp((50, 100), (0, 100)), [], 101),
        (ramp((50, 100), (0, 100)), [], [(100, 0)], 200),  # no sound: nothing to disagree with
        (ramp((0, 100), (9, 100)), ramp((0, 100), (9, 100)), [], 200),  # a pause
        (ramp((0, 100), (9000, 50), (4, 50)), ramp((0, 100), (9000, 50), (4, 50)),
         [(100, 100), (150, 150)], 200),
    ],
)  # fmt: skip
def test_breaks(video, audio, starts, stop):
    found = find_breaks(*clocks(video, audio), back_s=0.1)
    assert found.starts == starts
    assert found.video_stop == stop


def test_a_stretch_of_other_size_is_named_and_the_rest_goes_on(live, tmp_path):
    advert = record(tmp_path / "ad.ts", "-mpegts_start_pid", 600, size="192x160").read_bytes()
    path = put(tmp_path / "break.ts", live["one"] + advert + live["two"])
    facts = probe(path)
    assert facts["num_recordings"] == 2
    assert left_out(facts)["size_changes"] == pytest.approx(4.0, abs=0.1)
    assert facts["duration_s"] == pytest.approx(8.0, abs=0.3)
    flashes, beeps, _ = moments(path)
    assert together(flashes, beeps)


@pytest.mark.parametrize("codec", ["mp2", "aac"])
def test_streams_that_join_or_become_something_else(live, tmp_path, codec):
    """A third PID appears, and with AAC the sound of the second goes on in another coding."""
    one = put(tmp_path / "one.ts", live["one"])
    both = tmp_path / "both.ts"
    ffmpeg(
        "-i",
        one,
        "-f",
        "lavfi",
        "-i",
        "sine=d=4",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-c:a",
        codec,
        both,
    )
    path = put(tmp_path / "joins.ts", live["one"] + both.read_bytes())
    facts = probe(path)
    flashes, beeps, _ = moments(path)
    assert facts["num_recordings"] == 2
    assert facts["duration_s"] == pytest.approx(8.0, abs=0.3)
    assert len(flashes) == 4
    assert together(flashes, beeps, within_s=0.1)


@pytest.mark.parametrize(
    ("before", "after", "lost"), [(0, 0, 100), (4, 0, 77), (0, 16, 150), (0, 0, 1000)]
)
def test_transport_streams_may_begin_within_a_packet(live, tmp_path, before, after, lost):
    path = put(tmp_path / "mid.ts", field.repacked(live["one"], before, after)[lost:])
    facts = probe(path)
    assert total_s(facts) == pytest.approx(4.0, abs=0.2)
    assert facts["num_frames"] >= 58 or left_out(facts)["before_key_frame"] > 0
    flashes, beeps, _ = moments(path)
    assert together(flashes, beeps)


def test_what_comes_before_the_first_key_frame_is_named(live, tmp_path):
    facts = probe(put(tmp_path / "late.ts", live["one"][len(live["one"]) // 3 :]))
    assert left_out(facts)["before_key_frame"] > 0.2
    assert facts["damaged_share"] < 0.1


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".flv", ("-ar", 44100)),
        (".mpg", ("-f", "vob", "-c:v", "mpeg2video", "-r", 25, "-c:a", "mp2")),
        (".mkv", ()),
        (".webm", ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")),
        (".mp4", ()),
        (".mov", ("-movflags", "faststart")),
        (".avi", ("-bf", 3)),
        (".avi", ("-c:v", "mpeg4", "-bf", 2, "-c:a", "mp3")),
    ],
)
def test_every_family_alone_and_joined_end_to_end(tmp_path, suffix, options):
    path = record(tmp_path / f"one{suffix}", *options)
    facts = probe(path)
    flashes, beeps, _ = moments(path)
    assert facts["duration_s"] == pytest.approx(4.0, abs=0.1)
    assert len(flashes) == 2
    assert together(flashes, beeps, within_s=0.15)
    joined = put(tmp_path / f"two{suffix}", 2 * path.read_bytes())
    facts = probe(joined)
    flashes, beeps, _ = moments(joined)
    assert facts["num_recordings"] == 2
    assert total_s(facts) == pytest.approx(8.0, abs=0.3)
    assert len(flashes) == 4
    assert together(flashes, beeps, within_s=0.15)


@pytest.mark.parametrize(
    "tail",
    [
        bytes(np.random.default_rng(3).integers(0, 256, 4000, np.uint8)),
        bytes(5000),
        b"\0\0\0\0free" + b"x" * 300,
        b"\0\0\x40\0uuid" + b"y" * 300,
        b"8db42d694ccc418790edff439fe026bf",
        b"G",
        b"\0\0\x01\0GPMF" + b"z" * 10,
    ],
)
@pytest.mark.parametrize("flags", ["", "faststart"])
def test_bytes_after_the_last_atom_cost_nothing(tmp_path, tail, flags):
    options = {"movflags": flags} if flags else {}
    path = write_source(tmp_path / "a.mp4", textured(30), container_options=options)
    facts = probe(put(tmp_path / "tail.mp4", path.read_bytes() + tail))
    assert (facts["num_frames"], facts["left_out"]) == (30, [])


@pytest.mark.parametrize("lost", [5, 2000])
def test_film_that_is_missing_is_still_found(tmp_path, lost):
    path = write_source(
        tmp_path / "a.mp4", textured(30), container_options={"movflags": "faststart"}
    )
    with pytest.raises(DecodeError) as caught:
        probe(put(tmp_path / "cut.mp4", path.read_bytes()[:-lost]))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_what_a_header_promises_and_the_file_lacks_is_named(tmp_path, suffix):
    data = record(tmp_path / f"whole{suffix}").read_bytes()
    facts = probe(put(tmp_path / f"cut{suffix}", data[: len(data) * 2 // 3]))
    assert 1.5 < facts["duration_s"] < 3.5
    assert left_out(facts)["truncated"] == pytest.approx(facts["duration_s"] / 2, rel=0.1)
    assert "truncated" not in left_out(probe(tmp_path / f"whole{suffix}"))


def test_pictures_of_an_avi_are_those_that_ffmpeg_shows(tmp_path):
    path = record(tmp_path / "b.avi", "-bf", 3, seconds=2)
    ffmpeg("-i", path, "-vsync", "0", "-f", "rawvideo", "-pix_fmt", "rgb24", tmp_path / "raw")
    truth = np.fromfile(tmp_path / "raw", np.uint8).reshape(-1, 128, 160, 3)
    frames = [to_rgb(f) for _, f in VideoReader(path, ReadBudget(**BUDGET)).frames()]
    assert len(frames) == len(truth) == 30
    assert np.abs(np.stack(frames).astype(int) - truth).mean(axis=(1, 2, 3)).max() < 4


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XXX", "codec_unsupported"),
        (b"A_OPUS", b"A_XPUS", "audio_unsupported"),
    ],
)
def test_streams_without_a_decoder_are_named(tmp_path, old, new, code):
    data = record(tmp_path / "a.mkv", "-c:a", "libopus").read_bytes()
    assert old in data
    with pytest.raises(DecodeError) as caught:
        probe(put(tmp_path / "odd.mkv", data.replace(old, new)))
    assert caught.value.code == code
    assert "Traceback" not in caught.value.detail


def test_a_data_stream_is_passed_over(tmp_path):
    path = record(tmp_path / "a.mov", "-timecode", "00:00:00:00", rate=25)
    probed = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", path], capture_output=True, check=True
    )
    assert b"tmcd" in probed.stdout
    assert probe(path)["num_frames"] == 100


def test_pauses_do_not_count_for_the_rate():
    times = [*(i / 15 for i in range(75)), *(45 + i / 15 for i in range(75))]
    assert timing(times)["average_fps"] == pytest.approx(15, rel=0.01)
    assert timing(times)["duration_s"] == pytest.approx(10, abs=0.1)
    assert timing([0.0, 1.0, 2.0])["average_fps"] == pytest.approx(1)  # slow is no pause


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Frames and how they were coded: groups of 25 with B-frames, as .ts, .mkv and fragmented .mp4."""
    folder, frames = tmp_path_factory.mktemp("film"), textured(200, height=128, width=160)
    options = {"crf": "12", "bf": "2", "g": "25", "sc_threshold": "0"}
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    return frames, {
        suffix: write_source(
            folder / f"film{suffix}",
            frames,
            options=options,
            container_options=fragments if suffix == ".mp4" else None,
        ).read_bytes()
        for suffix in (".ts", ".mkv", ".mp4")
    }


def wounded(suffix: str, data: bytes) -> bytes:
    if suffix != ".ts":
        return data[: len(data) * 3 // 5]  # the recorder died
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    lost = {len(packets) * k // 10 + i for k in (3, 6, 8) for i in range(3)}
    return b"".join(p for i, p in enumerate(packets) if i not in lost)


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_salvage_keeps_whole_pictures_and_says_how_many_are_missing(film, tmp_path, suffix):
    frames, coded = film
    path = put(tmp_path / f"hurt{suffix}", wounded(suffix, coded[suffix]))
    if suffix != ".mkv":  # one without an index does not say how long it was
        with pytest.raises(DecodeError) as caught:
            probe(path)
        assert caught.value.code in {"corrupt_frames", "truncated"}
    facts = probe(path, salvage=True)
    assert facts["salvage"]
    assert 75 <= facts["num_frames"] <= 190
    if suffix == ".ts":
        assert 0.02 < facts["damaged_share"] < 0.5
    budget = ReadBudget(**BUDGET, salvage=True)
    for time_s, frame in VideoReader(path, budget).frames():
        truth = frames[round(time_s * 25)]
        assert np.abs(to_rgb(frame).astype(int) - truth).mean() < 6
