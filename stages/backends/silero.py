"""Voice activity by silero-vad's ONNX model, without importing the package (it wants torchaudio)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from schemas.errors import ConfigError

SILERO = BackendRef(name="silero-vad", version="6.2.3", licence="MIT")
_RATE_HZ, _WINDOW, _CONTEXT = 16_000, 512, 64


def find_weights() -> Path:
    """Path of the ONNX file inside the installed package.

    Raises:
        ConfigError: The package or its file is missing.
    """
    spec = importlib.util.find_spec("silero_vad")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")
    path = folder / "data" / "silero_vad.onnx"
    if not path.is_file():
        raise ConfigError("silero-vad's model file is missing; install silero-vad 6.2.3")
    return path


class SileroVad:
    """Speech probability per 32 ms window."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(find_weights()), options, providers=["CPUExecutionProvider"]
        )

    def probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N//512,) probabilities of speech for mono 16 kHz samples (N,)."""
        state = np.zeros((2, 1, 128), np.float32)
        context = np.zeros(_CONTEXT, np.float32)
        out = np.zeros(len(samples) // _WINDOW, np.float32)
        for index in range(len(out)):
            window = samples[index * _WINDOW : (index + 1) * _WINDOW]
            feed = np.concatenate([context, window])[None]
            probability, state = self._session.run(
                None, {"input": feed, "state": state, "sr": np.array(_RATE_HZ, np.int64)}
            )
            out[index], context = probability[0, 0], window[-_CONTEXT:]
        return out
