"""Text encoders: hashed bytes without weights, and umT5 from a local folder."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from schemas.base import BackendRef

_PIECE = re.compile(rb"[A-Za-z0-9]{1,8}|[^A-Za-z0-9\s]|[\x80-\xff]{1,6}")


class ByteTextEncoder:
    """Deterministic stand-in without weights: hashed byte n-grams of word pieces, plus position.

    A prompt is cut into pieces of at most 8 bytes (words, marks, runs of other bytes). A piece's vector is
    the sum of fixed pseudo-random vectors of its 1- to 3-grams and of the whole piece, so that pieces with
    common parts have a common direction; a small sinusoid of the position is added. It tells prompts apart
    and knows spelling, not meaning.

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
