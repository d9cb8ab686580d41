"""How a foreign video looks: turned and mirrored, in its colours, or refused where it is HDR."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from schemas.errors import DecodeError
from stages.source.dolby_vision import refuse_dolby_vision_records
from stages.source.frame_marks import content_peak_nits, mastering_peak_nits, side_data
from stages.source.framing import orientation_of, read_display_matrix
from stages.source.probe_worker import probe_file
from stages.source.video_reader import ReadBudget, VideoReader, guess_matrix, thumbnail, to_rgb
from tests.support.mp4_boxes import (
    add_to_sample_entry,
    content_light,
    dolby_vision,
    mastering_display,
)
from tests.unit.stages.source.synth import textured, write_source

BUDGET = ReadBudget(4096 * 2304, 1000)
MATRICES = {
    "as it is": (1, 0, 0, 1),
    "half turn": (-1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counter-clockwise": (0, -1, 1, 0),
    "left and right": (-1, 0, 0, 1),
    "up and down": (1, 0, 0, -1),
    "one diagonal": (0, 1, 1, 0),
    "other diagonal": (0, -1, -1, 0),
}


def matrix_bytes(a: float, b: float, c: float, d: float) -> bytes:
    rows = [[a * 65536, b * 65536, 0], [c * 65536, d * 65536, 0], [0, 0, 1 << 30]]
    return np.array(rows).astype(np.int32).tobytes()


def ffmpeg(*argv: object) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, argv)], check=True)


def shown_by_ffmpeg(path: Path, folder: Path) -> np.ndarray:
    """The first picture as the command line shows it, through its own autorotation."""
    raw = folder / "shown.png"
    ffmpeg("-i", path, "-frames:v", 1, raw)
    with av.open(str(raw)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def first_frame(path: Path):
    reader = VideoReader(path, BUDGET)
    frame = next(iter(reader.frames()))[1]
    return frame, orientation_of(frame, reader.info["sample_aspect_ratio"])


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("name", MATRICES)
def test_all_eight_orientations_are_shown_as_ffmpeg_shows_them(tmp_path, name, suffix):
    frames = np.full((3, 128, 224, 3), 90, np.uint8)
    frames[:, :40, :60] = (220, 30, 30)
    frames[:, -40:, :60] = (30, 30, 220)
    frames[:, :40, -60:] = (30, 200, 30)

    path = write_source(
        tmp_path / f"turned{suffix}", frames, display_matrix=matrix_bytes(*MATRICES[name])
    )
    frame, orientation = first_frame(path)
    ours, truth = orientation.upright(to_rgb(frame)), shown_by_ffmpeg(path, tmp_path)
    assert truth.shape == ours.shape
    assert np.abs(truth.astype(int) - ours).mean() < 6
    found = probe_file({"path": str(path), "max_frame_pixels": 1 << 24, "max_frames": 100})
    assert (found["height_px"], found["width_px"]) == truth.shape[:2]
    assert found["is_mirrored"] == (np.linalg.det(np.reshape(MATRICES[name], (2, 2))) < 0)


def test_pixel_aspect_follows_a_mirrored_quarter_turn():
    for a, b, c, d in MATRICES.values():
        rotation, _ = read_display_matrix(matrix_bytes(2 * a, 2 * b, c / 2, d / 2))
        assert rotation % 180 == (90 if a == 0 else 0)


def test_a_matrix_that_flattens_is_ignored_and_an_angle_is_refused():
    assert read_display_matrix(matrix_bytes(0, 0, 0, 0)) == (0, False)
    nearly = np.radians(89.5)
    turned = matrix_bytes(np.cos(nearly), np.sin(nearly), -np.sin(nearly), np.cos(nearly))
    assert read_display_matrix(turned) == (270, False)
    for bad in [(0.9, 0.5, -0.5, 0.9), (1, 0, 1, 1)]:
        with pytest.raises(DecodeError) as caught:
            read_display_matrix(matrix_bytes(*bad))
        assert caught.value.code == "skewed_display"


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [
        (320, 240, "ITU601"), (640, 480, "ITU601"), (480, 480, "ITU601"), (720, 480, "ITU601"),
        (720, 576, "ITU601"), (1024, 576, "ITU601"), (1279, 576, "ITU601"), (832, 480, "ITU601"),
        (480, 832, "ITU709"), (360, 640, "ITU709"), (576, 1024, "ITU709"), (624, 624, "ITU709"),
        (720, 578, "ITU709"), (1280, 536, "ITU709"), (1280, 720, "ITU709"), (720, 1280, "ITU709"),
        (1080, 1080, "ITU709"), (1920, 800, "ITU709"), (1920, 1080, "ITU709"),
        (1080, 1920, "ITU709"), (2160, 3840, "ITU709"),
    ],
)  # fmt: skip
def test_matrix_of_untagged_video_is_guessed_as_players_do(width, height, matrix):
    assert guess_matrix(width, height) == Colorspace[matrix]


@pytest.mark.parametrize(
    ("width", "height", "turn", "tag"),
    [
        (480, 832, 0, None), (832, 480, 0, None), (832, 480, 90, None), (624, 624, 0, None),
        (720, 576, 0, None), (832, 480, 0, "bt709"), (480, 832, 0, "smpte170m"),
    ],
)  # fmt: skip
def test_colours_of_untagged_and_tagged_video(tmp_path, width, height, turn, tag):
    """Red coded by the matrix that belongs to the stored size (or the tag) comes out as that red."""
    red = (208, 32, 32)
    expected = "bt709" if height > 576 or width >= 1280 else "bt601"
    matrix = {"smpte170m": "bt601"}.get(tag, tag) or expected
    path, raw = tmp_path / "red.mp4", tmp_path / "raw.mp4"
    argv = ["-colorspace", tag] if tag else []
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"color=0x{bytes(red).hex()}:s={width}x{height}:d=0.2,format=rgb24",
        "-vf",
        f"scale=out_color_matrix={matrix},format=yuv420p",
        *argv,
        "-crf",
        4,
        raw,
    )
    ffmpeg("-i", raw, "-c", "copy", "-metadata:s:v", f"rotate={turn}", path)
    frame, orientation = first_frame(path)
    assert orientation.rotation_deg % 180 == turn
    assert (int(frame.colorspace) == 2) == (tag is None)
    for picture in (to_rgb(frame), thumbnail(frame, 64, 64)):
        assert np.abs(picture.reshape(-1, 3).mean(0) - red).max() < 6  # the other matrix is 18 off


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_source(tmp_path_factory.mktemp("plain") / "plain.mp4", textured(6))


def outcome(path: Path) -> str:
    try:
        list(VideoReader(path, BUDGET).frames())
    except DecodeError as error:
        return f"{error.code}: {error.detail}"
    return "read"


HDR_BOXES = {
    "dvcC": (dolby_vision(b"dvcC"), None, "dvcC"),
    "dvvC": (dolby_vision(b"dvvC", 8, 4), None, "dvvC"),
    "dvwC": (dolby_vision(b"dvwC", 10, 1), None, "dvwC"),
    "dvav": (b"", b"dvav", "dvav"),
    "dva1": (b"", b"dva1", "dva1"),
    "mdcv": (mastering_display(1000), None, "mastering display metadata of 1000 nits"),
    "clli": (content_light(600), None, "content light level of 600 nits"),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [(name, ".mp4") for name in HDR_BOXES]
    + [(name, ".mkv") for name in ("dvcC", "dvvC", "mdcv", "clli")]
    + [("dvcC", ".frag.mp4"), ("dvcC", ".live.mkv")],
)
def test_hdr_told_by_the_container_alone_is_refused_by_name(tmp_path, plain, name, suffix):
    extra, tag, words = HDR_BOXES[name]
    path = add_to_sample_entry(plain, tmp_path / "hdr.mp4", extra, tag)
    if suffix != ".mp4":
        target = tmp_path / f"again{suffix}"
        live = ["-movflags", "frag_keyframe+empty_moov"] if "frag" in suffix else []
        live += ["-live", 1] if "live" in suffix else []
        ffmpeg("-i", path, "-c", "copy", "-strict", "unofficial", *live, target)
        path = target
    found = outcome(path)
    assert found.startswith("unsupported_hdr: ")
    assert words in found or (suffix != ".mp4" and "Dolby Vision by the container's dv" in found)


def crc32_mpeg(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    return crc.to_bytes(4, "big")


@pytest.mark.parametrize(("tag", "code"), [(0xB0, "unsupported_hdr"), (0x52, "read")])
def test_a_dolby_vision_descriptor_of_a_transport_stream(tmp_path, plain, tag, code):
    """A descriptor is written into every programme map; another tag there is nothing."""
    path = tmp_path / "live.ts"
    ffmpeg("-i", plain, "-c", "copy", path)
    data = bytearray(path.read_bytes())
    extra = bytes([tag, 5, 1, 0, 10, 53, 0])
    for at in range(0, len(data), 188):
        section = data[at + 5 : at + 188]
        if data[at + 1] & 0x40 and section[0] == 2 and section[:3] != b"\0\0\1":
            length = int.from_bytes(section[1:3], "big") & 0xFFF
            body = bytearray(section[: 3 + length - 4])
            assert int.from_bytes(body[15:17], "big") & 0xFFF == len(body) - 17
            body[15:17] = (0xF000 | len(body) - 17 + len(extra)).to_bytes(2, "big")
            body += extra
            body[1:3] = (0xB000 | len(body) + 4 - 3).to_bytes(2, "big")
            body += crc32_mpeg(body)
            data[at + 5 : at + 188] = body.ljust(183, b"\xff")
    path.write_bytes(data)
    assert outcome(path).startswith(code)


@pytest.mark.parametrize(
    "extra", [mastering_display(100), content_light(0), content_light(203), b""]
)
def test_marks_of_an_sdr_display_are_fine(tmp_path, plain, extra):
    assert outcome(add_to_sample_entry(plain, tmp_path / "sdr.mp4", extra)) == "read"


def test_a_dolby_vision_name_among_the_pictures_means_nothing(tmp_path, plain):
    path = tmp_path / "noted.mp4"
    path.write_bytes(plain.read_bytes() + b"\0\0\0\x20free" + b"dvcC" * 6)
    assert outcome(path) == "read"


def test_luminance_is_read_from_the_frame(tmp_path, plain):
    extra = mastering_display(4000) + content_light(900)
    path = add_to_sample_entry(plain, tmp_path / "bright.mp4", extra)
    with av.open(str(path)) as container:
        marks = {k.name: bytes(v) for k, v in side_data(next(container.decode(video=0))).items()}
    assert mastering_peak_nits(marks["MASTERING_DISPLAY_METADATA"]) == pytest.approx(4000)
    assert content_peak_nits(marks["CONTENT_LIGHT_LEVEL"]) == 900


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_damaged_headers_never_break_the_search(tmp_path, plain, suffix):
    """Any bytes end the search or are refused: no other exception, no endless walk."""
    whole, path = tmp_path / f"whole{suffix}", tmp_path / "broken"
    ffmpeg("-i", plain, "-c", "copy", whole)
    data = np.frombuffer(whole.read_bytes(), np.uint8)
    family = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}[suffix]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        broken = data.copy()
        places = rng.integers(0, len(broken), 4 ** (1 + seed % 6))
        broken[places] = rng.integers(0, 256, len(places))
        path.write_bytes(broken[: rng.integers(8, len(broken))].tobytes())
        with contextlib.suppress(DecodeError):
            refuse_dolby_vision_records(path, family)
