"""Stage ``speech``: is there a voice, how loud, and is the sound intact?"""

from __future__ import annotations

import hashlib
import warnings
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from schemas.backend import by_name
from schemas.base import BackendRef
from schemas.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from schemas.errors import ConfigError, DecodeError
from schemas.facets import SpeechFacet
from schemas.rows import Clip
from schemas.settings import BESIDE
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, AtMost, Never, first_failure
from stages.kit.arrays import F32, Flags
from stages.kit.landmarks import Landmarks
from stages.kit.media import read_wav
from stages.kit.spans import runs
from stages.screening import dnsmos, silero
from stages.screening.lips import lip_gap, lip_shares
from stages.screening.sync import measure_sync
from stages.screening.syncnet import NoSyncConfig, SyncNetBackend, SyncNetConfig

FLOOR_DB = -120.0
_SILENT_RUN_SAMPLES = SAMPLE_RATE_HZ // 50
_CLIPPED = 32_700 / 32_767
_CLIPPED_RUN_SAMPLES = 3
_MIN_LOUDNESS_SAMPLES = int(0.4 * SAMPLE_RATE_HZ)


class SpeechGate(GateConfig):
    """Which sound is good enough to drive a video.

    Args:
        require_speech: False keeps every clip, with its scores.
        min_voiced_share: Below it nobody speaks for long enough; fluent speech has 0.6 to 0.95.
        max_digital_silence_share: Exact zeros are a muted or missing track, not a quiet room.
        min_loudness_lufs: Quieter speech drowns in noise once raised to -23 LUFS.
        max_clipping_share: Audible distortion begins near 0.1 % of samples.
        min_background_mos: Noise and music beside the voice, 1 (loud) to 5 (none), by DNSMOS; None judges nothing.
            Clean speech has 3.5 and more, with noise or music 5 to 10 dB below it 1.1 to 2.4.
        max_still_while_voiced_share: Above it somebody else speaks. People who speak have 0.0 to 0.15, mouths at
            rest 0.2 to 0.95 (ten clips): try 0.5. None judges nothing.
        max_moving_while_silent_share: Above it a voice is missing. People who pause have 0.2, mouths that speak
            without a sound 0.65 and more (three clips): try 0.6. None judges nothing.
        max_sync_offset_frames: Sound that is late or early by more frames of 40 ms does not belong to these lips.
            Judged where ``sync_backend`` is on; None judges nothing.
        min_sync_confidence: Below it no shift fits better than others: other lips than the voice's, or none in sight.
            Judged where ``sync_backend`` is on; None judges nothing.
    """

    require_speech: bool = True
    min_voiced_share: float = Field(default=0.25, ge=0, le=1)
    max_digital_silence_share: float = Field(default=0.5, ge=0, le=1)
    min_loudness_lufs: float = Field(default=-50.0, ge=-120, le=0)
    max_clipping_share: float = Field(default=0.005, ge=0, le=1)
    min_background_mos: float | None = Field(default=None, ge=1, le=5)
    max_still_while_voiced_share: float | None = Field(default=None, ge=0, le=1)
    max_moving_while_silent_share: float | None = Field(default=None, ge=0, le=1)
    max_sync_offset_frames: int | None = Field(default=3, ge=0)
    min_sync_confidence: float | None = Field(default=None, ge=0)


SyncBackend = Annotated[
    NoSyncConfig | SyncNetConfig, Field(discriminator="name"), by_name("none"), BESIDE
]


class SpeechConfig(StageConfig):
    """How speech is measured.

    Args:
        voice_threshold: Probability of speech from which a chunk counts as voiced.
        score_sound: Score noise and music (1 to 2 s per clip on one core). False leaves the scores out.
        sync_backend: ``syncnet`` measures by how many frames the sound is late (up to 15) with your weights.
    """

    voice_threshold: float = Field(default=0.5, gt=0, lt=1)
    score_sound: bool = True
    sync_backend: SyncBackend = NoSyncConfig()
    gate: SpeechGate = SpeechGate()


class SpeechStage(Stage[SpeechConfig, Clip, Clip]):
    """Measures a clip's sound over its target frames."""

    name = "speech"
    version = 4
    facet = "speech"
    config_type = SpeechConfig
    row_in = Clip
    row_out = Clip
    needs: ClassVar[tuple[str, ...]] = ("segment", "detect")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {"no_audio", "digital_silence", "no_speech", "too_quiet", "clipped", "noisy"}
        | {"voice_without_lips", "lips_without_voice", "out_of_sync", "sync_unsure"}
        | {"audio_unreadable", "audio_misaligned"}
    )

    fixed_backends = (silero.ABOUT, dnsmos.ABOUT)

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__(config)
        self._vad = silero.SileroVad()
        self._mos = dnsmos.DnsMos() if config.score_sound else None
        self._sync: SyncNetBackend | None = config.sync_backend.build()
        self.backends = tuple(b for b in (self._vad, self._mos, self._sync) if b is not None)

    @property
    def weights_sha256(self) -> str:
        """Digest over the digests of all networks in use."""
        digests = [backend.weights_sha256 for backend in self.backends]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def check(self) -> None:
        """Check that the networks and the loudness meter are installed.

        Raises:
            ConfigError: One is not; the message says what to install.
        """
        super().check()
        if find_spec("pyloudnorm") is None:
            raise ConfigError("stage speech needs the package: pip install pyloudnorm")

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Fill ``row.speech``.

        Raises:
            DecodeError: ``audio_unreadable``, or ``audio_misaligned`` where the wav does not cover
                exactly the clip's frames.
        """
        media = row.media
        if media.audio is None:
            return Kept((row.with_facet("speech", silent_facet(self._vad.ref)),))
        samples = read_wav(files.local(media.audio))
        expected = media.num_frames * SAMPLES_PER_FRAME
        if len(samples) != expected:
            raise DecodeError("audio_misaligned", f"{len(samples)} samples, {expected=}")
        target = samples[media.num_motion_frames * SAMPLES_PER_FRAME :]
        # the network warms up on the context, as it would in the running sound
        voiced = self._vad.probabilities(samples) >= self.config.voice_threshold
        first = media.num_motion_frames * SAMPLES_PER_FRAME // silero.CHUNK_SAMPLES
        facet = SpeechFacet(
            has_audio=True,
            loudness_lufs=loudness_lufs(target),
            peak_dbfs=peak_dbfs(target),
            voiced_share=float(voiced[first:].mean()),
            digital_silence_share=digital_silence_share(target),
            clipping_share=clipping_share(target),
            backend=self._vad.ref,
            **self._opinions(target),
            **_lips(row, files, voiced),
            **self._synchrony(row, files, target),
        )
        return Kept((row.with_facet("speech", facet),))

    def _opinions(self, samples: F32) -> dict[str, Any]:
        if self._mos is None or not samples.any():
            return {}
        scores = self._mos.score(samples)
        return {
            "speech_mos": scores.speech,
            "background_mos": scores.background,
            "overall_mos": scores.overall,
            "sound_backend": self._mos.ref,
        }

    def _synchrony(self, row: Clip, files: Files, samples: F32) -> dict[str, Any]:
        """How late the sound of the target frames is, where that is asked for."""
        if self._sync is None:
            return {}
        target = slice(row.media.num_motion_frames, None)
        faces = Landmarks.read(files.arrays(row.need("detect").arrays)).face.box_xyxy_px[target]
        found = measure_sync(files.frames(row.media.video)[target], faces, samples, self._sync)
        scores = {} if found is None else {
            "sync_offset_frames": found.offset_frames, "sync_confidence": found.confidence,
        }  # fmt: skip
        return {"sync_backend": self._sync.ref} | scores

    def gate(self, row: Clip) -> Dropped | None:
        """Judge presence, silence, voice, level, clipping and noise, in this order."""
        return judge(row.need("speech"), self.config.gate)


def _lips(row: Clip, files: Files, voiced: Flags) -> dict[str, float | None]:
    """What lips and voice say of each other over the target frames; ``voiced`` is per chunk of the whole clip."""
    face_px = Landmarks.read(files.arrays(row.need("detect").arrays)).face.points_px
    middles = (np.arange(row.media.num_frames) + 0.5) * SAMPLES_PER_FRAME / silero.CHUNK_SAMPLES
    spoken = voiced[np.minimum(middles.astype(int), len(voiced) - 1)]
    target = slice(row.media.num_motion_frames, None)
    shares = lip_shares(lip_gap(face_px)[target], spoken[target])
    return {
        "still_while_voiced_share": shares.still_while_voiced,
        "moving_while_silent_share": shares.moving_while_silent,
    }


def judge(speech: SpeechFacet, gate: SpeechGate) -> Dropped | None:
    """Apply thresholds to scores."""
    s, g = speech, gate
    if not g.require_speech:
        return None
    offset = None if s.sync_offset_frames is None else abs(s.sync_offset_frames)
    return first_failure([
        Never("no_audio", not s.has_audio, "the source has no sound stream"),
        AtMost("digital_silence", "digital_silence_share", s.digital_silence_share, g.max_digital_silence_share),
        AtLeast("no_speech", "voiced_share", s.voiced_share, g.min_voiced_share),
        AtLeast("too_quiet", "loudness_lufs", s.loudness_lufs, g.min_loudness_lufs),
        AtMost("clipped", "clipping_share", s.clipping_share, g.max_clipping_share),
        AtLeast("noisy", "background_mos", s.background_mos, g.min_background_mos),
        AtMost("voice_without_lips", "still_while_voiced_share", s.still_while_voiced_share,
               g.max_still_while_voiced_share),
        AtMost("lips_without_voice", "moving_while_silent_share", s.moving_while_silent_share,
               g.max_moving_while_silent_share),
        AtMost("out_of_sync", "|sync_offset_frames|", offset, g.max_sync_offset_frames),
        AtLeast("sync_unsure", "sync_confidence", s.sync_confidence, g.min_sync_confidence),
    ])  # fmt: skip


def silent_facet(backend: BackendRef) -> SpeechFacet:
    """The facet of a clip without sound."""
    return SpeechFacet(
        has_audio=False, loudness_lufs=FLOOR_DB, peak_dbfs=FLOOR_DB, voiced_share=0.0,
        digital_silence_share=0.0, clipping_share=0.0, backend=backend,
    )  # fmt: skip


def loudness_lufs(samples: F32) -> float:
    """Integrated loudness, gated (ITU-R BS.1770-4); -120 for silence or less than 0.4 s."""
    import pyloudnorm

    if len(samples) < _MIN_LOUDNESS_SAMPLES or not samples.any():
        return FLOOR_DB
    meter = pyloudnorm.Meter(SAMPLE_RATE_HZ)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # it divides by zero where all blocks are gated out
        value = float(meter.integrated_loudness(samples.astype(np.float64)))
    return float(np.clip(value, FLOOR_DB, 20.0)) if np.isfinite(value) else FLOOR_DB


def peak_dbfs(samples: F32) -> float:
    """Largest absolute sample in dB of full scale; -120 for silence."""
    peak = float(np.abs(samples).max(initial=0.0))
    return float(max(FLOOR_DB, 20 * np.log10(peak))) if peak > 0 else FLOOR_DB


def digital_silence_share(samples: F32) -> float:
    """Share of samples inside runs of exact zeros of at least 20 ms."""
    silent = [len(run) for run in runs(samples == 0) if len(run) >= _SILENT_RUN_SAMPLES]
    return sum(silent) / max(1, len(samples))


def clipping_share(samples: F32) -> float:
    """Share of samples inside runs of at least 3 at full scale: flat tops, not single peaks."""
    clipped = [
        len(run) for run in runs(np.abs(samples) >= _CLIPPED) if len(run) >= _CLIPPED_RUN_SAMPLES
    ]
    return sum(clipped) / max(1, len(samples))
