"""The cost table: FLOPs counted beside the theory, and its layout (measuring: ``bench_measure``).

Theory per layer, with n tokens per stream and a the share of self-attention in the RGB-only forward:
RGB alone 1, both streams asymmetric 2 + a, both full 2 + 2a. FLOPs are counted on the meta device,
hence for any size on any machine; seconds and memory come from a forward on a real device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.network.attention import QKV, co_attend
from model.network.block import DiTBlock
from model.network.config import MODE_EXPERTS, DiTConfig, preset
from model.network.dit import CoGenDiT
from model.network.inputs import Attention, DiTInputs
from schemas.clock import PX_PER_LATENT, PX_PER_TOKEN

Variant: TypeAlias = Literal["plain", "moe", "asymmetric", "full", "dense mask"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, slots=True)
class BenchSize:
    """A network and a clip. Only target tokens take part, so that both streams are equally long.

    Attributes:
        name: Key of ``PRESETS``, or ``s2v ratios`` for a small network of s2v-14b's proportions.
        height: Pixels.
        width: Pixels.
        latents: Target latents.
        layers: Blocks; 0 keeps the preset's.
    """

    name: str = "s2v-14b"
    height: int = 480
    width: int = 832
    latents: int = 20
    layers: int = 0

    @property
    def tokens(self) -> int:
        """Target tokens per stream."""
        return self.latents * (self.height // PX_PER_TOKEN) * (self.width // PX_PER_TOKEN)

    def config(self, *, moe: bool, hoi: bool) -> DiTConfig:
        """The network with or without experts and HOI branch, without audio."""
        experts = MODE_EXPERTS["paper"]
        fields: dict[str, Any] = {
            "audio_inject_layers": (),
            "hoi_branch": hoi,
            "experts": experts if moe else (),
        }
        if self.layers:
            fields["num_layers"] = self.layers
        if self.name == "s2v ratios":  # 1/8 of the width: heads of 128, expert 1/20, FFN 2.7
            small = {"dim": 640, "num_heads": 5, "ffn_dim": 1728, "expert_hidden_dim": 32}
            fields.update(small, text_dim=512, text_len=64)
            return preset("s2v-14b", "paper", **fields)
        return preset(self.name, "paper", **fields)


@dataclass(frozen=True, slots=True)
class CostRow:
    """One line of the cost table; relative figures are against ``plain``.

    Attributes:
        variant: What ran.
        flops: Floating-point operations of one forward.
        theory: Relative cost by theory; None where it has none.
        seconds: Fastest of the measured forwards; None if not measured.
        peak_bytes: Memory above the resting network; None if not measured.
    """

    variant: Variant
    flops: int
    theory: float | None
    seconds: float | None = None
    peak_bytes: int | None = None


def build(size: BenchSize, variant: Variant, device: str, dtype: torch.dtype) -> CoGenDiT:
    """Make the network of one variant with random weights."""
    dual = variant not in ("plain", "moe")
    with torch.device(device):
        model = CoGenDiT(size.config(moe=variant != "plain", hoi=dual)).to(dtype).eval()
    if variant == "dense mask":
        for block in model.blocks:
            assert isinstance(block, DiTBlock)
            block.co_attend = dense_mask_attend
    return model


def make_inputs(config: DiTConfig, size: BenchSize, device: str, *, hoi: bool) -> DiTInputs:
    """Random target latents and text, and the HOI stream where asked for."""
    shape = (
        1,
        config.in_dim,
        size.latents,
        size.height // PX_PER_LATENT,
        size.width // PX_PER_LATENT,
    )
    text = (1, config.text_len or 1, config.text_dim)
    return DiTInputs(
        rgb_latent=torch.randn(shape, device=device),
        t=torch.full((1,), 500.0, device=device),
        text=torch.randn(text, device=device),
        hoi_latent=torch.randn(shape, device=device) if hoi else None,
        hoi_text=torch.randn(text, device=device) if hoi else None,
    )


def dense_mask_attend(
    rgb: QKV, hoi: QKV | None, attention: Attention, visible: Sequence[slice]
) -> tuple[Tensor, Tensor | None]:
    """The asymmetric rule as one call with a dense boolean mask: the costly way, for comparison."""
    assert hoi is not None
    assert attention == "asymmetric"
    num, total = rgb.q.shape[1], rgb.q.shape[1] + hoi.q.shape[1]
    mask = torch.zeros(total, total, dtype=torch.bool, device=rgb.q.device)
    mask[:num, :num] = True
    mask[num:, num:] = True
    for run in visible:
        mask[num:, run] = True
    q, k, v = (
        rearrange(torch.cat(pair, dim=1), "b n h e -> b h n e")
        for pair in ((rgb.q, hoi.q), (rgb.k, hoi.k), (rgb.v, hoi.v))
    )
    out = nnf.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    joined: Tensor = rearrange(out, "b h n e -> b n (h e)")
    return joined[:, :num], joined[:, num:]


def stage_of(variant: Variant) -> Attention:
    """Which attention a variant's forward asks for."""
    return "full" if variant == "full" else "asymmetric"


def count_flops(size: BenchSize, variant: Variant) -> int:
    """Count one forward on the meta device."""
    model = build(size, variant, "meta", torch.float32)
    inputs = make_inputs(model.config, size, "meta", hoi=model.config.hoi_branch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs, attention=stage_of(variant))
    return int(counter.get_total_flops())


def count_attention_flops(size: BenchSize, variant: Variant) -> int:
    """Count the self-attention of one block alone (both products, all calls)."""
    config, n = size.config(moe=False, hoi=False), size.tokens
    shape = (1, n, config.num_heads, config.head_dim)
    rgb, hoi = (QKV(*(torch.empty(shape, device="meta") for _ in range(3))) for _ in range(2))
    attend = dense_mask_attend if variant == "dense mask" else co_attend
    with FlopCounterMode(display=False) as counter:
        attend(
            rgb, hoi if variant not in ("plain", "moe") else None, stage_of(variant), (slice(0, n),)
        )
    return int(counter.get_total_flops())


def attention_share(size: BenchSize) -> float:
    """a: self-attention's share of the plain RGB-only forward."""
    layers = size.config(moe=False, hoi=False).num_layers
    return layers * count_attention_flops(size, "plain") / count_flops(size, "plain")


def theory(variant: Variant, a: float) -> float:
    """Relative cost by theory: 1, 2 + a, 2 + 2a (a dense mask computes everything)."""
    return {"asymmetric": 2 + a, "full": 2 + 2 * a, "dense mask": 2 + 2 * a}.get(variant, 1.0)


def count_table(size: BenchSize) -> list[CostRow]:
    """All variants' FLOPs beside the theory, nothing run."""
    a = attention_share(size)
    return [CostRow(v, count_flops(size, v), theory(v, a)) for v in VARIANTS]


def render(rows: Sequence[CostRow]) -> list[str]:
    """The table as lines of text."""
    base = rows[0]
    lines = [
        f"{'variant':<12}{'TFLOP':>10}{'rel.':>7}{'theory':>8}{'s':>9}{'rel.':>7}{'peak MiB':>10}"
    ]
    for row in rows:
        expected = "" if row.theory is None else f"{row.theory:.2f}"
        seconds = f"{'-':>9}{'-':>7}"
        if row.seconds is not None and base.seconds is not None:
            seconds = f"{row.seconds:9.2f}{row.seconds / base.seconds:7.2f}"
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / (1 << 20):.0f}"
        lines.append(
            f"{row.variant:<12}{row.flops / 1e12:10.3f}{row.flops / base.flops:7.3f}"
            f"{expected:>8}{seconds}{peak:>10}"
        )
    return lines
