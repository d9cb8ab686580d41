"""Stage 4: is somebody speaking?"""

from __future__ import annotations

import importlib.util
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.errors import ConfigError
from schemas.facets import SpeechFacet
from schemas.rows import Clip
from stages import media
from stages.backends.silero import SILERO, SileroVad
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files

Samples = NDArray[np.float32]
SILENCE_DB = -120.0
_MIN_SILENCE_SAMPLES = media.SAMPLE_RATE_HZ // 50


class SpeechGate(GateConfig):
    """Thresholds."""

    require_speech: bool = True
    min_voiced_share: float = Field(default=0.2, ge=0, le=1)
    max_digital_silence_share: float = Field(default=0.9, ge=0, le=1)
    max_clipping_share: float = Field(default=0.02, ge=0, le=1)


class SpeechConfig(StageConfig):
    """How to listen."""

    backend: Literal["silero"] = "silero"
    voiced_probability: float = Field(default=0.5, ge=0, le=1)
    gate: SpeechGate = SpeechGate()


class SpeechStage(Stage[SpeechConfig, Clip, Clip]):
    """Fills ``speech``; scores are over the target window."""

    name = "speech"
    facet = "speech"
    config_type = SpeechConfig
    row_in = row_out = Clip
    needs = ("segment",)
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_audio", "digital_silence", "no_speech", "clipped", "audio_unreadable",
    })  # fmt: skip
    _vad: SileroVad | None = None

    def check(self) -> None:
        """Check that the detector's weights are in the environment."""
        if importlib.util.find_spec("silero_vad") is None:
            raise ConfigError("speech.backend=silero: silero-vad is not installed; run make setup")

    def setup(self) -> None:
        """Load the voice activity detector."""
        self._vad = SileroVad()

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Score the sound of the target frames."""
        if row.media.audio is None:
            return Kept((row.with_facet(self.facet, _no_sound()),))
        if self._vad is None:
            self.setup()
        assert self._vad is not None
        first = row.media.num_motion_frames * media.SAMPLES_PER_FRAME
        samples = media.read_wav(files.local(row.media.audio))[first:]
        probability = self._vad.probabilities(samples)
        peak = float(np.abs(samples).max(initial=0))
        facet = SpeechFacet(
            has_audio=True, loudness_lufs=loudness_lufs(samples),
            peak_dbfs=20 * float(np.log10(peak)) if peak > 1e-6 else SILENCE_DB,
            voiced_share=float((probability > self.config.voiced_probability).mean()),
            digital_silence_share=digital_silence_share(samples),
            clipping_share=float((np.abs(samples) > 0.999).mean()), backend=SILERO,
        )  # fmt: skip
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Enough voice, unless the recipe does without."""
        score, gate = row.speech, self.config.gate
        assert score is not None
        if not gate.require_speech:
            return None
        if not score.has_audio:
            return Dropped("no_audio", "the source has no audio stream")
        checks = (
            ("digital_silence", score.digital_silence_share > gate.max_digital_silence_share,
             f"{score.digital_silence_share=:.2f} > {gate.max_digital_silence_share}"),
            ("no_speech", score.voiced_share < gate.min_voiced_share,
             f"{score.voiced_share=:.2f} < {gate.min_voiced_share}"),
            ("clipped", score.clipping_share > gate.max_clipping_share,
             f"{score.clipping_share=:.3f} > {gate.max_clipping_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def _no_sound() -> SpeechFacet:
    return SpeechFacet(
        has_audio=False, loudness_lufs=SILENCE_DB, peak_dbfs=SILENCE_DB, voiced_share=0.0,
        digital_silence_share=0.0, clipping_share=0.0, backend=SILERO,
    )  # fmt: skip


def loudness_lufs(samples: Samples) -> float:
    """Integrated loudness by ITU-R BS.1770 (pyloudnorm); -120 for silence."""
    import pyloudnorm

    if len(samples) < media.SAMPLE_RATE_HZ // 2 or not np.abs(samples).max(initial=0) > 1e-6:
        return SILENCE_DB
    value = pyloudnorm.Meter(media.SAMPLE_RATE_HZ).integrated_loudness(samples.astype(np.float64))
    return float(np.clip(value, SILENCE_DB, 20)) if np.isfinite(value) else SILENCE_DB


def digital_silence_share(samples: Samples) -> float:
    """Share of samples inside runs of exact zeros of at least 20 ms.

    >>> digital_silence_share(np.concatenate([np.zeros(500), np.ones(500)]).astype(np.float32))
    0.5
    """
    is_zero = samples == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_zero.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= _MIN_SILENCE_SAMPLES].sum() / max(len(samples), 1))
