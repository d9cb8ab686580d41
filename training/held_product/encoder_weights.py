"""ImageNet weights for the encoder of the held-product network, under either of their names."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from stages.product.held_net import HeldNet

_OLD_FIRST_BLOCK = {0: "0.0", 1: "0.1", 3: "1", 4: "2"}
_OLD_BLOCK = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}
"""Where the older names, which count all layers of a block in one row, find their place today."""


def load_encoder(net: HeldNet, path: Path) -> None:
    """ImageNet weights, under torchvision's names or the older ones (``features.N.conv.3`` for ``conv.1.0``).

    Raises:
        ValueError: They do not fit.
    """
    found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - theirs is no other
    own = net.state_dict()
    places = _places_of_features()
    loaded, is_old = 0, "features.1.conv.3.weight" in found
    for name, value in found.items():
        new = _renamed(name, is_old=is_old)
        match = re.fullmatch(r"features\.(\d+)\.(.*)", new)
        if not match or int(match[1]) not in places:
            continue
        key = f"{places[int(match[1])]}.{match[2]}"
        if key in own and own[key].shape == value.shape:
            own[key].copy_(value)
        else:
            raise ValueError(f"{path}: {name} does not fit")
        loaded += 1
    if loaded < 0.9 * sum(k.startswith("encoder.") for k in own if not k.endswith("tracked")):
        raise ValueError(f"{path}: only {loaded} of the encoder's arrays are there")
    net.load_state_dict(own)


def _places_of_features() -> dict[int, str]:
    from stages.product.held_net import _STAGES

    return {n: f"encoder.{i}.{n}" for i, (a, b) in enumerate(_STAGES) for n in range(a, b)}


def _renamed(name: str, *, is_old: bool) -> str:
    match = re.fullmatch(r"features\.(\d+)\.conv\.(\d+)\.(\D.*)", name)
    if not match or not is_old:
        return name
    block, place = int(match[1]), int(match[2])
    old = _OLD_FIRST_BLOCK if block == 1 else _OLD_BLOCK
    return f"features.{block}.conv.{old[place]}.{match[3]}" if place in old else name
