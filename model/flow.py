"""Rectified flow: shifted noise levels, timestep sampling, training weights, noising, Euler steps.

    z_s = (1 - s) z_0 + s eps        v* = eps - z_0        t = 1000 s, s in [0, 1]

Sources: paper equation 2; CoInteract diffsynth/schedulers/flow_match.py (formulas).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from model.network.config import Mode
from schemas.base import Model
from schemas.errors import ConfigError

NUM_TRAIN_STEPS = 1000


class FlowConfig(Model):
    """How training timesteps are drawn and weighted.

    Args:
        shift: k of s' = k s / (1 + (k - 1) s); above 1 it favours noise.
        sampling: ``grid`` draws an index of the shifted 1000-step grid (published), ``uniform`` and
            ``logit_normal`` draw s continuously and then shift it.
        logit_mean: Mean of logit(s) for ``logit_normal``.
        logit_std: Standard deviation of logit(s) for ``logit_normal``.
        weighting: ``none``, or ``bell`` for the published weight of the loss.
        bf16_timestep: Round t to bfloat16 before use, as the published trainer does.
    """

    shift: float = Field(default=5.0, gt=0)
    sampling: Literal["grid", "uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = Field(default=1.0, gt=0)
    weighting: Literal["none", "bell"] = "none"
    bf16_timestep: bool = False

    @classmethod
    def for_mode(cls, mode: Mode) -> FlowConfig:
        """``official`` is the published trainer; ``paper`` leaves out what the paper does not state."""
        if mode == "official":
            return cls(sampling="grid", weighting="bell", bf16_timestep=True)
        return cls()


@dataclass(frozen=True, slots=True)
class TrainingTimes:
    """One noise level per sample: ``t`` = 1000 ``sigma``, and the weight of the flow losses."""

    t: Float[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    weight: Float[Tensor, " b"]


def shift_sigma(s: Float[Tensor, "..."], shift: float) -> Float[Tensor, "..."]:
    """Move noise levels towards noise: k s / (1 + (k - 1) s)."""
    return shift * s / (1 + (shift - 1) * s)


def sigma_grid(steps: int, shift: float, *, with_end: bool = False) -> Float[Tensor, " n"]:
    """Falling noise levels from 1 over ``steps`` steps; ``with_end`` appends the final 0.

    Raises:
        ConfigError: No steps, or a shift that is not positive.

    >>> sigma_grid(2, 3.0, with_end=True).tolist()
    [1.0, 0.75, 0.0]
    """
    if steps < 1 or shift <= 0:
        raise ConfigError(f"need at least one step and a positive shift, got {steps=} and {shift=}")
    s = torch.linspace(1, 0, steps + 1)  # float32, as the published tables
    return shift_sigma(s if with_end else s[:-1], shift)


def bell_weights(timesteps: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Published loss weights of a whole grid: a Gaussian around 500, lowered to 0, of mean 1."""
    n = len(timesteps)
    y = torch.exp(-2 * ((timesteps - n / 2) / n) ** 2)
    y = y - y.min()
    return y * (n / y.sum())


def nearest_index(grid: Float[Tensor, " n"], t: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Index of the grid point nearest to each timestep (the first of two equally near)."""
    return (grid[None] - t[:, None]).abs().argmin(dim=1)


def training_weight(t: Float[Tensor, " b"], config: FlowConfig) -> Float[Tensor, " b"]:
    """Weight of the flow losses at each timestep."""
    if config.weighting == "none":
        return torch.ones_like(t)
    grid = sigma_grid(NUM_TRAIN_STEPS, config.shift).to(t.device) * NUM_TRAIN_STEPS
    return bell_weights(grid)[nearest_index(grid, t)]


def sample_times(config: FlowConfig, batch: int, generator: torch.Generator) -> TrainingTimes:
    """Draw one noise level per sample on the generator's device.

    Args:
        config: Distribution, shift and weight.
        batch: Number of samples.
        generator: Source of randomness; the same state gives the same times.
    """
    device = generator.device
    if config.sampling == "grid":
        index = torch.randint(NUM_TRAIN_STEPS, (batch,), generator=generator, device=device)
        sigma = sigma_grid(NUM_TRAIN_STEPS, config.shift).to(device)[index]
    elif config.sampling == "uniform":
        s = torch.rand(batch, generator=generator, device=device)
        sigma = shift_sigma(s, config.shift)
    else:
        logit = torch.randn(batch, generator=generator, device=device)
        s = torch.sigmoid(config.logit_mean + config.logit_std * logit)
        sigma = shift_sigma(s, config.shift)
    return times_at(NUM_TRAIN_STEPS * sigma, config)


def times_at(t: Float[Tensor, " b"], config: FlowConfig) -> TrainingTimes:
    """Noise level and weight at given timesteps (for evaluation at fixed quantiles, and replays)."""
    sigma = t / NUM_TRAIN_STEPS
    if config.bf16_timestep:
        t = t.bfloat16().float()
        grid = sigma_grid(NUM_TRAIN_STEPS, config.shift).to(t.device)
        sigma = grid[nearest_index(grid * NUM_TRAIN_STEPS, t)]
    return TrainingTimes(t, sigma, training_weight(t, config))


def add_noise(
    clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], sigma: Float[Tensor, " b"]
) -> Float[Tensor, "b ..."]:
    """Return (1 - sigma) clean + sigma noise, one level per sample."""
    level = sigma.reshape(-1, *[1] * (clean.ndim - 1))
    return (1 - level) * clean + level * noise


def velocity_target(
    clean: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]
) -> Float[Tensor, "b ..."]:
    """The velocity that the network learns: noise - clean."""
    return noise - clean


def euler_step(
    x: Float[Tensor, "..."], velocity: Float[Tensor, "..."], sigma: float, sigma_next: float
) -> Float[Tensor, "..."]:
    """One step of the sampler: x + v (sigma_next - sigma)."""
    return x + velocity * (sigma_next - sigma)


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator whose state depends on ``parts`` alone.

    >>> seeded(0, "order", 3).initial_seed() == seeded(0, "order", 3).initial_seed()
    True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator
