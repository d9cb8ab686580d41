"""Text and audio encoders behind two Protocols: embedded stand-ins and the real ones from local folders.

Text features are (tokens, dim), audio features are (layers, frames, dim) with one step per video frame.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float

from schemas.base import BackendRef


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
