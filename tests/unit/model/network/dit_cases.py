"""Small random networks and batches for tests of the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.network.config import DiTConfig, Mode, preset
from model.network.dit import CoGenDiT, DiTInputs

SIZES = {
    "dim": 48,
    "num_heads": 2,
    "num_layers": 2,
    "ffn_dim": 96,
    "text_dim": 24,
    "text_len": 12,
    "freq_dim": 32,
    "audio_dim": 20,
    "num_audio_layers": 3,
    "audio_inject_layers": (0,),
    "expert_hidden_dim": 16,
}


def tiny(mode: Mode = "paper", **fields: Any) -> DiTConfig:
    return preset("smoke", mode, **{**SIZES, **fields})


def network(config: DiTConfig, seed: int = 0) -> CoGenDiT:
    """A network in which nothing is zero, so that no part can hide."""
    torch.manual_seed(seed)
    model = CoGenDiT(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "modulation" not in name:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(mean=float("norm" in name and "weight" in name), std=0.2)
    return model.eval()


def batch(
    config: DiTConfig,
    *,
    size: int = 2,
    frames: int = 3,
    edge: int = 8,
    seed: int = 1,
    **fields: Any,
) -> DiTInputs:
    """A batch with every input present; ``fields`` replace some."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=source)

    grid = (frames, edge, edge + 4)
    inputs = DiTInputs(
        rgb_latent=normal(config.in_dim, *grid),
        t=torch.linspace(120, 870, size),
        text=normal(7, config.text_dim),
        text_lens=torch.arange(size) % 3 + 5,
        audio=normal(config.num_audio_layers, 4 * frames, config.audio_dim),
        person_latent=normal(config.in_dim, 1, *grid[1:]),
        product_latent=normal(config.in_dim, 1, *grid[1:]),
        product_scale=torch.linspace(0.5, 1, size),
        motion_latent=normal(config.in_dim, 19, *grid[1:]),
        pose_latent=normal(config.cond_dim, *grid),
        hoi_latent=normal(config.in_dim, *grid),
        hoi_t=torch.linspace(300, 400, size),
        hoi_text=normal(9, config.text_dim),
    )
    return replace(inputs, **fields)


def rgb_only(inputs: DiTInputs) -> DiTInputs:
    return replace(inputs, hoi_latent=None, hoi_text=None, hoi_t=None)


def max_abs(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())
