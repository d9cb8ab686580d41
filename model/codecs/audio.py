"""Audio encoders: log-mel without weights, and wav2vec 2.0 from a local folder. One step per frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from schemas.base import BackendRef
from schemas.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME


def loudness_gain(loudness_lufs: float, target_lufs: float = -23.0) -> float:
    """Linear gain that brings sound to a target loudness; 1 for near silence (below -60 LUFS).

    >>> round(loudness_gain(-29.0), 3), loudness_gain(-120.0)
    (1.995, 1.0)
    """
    if loudness_lufs < -60.0:
        return 1.0
    return float(10 ** ((target_lufs - loudness_lufs) / 20))


def measure_lufs(samples: Float[np.ndarray, " n"]) -> float:
    """Integrated loudness (ITU-R BS.1770) of 16 kHz sound; -120 for silence or less than 0.4 s."""
    if samples.size < 0.4 * SAMPLE_RATE_HZ or not np.any(samples):
        return -120.0
    import pyloudnorm

    loudness = float(
        pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(samples.astype(np.float64))
    )
    return loudness if np.isfinite(loudness) else -120.0


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
        return np.asarray((log_mel + 3.0) / 2.5, np.float32)[None]


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


class Wav2Vec2AudioEncoder:
    """wav2vec 2.0 through transformers: all hidden states, resampled from 50 Hz to frame centres.

    Hidden step j sees samples ``[320 j, 320 j + 400)``, centre ``320 j + 200``; frame i has its centre at
    ``640 i + 320``. Features are interpolated linearly at the frame centres, so a frame's step never slips.

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
    return np.asarray((1 - weight) * features[:, low] + weight * features[:, high], np.float32)


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
