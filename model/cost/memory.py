"""Parameter counts and memory needs of a configuration, without allocating it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from model.network.config import DiTConfig
from model.network.dit import CoGenDiT
from model.weights.names import is_cogen
from schemas.clock import PX_PER_LATENT

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ClipSize:
    """One training or sampling clip in pixels; latents are 4x8x8 smaller."""

    height: int = 480
    width: int = 832
    latents: int = 20
    batch: int = 1


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes per purpose on one device, nothing sharded.

    Attributes:
        num_tensors: Parameters as stored.
        num_parameters: Their elements.
        by_part: Elements per part of the network.
        tokens: Tokens per stream, ``rgb`` and ``hoi``.
        inference: Purpose -> bytes for one forward in bfloat16.
        training: Purpose -> bytes for one step with float32 master weights and AdamW, blocks recomputed.
    """

    num_tensors: int
    num_parameters: int
    by_part: dict[str, int]
    tokens: dict[str, int]
    inference: dict[str, int]
    training: dict[str, int]

    def lines(self) -> list[str]:
        """The plan as text for people."""
        out = [f"{self.num_tensors} tensors, {self.num_parameters / 1e9:.3f} B parameters"]
        out += [f"  {name:<16}{count / 1e9:9.3f} B" for name, count in self.by_part.items()]
        out += [f"tokens: {self.tokens['rgb']} RGB, {self.tokens['hoi']} HOI"]
        for title, parts in (("inference", self.inference), ("training", self.training)):
            out += [f"{title}: {sum(parts.values()) / GIB:.1f} GiB"]
            out += [f"  {name:<16}{size / GIB:9.2f} GiB" for name, size in parts.items()]
        return out


def part_of(name: str) -> str:
    """Part of the network that a parameter belongs to.

    >>> part_of("blocks.0.ffn.router.0.weight"), part_of("blocks.0.norm3.bias")
    ('experts', 'blocks')
    """
    if "depth_" in name:
        return "hoi branch"
    if is_cogen(name):
        return "experts"
    head = name.partition(".")[0]
    parts = {
        "blocks": "blocks",
        "casual_audio_encoder": "audio encoder",
        "audio_injector": "audio injector",
        "frame_packer": "framepack",
    }
    return parts.get(head, "embeddings")


def memory_plan(config: DiTConfig, clip: ClipSize | None = None) -> MemoryPlan:
    """Count parameters on the meta device and estimate memory for one clip size.

    Weights, gradients and optimiser state are exact. Activations are an estimate: the saved block
    inputs (float32 residual per token) and the live tensors of one block.

    Args:
        config: Network.
        clip: Clip; by default 480x832 with 20 target latents.
    """
    clip = clip or ClipSize()
    with torch.device("meta"):
        named = dict(CoGenDiT(config).named_parameters())
    by_part: Counter[str] = Counter()
    for name, parameter in named.items():
        by_part[part_of(name)] += parameter.numel()
    total = sum(by_part.values())
    tokens = _tokens(config, clip)
    rows = clip.batch * sum(tokens.values())
    # one block, live at once in bfloat16: modulated input, q, k, v, attention out, FFN hidden and out
    block = rows * (6 * config.dim + config.ffn_dim) * 2
    residual = rows * config.dim * 4
    return MemoryPlan(
        num_tensors=len(named),
        num_parameters=total,
        by_part=dict(by_part),
        tokens=tokens,
        inference={"weights bf16": 2 * total, "residual fp32": 2 * residual, "one block": block},
        training={
            "weights fp32": 4 * total,
            "gradients fp32": 4 * total,
            "AdamW state": 8 * total,
            "block inputs": config.num_layers * residual,
            "one block": 3 * block,
        },
    )


def _tokens(config: DiTConfig, clip: ClipSize) -> dict[str, int]:
    pt, ph, pw = config.patch_size
    height, width = clip.height // PX_PER_LATENT, clip.width // PX_PER_LATENT
    frame = (height // ph) * (width // pw)
    target = clip.latents // pt * frame
    motion = 0
    if config.speech:
        near, mid, far = config.zip_frame_buckets
        for frames, factor in ((near, 1), (mid, 2), (far, 4)):
            cells = (height // (ph * factor)) * (width // (pw * factor))
            motion += frames // (pt * factor) * cells
    references = 2 * frame if config.hoi_branch else frame if config.speech else 0
    return {"rgb": target + references + motion, "hoi": target if config.hoi_branch else 0}
