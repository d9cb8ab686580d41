"""Initial weights: Wan's for the backbone, zero for whatever must start as no change.

Source: Wan2.2 wan/modules/model.py and s2v/model_s2v.py ``init_weights``; CoInteract moe_ffn.py.
"""

from __future__ import annotations

import torch
from torch import nn

from model.audio import AudioInjector
from model.functional import PatchEmbedding
from model.moe import Expert


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Initialise a new model in place from torch's global generator.

    New experts, audio injection, pose encoder and type embeddings start as no change; the HOI branch
    starts as a copy of its RGB counterpart. On the meta device this costs nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbedding):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(module.bias)
    for name in ("text_embedding", "time_embedding"):
        for module in model.get_submodule(name).children():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
    nn.init.zeros_(model.get_parameter("head.head.weight"))
    _zero_new_parts(model)
    copy_hoi_branch(model)


@torch.no_grad()
def _zero_new_parts(model: nn.Module) -> None:
    for name in ("cond_encoder", "trainable_cond_mask"):
        for parameter in getattr(model, name, nn.Module()).parameters():
            nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, Expert):
            nn.init.kaiming_uniform_(module.fc1.weight, a=5**0.5)
            nn.init.zeros_(module.fc2.weight)
        elif isinstance(module, AudioInjector):
            for name, parameter in module.named_parameters():
                if ".o." in name or ".linear." in name:
                    nn.init.zeros_(parameter)


@torch.no_grad()
def copy_hoi_branch(model: nn.Module) -> None:
    """Copy patch embedding, head and modulation to the HOI branch; its type embedding becomes zero.

    Does nothing to a model without HOI branch. Call it after loading backbone weights.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if "depth_cond_mask" in name:
            nn.init.zeros_(parameter)
        elif "depth_" in name:
            parameter.copy_(parameters[name.replace("depth_", "")])
