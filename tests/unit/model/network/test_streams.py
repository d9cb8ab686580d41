"""What the two streams may know of each other. Laws i to vi and ix of the method's exactness list."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.network.attention import QKV, co_attend
from model.network.config import RGB_SEGMENTS, preset
from model.network.dit import CoGenDiT
from model.weights.checkpoint import COGEN_PARTS, load_weights, save_weights
from tests.unit.model.network.dit_cases import batch, max_abs, network, rgb_only, tiny

MODES = ["paper", "official"]


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_rgb_alone_equals_the_rgb_half_bit_for_bit(mode):
    config = tiny(mode)
    model, inputs = network(config), batch(config)
    dual = model(inputs, attention="asymmetric")
    alone = model(rgb_only(inputs), attention="asymmetric")
    assert torch.equal(dual.rgb_velocity, alone.rgb_velocity)
    assert all(map(torch.equal, dual.router_logits, alone.router_logits))
    assert alone.hoi_velocity is None


@pytest.mark.slow
@torch.no_grad()
def test_rgb_alone_equals_the_rgb_half_at_the_smoke_size_and_more_tokens():
    config = preset("smoke")
    model = network(config)
    inputs = batch(config, size=1, frames=5, edge=16)
    dual = model(inputs, attention="asymmetric").rgb_velocity
    assert torch.equal(dual, model(rgb_only(inputs), attention="asymmetric").rgb_velocity)


def perturbed(model, inputs):
    """Every way to change the HOI side: input, prompt, timestep, length, parameters."""
    yield "latent", model, replace(inputs, hoi_latent=inputs.hoi_latent * 3 + 1)
    yield "prompt", model, replace(inputs, hoi_text=inputs.hoi_text - 2)
    yield "t", model, replace(inputs, hoi_t=inputs.hoi_t + 123)
    yield "frames", model, replace(inputs, hoi_latent=inputs.hoi_latent[:, :, :2])
    other = CoGenDiT(model.config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "depth_" in name:
                parameter.add_(0.5)
    yield "parameters", other, inputs


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_rgb_ignores_every_change_of_hoi_under_asymmetric_attention(mode):
    config = tiny(mode)
    model, inputs = network(config), batch(config)
    before = model(inputs, attention="asymmetric")
    for what, changed_model, changed in perturbed(model, inputs):
        after = changed_model(changed, attention="asymmetric")
        assert torch.equal(before.rgb_velocity, after.rgb_velocity), what
        if what == "t" and mode == "official":
            continue  # reaches the HOI head alone, but it does reach it
        assert what == "frames" or max_abs(before.hoi_velocity, after.hoi_velocity) > 1e-3, what


@torch.no_grad()
def test_stage_one_fails_the_same_law():
    config = tiny()
    model, inputs = network(config), batch(config)
    before = model(inputs, attention="full").rgb_velocity
    for what, changed_model, changed in perturbed(model, inputs):
        after = changed_model(changed, attention="full").rgb_velocity
        assert max_abs(before, after) > 1e-4, what


def test_gradient_of_rgb_with_respect_to_hoi_is_exactly_zero():
    config = tiny()
    model, inputs = network(config), batch(config)
    inputs = replace(inputs, hoi_latent=inputs.hoi_latent.requires_grad_())
    model(inputs, attention="asymmetric").rgb_velocity.square().sum().backward()
    assert inputs.hoi_latent.grad is None or not inputs.hoi_latent.grad.any()
    for name, parameter in model.named_parameters():
        if "depth_" in name:
            assert parameter.grad is None or not parameter.grad.any(), name
    assert model.blocks[0].self_attn.k.weight.grad.any()


def test_hoi_loss_reaches_shared_weights_and_rgb_keys():
    config = tiny()
    model, inputs = network(config), batch(config)
    inputs = replace(inputs, rgb_latent=inputs.rgb_latent.requires_grad_())
    keys, values = [], []
    attention = model.blocks[-1].self_attn
    for layer, seen in ((attention.k, keys), (attention.v, values)):
        layer.register_forward_hook(
            lambda _, __, out, seen=seen: seen.append(out.retain_grad() or out)
        )
    model(inputs, attention="asymmetric").hoi_velocity.square().sum().backward()
    assert len(keys) == len(values) == 2  # RGB and HOI: projected once each
    assert keys[0].grad.any()
    assert values[0].grad.any()
    assert inputs.rgb_latent.grad.any()
    shared = ("self_attn.k", "self_attn.v", "ffn.ffn_base.0", "cross_attn.q")
    for name in shared:
        assert model.blocks[0].get_submodule(name).weight.grad.any(), name


def dense_oracle(rgb, hoi, attention, visible):
    """The rule as a dense mask over the concatenation; rows are queries."""
    if hoi is None:
        return co_attend(rgb, None, attention, visible)
    num, total = rgb.q.shape[1], rgb.q.shape[1] + hoi.q.shape[1]
    mask = torch.zeros(total, total, dtype=torch.bool)
    mask[:num, :num] = True
    mask[num:, num:] = True
    for run in visible:
        mask[num:, run] = True
    if attention == "full":
        mask[:] = True
    q, k, v = (torch.cat([getattr(rgb, n), getattr(hoi, n)], dim=1).transpose(1, 2) for n in "qkv")
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return out[:, :num], out[:, num:]


@pytest.mark.parametrize("attention", ["full", "asymmetric"])
@pytest.mark.parametrize("visible", [(slice(0, 13),), (slice(0, 6), slice(8, 11))])
def test_two_calls_equal_the_dense_mask_in_double(attention, visible):
    source = torch.Generator().manual_seed(3)
    rgb, hoi = (
        QKV(*torch.randn(3, 2, n, 2, 8, generator=source, dtype=torch.float64).unbind())
        for n in (13, 5)
    )
    for got, want in zip(
        co_attend(rgb, hoi, attention, visible),
        dense_oracle(rgb, hoi, attention, visible),
        strict=True,
    ):
        assert max_abs(got, want) < 1e-13


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("attention", ["full", "asymmetric"])
@torch.no_grad()
def test_network_equals_the_dense_mask_oracle(mode, attention):
    config = tiny(mode)
    model, inputs = network(config), batch(config)
    got = model(inputs, attention=attention)
    for block in model.blocks:
        block.co_attend = dense_oracle
    want = model(inputs, attention=attention)
    assert max_abs(got.rgb_velocity, want.rgb_velocity) < 1e-5
    assert max_abs(got.hoi_velocity, want.hoi_velocity) < 1e-5


@torch.no_grad()
def test_official_kv_set_hides_person_and_motion_from_hoi():
    for mode, sees in (("official", False), ("paper", True)):
        config = tiny(mode, num_layers=1, audio_inject_layers=())
        model, inputs = network(config), replace(batch(config), audio=None)
        before = model(inputs, attention="asymmetric").hoi_velocity
        for name in ("person_latent", "motion_latent"):
            after = model(
                replace(inputs, **{name: getattr(inputs, name) + 1}), attention="asymmetric"
            ).hoi_velocity
            assert (max_abs(before, after) > 0) is sees, (mode, name)
        after = model(
            replace(inputs, product_latent=inputs.product_latent + 1), attention="asymmetric"
        ).hoi_velocity
        assert max_abs(before, after) > 0
    assert tiny("paper").hoi_visible == RGB_SEGMENTS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("attention", ["asymmetric"])
@torch.no_grad()
def test_new_parts_leave_the_base_model_untouched_at_step_zero(tmp_path, mode, attention):
    config = tiny(mode)
    base_config = config.replace(hoi_branch=False, experts=())
    base = network(base_config)
    save_weights(base, tmp_path / "base.safetensors")
    torch.manual_seed(5)
    full = CoGenDiT(config).eval()
    report = load_weights(full, [tmp_path / "base.safetensors"], allow_missing=COGEN_PARTS)
    assert len(report.missing) == len(full.state_dict()) - len(base.state_dict())
    inputs = batch(config)
    expected = base(rgb_only(inputs), attention=attention).rgb_velocity
    assert torch.equal(full(inputs, attention=attention).rgb_velocity, expected)
    for twin in (
        "depth_patch_embedding.weight",
        "depth_head.modulation",
        "blocks.1.depth_modulation",
    ):
        original = base.get_parameter(twin.replace("depth_", ""))
        assert torch.equal(full.get_parameter(twin), original), twin


def test_recomputed_blocks_give_the_same_loss_and_gradients():
    config = tiny()
    inputs, gradients = batch(config), []
    for recompute in (False, True):
        model = network(config)
        model.checkpoint_blocks = recompute
        out = model(inputs, attention="full")
        loss = out.rgb_velocity.square().mean() + out.hoi_velocity.square().mean()
        (loss + sum(logits.square().mean() for logits in out.router_logits)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert max_abs(gradient, gradients[1][name]) < 1e-6, name


@torch.no_grad()
def test_samples_of_a_batch_do_not_touch_each_other():
    config = tiny()
    model, inputs = network(config), batch(config, size=2)
    one = batch(config, size=2)
    changed = replace(one, rgb_latent=one.rgb_latent.clone(), t=torch.tensor([120.0, 999.0]))
    changed.rgb_latent[1] += 1
    first = model(inputs, attention="full")
    second = model(changed, attention="full")
    assert torch.equal(first.rgb_velocity[0], second.rgb_velocity[0])
    assert max_abs(first.rgb_velocity[1:], second.rgb_velocity[1:]) > 1e-3


@torch.no_grad()
def test_bfloat16_weights_keep_float32_residuals_and_outputs():
    config = tiny()
    exact, inputs = network(config), batch(config)
    want = exact(inputs, attention="asymmetric").rgb_velocity
    got = exact.bfloat16()(inputs, attention="asymmetric").rgb_velocity
    assert got.dtype == torch.float32
    assert float((got - want).norm() / want.norm()) < 0.03
