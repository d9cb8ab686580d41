"""Probe: the catalogue of bad inputs, each by its reason code, and facts about good ones."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DataError, DecodeError
from schemas.rows import SourceVideo
from stages.source.containers import mp4_layout, sniff
from stages.source.opening import ReadBudget
from stages.source.probe import ProbeConfig, ProbeGate, ProbeStage
from stages.source.probe_worker import probe_file, timing
from stages.source.video_reader import READER_REASONS, VideoReader, to_rgb
from tests.unit.stages.source.synth import source_of, textured, tone, toy_files, write_source

BUDGET = {"max_frame_pixels": 4096 * 2304, "max_frames": 1000}


def probe(path: Path, **changes) -> dict:
    """Probe inside this process: fast. The child process has its own tests."""
    return probe_file({"path": str(path), **BUDGET, **changes})


def code_of(path: Path, **changes) -> str:
    with pytest.raises(DecodeError) as caught:
        probe(path, **changes)
    assert caught.value.code in ProbeStage.reasons
    return caught.value.code


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    options = {"movflags": "faststart"}
    return write_source(folder / "good.mp4", textured(50), audio=tone(2), container_options=options)


def ffmpeg(*argv: object) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, argv)], check=True)


def test_facts_of_a_good_file(good):
    found = probe(good)
    assert (found["width_px"], found["height_px"], found["num_frames"]) == (256, 144, 50)
    assert found["duration_s"] == pytest.approx(2.0)
    assert found["average_fps"] == pytest.approx(25)
    assert not found["is_vfr"]
    assert found["has_audio"]
    assert found["audio_sample_rate_hz"] == 48_000
    assert found["audio_duration_s"] == pytest.approx(2.0, abs=0.05)


def test_through_the_stage_in_a_child_process(good, tmp_path):
    files, stage = toy_files(tmp_path), ProbeStage(ProbeConfig())
    with files.row_scope():
        row = stage.process(source_of(good), files).rows[0]
    assert row.probe.num_frames == 50
    assert stage.gate(row).reason == "too_short"
    lenient = ProbeStage(ProbeConfig(gate=ProbeGate(min_duration_s=1, min_side_px=100)))
    assert lenient.gate(row) is None
    assert lenient.fingerprint == stage.fingerprint


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"min_duration_s": 2.5}, "too_short"),
        ({"max_duration_s": 1.5}, "too_long"),
        ({"min_side_px": 145}, "too_small"),
        ({"min_fps": 26}, "low_frame_rate"),
    ],
)
def test_gate(good, gate, reason):
    facts = {"min_duration_s": 0, "min_side_px": 1, "min_fps": 1}
    stage = ProbeStage(ProbeConfig(gate=ProbeGate(**(facts | gate))))
    row = SourceVideo(uri="x", num_bytes=1, content_sha256="0" * 64, probe=probe(good))
    assert stage.gate(row).reason == reason


@pytest.mark.parametrize(
    "data",
    [
        b"hello world, this is text\n" * 20,
        bytes(np.random.default_rng(1).integers(0, 255, 5000, np.uint8)),
        b"#EXTM3U\n#EXTINF:5,\nother.mp4\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(100),
        b"1\n00:00:01,000 --> 00:00:02,000\nHello\n",
    ],
)
def test_not_video(tmp_path, data):
    path = tmp_path / "looks_fine.mp4"
    path.write_bytes(data)
    assert code_of(path) == "not_video"


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        b"OggS\0\x02",
        b"\0\0\0\x01\x67\x42\xc0\x1e",
        b"\0\0\x01\xb3\x16\0\xf0\x13",
        b"YUV4MPEG2 W64 H64 F25:1\n",
    ],
)
def test_video_that_is_not_read_is_no_sidecar(tmp_path, data):
    """Such files count as failed sources; files that are no video do not."""
    path = tmp_path / "video.bin"
    path.write_bytes(data + bytes(500))
    assert code_of(path) == "container_unsupported"


def test_empty_file(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    assert code_of(path) == "empty_file"


def test_playlists_with_a_video_magic_do_not_reach_other_files(good, tmp_path):
    shutil.copy(good, tmp_path / "secret.mp4")
    for text in (
        b"ffconcat version 1.0\nfile 'secret.mp4'\n",
        b"#EXTM3U\n#EXTINF:5,\nsecret.mp4\n",
    ):
        path = tmp_path / "disguised.mp4"
        path.write_bytes(b"\0\0\0\x18ftypisom" + b"\n" + text)
        assert code_of(path) in {"container_truncated", "container_damaged", "no_video_stream"}


@pytest.mark.parametrize(
    "name", ["a b.mp4", "-v.mp4", "$(touch x).mp4", "concat:é'\".mp4", "http:x.mp4"]
)
def test_odd_names_are_only_names(good, tmp_path, name):
    path = tmp_path / name
    shutil.copy(good, path)
    assert probe(path)["num_frames"] == 50


def test_extension_does_not_matter(good, tmp_path):
    path = tmp_path / "video.txt"
    shutil.copy(good, path)
    assert probe(path)["num_frames"] == 50


def test_missing_moov(tmp_path):
    whole = write_source(tmp_path / "whole.mp4", textured(30))
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert code_of(path) == "container_truncated"


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_truncated_fast_start_file_is_found_however_it_fails(good, tmp_path, share):
    path = tmp_path / "cut.mp4"
    path.write_bytes(good.read_bytes()[: int(good.stat().st_size * share)])
    assert mp4_layout(path).missing_bytes > 0
    with pytest.raises(DecodeError) as caught:
        probe(path)
    assert caught.value.code == "truncated"
    assert "frames_ok=" in caught.value.detail
    assert "expected=50" in caught.value.detail


@pytest.mark.parametrize("atom", [b"moov", b"trak", b"stbl", b"stsd", b"avc1", b"stts", b"stsz"])
def test_a_damaged_header_has_a_code(good, tmp_path, atom):
    """The atom loses its name: what stands in it is not found, or makes no sense without it."""
    data = bytearray(good.read_bytes())
    at = data.index(atom, 32)  # past the brands of ftyp
    data[at : at + 4] = b"XXXX"
    path = tmp_path / "header.mp4"
    path.write_bytes(data)
    codes = {b"moov": "container_truncated", b"trak": "no_video_stream"}
    assert code_of(path) == codes.get(atom, "codec_unsupported")


def test_any_flipped_bytes_end_in_facts_or_in_a_code(good, tmp_path):
    """Thirty seeded kinds of damage, headers and pictures: no other exception, no hang."""
    data, path = good.read_bytes(), tmp_path / "flipped.mp4"
    ends = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        broken = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(8, len(broken), 4 ** (1 + seed % 5))
        broken[places] = rng.integers(0, 256, len(places))
        path.write_bytes(broken.tobytes())
        ends.add(end_of(path))
    assert ends <= READER_REASONS | {"facts"}
    assert len(ends) > 1  # the damage is real


def end_of(path: Path) -> str:
    try:
        return "facts" if 1 <= probe(path)["num_frames"] <= 50 else "impossible facts"
    except DecodeError as error:
        return error.code


def test_times_before_zero_are_only_an_origin(tmp_path):
    """Negative first times (B-frame delay, a cut stream): the clock starts at the first frame."""
    pts = [*range(-10, 40)]
    path = write_source(tmp_path / "negative.mkv", textured(50), pts=pts)
    found = probe(path)
    assert found["num_frames"] == 50
    assert found["duration_s"] == pytest.approx(2.0, abs=0.05)


def test_audio_only(tmp_path):
    path = tmp_path / "song.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
    assert code_of(path) == "no_video_stream"


def test_cover_art_is_no_video(tmp_path):
    cover, path = tmp_path / "cover.png", tmp_path / "song.m4a"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", 1, cover)
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=d=1",
        "-i",
        cover,
        "-map",
        0,
        "-map",
        1,
        "-c:v",
        "copy",
        "-disposition:v",
        "attached_pic",
        "-f",
        "mp4",
        path,
    )
    assert code_of(path) == "no_video_stream"


def test_audio_longer_than_video_does_not_stretch_the_video(tmp_path):
    path = write_source(tmp_path / "long_sound.mp4", textured(25), audio=tone(6))
    found = probe(path)
    assert found["duration_s"] == pytest.approx(1.0)
    assert found["audio_duration_s"] == pytest.approx(6.0, abs=0.05)


def test_edit_list_counts_what_is_shown(good, tmp_path):
    path = tmp_path / "edited.mp4"
    ffmpeg("-ss", 1.0, "-i", good, "-c", "copy", path)
    found = probe(path)
    assert found["num_frames"] < 50
    assert found["duration_s"] == pytest.approx(found["num_frames"] / 25)


def test_variable_frame_rate(tmp_path):
    pts = np.cumsum([0, *([1, 3] * 20)])[:40]
    path = write_source(
        tmp_path / "vfr.mp4", textured(40), pts=pts.tolist(), time_base=Fraction(1, 50)
    )
    found = probe(path)
    assert found["is_vfr"]
    assert found["num_frames"] == 40
    assert found["duration_s"] == pytest.approx(78 / 50 + 1 / 50, abs=0.05)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_applied_to_the_size(tmp_path, rotation):
    path = write_source(tmp_path / "turned.mp4", textured(10), rotation=rotation)
    found = probe(path)
    assert found["rotation_deg"] == rotation
    size = (256, 144) if rotation % 180 == 0 else (144, 256)
    assert (found["width_px"], found["height_px"]) == size


def test_anamorphic_pixels(tmp_path):
    path = write_source(tmp_path / "wide.mp4", textured(10), sar=Fraction(4, 3))
    found = probe(path)
    assert (found["width_px"], found["height_px"]) == (341, 144)
    assert found["sample_aspect_ratio"] == pytest.approx(4 / 3)


def test_odd_size_and_full_chroma(tmp_path):
    path = write_source(tmp_path / "odd.mkv", textured(10)[:, :143, :255], pix_fmt="yuv444p")
    found = probe(path)
    assert (found["width_px"], found["height_px"]) == (255, 143)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_refused(tmp_path, transfer):
    path = tmp_path / "hdr.mp4"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=d=0.4:s=128x128",
        "-pix_fmt",
        "yuv420p10le",
        "-c:v",
        "libx265",
        "-x265-params",
        f"log-level=none:transfer={transfer}",
        "-color_trc",
        transfer,
        path,
    )
    assert code_of(path) == "unsupported_hdr"


def test_ten_bit_sdr_is_fine(tmp_path):
    path = tmp_path / "ten.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.4:s=128x128", "-pix_fmt", "yuv420p10le", path)
    assert probe(path)["pixel_format"] == "yuv420p10le"


def test_interlaced_is_refused(tmp_path):
    path = tmp_path / "fields.mp4"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=d=1:s=128x128:r=50",
        "-vf",
        "interlace",
        "-flags",
        "+ilme+ildct",
        "-c:v",
        "mpeg2video",
        "-f",
        "mpegts",
        path,
    )
    assert code_of(path) == "interlaced"


def test_hidden_vp9_alpha_is_refused(tmp_path):
    path = tmp_path / "alpha.webm"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=d=0.4:s=128x128,format=yuva420p", "-c:v", "libvpx-vp9", path
    )
    assert code_of(path) == "has_alpha"


def test_open_alpha_is_refused(tmp_path):
    path = tmp_path / "alpha.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:s=64x64,format=argb", "-c:v", "qtrle", path)
    assert code_of(path) == "has_alpha"


def test_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=black:s=8192x4320:d=0.08", "-preset", "ultrafast", path)
    assert path.stat().st_size < 200_000
    assert code_of(path) == "too_large"


def test_too_many_frames_by_claim_and_by_count(good, tmp_path):
    assert code_of(good, max_frames=49) == "too_many_frames"
    stream = tmp_path / "no_claim.ts"
    ffmpeg("-i", good, "-c", "copy", stream)
    assert code_of(stream, max_frames=30) == "too_many_frames"


def test_size_change_in_mid_stream(tmp_path):
    parts = []
    for size in ("128x128", "160x128"):
        part = tmp_path / f"{size}.ts"
        ffmpeg("-f", "lavfi", "-i", f"testsrc=d=0.4:s={size}", "-pix_fmt", "yuv420p", part)
        parts.append(part.read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    assert code_of(path) in {"size_changes", "bad_timestamps"}


@pytest.mark.parametrize(
    ("suffix", "num_bytes", "code"),
    [(".ts", 300, None), (".ts", 20_000, None), (".mp4", 20_000, "corrupt_frames")],
)
def test_damage_in_the_middle_is_skipped_or_refused_never_shown(tmp_path, suffix, num_bytes, code):
    """A few lost frames leave a gap in time; more than 1 % refuse the file. No frame is garbage."""
    frames = textured(600, height=72, width=128)
    options = {"crf": "10", "bf": "0", "g": "5" if suffix == ".ts" else "50"}
    data = bytearray(write_source(tmp_path / f"a{suffix}", frames, options=options).read_bytes())
    middle = len(data) // 2
    data[middle : middle + num_bytes] = bytes(num_bytes)
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(data)
    if code:
        assert code_of(path) == code
        return
    shown = 0
    for time_s, frame in VideoReader(path, ReadBudget(1 << 20, 1000)).frames():
        assert np.abs(to_rgb(frame).astype(int) - frames[round(time_s * 25)]).mean() < 8
        shown += 1
    assert 570 <= shown < 600


def test_many_repeated_times_refuse_the_file_and_few_do_not(tmp_path):
    reader = VideoReader(tmp_path / "x.ts", ReadBudget(1, 1), num_frames=100, num_bad_times=10)
    reader.info["family"] = "mpegts"
    reader._judge()
    reader.num_bad_times = 11
    with pytest.raises(DecodeError, match="bad_timestamps"):
        reader._judge()


def test_object_over_the_byte_limit(good, tmp_path):
    files = toy_files(tmp_path)
    with files.row_scope(), pytest.raises(DataError) as caught:
        ProbeStage(ProbeConfig(max_bytes=10)).process(source_of(good), files)
    assert caught.value.code == "too_many_bytes"


@pytest.mark.parametrize(
    ("head", "family"),
    [
        (b"\x1a\x45\xdf\xa3rest", "matroska"),
        (b"RIFF....AVI LIST", "avi"),
        ((b"\x47" + b"\0" * 187) * 3, "mpegts"),
        (b"RIFF....WAVEfmt ", ""),
        (b"", ""),
    ],
)
def test_sniff(head, family):
    assert sniff(head) == family


def test_timing_ignores_millisecond_rounding():
    times = [round(i / 30, 3) for i in range(60)]
    assert not timing(times)["is_vfr"]
    assert timing(times)["average_fps"] == pytest.approx(30, rel=1e-3)


def test_all_reader_codes_are_declared():
    assert READER_REASONS <= ProbeStage.reasons
