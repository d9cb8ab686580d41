"""Sampler: shapes, independence of the HOI branch, chaining, guidance, feature spaces."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.codecs.audio import measure_lufs
from model.codecs.encoder_choice import ByteTextConfig, LogMelConfig
from model.sampler import SampleConfig, Sampler, SampleRequest, guidance_terms, sample
from model.training.trainer import train
from schemas.errors import ConfigError, ModelOutputError
from tests.support.clips import square_frames
from tests.support.shards import TINY_NETWORK, make_shards
from tests.support.train_recipes import train_recipe

REQUEST = SampleRequest(
    person=square_frames(1, 80, 70)[0],
    product=np.full((20, 30, 4), 200, np.uint8),
    prompt="A person holds a red box.",
    hoi_prompt="Black background, a body.",
    audio=np.sin(np.arange(30_000) / 20).astype(np.float32) * 0.1,
)
FAST = SampleConfig(steps=2, text_guidance=2.0, audio_guidance=1.5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, one_thread):
    paths = make_shards(tmp_path_factory.mktemp("root"))
    config = train_recipe(
        "smoke",
        {
            "network": {"overrides": TINY_NETWORK},
            "data": {"transcode": None},
            "steps_full": 2,
            "steps_asymmetric": 2,
            "eval_every": 9,
            "eval_sigmas": (0.5,),
            "eval_clips": 1,
            "optimiser": {"learning_rate": 1e-2},
        },
    )
    return train(config, paths, tmp_path_factory.mktemp("run")).checkpoint


def test_rgb_alone_equals_rgb_beside_the_structure_stream(checkpoint) -> None:
    alone = sample(checkpoint, REQUEST, FAST)
    both = sample(checkpoint, REQUEST, FAST.replace(with_hoi=True))
    assert alone.rgb.shape == (8, 64, 96, 3)
    assert alone.hoi is None
    assert both.hoi.shape == alone.rgb.shape
    assert np.array_equal(alone.rgb, both.rgb)
    assert not np.array_equal(both.hoi, both.rgb)


def test_same_seed_same_video_other_seed_another(checkpoint) -> None:
    a, b = (sample(checkpoint, REQUEST, FAST).rgb for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, sample(checkpoint, REQUEST, FAST.replace(seed=1)).rgb)


def test_clips_are_chained_by_motion_context(checkpoint) -> None:
    calls: list[tuple[int, int]] = []
    video = sample(
        checkpoint, REQUEST, FAST.replace(num_clips=2), lambda d, n: calls.append((d, n))
    )
    assert video.rgb.shape[0] == 16
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    sampler = Sampler(checkpoint, FAST)
    frames = video.rgb[:8]
    motion = sampler._motion(frames)
    assert motion.shape == (1, 16, 2, 8, 12)  # as long as in training
    other = frames.copy()
    other[:3] = 0  # older than the newest five frames
    assert torch.equal(motion, sampler._motion(other))


def test_every_condition_changes_the_video(checkpoint) -> None:
    base = sample(checkpoint, REQUEST, FAST).rgb
    changes = {
        "prompt": "Nothing at all, and a long text.",
        "person": 255 - REQUEST.person,
        "product": np.zeros((20, 30, 3), np.uint8),
        "audio": None,
        "negative_prompt": "A person holds a blue teapot, blurred.",
    }
    for field, value in changes.items():
        other = sample(checkpoint, dataclasses.replace(REQUEST, **{field: value}), FAST).rgb
        assert not np.array_equal(base, other), field


def test_other_size_and_length(checkpoint) -> None:
    config = FAST.replace(height_px=96, width_px=64, num_latents=1)
    assert sample(checkpoint, REQUEST, config).rgb.shape == (4, 96, 64, 3)


def test_guidance_is_a_combination_with_sum_one() -> None:
    for text, audio in ((5.0, 3.0), (1.0, 1.0), (0.0, 2.0), (4.0, 1.0)):
        terms = guidance_terms(text, audio)
        assert sum(weight for weight, _, _ in terms) == pytest.approx(1.0)
    assert guidance_terms(5.0, 3.0) == [
        (5.0, True, True),
        (-2.0, False, True),
        (-2.0, False, False),
    ]


def test_loudness_of_silence_and_of_a_tone() -> None:
    assert measure_lufs(np.zeros(16_000, np.float32)) == -120.0
    tone = np.sin(np.arange(32_000) * 2 * np.pi * 1000 / 16_000).astype(np.float32)
    assert measure_lufs(tone) == pytest.approx(-3.0, abs=0.5)


def test_other_feature_spaces_are_refused(checkpoint) -> None:
    with pytest.raises(ConfigError, match="text_encoder is byte-text@1-32"):
        sample(checkpoint, REQUEST, FAST.replace(text_encoder=ByteTextConfig(dim=32)))
    with pytest.raises(ConfigError, match="audio_encoder is log-mel@1-32"):
        sample(checkpoint, REQUEST, FAST.replace(audio_encoder=LogMelConfig(num_mels=32)))


def test_other_statistics_of_the_latents_are_refused(checkpoint, tmp_path) -> None:
    import json
    import shutil

    shutil.copytree(checkpoint, tmp_path / "step-00000004")
    state = json.loads((checkpoint / "state.json").read_text())
    state["spaces"]["hoi_statistics"]["std"][15] *= 2
    (tmp_path / "step-00000004/state.json").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match="other statistics than the checkpoint"):
        sample(tmp_path / "step-00000004", REQUEST, FAST)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.array([0.1, np.nan, 0.2] * 5000, np.float32), "5000 NaN or infinite samples of 15000"),
        (np.array([np.inf], np.float32), "1 NaN or infinite"),
        (np.zeros(0, np.float32), "expected mono samples"),
        (np.zeros((9000, 2), np.float32), "expected mono samples"),
    ],
)
def test_sound_that_is_no_sound_is_refused(checkpoint, audio, message) -> None:
    with pytest.raises(ConfigError, match=message):
        sample(checkpoint, dataclasses.replace(REQUEST, audio=audio), FAST)


def test_a_network_that_returns_nan_writes_no_video(checkpoint) -> None:
    sampler = Sampler(checkpoint, FAST)
    torch.nn.init.constant_(sampler.model.head.head.weight, 3e38)
    with pytest.raises(ModelOutputError, match="sample_not_finite"):
        sampler.run(REQUEST)


def test_the_sound_given_back_is_what_the_network_heard(checkpoint) -> None:
    given = np.arange(1, 9000, dtype=np.float32) / 9000
    for audio in (given, given[:100]):
        heard = sample(checkpoint, dataclasses.replace(REQUEST, audio=audio), FAST).audio
        assert heard.size == 8 * 640
        count = min(audio.size, heard.size)
        assert np.array_equal(heard[:count], audio[:count])
        assert not heard[count:].any()


def test_full_attention_shows_rgb_the_structure_stream(checkpoint) -> None:
    """Under the mask another structure prompt changes nothing in RGB; without it, it does."""
    other = dataclasses.replace(REQUEST, hoi_prompt="A white wall and nothing else at all.")
    for attention, differs in (("asymmetric", False), ("full", True)):
        config = FAST.replace(attention=attention)
        a, b = (sample(checkpoint, r, config) for r in (REQUEST, other))
        assert np.array_equal(a.rgb, b.rgb) != differs
        assert a.attention == attention
        assert a.hoi is None
    with pytest.raises(ConfigError, match="needs hoi_prompt"):
        sample(checkpoint, dataclasses.replace(REQUEST, hoi_prompt=""), config)


def test_unknown_device_is_named(checkpoint) -> None:
    with pytest.raises(ConfigError, match="device='teapot' is none"):
        sample(checkpoint, REQUEST, FAST.replace(device="teapot"))


def test_what_is_missing_is_said(checkpoint, tmp_path) -> None:
    with pytest.raises(ConfigError, match="not a checkpoint"):
        sample(tmp_path, REQUEST, FAST)
    with pytest.raises(ConfigError, match="needs hoi_prompt"):
        sample(checkpoint, dataclasses.replace(REQUEST, hoi_prompt=""), FAST.replace(with_hoi=True))
    with pytest.raises(ConfigError, match="blank"):
        sample(checkpoint, dataclasses.replace(REQUEST, prompt=" "), FAST)
