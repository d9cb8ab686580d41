"""DNSMOS P.835 (MIT): how clean speech sounds, by the ONNX file of the speechmos wheel.

The package's own code wants librosa, pandas and a network client at import; its main network takes plain samples, so
that file alone is run. (Reddy, Gopal and Cutler, ICASSP 2022.)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from schemas.backend import About, Backend, Resources
from schemas.base import BackendRef
from schemas.clock import SAMPLE_RATE_HZ
from schemas.errors import ModelOutputError
from stages.kit.arrays import F32
from stages.screening.packaged_onnx import one_thread_session, packaged_file

_PACKAGE, _VERSION = "speechmos", "0.0.1.1"
_FILE = "speechmos/dnsmos_models/sig_bak_ovr.onnx"
_WINDOW_SAMPLES = int(9.01 * SAMPLE_RATE_HZ)
_SPEECH = (-0.08397278, 1.22083953, 0.0052439)
_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""The published maps from the network's outputs to opinion scores, highest power first."""


ABOUT = About("dnsmos-p835", "speechmos", "MIT", "in the package")


@dataclass(frozen=True, slots=True)
class SoundScores:
    """Mean opinion scores, 1 (bad) to 5 (excellent)."""

    speech: float
    """How undistorted the voice is."""
    background: float
    """How little noise and music there is."""
    overall: float


@cache
def model_path() -> Path:
    """Where the wheel put the network.

    Raises:
        ConfigError: The package or the file is missing.
    """
    return packaged_file(_PACKAGE, _VERSION, _FILE, ", or set speech.score_sound=false")


@cache
def model_sha256() -> str:
    """Digest of the network file."""
    with model_path().open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class DnsMos(Backend):
    """Scores 16 kHz mono sound."""

    @property
    def ref(self) -> BackendRef:
        """What facets show."""
        return BackendRef(
            name=ABOUT.name,
            version=distribution(_PACKAGE).version,
            weights_sha256=self.weights_sha256,
            licence=ABOUT.licence,
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the network file."""
        return model_sha256()

    @property
    def resources(self) -> Resources:
        """A small network, one thread."""
        return Resources(num_cpus=0.5, memory_bytes=500_000_000)

    def check(self) -> None:
        """Check that the wheel and its file are there; ConfigError if not."""
        model_path()

    def setup(self) -> None:
        """Load the network."""
        _ = self._session

    @cached_property
    def _session(self) -> Any:
        return one_thread_session(model_path())

    def score(self, samples: F32) -> SoundScores:
        """Judge samples (N,) in [-1, 1], N > 0: the mean over windows of 9.01 s, a second apart.

        The network hears 9.01 s; shorter sound is repeated, as its authors do.

        Raises:
            ModelOutputError: ``audio_unreadable`` if the network returns no numbers.
        """
        sound = np.resize(samples, max(len(samples), _WINDOW_SAMPLES)).astype(np.float32)
        starts = range(0, len(sound) - _WINDOW_SAMPLES + 1, SAMPLE_RATE_HZ)
        raw = np.array([self._run(sound[s : s + _WINDOW_SAMPLES]) for s in starts])
        if not np.isfinite(raw).all():
            raise ModelOutputError("audio_unreadable", "the sound's scores are no numbers")
        maps = (_SPEECH, _BACKGROUND, _OVERALL)
        scores = [np.polyval(m, raw[:, i]).mean() for i, m in enumerate(maps)]
        return SoundScores(*(float(np.clip(s, 1, 5)) for s in scores))

    def _run(self, window: F32) -> F32:
        return np.asarray(self._session.run(None, {"input_1": window[None]})[0][0])
