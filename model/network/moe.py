"""The human-aware feed-forward network: a shared FFN plus small experts for head, hand (and base).

Dropless and soft: every expert sees every target token and a token's output depends on that token
alone, so no capacity limit, no sorting, and no coupling of neighbours or streams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.network.config import ROUTER_CLASSES, DiTConfig, ExpertName

EXPERT_MODULES: dict[ExpertName, str] = {
    "head": "face_expert",
    "hand": "hand_expert",
    "base": "base_expert",
}
"""Expert -> module name; the published code says ``face`` where the paper says ``head``."""


@dataclass(frozen=True, slots=True)
class Routing:
    """What a router said about the target tokens, in ``ROUTER_CLASSES`` order."""

    logits: Float[Tensor, "b n classes"]
    weights: Float[Tensor, "b n classes"]


class FeedForward(nn.Sequential):
    """Linear, GELU (tanh form), Linear; parameters ``0`` and ``2``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the input is taken."""
        return next(self.parameters()).dtype

    def forward(self, x: Tensor) -> Tensor:
        """Apply to every token."""
        x = x.to(self.dtype)
        for layer in self:
            x = layer(x)
        return x


class Expert(nn.Module):
    """Holds one expert's weights. ``fc2`` starts at zero so that a new expert changes nothing."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)


def mix_experts(
    x: Float[Tensor, "b n d"], weights: Float[Tensor, "b n k"], experts: list[Expert]
) -> Float[Tensor, "b n d"]:
    """Return the sum over k of weights_k * expert_k(x), as one pair of matrix products.

    The experts' hidden layers stand side by side; the router weight scales each block of the hidden
    layer, so the second product also does the sum: sum_k w_k (W2_k a_k + b2_k) = [W2_1 .. W2_K][w_k a_k]
    + w B2.
    """
    w1 = torch.cat([e.fc1.weight for e in experts])  # (k h, d)
    b1 = torch.cat([e.fc1.bias for e in experts])  # (k h)
    w2 = torch.cat([e.fc2.weight for e in experts], dim=1)  # (d, k h)
    b2 = torch.stack([e.fc2.bias for e in experts])  # (k, d)
    hidden = nnf.gelu(nnf.linear(x, w1, b1), approximate="tanh")  # (b, n, k h)
    weights = weights.to(hidden.dtype)
    scaled = (
        rearrange(hidden, "b n (k h) -> b n k h", k=len(experts)) * weights[..., None]
    )  # (b, n, k, h)
    return nnf.linear(scaled.flatten(-2), w2) + weights @ b2.to(weights.dtype)


class MoEFFN(nn.Module):
    """FFN(x) for every token, plus routed experts for target tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, classes = config.dim, len(ROUTER_CLASSES)
        self.ffn_base = FeedForward(dim, config.ffn_dim)
        self.router = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.SiLU(),
            nn.LayerNorm(dim // 2, eps=config.router_eps),
            nn.Linear(dim // 2, classes),
        )
        for name in config.experts:
            self.add_module(EXPERT_MODULES[name], Expert(dim, config.expert_hidden_dim))
        self.expert_names = config.experts
        self.expert_classes = [ROUTER_CLASSES.index(name) for name in config.experts]

    def experts(self) -> list[Expert]:
        """The experts in the order of the configuration."""
        modules = [self.get_submodule(EXPERT_MODULES[name]) for name in self.expert_names]
        return [m for m in modules if isinstance(m, Expert)]

    def route(self, x: Float[Tensor, "b n d"]) -> Routing:
        """Classify tokens from detached features; the router's own weights still receive gradient."""
        logits = self.router(x.detach()).float()
        return Routing(logits, logits.softmax(dim=-1))

    def forward(
        self, x: Float[Tensor, "b n d"], num_target: int, gate: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b n d"], Routing]:
        """Apply the shared FFN to all tokens and the experts to the first ``num_target``.

        Args:
            x: Modulated tokens of the RGB stream, target first.
            num_target: Number of target tokens.
            gate: 1 where experts count, 0 where they are silenced; the router still speaks.
        """
        x = x.to(self.ffn_base.dtype)
        target = x[:, :num_target]
        routing = self.route(target)
        weights = routing.weights[..., self.expert_classes] * gate[:, None, None]  # (b, n, k)
        shared = self.ffn_base(x)
        mixed = shared[:, :num_target] + mix_experts(target, weights, self.experts())
        return torch.cat([mixed, shared[:, num_target:]], dim=1), routing
