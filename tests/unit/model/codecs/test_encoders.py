"""Encoders: deterministic, aligned with frames, and the real classes from local folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.codecs import encoder_choice as choice
from model.codecs.audio import LogMelAudioEncoder, frame_positions, interpolate_steps, mel_filters
from model.codecs.text import ByteTextEncoder
from schemas.errors import ConfigError


def test_byte_text_features_tell_prompts_apart_and_know_spelling() -> None:
    encoder = ByteTextEncoder(dim=64, max_tokens=16)
    a, cut = encoder.encode("A person holds a red bottle.")
    assert a.shape == (7, 64)
    assert not cut
    assert np.array_equal(a, encoder.encode("a person HOLDS a red bottle.")[0])
    b, _ = encoder.encode("A person holds a red bottles.")
    c, _ = encoder.encode("A person holds a red teapot.")
    assert np.array_equal(a[:5], b[:5])
    near, far = np.linalg.norm(a[5] - b[5]), np.linalg.norm(a[5] - c[5])
    assert 0 < near < 0.9 * far
    assert a[0] != pytest.approx(a[3])  # the same word elsewhere differs by its position


def test_byte_text_cuts_aloud_and_refuses_blanks() -> None:
    encoder = ByteTextEncoder(dim=16, max_tokens=3)
    features, cut = encoder.encode("one two three four")
    assert features.shape == (3, 16)
    assert cut
    assert encoder.encode("产品 demo")[0].shape[0] == 3
    with pytest.raises(ValueError, match="blank"):
        encoder.encode("  \n")


def test_log_mel_step_describes_its_own_frame() -> None:
    encoder = LogMelAudioEncoder(64)
    quiet = np.zeros(20 * 640, np.float32)
    click = quiet.copy()
    click[7 * 640 + 300] = 0.9
    change = np.abs(encoder.encode(click) - encoder.encode(quiet)).max(axis=(0, 2))
    assert np.flatnonzero(change > 1e-6).tolist() == [7]
    assert encoder.encode(quiet).shape == (1, 20, 64)


def test_log_mel_finds_the_pitch() -> None:
    t = np.arange(16_000 // 25 * 10) / 16_000
    encoder = LogMelAudioEncoder(64)
    peaks = [
        int(encoder.encode((0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32))[0, 4].argmax())
        for hz in (300, 1000, 4000)
    ]
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 3


def test_mel_filters_are_never_empty() -> None:
    filters = mel_filters(128)
    assert filters.shape == (128, 257)
    np.testing.assert_allclose(filters.sum(axis=1), 1.0)


@pytest.mark.parametrize("size", [0, 641])
def test_partial_frames_of_sound_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="640"):
        LogMelAudioEncoder().encode(np.zeros(size, np.float32))


def test_interpolation_hits_frame_centres() -> None:
    """A feature that equals its own centre in samples must come back as the frame's centre."""
    steps = np.arange(40, dtype=np.float32) * 320 + 200
    got = interpolate_steps(steps[None, :, None], frame_positions(10))[0, :, 0]
    np.testing.assert_allclose(got, np.arange(10) * 640 + 320)


def test_wav2vec2_from_a_local_folder(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    model = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
    )
    model.save_pretrained(tmp_path, safe_serialization=True)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    encoder = choice.Wav2Vec2Config(folder=str(tmp_path)).build().opened
    samples = np.random.default_rng(0).normal(0, 0.1, 25 * 640).astype(np.float32)
    features = encoder.encode(samples)
    assert features.shape == (3, 25, 16) == (encoder.num_layers, 25, encoder.dim)
    assert np.isfinite(features).all()
    assert np.array_equal(
        features, choice.Wav2Vec2Config(folder=str(tmp_path)).build().opened.encode(samples)
    )
    np.testing.assert_allclose(encoder.encode(samples * 0.5), features, atol=1e-4)  # normalised


def test_umt5_from_a_local_folder(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    vocab = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "a", "person", "holds", "box"])}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    UMT5EncoderModel(
        UMT5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2)
    ).save_pretrained(tmp_path, safe_serialization=True)
    encoder = choice.UMT5Config(folder=str(tmp_path), max_tokens=4).build().opened
    short, cut = encoder.encode("a person")
    assert short.shape == (3, 16)
    assert not cut
    long, cut = encoder.encode("a person holds a box")
    assert long.shape == (4, 16)
    assert cut
    assert not np.allclose(short[:2], long[:2])  # attention sees the whole prompt


def test_missing_folders_say_which_setting() -> None:
    with pytest.raises(ConfigError, match=r"text_encoder\.folder"):
        choice.UMT5Config().build().check()
    with pytest.raises(ConfigError, match=r"audio_encoder\.folder"):
        choice.Wav2Vec2Config(folder="/nowhere").build().check()
