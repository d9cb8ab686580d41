"""What a run is built of: device, network, optimiser, schedule."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from model.network.config import DiTConfig
from model.network.dit import CoGenDiT
from model.training.config import OptimiserConfig, TrainConfig
from model.weights.checkpoint import COGEN_PARTS, load_weights
from schemas.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the torch device.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device={name}, but torch sees no CUDA device here: use device=cpu or auto"
        )
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device={name!r} is none that torch knows: use cpu, cuda or auto"
        ) from error


def build_network(config: TrainConfig, network: DiTConfig) -> CoGenDiT:
    """Create the network: fresh weights depend on the seed alone; given weights are loaded over them.

    Raises:
        ConfigError: Weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.network.weights:
            with torch.device("meta"):
                model = CoGenDiT(network)
            sources = [Path(p) for p in config.network.weights]
            load_weights(model, sources, allow_missing=COGEN_PARTS, dtype=torch.float32)
        else:
            model = CoGenDiT(network)
    model.checkpoint_blocks = config.network.recompute_blocks
    patterns = config.optimiser.trainable
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, p) for p in patterns))
    return model


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only.

    Raises:
        ConfigError: No parameter matches ``trainable``.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise ConfigError(f"optimiser.trainable={config.trainable} matches no parameter")
    matrices = [p for p in learning if p.ndim >= 2]
    others = [p for p in learning if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step (0-based): warm-up from a third, then cosine to a tenth, or constant."""
    optimiser = config.optimiser
    peak, warmup = optimiser.learning_rate, optimiser.warmup_steps
    if step < warmup:
        return peak * (1 / 3 + (2 / 3) * step / warmup)
    if optimiser.schedule == "constant":
        return peak
    progress = (step - warmup) / max(1, config.steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
