"""One training or evaluation step: noise, dropouts, forward, loss. Pure given its generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.flow import TrainingTimes, add_noise, sample_times, seeded, times_at, velocity_target
from model.network.config import ROUTER_CLASSES, DiTConfig
from model.network.inputs import Attention, DiTInputs, DiTOutputs, fit_to
from model.training.config import DropoutConfig, TrainConfig
from model.training.data import Batch
from model.training.losses import (
    LossTerms,
    ObjectiveConfig,
    Targets,
    objective,
    region_losses,
    router_classes,
)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step gives back. Counts are (right, all) tokens per router class."""

    terms: LossTerms
    router_hits: dict[str, tuple[int, int]]
    regions: dict[str, tuple[float, int]]


def attention_at(step: int, config: TrainConfig) -> Attention:
    """Stage 1 (full) for the first ``steps_full`` steps, then stage 2 (asymmetric)."""
    return "full" if step < config.steps_full else "asymmetric"


def train_step(
    model: nn.Module, batch: Batch, config: TrainConfig, step: int, rank: int = 0
) -> StepOutput:
    """Forward and loss of one training step; the caller goes backward.

    Noise levels, both streams' noise and the dropouts come from generators of their own, which depend on
    (seed, step, rank) alone: a resumed run draws the same numbers.
    """
    key = (config.seed, step, rank)
    times = sample_times(config.objective.flow, len(batch.clip_ids), seeded("times", *key))
    dropped = drop_conditions(batch, config.dropout, seeded("dropout", *key))
    noise = draw_noise(batch, key)
    return forward(model, dropped, times, noise, attention_at(step, config), config.objective)


def eval_step(
    model: nn.Module, batch: Batch, config: TrainConfig, sigma: float, attention: Attention
) -> StepOutput:
    """Loss at one fixed noise level with noise that depends on the clips alone, without dropouts."""
    t = torch.full((len(batch.clip_ids),), 1000.0 * sigma)
    times = times_at(t, config.objective.flow)
    noise = draw_noise(batch, ("eval", *batch.clip_ids, sigma))
    with torch.no_grad():
        return forward(model, batch, times, noise, attention, config.objective)


def draw_noise(batch: Batch, key: Sequence[object]) -> tuple[Tensor, Tensor]:
    """Noise of the RGB and of the HOI stream, each from its own generator."""
    rgb = torch.randn(batch.rgb.shape, generator=seeded("rgb", *key))
    hoi = torch.randn(batch.hoi.shape, generator=seeded("hoi", *key))
    return rgb.to(batch.rgb.device), hoi.to(batch.hoi.device)


def drop_conditions(batch: Batch, dropout: DropoutConfig, generator: torch.Generator) -> Batch:
    """Take conditions away: text and audio per sample, motion for the whole batch.

    All three draws are made always, so that one probability does not move another's draws.
    """
    size = len(batch.clip_ids)
    no_text = torch.rand(size, generator=generator) < dropout.text
    no_audio = torch.rand(size, generator=generator) < dropout.audio
    no_motion = bool(torch.rand(1, generator=generator) < dropout.motion)
    keep_text = (~no_text).to(batch.text.device)
    keep_audio = (~no_audio).to(batch.audio.device)
    return replace(
        batch,
        text_lens=batch.text_lens * keep_text,
        hoi_text_lens=batch.hoi_text_lens * keep_text,
        audio=batch.audio * keep_audio[:, None, None, None],
        motion=None if no_motion else batch.motion,
    )


def forward(
    model: nn.Module,
    batch: Batch,
    times: TrainingTimes,
    noise: tuple[Float[Tensor, "b c n h w"], Float[Tensor, "b c n h w"]],
    attention: Attention,
    config: ObjectiveConfig,
) -> StepOutput:
    """Denoise both streams at the same noise level and compare with the true velocities."""
    device = batch.rgb.device
    sigma, weight = times.sigma.to(device), times.weight.to(device)
    inputs = DiTInputs(
        rgb_latent=add_noise(batch.rgb, noise[0], sigma),
        t=times.t.to(device),
        text=batch.text,
        text_lens=batch.text_lens,
        audio=batch.audio,
        person_latent=batch.person,
        product_latent=batch.product,
        motion_latent=batch.motion,
        hoi_latent=add_noise(batch.hoi, noise[1], sigma),
        hoi_text=batch.hoi_text,
        hoi_text_lens=batch.hoi_text_lens,
    )
    network = _config(model)
    outputs: DiTOutputs = model(fit_to(network, inputs), attention=attention)
    has_hoi = outputs.hoi_velocity is not None
    targets = Targets(
        rgb_velocity=velocity_target(batch.rgb, noise[0]),
        hoi_velocity=velocity_target(batch.hoi, noise[1]) if has_hoi else None,
        weight=weight,
        head_mask=batch.head_mask,
        hand_mask=batch.hand_mask,
    )
    terms = objective(outputs, targets, config)
    classes = router_classes(batch.head_mask, batch.hand_mask)
    return StepOutput(
        terms,
        router_hits(outputs.router_logits, classes),
        region_losses(outputs.rgb_velocity, targets.rgb_velocity, classes, network.patch_size),
    )


@torch.no_grad()
def router_hits(
    logits: Sequence[Float[Tensor, "b n classes"]], classes: Int[Tensor, "b n"]
) -> dict[str, tuple[int, int]]:
    """Per true class: tokens whose largest mean router weight is the right one, and all tokens."""
    if not logits:
        return {}
    weights = torch.stack(list(logits)).float().softmax(dim=-1).mean(dim=0)
    right = weights.argmax(dim=-1) == classes
    return {
        name: (int(right[classes == i].sum()), int((classes == i).sum()))
        for i, name in enumerate(ROUTER_CLASSES)
    }


def _config(model: nn.Module) -> DiTConfig:
    inner: Any = getattr(model, "module", model)  # a data-parallel wrapper keeps the network there
    config: DiTConfig = inner.config
    return config
