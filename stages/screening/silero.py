"""Silero voice activity detector (MIT): its ONNX file, run without its torchaudio-bound package code."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from schemas.backend import About, Backend, Resources
from schemas.base import BackendRef
from schemas.clock import SAMPLE_RATE_HZ
from stages.kit.arrays import F32
from stages.screening.packaged_onnx import one_thread_session, packaged_file

ABOUT = About("silero-vad", "silero_vad", "MIT", "in the package")
_PACKAGE = "silero-vad"
_FILE = "silero_vad/data/silero_vad.onnx"
_CONTEXT = 64
CHUNK_SAMPLES = 512
"""The network hears 32 ms at a time, with 4 ms before them as context."""


@cache
def model_path() -> Path:
    """Where the wheel put the network.

    Raises:
        ConfigError: The package or the file is missing.
    """
    return packaged_file(_PACKAGE, "6.2.3", _FILE)


@cache
def model_sha256() -> str:
    """Digest of the network file."""
    with model_path().open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class SileroVad(Backend):
    """Probability of speech per 32 ms chunk of 16 kHz mono sound."""

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

    def probabilities(self, samples: F32) -> F32:
        """Judge samples (N,) in [-1, 1]: one probability per whole or begun chunk, in order."""
        count = -(-len(samples) // CHUNK_SAMPLES)
        padded = np.zeros(_CONTEXT + count * CHUNK_SAMPLES, np.float32)
        padded[_CONTEXT : _CONTEXT + len(samples)] = samples
        state = np.zeros((2, 1, 128), np.float32)
        rate = np.array(SAMPLE_RATE_HZ, np.int64)
        out = np.zeros(count, np.float32)
        for index in range(count):
            start = index * CHUNK_SAMPLES
            chunk = padded[None, start : start + _CONTEXT + CHUNK_SAMPLES]
            result, state = self._session.run(None, {"input": chunk, "state": state, "sr": rate})
            out[index] = result[0, 0]
        return out
