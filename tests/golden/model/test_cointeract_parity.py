"""CoInteract's two-stream network in ``official`` mode: float32 parity, losses, gradient norms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.flow import add_noise, velocity_target
from model.network.dit import CoGenDiT
from model.training.losses import ObjectiveConfig, Targets, objective
from model.weights.interop import cointeract_inputs
from tests.golden.model.reference import (
    COINTERACT,
    batch,
    cases,
    fixture,
    joint_names,
    joints,
    max_abs,
    network,
)

TOLERANCE = fixture(COINTERACT).meta["tolerance"]


@pytest.mark.parametrize("case", cases(COINTERACT))
@torch.no_grad()
def test_outputs(case):
    inputs, attention = batch(COINTERACT, case)
    expected = fixture(COINTERACT).tensors(f"{case}/")
    out = network(COINTERACT)(inputs, attention=attention)
    limit = TOLERANCE["float32_max_abs"]
    video = torch.cat([inputs.person_latent, out.rgb_velocity], dim=2)  # slot 0 is passed through
    assert max_abs(video, expected["out/video_pred"]) <= limit
    assert max_abs(torch.stack(out.router_logits), expected["out/router_logits"]) <= limit
    assert (out.hoi_velocity is None) == ("out/hoi_pred" not in expected)
    if out.hoi_velocity is not None:
        assert max_abs(out.hoi_velocity, expected["out/hoi_pred"]) <= limit


@pytest.mark.parametrize(("case", "joint"), joint_names(COINTERACT))
def test_joint(case, joint):
    limit = TOLERANCE["rope_max_abs" if joint.startswith("rope.") else "float32_max_abs"]
    expected = fixture(COINTERACT).io[f"{case}/mid/{joint}"]
    assert max_abs(joints(COINTERACT, case)[joint], expected) <= limit


def training_step(model, stage):
    """The published training step; its clean latents and noise are in the fixture."""
    found = fixture(COINTERACT)
    given = {k: v for k, v in found.tensors("in/").items() if k != "s2v_pose_latents"}
    drawn = found.tensors("loss_stage1/")
    clean, clean_hoi = given["latents"][:, :, 1:], given["depth_latents"]
    sigma = drawn["sigma"]
    noisy = add_noise(clean, given["noise"], sigma)
    given["latents"] = torch.cat([given["latents"][:, :, :1], noisy], dim=2)
    given["depth_latents"] = add_noise(clean_hoi, drawn["hoi_noise"], sigma)
    inputs, attention = cointeract_inputs(
        given,
        timestep=drawn["timestep"],
        hoi_timestep=drawn["timestep"],
        mutual_visible=stage == "stage1",
    )
    targets = Targets(
        rgb_velocity=velocity_target(clean, given["noise"]),
        hoi_velocity=velocity_target(clean_hoi, drawn["hoi_noise"]),
        weight=drawn["weight"],
        head_mask=drawn["face_mask"][None],
        hand_mask=drawn["hand_mask"][None],
    )
    out = model(inputs, attention=attention)
    return objective(out, targets, ObjectiveConfig.for_mode("official"))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_losses_and_gradient_norms(stage):
    model = CoGenDiT(network(COINTERACT).config)
    model.load_state_dict(network(COINTERACT).state_dict())
    terms = training_step(model, stage)
    terms.total.backward()
    io, meta = fixture(COINTERACT).io, fixture(COINTERACT).meta
    for got, name in (
        (terms.total, "loss"),
        (terms.rgb, "diffusion_loss"),
        (terms.hoi, "depth_loss"),
        (terms.router, "router_loss"),
    ):
        assert got.item() == pytest.approx(
            io[f"loss_{stage}/out.{name}"].item(), rel=TOLERANCE["loss_relative"]
        )
    parameters = dict(model.named_parameters())
    order = meta["parameter_order_of_grad_arrays"]
    assert set(order) == set(parameters)
    for at, name in enumerate(order):
        gradient = parameters[name].grad.double()
        norm, largest, mean = (
            io[f"loss_{stage}/grad_{kind}"][at].item() for kind in ("l2", "abs_max", "mean")
        )
        rel = TOLERANCE["grad_l2_relative"]
        assert gradient.norm().item() == pytest.approx(norm, rel=rel, abs=1e-12), name
        assert gradient.abs().max().item() == pytest.approx(largest, rel=2e-5, abs=1e-12), name
        # a mean cancels: its error is that of the entries
        assert gradient.mean().item() == pytest.approx(mean, rel=rel, abs=rel * largest), name


@torch.no_grad()
def test_paper_mode_departs_from_the_published_outputs():
    """Each quirk is a switch: with true negative widths the stage-1 HOI output moves by about 0.2."""
    official = network(COINTERACT).config
    inputs, attention = batch(COINTERACT, "stage1")
    published = fixture(COINTERACT).io["stage1/out/hoi_pred"]
    for switch in ({"hoi_width": "shift"}, {"hoi_time": "own"}, {"pose_bias_always": False}):
        model = CoGenDiT(official.replace(**switch))
        model.load_state_dict(network(COINTERACT).state_dict())
        assert max_abs(model(inputs, attention=attention).hoi_velocity, published) > 1e-2, switch
    person_too = CoGenDiT(official.replace(hoi_visible=("target", "person", "product", "motion")))
    person_too.load_state_dict(network(COINTERACT).state_dict())
    inputs, attention = batch(COINTERACT, "stage2")
    moved = person_too(inputs, attention=attention).hoi_velocity
    assert max_abs(moved, fixture(COINTERACT).io["stage2/out/hoi_pred"]) > 1e-3
    ungated = CoGenDiT(official.replace(expert_gate_t=None))
    ungated.load_state_dict(network(COINTERACT).state_dict())
    inputs, attention = batch(COINTERACT, "stage2_high_t")
    moved = ungated(inputs, attention=attention).rgb_velocity
    assert max_abs(moved, network(COINTERACT)(inputs, attention=attention).rgb_velocity) > 1e-3


@torch.no_grad()
def test_batch_of_two_timesteps_equals_two_batches_of_one():
    model, (inputs, attention) = network(COINTERACT), batch(COINTERACT, "stage2")
    times, scales = torch.tensor([612.5, 937.5]), torch.tensor([0.7, 1.0])
    tensors = {
        name: value.repeat(2, *[1] * (value.ndim - 1))
        for name in DITINPUT_TENSORS
        if isinstance(value := getattr(inputs, name), torch.Tensor)
    }
    both = replace(inputs, **tensors, t=times, hoi_t=times, product_scale=scales)
    out = model(both, attention=attention)
    for i in range(2):
        one = replace(inputs, t=times[[i]], hoi_t=times[[i]], product_scale=scales[[i]])
        alone = model(one, attention=attention)
        assert max_abs(out.rgb_velocity[[i]], alone.rgb_velocity) <= TOLERANCE["float32_max_abs"]
        assert max_abs(out.hoi_velocity[[i]], alone.hoi_velocity) <= TOLERANCE["float32_max_abs"]


DITINPUT_TENSORS = (
    "rgb_latent",
    "text",
    "audio",
    "person_latent",
    "product_latent",
    "motion_latent",
    "hoi_latent",
    "hoi_text",
)
