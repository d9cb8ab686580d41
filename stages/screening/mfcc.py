"""Cepstral coefficients of sound, 13 per 10 ms, as SyncNet was trained on.

Davis and Mermelstein 1980: pre-emphasis, 25 ms frames, power spectrum, 26 mel triangles, logarithm, cosine transform; then
liftered (Young et al., The HTK Book), with the frame's log energy in the first place.
"""

from __future__ import annotations

import numpy as np

from schemas.clock import SAMPLE_RATE_HZ
from stages.kit.arrays import F32, F64

STEP, FRAME, FFT = 160, 400, 512
NUM_COEFFICIENTS, _NUM_MELS, _LIFTER, _PRE_EMPHASIS = 13, 26, 22, 0.97
_FULL_SCALE = 32_768
"""Energies are those of 16-bit samples."""


def mfcc(samples: F32) -> F32:
    """Coefficients (N,13) of sound (S,) in [-1, 1] at 16 kHz, one row per 10 ms begun beyond the first 25 ms."""
    from scipy.fft import dct

    spectrum = _power(np.asarray(samples, np.float64) * _FULL_SCALE)
    tiny = np.finfo(np.float64).eps
    energy = np.log(np.maximum(spectrum.sum(axis=1), tiny))
    mels = np.log(np.maximum(spectrum @ mel_triangles().T, tiny))
    out = dct(mels, type=2, axis=1, norm="ortho")[:, :NUM_COEFFICIENTS]
    out *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(NUM_COEFFICIENTS) / _LIFTER)
    out[:, 0] = energy
    return np.asarray(out, np.float32)


def _power(wave: F64) -> F64:
    """Power spectrum (N,257) of frames; the last one is filled up with zeros."""
    count = 1 + max(0, -(-(len(wave) - FRAME) // STEP))
    flat = np.concatenate([wave[:1], wave[1:] - _PRE_EMPHASIS * wave[:-1]])
    padded = np.zeros((count - 1) * STEP + FRAME)
    padded[: len(flat)] = flat[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP]
    return np.asarray(np.abs(np.fft.rfft(frames, FFT)) ** 2 / FFT)


def mel_triangles() -> F64:
    """Weights (26,257): triangles of equal width in mel from 0 Hz to half the rate, corners on whole bins."""
    top = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, _NUM_MELS + 2) / 2595) - 1)
    corners = np.floor((FFT + 1) * hertz / SAMPLE_RATE_HZ)
    bins = np.arange(FFT // 2 + 1)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (bins >= left) & (bins < middle)
    falling = (bins >= middle) & (bins < right)
    up = (bins - left) / np.maximum(middle - left, 1)
    down = (right - bins) / np.maximum(right - middle, 1)
    return np.asarray(np.where(rising, up, np.where(falling, down, 0.0)))
