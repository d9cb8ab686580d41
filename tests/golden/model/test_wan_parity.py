"""Wan2.2 speech-to-video and text-to-video backbones: float32 parity with the public code."""

from __future__ import annotations

import pytest
import torch

from model.weights.names import from_own, to_own
from tests.golden.model.reference import (
    S2V,
    T2V,
    batch,
    cases,
    fixture,
    joint_names,
    joints,
    max_abs,
    network,
)

S2V_TOLERANCE = fixture(S2V).meta["tolerance"]["float32_max_abs"]
ROPE_TOLERANCE = fixture(S2V).meta["tolerance"]["rope_max_abs"]
T2V_TOLERANCE = fixture(T2V).meta["tolerance"]["float32_max_abs"]


@pytest.mark.parametrize("case", cases(S2V))
@torch.no_grad()
def test_s2v_output(case):
    inputs, attention = batch(S2V, case)
    out = network(S2V)(inputs, attention=attention)
    assert max_abs(out.rgb_velocity, fixture(S2V).io[f"{case}/out"]) <= S2V_TOLERANCE


@pytest.mark.parametrize(("case", "joint"), joint_names(S2V))
def test_s2v_joint(case, joint):
    limit = ROPE_TOLERANCE if joint.startswith("rope.") else S2V_TOLERANCE
    assert max_abs(joints(S2V, case)[joint], fixture(S2V).io[f"{case}/mid/{joint}"]) <= limit


PACKED = sorted({key.split("/")[1] for key in fixture(S2V).io if key.startswith("frame_packer/")})


@pytest.mark.parametrize("case", PACKED)
@torch.no_grad()
def test_frame_packer_keeps_bias_tokens_in_official_mode(case):
    inputs, _ = batch(S2V, "with_motion")
    last = int(case.removeprefix("add_last_motion_"))
    model, expected = network(S2V), fixture(S2V).tensors(f"frame_packer/{case}/")
    tokens = model.frame_packer(inputs.motion_latent, last)
    assert max_abs(tokens, expected["tokens"]) <= S2V_TOLERANCE
    own = model.rgb_rotary(inputs)
    rope = torch.stack([own.cos, own.sin], dim=-1)[:, -tokens.shape[1] :]  # motion comes last
    assert max_abs(rope, expected["rope"]) <= ROPE_TOLERANCE


def test_eps_values_are_those_of_the_reference():
    config, eps = network(S2V).config, fixture(S2V).meta["eps"]
    assert config.eps == eps["block layer norms"] == eps["head layer norm"]
    assert config.audio_eps == eps["audio encoder layer norms"]
    assert config.adain_eps == eps["audio adaptive layer norm"]
    norm = network(S2V).blocks[0].self_attn.norm_q
    assert norm.eps == eps["qk rms norm (over the full width)"]
    assert norm.normalized_shape == (config.dim,)
    assert network(S2V).audio_injector.injector_adain_layers[0].eps == config.adain_eps


@pytest.mark.parametrize("case", cases(T2V))
@torch.no_grad()
def test_t2v_against_wan_and_diffusers(case):
    inputs, attention = batch(T2V, case)
    io = fixture(T2V).io
    out = network(T2V)(inputs, attention=attention).rgb_velocity
    assert max_abs(out, io[f"{case}/out_wan"]) <= T2V_TOLERANCE
    assert max_abs(out, io[f"{case}/out"]) <= 1e-4  # diffusers builds the sinusoid in float32


@pytest.mark.parametrize(("case", "joint"), joint_names(T2V))
def test_t2v_joint(case, joint):
    limit = ROPE_TOLERANCE if joint.startswith("rope.") else 1e-4
    assert max_abs(joints(T2V, case)[joint], fixture(T2V).io[f"{case}/mid/{joint}"]) <= limit


def test_diffusers_names_translate_both_ways():
    key_map = fixture(T2V).meta["key_map"]
    assert len(key_map) == len(network(T2V).state_dict())
    for wan, diffusers in key_map.items():
        assert from_own(wan, naming="diffusers") == diffusers
        assert to_own(diffusers, naming="diffusers") == wan
