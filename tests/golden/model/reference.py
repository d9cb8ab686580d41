"""The reference fixtures: random weights, inputs and float32 outputs of the public networks.

``HANDLOOM_GOLDEN`` may name another folder with fixtures of the same kinds; nothing here knows sizes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.network.dit import CoGenDiT, DiTInputs
from model.network.functional import sinusoid
from model.network.inputs import Attention
from model.weights.checkpoint import load_weights
from model.weights.interop import (
    cointeract_inputs,
    config_from_reference,
    wan_s2v_inputs,
    wan_t2v_inputs,
)

FOLDER = Path(os.environ.get("HANDLOOM_GOLDEN", Path(__file__).parent / "data"))
S2V, T2V, COINTERACT = "wan_s2v_tiny", "wan_t2v_tiny", "cointeract_tiny"


@dataclass(frozen=True)
class Fixture:
    name: str
    meta: dict[str, Any]
    io: dict[str, Tensor]

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.io.items() if k.startswith(prefix)}

    @property
    def weights(self) -> Path:
        return FOLDER / f"{self.name}.weights.safetensors"


@cache
def fixture(name: str) -> Fixture:
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    return Fixture(name, meta, load_file(FOLDER / f"{name}.io.safetensors"))


def cases(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())["cases"]


@cache
def network(name: str) -> CoGenDiT:
    """The fixture's network in ``official`` mode with its weights. Do not change it."""
    found = fixture(name)
    extra = {k: found.meta[k] for k in ("motion_frames", "zip_frame_buckets") if k in found.meta}
    model = CoGenDiT(config_from_reference({**found.meta["config"], **extra}))
    report = load_weights(model, [found.weights])
    assert not report.missing
    assert not report.unexpected
    return model.eval()


def batch(name: str, case: str) -> tuple[DiTInputs, Attention]:
    """Inputs of one case."""
    found = fixture(name)
    about = found.meta["cases"][case]
    if name == T2V:
        return wan_t2v_inputs(found.tensors(f"{case}/in/"))
    if name == S2V:
        given = found.tensors(f"{about.get('inputs_of', case)}/in/")
        return wan_s2v_inputs(given, drop_motion_frames=about["drop_motion_frames"])
    absent = about["inputs_not_given"]
    given = {k: v for k, v in found.tensors("in/").items() if k not in absent}
    hoi_t = about["hoi_timestep"]
    return cointeract_inputs(
        given,
        timestep=torch.tensor([about["timestep"]]),
        hoi_timestep=None if hoi_t is None else torch.tensor([hoi_t]),
        product_scale=about["product_scale"],
        drop_motion_frames=about["drop_motion_frames"],
        mutual_visible=about["mutual_visible"],
        is_conditional=about["is_conditional"],
        audio_face_mask=about["audio_face_mask"],
    )


def joint_names(name: str) -> list[tuple[str, str]]:
    """Every (case, joint) that the fixture holds."""
    found = (key.split("/mid/") for key in sorted(fixture(name).io) if "/mid/" in key)
    return [(case, joint) for case, joint in found]


@cache
@torch.no_grad()
def joints(name: str, case: str) -> dict[str, Tensor]:
    """What our network computes at every joint that some fixture knows, in the references' layout."""
    model, (inputs, attention) = network(name), batch(name, case)
    with Trace(model) as seen:
        model(inputs, attention=attention)
    now = model.embed_time(inputs.t)
    rotary = model.rgb_rotary(inputs)
    freqs = torch.stack([rotary.cos, rotary.sin], dim=-1)
    found = {
        **seen,
        "text.context": model.embed_text(inputs.text, inputs.text_lens),
        "time.e0": now.e0,
        "rope.cos": rotary.cos[0],
        "rope.sin": rotary.sin[0],
        "rope.freqs": freqs,
    }
    if name == T2V:
        return found
    # with references and motion, whose time is 0, the time is embedded for both
    both = torch.cat([inputs.t, torch.zeros(1)])
    embedded = model.embed_time(both)
    found |= {
        "time.sinusoid": sinusoid(both, model.config.freq_dim),
        "time.e": embedded.e,
        "time.e0": embedded.e0,
    }
    if (audio := model.embed_audio(inputs)) is not None:
        found |= {"audio.local": audio.local, "audio.global": audio.summary[:, :, None]}
    if inputs.hoi_latent is not None:
        hoi = model.hoi_rotary(inputs.hoi_latent)
        own = torch.stack([hoi.cos, hoi.sin], dim=-1)
        found["rope.freqs"] = torch.cat([freqs[0], own[0]])
    return found


class Trace:
    """Token streams at the network's joints during one forward, joined as the references join them."""

    def __init__(self, model: CoGenDiT) -> None:
        self.seen: dict[str, Tensor] = {}
        self.hooks = []
        for i, block in enumerate(model.blocks):
            self.hooks.append(block.register_forward_hook(self._block(i)))
            self.hooks.append(block.register_forward_pre_hook(self._before(i)))
        self.hooks.append(model.head.register_forward_pre_hook(self._head("head.in")))
        if model.config.hoi_branch:
            self.hooks.append(
                model.depth_head.register_forward_pre_hook(self._head("depth_head.in"))
            )

    def _block(self, i):
        def hook(_, __, out):
            self.seen[f"block{i}.out"] = _joined(out[0], out[1])

        return hook

    def _before(self, i):
        def hook(_, args):
            name = "tokens.in" if i == 0 else f"block{i - 1}.out_after_audio"
            self.seen[name] = _joined(args[0], args[1])

        return hook

    def _head(self, name):
        def hook(_, args):
            self.seen[name] = args[0]

        return hook

    def __enter__(self) -> dict[str, Tensor]:
        return self.seen

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


def _joined(rgb: Tensor, hoi: Tensor | None) -> Tensor:
    return rgb if hoi is None else torch.cat([rgb, hoi], dim=1)


def max_abs(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())
