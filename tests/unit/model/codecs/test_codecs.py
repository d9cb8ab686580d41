"""Codecs: exact on their band, causal, aligned in time, equal in pieces; parity of the Wan VAE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.codecs import video as codecs
from model.codecs.clock import clip_window, union_boxes
from model.codecs.codec_choice import WanVaeConfig
from model.codecs.dct import DCT_BAND, DctCodec
from model.codecs.pixels import to_frames, to_pixels
from model.codecs.video import BlockCodec, decode_frames, encode_frames
from model.codecs.wan import WAN_LATENT_MEAN, WAN_LATENT_STD, WanVaeCodec
from schemas.errors import ConfigError
from schemas.settings import content_of

DATA = Path(__file__).parents[3] / "golden" / "model" / "data"


def test_dct_is_exact_on_its_band() -> None:
    codec, latents = DctCodec(), torch.randn(2, 16, 3, 4, 6)
    again = codec.encode_blocks(codec.decode_blocks(latents))
    assert torch.allclose(again, latents, atol=2e-5)


def test_dct_equals_its_definition() -> None:
    """The separable transform against one dense product with the outer products of 1-D bases."""
    from scipy.fft import dctn

    pixels = torch.rand(1, 3, 4, 8, 8) * 2 - 1
    dense = dctn(pixels[0].numpy().astype(np.float64), norm="ortho")
    wanted = np.array([dense[index] for index in DCT_BAND])
    codec = DctCodec()
    got = codec.encode_blocks(pixels)[0, :, 0, 0, 0].double().numpy()
    mean, std = codec._mean.flatten().numpy(), codec._std.flatten().numpy()
    np.testing.assert_allclose(got * std + mean, wanted, atol=1e-5)


def test_structure_pictures_are_near_unit_variance_in_their_own_units() -> None:
    """Flat red body, green hand and blue product on black, as stage structure draws them."""
    import cv2

    frames = np.zeros((41, 416, 240, 3), np.uint8)
    for t, frame in enumerate(frames):
        cv2.ellipse(frame, (120, 90), (40, 55), 0, 0, 360, (255, 0, 0), -1)
        cv2.ellipse(frame, (120, 330), (85, 190), 0, 0, 360, (255, 0, 0), -1)
        y = 250 + round(30 * np.sin(t / 5))
        cv2.rectangle(frame, (95, y - 60), (145, y + 10), (0, 0, 255), -1)
        cv2.circle(frame, (120, y), 22, (0, 255, 0), -1)
    own, shared = (
        encode_frames(DctCodec(stream), frames).numpy().reshape(16, -1).std(axis=1)
        for stream in ("hoi", "rgb")
    )
    assert shared[15] > 8, "blue on black is far outside what RGB's constants expect"
    assert own[14:].max() < 1.6, "the colour channels, which carry most of a structure picture"


def test_both_kinds_of_stream_decode_to_what_was_encoded() -> None:
    latents = torch.randn(1, 16, 3, 4, 6)
    for stream in ("rgb", "hoi"):
        codec = DctCodec("rgb").for_stream(stream)
        assert codec.statistics == DctCodec(stream).statistics
        again = codec.encode_blocks(codec.decode_blocks(latents))
        assert torch.allclose(again, latents, atol=1e-4)
    assert DctCodec("rgb").statistics != DctCodec("hoi").statistics


def test_dct_keeps_a_flat_picture_exactly() -> None:
    frames = np.full((9, 16, 24, 3), (10, 128, 250), np.uint8)
    codec = DctCodec()
    assert np.array_equal(to_frames(codec.decode(codec.encode(to_pixels(frames)))), frames)


def test_first_latent_sees_the_first_frame_alone_and_shapes_are_causal() -> None:
    codec, pixels = DctCodec(), torch.rand(1, 3, 9, 16, 16)
    other = pixels.clone()
    other[:, :, 1:] = 0
    a, b = codec.encode(pixels), codec.encode(other)
    assert a.shape == (1, 16, 3, 2, 2)
    assert torch.equal(a[:, :, 0], b[:, :, 0])
    assert not torch.allclose(a[:, :, 1], b[:, :, 1])
    assert codec.decode(a).shape == pixels.shape
    assert codec.encode(pixels[:, :, :1]).shape == (1, 16, 1, 2, 2)


def test_encoding_in_pieces_gives_the_same_latents_and_frames() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (41, 16, 32, 3), np.uint8)
    codec = DctCodec()
    whole = codec.encode(to_pixels(frames))[0]
    assert torch.allclose(encode_frames(codec, frames), whole, atol=1e-5)
    wanted = to_frames(codec.decode(whole[None]))
    for start, part in decode_frames(codec, whole):
        assert np.abs(part.astype(int) - wanted[start : start + len(part)]).max() <= 1
    assert sum(len(part) for _, part in decode_frames(codec, whole)) == 41


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6, 40])
def test_decoding_from_a_frame_on_gives_that_frame_and_all_later_ones(first: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (41, 16, 32, 3), np.uint8)
    latents = encode_frames(DctCodec(), frames)
    whole = np.concatenate([part for _, part in decode_frames(DctCodec(), latents)])
    shown = {
        start + n: frame
        for start, part in decode_frames(DctCodec(), latents, first)
        for n, frame in enumerate(part)
    }
    assert set(range(first, 41)) <= set(shown) <= set(range(max(0, first - 3), 41))
    assert all(np.array_equal(frame, whole[n]) for n, frame in shown.items())


def test_a_number_of_frames_that_latents_do_not_cover_is_refused() -> None:
    with pytest.raises(ValueError, match="1 \\+ 4m"):
        encode_frames(DctCodec(), np.zeros((8, 16, 16, 3), np.uint8))


def test_psnr_of_a_noisy_picture_is_lower_and_counts_only_the_target() -> None:
    codec = DctCodec()
    flat = np.full((9, 16, 16, 3), 100, np.uint8)
    noisy = flat.copy()
    noisy[:5] = np.random.default_rng(1).integers(0, 256, noisy[:5].shape, np.uint8)
    latents = encode_frames(codec, noisy)
    assert codecs.round_trip_psnr_db(codec, flat, encode_frames(codec, flat)) == 100.0
    assert codecs.round_trip_psnr_db(codec, noisy, latents) < 20
    assert codecs.round_trip_psnr_db(codec, noisy, latents, first_frame=5) == 100.0


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 16), (1, 3, 9, 12, 16), (1, 1, 9, 16, 16)])
def test_wrong_sizes_are_refused_with_the_numbers(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=str(shape[3])):
        DctCodec().encode(torch.zeros(shape))


@pytest.mark.parametrize(("total", "motion"), [(14, 5), (16, 7), (9, 0), (154, 73), (10, 1)])
def test_every_latent_covers_its_four_target_frames(total: int, motion: int) -> None:
    """Change one target frame: only the latent of its index may change. With and without context."""
    window = clip_window(total, motion)
    codec = DctCodec()
    frames = np.random.default_rng(2).integers(0, 256, (total, 16, 16, 3), np.uint8)
    base = encode_frames(codec, frames[window.frames])[:, window.num_lead_latents :]
    assert base.shape[1] == window.num_latents
    for target in (0, 3, 4, 4 * window.num_latents - 1):
        changed = frames.copy()
        changed[motion + target] ^= 255
        latents = encode_frames(codec, changed[window.frames])[:, window.num_lead_latents :]
        moved = (latents - base).abs().amax(dim=(0, 2, 3)) > 1e-4
        assert torch.nonzero(moved).flatten().tolist() == [target // 4]


def test_clock_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="leave 8 target frames"):
        clip_window(13, 5)
    with pytest.raises(ValueError, match="leave 1 target"):
        clip_window(1, 0)


def test_union_ignores_absent_boxes() -> None:
    nan = [np.nan] * 4
    boxes = np.array([nan, [1, 2, 3, 4], [0, 3, 2, 9], nan, nan, nan, nan, nan, nan], np.float32)
    united = union_boxes(boxes, 2)
    assert united[0].tolist() == [0, 2, 3, 9]
    assert np.isnan(united[1]).all()


@pytest.fixture(scope="module")
def tiny_vae():
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    vae.load_state_dict(load_file(DATA / "vae_stats.weights.safetensors"))
    return vae


def test_wan_vae_gives_the_published_latents(tiny_vae) -> None:
    """Parity with the reference run: posterior mode, normalised; decode of the normalised latent."""
    fixture = load_file(DATA / "vae_stats.io.safetensors")
    codec = WanVaeCodec(tiny_vae)
    for case in ("clip9", "image"):
        latents = codec.encode(fixture[f"{case}/video"])
        wanted = fixture[f"{case}/latent_normalised"]
        assert (latents - wanted).abs().max() < 2e-5
        assert (codec.decode(wanted) - fixture[f"{case}/decoded"]).abs().max() < 2e-4


def test_wan_vae_is_built_from_a_local_folder_and_pinned(tiny_vae, tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    tiny_vae.save_pretrained(folder, safe_serialization=True)
    codec = WanVaeConfig(folder=str(folder)).build().opened
    digest = codec.ref.weights_sha256
    assert len(digest) == 64
    assert not isinstance(codec, BlockCodec)
    WanVaeConfig(folder=str(folder), weights_sha256=digest).build().check()
    with pytest.raises(ConfigError, match="the recipe pins"):
        WanVaeConfig(folder=str(folder), weights_sha256="0" * 64).build().check()
    config = json.loads((folder / "config.json").read_text())
    assert config["latents_mean"] == pytest.approx(WAN_LATENT_MEAN)
    assert config["latents_std"] == pytest.approx(WAN_LATENT_STD)


@pytest.mark.parametrize("folder", [None, "/nowhere/vae"])
def test_missing_vae_folder_says_what_to_do(folder: str | None) -> None:
    with pytest.raises(ConfigError, match=r"codec\.folder"):
        WanVaeConfig(folder=folder).build().check()


def test_a_record_keeps_the_folder_and_content_does_not() -> None:
    config = WanVaeConfig(folder="/a", weights_sha256="0" * 64)
    assert config.model_dump()["folder"] == "/a"
    assert content_of(config) == {"name": "wan2.1-vae", "device": "cpu"}
