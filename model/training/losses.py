"""Training objective: flow losses of both streams, supervision of the routers, loss per region.

L = w(t) L_rgb + lambda_h w(t) L_hoi + eta L_route                       paper equations 1, 2, 6, 7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from einops import rearrange
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from model.flow import FlowConfig
from model.network.config import ROUTER_CLASSES, Mode
from model.network.inputs import DiTOutputs
from schemas.base import Model
from schemas.errors import ConfigError

BASE, HAND, HEAD = (ROUTER_CLASSES.index(name) for name in ("base", "hand", "head"))


class RouterWeights(Model):
    """Weight of a token's cross-entropy by the token's true class."""

    base: float = Field(default=1.0, ge=0)
    hand: float = Field(default=10.0, ge=0)
    head: float = Field(default=10.0, ge=0)


class ObjectiveConfig(Model):
    """Weights of the loss terms and the distribution of timesteps.

    Args:
        flow: Timesteps and their weights.
        lambda_hoi: Weight of the HOI flow loss.
        eta_router: Weight of the router loss (mean over tokens and blocks).
        router: Class weights of the router loss.
    """

    flow: FlowConfig = Field(default_factory=FlowConfig)
    lambda_hoi: float = Field(default=1.0, ge=0)
    eta_router: float = Field(default=1.0, ge=0)
    router: RouterWeights = Field(default_factory=RouterWeights)

    @classmethod
    def for_mode(cls, mode: Mode) -> ObjectiveConfig:
        """``paper``: 1 and 1. ``official``: 0.5 and 0.05, with the published timestep weights."""
        flow = FlowConfig.for_mode(mode)
        if mode == "official":
            return cls(flow=flow, lambda_hoi=0.5, eta_router=0.05)
        return cls(flow=flow)


@dataclass(frozen=True, slots=True)
class Targets:
    """What one batch should have predicted.

    Attributes:
        rgb_velocity: noise - clean of the RGB stream.
        hoi_velocity: noise - clean of the HOI stream, or None without it.
        weight: w(t) per sample.
        head_mask: Target tokens inside a head box, or None when boxes are not annotated.
        hand_mask: Target tokens inside a hand box; given together with ``head_mask``.
    """

    rgb_velocity: Float[Tensor, "b c t h w"]
    hoi_velocity: Float[Tensor, "b c th h w"] | None
    weight: Float[Tensor, " b"]
    head_mask: Bool[Tensor, "b n"] | None = None
    hand_mask: Bool[Tensor, "b n"] | None = None


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and its terms before their factors; None for a term that the network has no part for."""

    total: Float[Tensor, ""]
    rgb: Float[Tensor, ""]
    hoi: Float[Tensor, ""] | None
    router: Float[Tensor, ""] | None

    def present(self) -> dict[str, Float[Tensor, ""]]:
        """Terms by name, without the total."""
        named = {"rgb": self.rgb, "hoi": self.hoi, "router": self.router}
        return {name: term for name, term in named.items() if term is not None}


def objective(outputs: DiTOutputs, targets: Targets, config: ObjectiveConfig) -> LossTerms:
    """Combine all loss terms. ``rgb`` and ``hoi`` include w(t); ``router`` is the mean over blocks.

    Raises:
        ConfigError: One side has an HOI stream and the other has not, or masks do not fit.
    """
    rgb = flow_loss(outputs.rgb_velocity, targets.rgb_velocity, targets.weight)
    hoi = router = None
    total = rgb
    if (outputs.hoi_velocity is None) != (targets.hoi_velocity is None):
        raise ConfigError("the HOI velocity is predicted but has no target, or the reverse")
    if outputs.hoi_velocity is not None and targets.hoi_velocity is not None:
        hoi = flow_loss(outputs.hoi_velocity, targets.hoi_velocity, targets.weight)
        total = total + config.lambda_hoi * hoi
    if outputs.router_logits and targets.head_mask is not None:
        if targets.hand_mask is None:
            raise ConfigError(
                "head_mask is given without hand_mask: an absent hand box is all False"
            )
        classes = router_classes(targets.head_mask, targets.hand_mask)
        router = router_loss(outputs.router_logits, classes, config.router)
        total = total + config.eta_router * router
    return LossTerms(total, rgb, hoi, router)


def flow_loss(
    predicted: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."], weight: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Mean over samples of weight * mean squared error, in float32."""
    if predicted.shape != target.shape:
        raise ConfigError(
            f"prediction {tuple(predicted.shape)} and target {tuple(target.shape)} differ"
        )
    error = (predicted.float() - target.float()).square().flatten(1).mean(dim=1)  # (b)
    return (error * weight).mean()


def router_classes(head: Bool[Tensor, "b n"], hand: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """True class per token in ``ROUTER_CLASSES`` order: hand before head before base."""
    classes = torch.full(head.shape, BASE, dtype=torch.int64, device=head.device)
    classes = classes.masked_fill(head.bool(), HEAD)
    return classes.masked_fill(hand.bool(), HAND)


def router_loss(
    logits: Sequence[Float[Tensor, "b n classes"]],
    classes: Int[Tensor, "b n"],
    weights: RouterWeights,
) -> Float[Tensor, ""]:
    """Class-weighted cross-entropy: mean over tokens (not over weights), then over blocks.

    Raises:
        ConfigError: No logits, or another number of tokens than classes.
    """
    if not logits or logits[0].shape[:2] != classes.shape:
        got = tuple(logits[0].shape) if logits else "no blocks"
        raise ConfigError(f"router logits {got} do not fit classes of shape {tuple(classes.shape)}")
    table = torch.tensor([getattr(weights, name) for name in ROUTER_CLASSES], device=classes.device)
    token_weight = table[classes].flatten()
    stacked = torch.stack(list(logits)).float()  # (blocks, b, n, classes)
    flat = rearrange(stacked, "k b n c -> k c (b n)")
    truth = classes.flatten().expand(len(stacked), -1)
    entropy = nnf.cross_entropy(flat, truth, reduction="none")  # (blocks, b n)
    return (entropy * token_weight).mean(dim=1).mean()


@torch.no_grad()
def router_accuracy(
    logits: Sequence[Float[Tensor, "b n classes"]], classes: Int[Tensor, "b n"]
) -> dict[str, float]:
    """Mean weight that routers give to the right class, per class; 0 for a class with no token."""
    weights = torch.stack(list(logits)).float().softmax(dim=-1).mean(dim=0)  # (b, n, classes)
    right = weights.gather(-1, classes[..., None])[..., 0]
    return {
        name: float(right[classes == index].mean()) if bool((classes == index).any()) else 0.0
        for index, name in enumerate(ROUTER_CLASSES)
    }


@torch.no_grad()
def region_losses(
    predicted: Float[Tensor, "b c t h w"],
    target: Float[Tensor, "b c t h w"],
    classes: Int[Tensor, "b n"],
    patch: tuple[int, int, int],
) -> dict[str, tuple[float, int]]:
    """Mean squared error of the RGB velocity per region, with the number of tokens behind it.

    Sums weighted by token counts can be added over batches and ranks.

    Args:
        predicted: Predicted velocity.
        target: True velocity.
        classes: True class per target token.
        patch: Patch size (time, height, width).

    Returns:
        Region -> (mean squared error, tokens); a region without tokens has error 0.
    """
    error = (predicted.float() - target.float()).square().mean(dim=1)  # (b, t, h, w)
    pt, ph, pw = patch
    cells = rearrange(
        error, "b (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw)", pt=pt, ph=ph, pw=pw
    ).mean(dim=-1)  # (b, n)
    report: dict[str, tuple[float, int]] = {}
    for index, name in enumerate(ROUTER_CLASSES):
        inside = cells[classes == index]
        report[name] = (float(inside.mean()) if inside.numel() else 0.0, inside.numel())
    return report
