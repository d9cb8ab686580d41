"""Stage latents: one clock for all streams, honest scores, reasons for bad rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.codecs.dct import DctCodec
from model.codecs.pixels import to_frames
from schemas.errors import DataError
from stages.packing.clip_encoder import clip_boxes
from stages.packing.latents import LatentsConfig, LatentsGate, LatentsStage
from tests.support import clips

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def stage():
    stage = LatentsStage(LatentsConfig())
    stage.check()
    stage.setup()
    return stage


def encoded(stage, files, **options):
    row = stage.process(clips.make_clip(files, **options), files).rows[0]
    return row, files.arrays(row.latents.arrays)


def square_column(frame: np.ndarray) -> float:
    """Centre of the bright square: mean column of pixels above 180 in its rows."""
    rows = frame[HEIGHT // 4 + 4 : HEIGHT // 4 + 12].mean(axis=(0, 2))
    return float(np.flatnonzero(rows > 160).mean())


@pytest.mark.parametrize(("motion", "used"), [(0, 0), (5, 5), (7, 5), (13, 13)])
def test_rgb_hoi_boxes_and_truth_are_co_registered(stage, files, motion: int, used: int) -> None:
    """Moving square: latent k of RGB and of HOI decodes to target frames 4k..4k+3, offset 0."""
    _, arrays = encoded(stage, files, num_target=17, num_motion=motion)
    assert arrays["rgb_latent"].shape == arrays["hoi_latent"].shape == (16, 4, 8, 12)
    motion_latents = (used + 3) // 4
    assert ("rgb_motion_latent" in arrays) == (motion > 0)
    if motion:
        assert arrays["rgb_motion_latent"].shape == (16, motion_latents, 8, 12)
    for stream in ("rgb", "hoi"):
        name = f"{stream}_latent"
        latents = torch.from_numpy(arrays[name]).float()[None]
        frames = to_frames(DctCodec(stream).decode_blocks(latents))
        seen = np.array([square_column(frame) for frame in frames])
        errors = {
            offset: np.abs(
                seen - [clips.square_x(motion + i + offset, WIDTH) + 7.5 for i in range(16)]
            ).mean()
            for offset in (-4, -2, -1, 0, 1, 2, 4)
        }
        assert min(errors, key=errors.get) == 0, (name, errors)
        assert errors[0] < 1.0, (name, errors)  # half a frame step
    for k in range(4):
        box = arrays["left_hand_box_latent_xyxy_px"][k]
        x = [clips.square_x(motion + 4 * k + j, WIDTH) for j in range(4)]
        assert box[[0, 2]].tolist() == [min(x), max(x) + 16]


@pytest.mark.parametrize("motion", [0, 5])
def test_audio_steps_are_the_target_frames(stage, files, motion: int) -> None:
    _, arrays = encoded(stage, files, num_target=9, num_motion=motion)
    features = arrays["audio_features"][0].astype(np.float32)
    assert features.shape == (8, 64)
    loud = features.mean(axis=1) > features.mean()
    clicks = {s // 640 - motion for s in range(300, (9 + motion) * 640, 1920)}
    assert set(np.flatnonzero(loud)) == {c for c in clicks if 0 <= c < 8}


def test_facet_says_what_was_done_and_is_deterministic(stage, files) -> None:
    row, arrays = encoded(stage, files)
    again, _ = encoded(stage, files)
    facet = row.latents
    assert facet == again.latents
    assert (facet.num_latents, facet.num_motion_latents) == (2, 2)
    assert facet.codec.name == "dct"
    assert 25 < facet.rgb_psnr_db < 60
    assert facet.has_audio
    assert not facet.is_text_cut
    assert arrays["person_latent"].shape == arrays["product_latent"].shape == (16, 1, 8, 12)
    assert all(v.dtype == np.float16 for k, v in arrays.items() if "box" not in k)


def test_product_is_padded_with_white(stage, files) -> None:
    _, arrays = encoded(stage, files)
    latent = torch.from_numpy(arrays["product_latent"]).float()[None]
    frame = to_frames(DctCodec().decode(latent))[0]
    assert (frame[:, :16] > 250).all()
    assert (frame[:, -16:] > 250).all()
    assert frame[32, 48, 0] > frame[32, 48, 1] + 100


def test_silent_clip_has_no_audio_features(stage, files) -> None:
    row, arrays = encoded(stage, files, has_audio=False)
    assert "audio_features" not in arrays
    assert not row.latents.has_audio


def test_gate_judges_psnr_without_recomputing(stage, files) -> None:
    row, _ = encoded(stage, files)
    assert stage.gate(row) is None
    strict = LatentsStage(LatentsConfig(gate=LatentsGate(min_rgb_psnr_db=90)))
    assert strict.gate(row).reason == "codec_psnr_low"
    strict = LatentsStage(LatentsConfig(gate=LatentsGate(min_hoi_psnr_db=101)))
    assert strict.gate(row).reason == "hoi_codec_psnr_low"
    assert strict.fingerprint == stage.fingerprint


def test_noise_has_a_low_psnr(stage, files) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (14, HEIGHT, WIDTH, 3), np.uint8)
    row, _ = encoded(stage, files, hoi_frames=noise)
    assert stage.gate(row).reason == "hoi_codec_psnr_low"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"num_target": 8}, "frames_unsupported"),
        ({"width": 104}, "size_unsupported"),
        ({"hoi_frames": clips.square_frames(13, HEIGHT, WIDTH, hoi=True)}, "streams_misaligned"),
        (
            {"hoi_frames": clips.square_frames(14, HEIGHT, WIDTH - 16, hoi=True)},
            "streams_misaligned",
        ),
    ],
)
def test_bad_rows_fail_with_a_known_code(stage, files, options, code: str) -> None:
    with pytest.raises(DataError) as caught:
        encoded(stage, files, **options)
    assert caught.value.code == code
    assert code in stage.reasons


def test_short_sound_is_misaligned(stage, files) -> None:
    row = clips.make_clip(files)
    short = clips.make_clip(files, num_target=5)
    row = row.replace(media=row.media.replace(audio=short.media.audio))
    with pytest.raises(DataError, match="audio_misaligned"):
        stage.process(row, files)


def test_boxes_outside_the_picture_are_absent() -> None:
    boxes = np.array([[-9, -9, 5, 5], [100, 0, 120, 9], [3, 3, 3.5, 9], [np.nan] * 4], np.float32)
    clipped = clip_boxes(boxes, (64, 96))
    assert clipped[0].tolist() == [0, 0, 5, 5]
    assert np.isnan(clipped[1:]).all()


def test_settings_of_a_record_of_version_01_are_read():
    """It kept the settings of all codecs and of all encoders beside each other."""
    record = {
        "codec": {"name": "dct", "folder": None, "weights_sha256": None, "device": "cpu"},
        "text_encoder": {"name": "bytes", "dim": 64, "max_tokens": 128, "folder": None},
        "audio_encoder": {"name": "log-mel", "num_mels": 64, "folder": None},
    }
    assert LatentsConfig.model_validate(record) == LatentsConfig()
    with pytest.raises(ValueError, match="foldr"):
        LatentsConfig.model_validate({"codec": {"name": "dct", "foldr": None}})
