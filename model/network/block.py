"""One transformer block over one or two streams, and the output head.

    x += gate1 * SA(LN(x)(1 + scale1) + shift1)      co-attention of the streams, rotary q and k
    x += CA(LN_affine(x), text)                      per stream
    x += gate2 * FFN(LN(x)(1 + scale2) + shift2)     experts on target tokens

Shared linear layers run per stream, never on the concatenation: the RGB stream then runs the same
kernels on the same shapes whether or not the HOI stream is present.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

from model.network.attention import CoAttend, MultiHeadAttention, Rotary, co_attend
from model.network.config import DiTConfig
from model.network.functional import gate, layer_norm, linear_fp32, modulate
from model.network.inputs import Attention
from model.network.moe import FeedForward, MoEFFN, Routing


@dataclass(frozen=True, slots=True)
class StreamCondition:
    """What one stream's tokens are conditioned on, the same for all blocks.

    Attributes:
        rotary: Angles of the stream's tokens.
        text: Embedded prompt.
        times: Projected time embedding per run of tokens (target at t, the rest at 0).
        lengths: Tokens per run.
    """

    rotary: Rotary
    text: Float[Tensor, "b l d"]
    times: tuple[Float[Tensor, "b 6 d"], ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockCondition:
    """Conditions of both streams, how they may see each other, and the experts' gate."""

    rgb: StreamCondition
    hoi: StreamCondition | None
    attention: Attention
    visible: tuple[slice, ...]
    num_target: int
    expert_gate: Float[Tensor, " b"]


class Modulation(NamedTuple):
    """Shift, scale and gate of the two residual branches, each with one entry per run of tokens."""

    shift1: Sequence[Tensor]
    scale1: Sequence[Tensor]
    gate1: Sequence[Tensor]
    shift2: Sequence[Tensor]
    scale2: Sequence[Tensor]
    gate2: Sequence[Tensor]

    @classmethod
    def of(
        cls, table: Float[Tensor, "1 6 d"], times: Sequence[Float[Tensor, "b 6 d"]]
    ) -> Modulation:
        """Add a block's table to the projected times."""
        runs = [
            (table.float() + time.float()).unbind(dim=1) for time in times
        ]  # run -> 6 of (b, d)
        return cls(*zip(*runs, strict=True))


class DiTBlock(nn.Module):
    """Attention, text cross-attention and feed-forward; all weights shared but the modulation."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, self.eps = config.dim, config.eps
        self.self_attn = MultiHeadAttention(dim, config.num_heads, config.eps)
        self.cross_attn = MultiHeadAttention(dim, config.num_heads, config.eps)
        self.norm3 = nn.LayerNorm(dim, eps=config.eps)
        self.ffn = MoEFFN(config) if config.has_moe else FeedForward(dim, config.ffn_dim)
        self.co_attend: CoAttend = co_attend  # replaceable, for oracles and comparisons
        self.modulation = nn.Parameter(torch.empty(1, 6, dim))
        if config.hoi_branch:
            self.depth_modulation = nn.Parameter(torch.empty(1, 6, dim))

    def forward(
        self,
        rgb: Float[Tensor, "b n d"],
        hoi: Float[Tensor, "b nh d"] | None,
        on: BlockCondition,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b nh d"] | None, Routing | None]:
        """Advance both streams; also return the routing of target tokens when there are experts."""
        m_rgb = Modulation.of(self.modulation, on.rgb.times)
        qkv_rgb = self.self_attn.project(self._normed(rgb, m_rgb, on.rgb), on.rgb.rotary)
        if hoi is None or on.hoi is None:
            seen, _ = self.co_attend(qkv_rgb, None, on.attention, on.visible)
            rgb, routing = self._rgb_rest(rgb, seen, m_rgb, on)
            return rgb, None, routing
        m_hoi = Modulation.of(self.depth_modulation, on.hoi.times)
        qkv_hoi = self.self_attn.project(self._normed(hoi, m_hoi, on.hoi), on.hoi.rotary)
        seen, seen_hoi = self.co_attend(qkv_rgb, qkv_hoi, on.attention, on.visible)
        assert seen_hoi is not None
        rgb, routing = self._rgb_rest(rgb, seen, m_rgb, on)
        return rgb, self._hoi_rest(hoi, seen_hoi, m_hoi, on.hoi), routing

    def _normed(
        self, x: Float[Tensor, "b n d"], m: Modulation, on: StreamCondition
    ) -> Float[Tensor, "b n d"]:
        return modulate(layer_norm(x, self.eps), m.shift1, m.scale1, on.lengths)

    def _mix(
        self, x: Float[Tensor, "b n d"], seen: Tensor, m: Modulation, on: StreamCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """Add both attentions; return the tokens and the feed-forward's modulated input."""
        x = x + gate(self.self_attn.o(seen), m.gate1, on.lengths)
        normed = nnf.layer_norm(
            x.float(), (x.shape[-1],), self.norm3.weight.float(), self.norm3.bias.float(), self.eps
        )
        x = x + self.cross_attn.cross(normed, on.text)
        return x, modulate(layer_norm(x, self.eps), m.shift2, m.scale2, on.lengths)

    def _rgb_rest(
        self, x: Float[Tensor, "b n d"], seen: Tensor, m: Modulation, on: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Routing | None]:
        x, inner = self._mix(x, seen, m, on.rgb)
        routing = None
        if isinstance(self.ffn, MoEFFN):
            y, routing = self.ffn(inner, on.num_target, on.expert_gate)
        else:
            y = self.ffn(inner)
        return x + gate(y, m.gate2, on.rgb.lengths), routing

    def _hoi_rest(
        self, x: Float[Tensor, "b n d"], seen: Tensor, m: Modulation, on: StreamCondition
    ) -> Float[Tensor, "b n d"]:
        x, inner = self._mix(x, seen, m, on)
        shared = self.ffn.ffn_base if isinstance(self.ffn, MoEFFN) else self.ffn
        y = shared(inner)
        return x + gate(y, m.gate2, on.lengths)


class Head(nn.Module):
    """Modulated norm and projection of tokens to patches, in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        pt, ph, pw = config.patch_size
        self.head = nn.Linear(config.dim, pt * ph * pw * config.out_dim)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))

    def forward(
        self, x: Float[Tensor, "b n d"], e: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b n pc"]:
        """Project tokens under the time embedding ``e``."""
        shift, scale = (self.modulation.float() + e[:, None].float()).unbind(dim=1)  # (b, d) each
        return linear_fp32(
            self.head, modulate(layer_norm(x, self.eps), [shift], [scale], [x.shape[1]])
        )
