"""Text and audio encoders behind two Protocols: embedded stand-ins and the real ones from local folders.

Text features are (tokens, dim), audio features are (layers, frames, dim) with one step per video frame.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from model.weights import model_folder, require_package, weights_digest
from schemas.base import BackendRef, Model

SAMPLE_RATE_HZ = 16_000
FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS

FloatArray = Float[np.ndarray, "..."]


class TextEncoder(Protocol):
    """Turns a prompt into one feature vector per token."""

    ref: BackendRef
    dim: int
    max_tokens: int

    def encode(self, text: str) -> tuple[Float[np.ndarray, "tokens dim"], bool]:
        """Return float32 features of 1 .. max_tokens tokens, and whether the text was cut."""


class AudioEncoder(Protocol):
    """Turns sound into one feature vector per video frame and layer."""

    ref: BackendRef
    num_layers: int
    dim: int

    def encode(self, samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "layers frames dim"]:
        """Encode 640 * frames mono samples at 16 kHz; step i describes frame i."""


_PIECE = re.compile(rb"[A-Za-z0-9]{1,8}|[^A-Za-z0-9\s]|[\x80-\xff]{1,6}")


class ByteTextEncoder:
    """Deterministic stand-in without weights: hashed byte n-grams of word pieces, plus position.

    A prompt is cut into pieces of at most 8 bytes (words, marks, runs of other bytes). A piece's vector is
    the sum of fixed pseudo-random unit vectors of its 1- to 3-grams and of the whole piece, so that pieces with
    common parts have a common direction; a small sinusoid of the position is added. It tells prompts
    apart and knows spelling, not meaning.

    Args:
        dim: Feature width (even).
        max_tokens: Pieces beyond it are cut, and reported as cut.
    """

    def __init__(self, dim: int = 64, max_tokens: int = 128) -> None:
        self.dim, self.max_tokens = dim, max_tokens
        self.ref = BackendRef(name="byte-text", version=f"1-{dim}", licence="Apache-2.0")

    def encode(self, text: str) -> tuple[Float[np.ndarray, "tokens dim"], bool]:
        """Encode a non-blank prompt.

        Raises:
            ValueError: Nothing but white space.
        """
        pieces = _PIECE.findall(text.lower().encode("utf-8"))
        if not pieces:
            raise ValueError("the prompt is blank")
        kept = pieces[: self.max_tokens]
        features = np.stack([self._piece(piece) for piece in kept])
        return (features + 0.3 * sinusoid(len(kept), self.dim)).astype(np.float32), len(
            pieces
        ) > len(kept)

    def _piece(self, piece: bytes) -> Float[np.ndarray, " dim"]:
        marked = b"<" + piece + b">"
        grams = [marked[i : i + n] for n in (1, 2, 3) for i in range(len(marked) - n + 1)]
        total = np.sum([hashed_vector(g, self.dim) for g in grams], axis=0) / len(grams) ** 0.5
        return np.asarray(total + hashed_vector(b"word:" + piece, self.dim)) / 2**0.5


def hashed_vector(key: bytes, dim: int) -> Float[np.ndarray, " dim"]:
    """A fixed pseudo-random vector of +-1 signs, from the bits of SHAKE-128.

    >>> hashed_vector(b"a", 16).shape, float(np.abs(hashed_vector(b"a", 16)).max())
    ((16,), 1.0)
    """
    bits = np.unpackbits(np.frombuffer(hashlib.shake_128(key).digest(-(-dim // 8)), np.uint8))[:dim]
    return bits.astype(np.float32) * 2 - 1


def sinusoid(length: int, dim: int) -> Float[np.ndarray, "length dim"]:
    """Sine and cosine of positions at geometric frequencies. Source: Vaswani et al. 2017, 3.5."""
    rates = 10_000.0 ** (-np.arange(dim // 2) / (dim // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class LogMelAudioEncoder:
    """Deterministic stand-in without weights: log-mel energies, four 10 ms hops averaged per frame.

    Windows of 25 ms are centred inside the frame that they describe, so step i depends on samples
    ``[640 i - 120, 640 (i+1) + 120)`` alone.

    Args:
        num_mels: Feature width.
    """

    num_layers = 1

    def __init__(self, num_mels: int = 64) -> None:
        self.dim = num_mels
        self.ref = BackendRef(name="log-mel", version=f"1-{num_mels}", licence="Apache-2.0")
        self._filters = mel_filters(num_mels)
        self._window = np.hanning(_WINDOW + 1)[:-1]

    def encode(self, samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "layers frames dim"]:
        """Encode whole frames of sound.

        Raises:
            ValueError: The sample count is not a multiple of 640.
        """
        num_frames = check_samples(samples)
        pad = (_WINDOW - _HOP) // 2
        padded = np.pad(samples.astype(np.float64), pad)
        windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
        power = np.abs(np.fft.rfft(windows * self._window, n=_FFT)) ** 2
        mel = (power @ self._filters.T).reshape(num_frames, -1, self.dim).mean(axis=1)
        log_mel = np.log10(np.maximum(mel, 1e-8))
        return ((log_mel + 3.0) / 2.5).astype(np.float32)[None]


_WINDOW, _HOP, _FFT = 400, 160, 512


def mel_filters(num_mels: int) -> Float[np.ndarray, "mels bins"]:
    """Triangular filters, evenly spaced on the HTK mel scale from 20 to 8000 Hz, unit sum.

    Where a triangle is narrower than a spectral bin, it takes the linear weight at its centre, so no
    filter is empty.
    """
    low, high = 2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 8000 / 700)
    edges_hz = 700 * (10 ** (np.linspace(low, high, num_mels + 2) / 2595) - 1)
    bins_hz = np.arange(_FFT // 2 + 1) * SAMPLE_RATE_HZ / _FFT
    spacing_hz = bins_hz[1]
    left, centre, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rise = (bins_hz - left) / np.maximum(centre - left, spacing_hz)
    fall = (right - bins_hz) / np.maximum(right - centre, spacing_hz)
    filters = np.maximum(0.0, np.minimum(rise, fall))
    point = np.maximum(0.0, 1 - np.abs(bins_hz - centre) / spacing_hz)
    filters = np.where(filters.sum(axis=1, keepdims=True) > 0, filters, point)
    return np.asarray(filters / filters.sum(axis=1, keepdims=True))


def loudness_gain(loudness_lufs: float, target_lufs: float = -23.0) -> float:
    """Linear gain that brings sound to a target loudness; 1 for near silence (below -60 LUFS).

    >>> round(loudness_gain(-29.0), 3), loudness_gain(-120.0)
    (1.995, 1.0)
    """
    if loudness_lufs < -60.0:
        return 1.0
    return float(10 ** ((target_lufs - loudness_lufs) / 20))


class UMT5TextEncoder:
    """umT5 encoder through transformers (Wan uses umT5-XXL: 4096 wide, 512 tokens).

    Args:
        model: A ``transformers.UMT5EncoderModel``.
        tokenizer: Its tokenizer.
        weights_sha256: Digest of the folder.
        max_tokens: Longer prompts are cut, and reported as cut.
    """

    def __init__(
        self, model: Any, tokenizer: Any, weights_sha256: str, max_tokens: int = 512
    ) -> None:
        self._model, self._tokenizer = model.eval().requires_grad_(False), tokenizer
        self.dim, self.max_tokens = int(model.config.d_model), max_tokens
        self.ref = BackendRef(
            name="umt5",
            version=f"transformers-{self.dim}",
            weights_sha256=weights_sha256,
            licence="Apache-2.0",
        )

    @torch.no_grad()
    def encode(self, text: str) -> tuple[Float[np.ndarray, "tokens dim"], bool]:
        """Encode a prompt: last hidden state of its own tokens, without padding."""
        full = self._tokenizer(text, add_special_tokens=True, return_tensors="pt")
        is_cut = full.input_ids.shape[1] > self.max_tokens
        batch = self._tokenizer(
            text,
            add_special_tokens=True,
            return_tensors="pt",
            truncation=True,
            max_length=self.max_tokens,
        )
        output = self._model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        return output.last_hidden_state[0].float().cpu().numpy(), is_cut


class Wav2Vec2AudioEncoder:
    """wav2vec 2.0 through transformers: all hidden states, resampled from 50 Hz to frame centres.

    Hidden step j sees samples ``[320 j, 320 j + 400)``, centre ``320 j + 200``; frame i has its centre at
    ``640 i + 320``. Features are interpolated linearly at the frame centres, so the step of a frame never slips.

    Args:
        model: A ``transformers.Wav2Vec2Model``.
        do_normalize: Give the network zero-mean, unit-variance sound (what large models expect).
        weights_sha256: Digest of the folder.
    """

    def __init__(self, model: Any, weights_sha256: str, *, do_normalize: bool = True) -> None:
        self._model, self._do_normalize = model.eval().requires_grad_(False), do_normalize
        self.num_layers = int(model.config.num_hidden_layers) + 1
        self.dim = int(model.config.hidden_size)
        self.ref = BackendRef(
            name="wav2vec2",
            version=f"transformers-{self.num_layers}x{self.dim}",
            weights_sha256=weights_sha256,
            licence="Apache-2.0",
        )

    @torch.no_grad()
    def encode(self, samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "layers frames dim"]:
        """Encode whole frames of sound.

        Raises:
            ValueError: The sample count is not a multiple of 640.
        """
        num_frames = check_samples(samples)
        sound = samples.astype(np.float64)
        if self._do_normalize:
            sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
        batch = torch.from_numpy(sound.astype(np.float32))[None]
        states = self._model(batch, output_hidden_states=True).hidden_states
        features = torch.stack(states, dim=1)[0].float().cpu().numpy()
        return interpolate_steps(features, frame_positions(num_frames))


def frame_positions(num_frames: int) -> Float[np.ndarray, " frames"]:
    """Frame centres in units of wav2vec 2.0 steps: (640 i + 320 - 200) / 320."""
    return (SAMPLES_PER_FRAME * np.arange(num_frames) + SAMPLES_PER_FRAME / 2 - 200) / 320


def interpolate_steps(
    features: Float[np.ndarray, "layers steps dim"], positions: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "layers frames dim"]:
    """Interpolate along time at fractional step positions, holding the ends."""
    clipped = np.clip(positions, 0, features.shape[1] - 1)
    low = np.floor(clipped).astype(np.int64)
    high = np.minimum(low + 1, features.shape[1] - 1)
    weight = (clipped - low)[None, :, None]
    return ((1 - weight) * features[:, low] + weight * features[:, high]).astype(np.float32)


def check_samples(samples: Float[np.ndarray, " n"]) -> int:
    """Return the number of video frames that the sound covers.

    Raises:
        ValueError: Not one dimension, or not whole frames.
    """
    if samples.ndim != 1 or samples.size == 0 or samples.size % SAMPLES_PER_FRAME:
        raise ValueError(
            f"expected mono samples in whole frames of {SAMPLES_PER_FRAME}, got shape {samples.shape}"
        )
    return samples.size // SAMPLES_PER_FRAME


class TextEncoderConfig(Model):
    """Which text features to compute.

    Args:
        name: ``bytes`` (embedded) or ``umt5``.
        dim: Width of the embedded encoder's features.
        max_tokens: Longer prompts are cut.
        folder: The user's local transformers folder of umT5 (model and tokenizer).
    """

    name: Literal["bytes", "umt5"] = "bytes"
    dim: int = Field(default=64, ge=8, multiple_of=2)
    max_tokens: int = Field(default=128, ge=1)
    folder: str | None = Field(default=None, exclude=True)


class AudioEncoderConfig(Model):
    """Which audio features to compute.

    Args:
        name: ``log-mel`` (embedded) or ``wav2vec2``.
        num_mels: Width of the embedded encoder's features.
        folder: The user's local transformers folder of wav2vec 2.0.
    """

    name: Literal["log-mel", "wav2vec2"] = "log-mel"
    num_mels: int = Field(default=64, ge=8, le=128)
    folder: str | None = Field(default=None, exclude=True)


def check_encoders(text: TextEncoderConfig, audio: AudioEncoderConfig) -> None:
    """Check that both encoders can run here, without loading them.

    Raises:
        ConfigError: A package, folder or weight file is missing.
    """
    if text.name == "umt5":
        model_folder(text.folder, "text_encoder.folder", "umT5 encoder and tokenizer")
        require_package("transformers", "text_encoder.name=umt5")
    if audio.name == "wav2vec2":
        model_folder(audio.folder, "audio_encoder.folder", "wav2vec 2.0 model")
        require_package("transformers", "audio_encoder.name=wav2vec2")


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Build the configured text encoder.

    Raises:
        ConfigError: Its folder or package is missing.
    """
    if config.name == "bytes":
        return ByteTextEncoder(config.dim, config.max_tokens)
    folder = model_folder(config.folder, "text_encoder.folder", "umT5 encoder and tokenizer")
    require_package("transformers", "text_encoder.name=umt5")
    from transformers import AutoTokenizer, UMT5EncoderModel

    model = UMT5EncoderModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return UMT5TextEncoder(model, tokenizer, weights_digest(folder), config.max_tokens)


def build_audio_encoder(config: AudioEncoderConfig) -> AudioEncoder:
    """Build the configured audio encoder.

    Raises:
        ConfigError: Its folder or package is missing.
    """
    if config.name == "log-mel":
        return LogMelAudioEncoder(config.num_mels)
    folder = model_folder(config.folder, "audio_encoder.folder", "wav2vec 2.0 model")
    require_package("transformers", "audio_encoder.name=wav2vec2")
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    model = Wav2Vec2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    return Wav2Vec2AudioEncoder(
        model, weights_digest(folder), do_normalize=bool(extractor.do_normalize)
    )


def encoder_weights_sha256(folder: str | None, key: str, what: str) -> str:
    """Digest of an encoder's folder."""
    return weights_digest(model_folder(folder, key, what))
