"""A speech-like sound: a glottal source through moving formants, with syllables, breath and pauses.

Source-filter synthesis after Klatt 1980 (cascade branch). Nothing is said; a voice detector hears a voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from schemas.clock import SAMPLE_RATE_HZ
from stages.kit.arrays import F32, F64

_BLOCK = 80
"""Samples of 5 ms with constant formants."""
_VOWELS_HZ = np.array([
    (730, 1090, 2440, 3400), (530, 1840, 2480, 3500), (270, 2290, 3010, 3600),
    (570, 840, 2410, 3300), (300, 870, 2240, 3300), (500, 1500, 2500, 3500),
], np.float64)  # fmt: skip
"""First four formants of a, e, i, o, u and schwa; Peterson and Barney 1952, men."""
_BANDWIDTH_HZ = np.array([80.0, 100.0, 140.0, 220.0])


@dataclass(frozen=True, slots=True)
class Speech:
    """``samples`` (N,) in [-1, 1] at 16 kHz; ``intervals_s`` of phrases; ``opening`` (N,) of the mouth, 0 to 1."""

    samples: F32
    intervals_s: tuple[tuple[float, float], ...]
    opening: F32


def speak(seconds: float, seed: int, *, pitch_hz: float = 120.0, start_s: float = 0.15) -> Speech:
    """Speak for ``seconds``: phrases of syllables at about four a second, pauses between them.

    Args:
        seconds: Length of the sound.
        seed: Decides syllables and melody.
        pitch_hz: Mean pitch; above 170 the formants are raised by 15 % as in a shorter vocal tract.
        start_s: Silence before the first phrase.
    """
    rng = np.random.default_rng(seed)
    total = round(seconds * SAMPLE_RATE_HZ)
    blocks = total // _BLOCK + 1
    voiced, hiss = np.zeros(blocks), np.zeros(blocks)
    formants = np.tile(_VOWELS_HZ[5], (blocks, 1))
    pitch = np.full(blocks, pitch_hz)
    intervals, at = [], start_s
    while at < seconds - 0.6:
        begin = at
        syllables = int(rng.integers(6, 11))
        for index in range(syllables):
            if at > seconds - 0.35:
                break
            at = _syllable(rng, at, index / syllables, (voiced, hiss, formants, pitch), pitch_hz)
        intervals.append((round(begin, 3), round(at, 3)))
        at += float(rng.uniform(0.25, 0.45))
    scale = 1.15 if pitch_hz > 170 else 1.0
    smooth = _smooth(formants, 7) * scale
    sound = _filter(rng, _smooth(voiced, 5), _smooth(hiss, 3), smooth, _smooth(pitch, 9))[:total]
    sound *= 0.2 / max(float(np.sqrt(np.mean(sound[np.abs(sound) > 1e-4] ** 2))), 1e-6) * 0.6
    sound += rng.normal(0, 0.0008, total)  # a quiet room
    opening = np.repeat(_smooth(voiced * (0.35 + 0.65 * (formants[:, 0] - 270) / 460), 9), _BLOCK)
    return Speech(
        np.clip(sound, -0.98, 0.98).astype(np.float32),
        tuple(intervals),
        np.clip(opening[:total], 0, 1).astype(np.float32),
    )


def _syllable(
    rng: np.random.Generator, at: float, progress: float, tracks: tuple[F64, ...], pitch_hz: float
) -> float:
    """Write a consonant and a vowel at ``at`` seconds into the tracks; returns where it ends."""
    voiced, hiss, formants, pitch = tracks
    consonant, vowel = float(rng.uniform(0.03, 0.08)), float(rng.uniform(0.12, 0.2))

    def span(start: float, length: float) -> slice:
        first = int(start * SAMPLE_RATE_HZ / _BLOCK)
        return slice(first, min(first + int(length * SAMPLE_RATE_HZ / _BLOCK), len(voiced)))

    if rng.random() < 0.55:
        hiss[span(at, consonant)] = rng.uniform(0.08, 0.2)
    else:  # a nasal or a liquid: voiced and dull
        voiced[span(at, consonant)] = 0.4
    where = span(at + consonant, vowel)
    voiced[where] = rng.uniform(0.8, 1.0)
    formants[where] = _VOWELS_HZ[rng.integers(0, 5)]
    melody = 1.18 - 0.3 * progress + rng.uniform(-0.06, 0.1)
    pitch[span(at, consonant + vowel)] = pitch_hz * melody
    return at + consonant + vowel


def _smooth(track: F64, width: int) -> F64:
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    columns = track if track.ndim == 2 else track[:, None]
    padded = np.pad(columns, ((width // 2, width // 2), (0, 0)), mode="edge")
    out = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], 1)
    return out if track.ndim == 2 else out[:, 0]


def _filter(rng: np.random.Generator, voiced: F64, hiss: F64, formants: F64, pitch: F64) -> F64:
    """Glottal pulses and noise through four resonators whose state runs on from block to block."""
    jitter = np.repeat(pitch, _BLOCK) * (1 + 0.01 * rng.standard_normal(len(pitch) * _BLOCK))
    phase = np.cumsum(jitter / SAMPLE_RATE_HZ)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    glottal = lfilter([1.0], [1.0, -1.84, 0.846], pulses)  # about -12 dB per octave
    source = np.repeat(voiced, _BLOCK) * (glottal + 0.02 * rng.standard_normal(len(glottal)))
    breath = sosfilt(
        butter(2, 2500, "high", fs=SAMPLE_RATE_HZ, output="sos"), rng.standard_normal(len(source))
    )
    out = np.zeros_like(source)
    state = np.zeros((4, 2))
    radius = np.exp(-np.pi * _BANDWIDTH_HZ / SAMPLE_RATE_HZ)
    for block, tones in enumerate(formants):
        part = slice(block * _BLOCK, (block + 1) * _BLOCK)
        signal = source[part]
        for index, tone in enumerate(tones):
            a1 = -2 * radius[index] * np.cos(2 * np.pi * tone / SAMPLE_RATE_HZ)
            a2 = radius[index] ** 2
            signal, state[index] = lfilter([1 + a1 + a2], [1, a1, a2], signal, zi=state[index])
        out[part] = signal
    out = np.diff(out, prepend=0.0)  # radiation at the lips
    loud = max(float(np.abs(out).max()), 1e-6)
    return out / loud + np.repeat(hiss, _BLOCK) * breath * 0.5
