"""Experts and their router."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.network.moe import MoEFFN, mix_experts
from tests.unit.model.network.dit_cases import batch, max_abs, network, rgb_only, tiny


def ffn(mode="paper") -> MoEFFN:
    return network(tiny(mode)).blocks[0].ffn


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_grouped_product_equals_a_loop_over_experts(mode):
    module = ffn(mode).double()
    x = torch.randn(2, 9, 48, dtype=torch.float64)
    weights = torch.rand(2, 9, len(module.experts()), dtype=torch.float64)
    want = sum(
        weights[..., k, None] * e.fc2(torch.nn.functional.gelu(e.fc1(x), approximate="tanh"))
        for k, e in enumerate(module.experts())
    )
    assert max_abs(mix_experts(x, weights, module.experts()), want) < 1e-12


@torch.no_grad()
def test_a_token_depends_on_itself_alone():
    module, x = ffn(), torch.randn(1, 12, 48)
    out, routing = module(x, 8, torch.ones(1))
    changed = x.clone()
    changed[:, 3:] = torch.randn(1, 9, 48)
    other, other_routing = module(changed, 8, torch.ones(1))
    assert max_abs(out[:, :3], other[:, :3]) < 1e-6
    assert max_abs(routing.logits[:, :3], other_routing.logits[:, :3]) < 1e-6
    assert torch.allclose(out[:, 8:], module.ffn_base(x)[:, 8:])  # references: shared FFN only


def test_router_input_is_detached_but_router_weights_learn_from_the_output():
    module = ffn()
    x = torch.randn(1, 6, 48, requires_grad=True)
    module.route(x).logits.sum().backward()
    assert x.grad is None
    out, _ = module(x, 6, torch.ones(1))
    out.square().sum().backward()
    assert x.grad.any()  # through the shared FFN and the experts
    assert module.router[0].weight.grad.any()


@torch.no_grad()
def test_gate_silences_experts_per_sample_and_the_router_still_speaks():
    module, x = ffn(), torch.randn(2, 6, 48)
    out, routing = module(x, 6, torch.tensor([0.0, 1.0]))
    shared = module.ffn_base(x)
    assert torch.equal(out[0], shared[0])
    assert max_abs(out[1], shared[1]) > 1e-3
    assert routing.logits.shape == (2, 6, 3)
    assert routing.logits[0].any()


@torch.no_grad()
def test_official_gate_closes_at_900_and_for_unconditional_samples():
    for mode, closed in (("official", True), ("paper", False)):
        config = tiny(mode)
        model, plain = network(config), network(config)
        for expert in (e for b in plain.blocks for e in b.ffn.experts()):
            torch.nn.init.zeros_(expert.fc2.weight)
            torch.nn.init.zeros_(expert.fc2.bias)
        inputs = rgb_only(batch(config))
        for change in (
            {"t": torch.tensor([900.0, 950.0])},
            {"is_conditional": False},
            {"is_conditional": torch.tensor([False, False])},
        ):
            given = replace(inputs, **change)
            got = model(given, attention="full").rgb_velocity
            assert torch.equal(got, plain(given, attention="full").rgb_velocity) is closed, mode
        below = replace(inputs, t=torch.tensor([899.0, 100.0]))
        assert (
            max_abs(
                model(below, attention="full").rgb_velocity,
                plain(below, attention="full").rgb_velocity,
            )
            > 1e-4
        )
    mixed = replace(inputs, is_conditional=torch.tensor([True, False]))
    assert model(mixed, attention="full").rgb_velocity.shape == inputs.rgb_latent.shape


@torch.no_grad()
def test_audio_face_mask_scales_the_audio_residual():
    config = tiny()
    model, inputs = network(config), rgb_only(batch(config))
    tokens = inputs.rgb_latent[:, 0].numel() // 2 // 4
    outs = {
        name: model(replace(inputs, audio_face_mask=mask), attention="full").rgb_velocity
        for name, mask in (
            ("none", None),
            ("ones", torch.ones(2, tokens)),
            ("zeros", torch.zeros(2, tokens)),
            ("router", "router"),
        )
    }
    silent = model(replace(inputs, audio=None), attention="full").rgb_velocity
    assert torch.equal(outs["none"], outs["ones"])
    assert torch.equal(outs["zeros"], silent)
    assert max_abs(outs["router"], outs["none"]) > 1e-4
    assert max_abs(outs["router"], outs["zeros"]) > 1e-4
