"""Initial weights: Wan's for the backbone, zero for whatever must start as no change.

Source: Wan2.2 wan/modules/model.py and s2v/model_s2v.py ``init_weights``; CoInteract moe_ffn.py.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

_ZERO = (
    "head.head.weight",
    "cond_encoder.",
    "cond_mask.",
    "padding_tokens",
    ".o.weight",
    ".fc2.weight",
    "injector_adain_layers.",
)
"""Parts that start as no change: output, pose, types, audio injection, experts."""


@torch.no_grad()
def initialise(model: nn.Module, names: Collection[str] | None = None) -> None:
    """Initialise parameters in place from torch's global generator; on the meta device, nothing.

    The HOI branch becomes a copy of its RGB counterpart, hence call it again for new parts after
    backbone weights are loaded.

    Args:
        model: A ``CoGenDiT``.
        names: Parameters to initialise; None means all.
    """
    parameters = dict(model.named_parameters())
    chosen = parameters if names is None else {name: parameters[name] for name in names}
    for name, parameter in chosen.items():
        if not parameter.is_meta:
            _initialise(name, parameter)
    for name, parameter in chosen.items():
        twin = hoi_twin(name)
        if twin is not None and not parameter.is_meta:
            parameter.copy_(parameters[twin])


def hoi_twin(name: str) -> str | None:
    """Name of the RGB parameter that an HOI parameter starts as a copy of.

    >>> hoi_twin("blocks.3.depth_modulation"), hoi_twin("depth_cond_mask.weight")
    ('blocks.3.modulation', None)
    """
    if "depth_" not in name or "depth_cond_mask" in name:
        return None
    return name.replace("depth_", "")


def _initialise(name: str, x: Float[Tensor, "..."]) -> None:
    """One rule per parameter name, the first that fits."""
    self_or_cross = name.startswith("blocks.") and ".o.weight" in name
    if name.endswith("bias") or (not self_or_cross and any(part in name for part in _ZERO)):
        nn.init.zeros_(x)
    elif name.endswith("modulation"):
        nn.init.normal_(x, std=x.shape[-1] ** -0.5)
    elif name == "casual_audio_encoder.weights":
        nn.init.constant_(x, 0.01)
    elif x.ndim == 1:  # norm weights
        nn.init.ones_(x)
    elif name.startswith(("text_embedding", "time_embedding")):
        nn.init.normal_(x, std=0.02)
    elif ".fc1." in name or ".conv." in name:
        nn.init.kaiming_uniform_(x, a=5**0.5)
    else:
        nn.init.xavier_uniform_(x.flatten(1))
