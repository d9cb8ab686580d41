"""Attention with shared projections over one or two streams.

Stage 2 of the paper (equation 4) lets HOI queries see RGB keys and never the reverse. It is computed
exactly, as two calls without a mask over keys and values that are projected once:

    O_rgb = A(Q_rgb; K_rgb, V_rgb)        O_hoi = A(Q_hoi; [K_rgb, K_hoi], [V_rgb, V_hoi])

The first call has the same operands with or without the HOI stream, so dropping the stream at
inference cannot change RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.network.functional import attend, rotate
from model.network.inputs import Attention


@dataclass(frozen=True, slots=True)
class Rotary:
    """Cosines and sines of one stream's tokens; the batch dimension is 1 when samples agree."""

    cos: Float[Tensor, "#b n e2"]
    sin: Float[Tensor, "#b n e2"]


@dataclass(frozen=True, slots=True)
class QKV:
    """Queries, keys and values of one stream, after normalisation and rotation."""

    q: Float[Tensor, "b n h e"]
    k: Float[Tensor, "b n h e"]
    v: Float[Tensor, "b n h e"]


class MultiHeadAttention(nn.Module):
    """Projections q, k, v, o with RMSNorm of q and k over the full width (not per head)."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def _heads(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n h e"]:
        return rearrange(x, "b n (h e) -> b n h e", h=self.num_heads)

    def project(self, x: Float[Tensor, "b n d"], rotary: Rotary) -> QKV:
        """Project one stream's tokens for self-attention."""
        x = x.to(self.q.weight.dtype)
        q = rotate(self._heads(self.norm_q(self.q(x))), rotary.cos, rotary.sin)
        k = rotate(self._heads(self.norm_k(self.k(x))), rotary.cos, rotary.sin)
        v = self._heads(self.v(x))
        return QKV(q.to(v.dtype), k.to(v.dtype), v)

    def cross(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b l d"]
    ) -> Float[Tensor, "b n d"]:
        """Attend from tokens to a context, without positions."""
        x, context = x.to(self.q.weight.dtype), context.to(self.q.weight.dtype)
        q = self._heads(self.norm_q(self.q(x)))
        k = self._heads(self.norm_k(self.k(context)))
        v = self._heads(self.v(context))
        joined: Tensor = self.o(attend(q.to(v.dtype), k.to(v.dtype), v))
        return joined


def co_attend(
    rgb: QKV, hoi: QKV | None, attention: Attention, visible: Sequence[slice]
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b nh d"] | None]:
    """Self-attention of the RGB stream and, where present, of the HOI stream.

    Args:
        rgb: RGB stream.
        hoi: HOI stream, or None.
        attention: ``full`` or ``asymmetric``.
        visible: Runs of RGB tokens that HOI queries see under ``asymmetric``.
    """
    if hoi is None:
        return attend(rgb.q, rgb.k, rgb.v), None
    if attention == "full":
        both = [torch.cat(pair, dim=1) for pair in zip(_fields(rgb), _fields(hoi), strict=True)]
        out = attend(*both)
        return out[:, : rgb.q.shape[1]], out[:, rgb.q.shape[1] :]
    keys = torch.cat([*(rgb.k[:, run] for run in visible), hoi.k], dim=1)
    values = torch.cat([*(rgb.v[:, run] for run in visible), hoi.v], dim=1)
    return attend(rgb.q, rgb.k, rgb.v), attend(hoi.q, keys, values)


CoAttend: TypeAlias = Callable[
    [QKV, QKV | None, Attention, Sequence[slice]], tuple[Tensor, Tensor | None]
]
"""Form of ``co_attend``."""


def _fields(stream: QKV) -> tuple[Tensor, Tensor, Tensor]:
    return stream.q, stream.k, stream.v


def visible_runs(lengths: dict[str, int], visible: Sequence[str]) -> tuple[slice, ...]:
    """Turn segment names into runs of RGB tokens, neighbouring segments merged.

    >>> visible_runs({"target": 4, "person": 2, "product": 2, "motion": 3}, ("target", "product"))
    (slice(0, 4, None), slice(6, 8, None))
    """
    runs: list[slice] = []
    start = 0
    for name, length in lengths.items():
        stop = start + length
        if name in visible and length:
            if runs and runs[-1].stop == start:
                runs[-1] = slice(runs[-1].start, stop)
            else:
                runs.append(slice(start, stop))
        start = stop
    return tuple(runs)
