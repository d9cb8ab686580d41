"""Wan2.2 speech-to-video and text-to-video backbones: float32 parity with the public code."""

from __future__ import annotations

import pytest
import torch

from model.weights.names import from_own, to_own
from tests.golden.model.reference import S2V, T2V, Trace, batch, cases, fixture, max_abs, network

S2V_TOLERANCE = fixture(S2V).meta["tolerance"]["float32_max_abs"]
ROPE_TOLERANCE = fixture(S2V).meta["tolerance"]["rope_max_abs"]
T2V_TOLERANCE = fixture(T2V).meta["tolerance"]["float32_max_abs"]


@pytest.mark.parametrize("case", cases(S2V))
@torch.no_grad()
def test_s2v_output_and_every_joint(case):
    inputs, attention = batch(S2V, case)
    with Trace(network(S2V)) as seen:
        out = network(S2V)(inputs, attention=attention)
    assert max_abs(out.rgb_velocity, fixture(S2V).io[f"{case}/out"]) <= S2V_TOLERANCE
    for name, expected in fixture(S2V).tensors(f"{case}/mid/").items():
        if name in seen:
            assert max_abs(seen[name], expected) <= S2V_TOLERANCE, name


def test_s2v_trace_names_occur_in_the_fixture():
    joints = {"tokens.in", "block0.out", "block0.out_after_audio", "head.in"}
    assert joints <= set(fixture(S2V).tensors("with_motion/mid/"))


@torch.no_grad()
def test_s2v_embeddings():
    model, expected = network(S2V), fixture(S2V).tensors("with_motion/mid/")
    inputs, _ = batch(S2V, "with_motion")
    now, still = model.embed_time(inputs.t), model.embed_time(torch.zeros(1))
    audio = model.embed_audio(inputs)
    assert max_abs(torch.cat([now.e, still.e]), expected["time.e"]) <= S2V_TOLERANCE
    assert max_abs(torch.cat([now.e0, still.e0]), expected["time.e0"]) <= S2V_TOLERANCE
    text = model.embed_text(inputs.text, inputs.text_lens)
    assert max_abs(text, expected["text.context"]) <= S2V_TOLERANCE
    assert max_abs(audio.local, expected["audio.local"]) <= S2V_TOLERANCE
    assert max_abs(audio.summary[:, :, None], expected["audio.global"]) <= S2V_TOLERANCE


@pytest.mark.parametrize("case", ["with_motion", "first_clip"])
def test_s2v_rope(case):
    rotary = network(S2V).rgb_rotary(batch(S2V, case)[0])
    got = torch.stack([rotary.cos, rotary.sin], dim=-1)
    assert max_abs(got, fixture(S2V).io[f"{case}/mid/rope.freqs"]) <= ROPE_TOLERANCE


@pytest.mark.parametrize("last", [0, 1, 2])
@torch.no_grad()
def test_frame_packer_keeps_bias_tokens_in_official_mode(last):
    inputs, _ = batch(S2V, "with_motion")
    tokens = network(S2V).frame_packer(inputs.motion_latent, last)
    expected = fixture(S2V).io[f"frame_packer/add_last_motion_{last}/tokens"]
    assert max_abs(tokens, expected) <= S2V_TOLERANCE


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
    with Trace(network(T2V)) as seen:
        out = network(T2V)(inputs, attention=attention).rgb_velocity
    assert max_abs(out, io[f"{case}/out_wan"]) <= T2V_TOLERANCE
    assert max_abs(out, io[f"{case}/out"]) <= 1e-4  # diffusers builds the sinusoid in float32
    for name, expected in fixture(T2V).tensors(f"{case}/mid/").items():
        if name in seen:
            assert max_abs(seen[name], expected) <= 1e-4, name


def test_diffusers_names_translate_both_ways():
    key_map = fixture(T2V).meta["key_map"]
    assert len(key_map) == len(network(T2V).state_dict())
    for wan, diffusers in key_map.items():
        assert from_own(wan, naming="diffusers") == diffusers
        assert to_own(diffusers, naming="diffusers") == wan


@pytest.mark.parametrize("case", cases(T2V))
def test_t2v_rope(case):
    rotary = network(T2V).rgb_rotary(batch(T2V, case)[0])
    io = fixture(T2V).io
    assert max_abs(rotary.cos[0], io[f"{case}/mid/rope.cos"]) <= ROPE_TOLERANCE
    assert max_abs(rotary.sin[0], io[f"{case}/mid/rope.sin"]) <= ROPE_TOLERANCE
