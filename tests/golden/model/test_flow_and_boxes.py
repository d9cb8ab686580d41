"""Schedules, weights, Euler steps, box masks and router losses against the published code."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from model.flow import (
    FlowConfig,
    add_noise,
    bell_weights,
    euler_step,
    nearest_index,
    sigma_grid,
    times_at,
    training_weight,
    velocity_target,
)
from model.training.box_masks import BoxGrid, BoxRule, boxes_to_mask, parse_boxes
from model.training.losses import RouterWeights, router_accuracy, router_classes, router_loss
from tests.golden.model.reference import FOLDER, max_abs

FLOW = json.loads((FOLDER / "flow.json").read_text())
FLOW_IO = load_file(FOLDER / "flow.io.safetensors")
BOXES = json.loads((FOLDER / "bbox_masks.json").read_text())
BOXES_IO = load_file(FOLDER / "bbox_masks.io.safetensors")
OFFICIAL = BoxRule.for_mode("official")


@pytest.mark.parametrize("case", FLOW["cases"]["train"], ids=lambda c: c["name"])
def test_training_tables(case):
    io = {k.removeprefix(case["name"] + "/"): v for k, v in FLOW_IO.items() if case["name"] in k}
    limit = FLOW["tolerance"]["tables_abs"]
    sigmas = sigma_grid(1000, case["shift"])
    assert max_abs(sigmas, io["sigmas"]) <= limit
    assert max_abs(1000 * sigmas, io["timesteps"]) <= FLOW["tolerance"]["timesteps_abs"]
    assert max_abs(bell_weights(1000 * sigmas), io["weights"]) <= limit
    config = FlowConfig(shift=case["shift"], sampling="grid", weighting="bell")
    chosen = sigmas[nearest_index(1000 * sigmas, io["ex/t"])]
    x0, noise = (io[f"ex/{k}"].expand(len(chosen), -1, -1, -1, -1) for k in ("x0", "noise"))
    assert max_abs(add_noise(x0, noise, chosen), io["ex/noisy"][:, 0]) <= limit
    assert max_abs(velocity_target(io["ex/x0"], io["ex/noise"]), io["ex/target"]) <= limit
    assert max_abs(training_weight(io["ex/t"], config), io["ex/weight"]) <= limit
    replay = times_at(io["timesteps"], config.replace(bf16_timestep=True))
    assert torch.equal(replay.t, io["timesteps_bf16"])
    assert torch.equal(replay.sigma, sigmas[io["nearest_index_of_bf16_timestep"]])
    assert len(replay.t.unique()) == case["distinct_bf16_timesteps"]


@pytest.mark.parametrize("case", FLOW["cases"]["sample"], ids=lambda c: c["name"])
def test_euler_steps(case):
    io = {k.removeprefix(case["name"] + "/"): v for k, v in FLOW_IO.items() if case["name"] in k}
    sigmas = sigma_grid(case["steps"], case["shift"], with_end=True)
    assert max_abs(sigmas[:-1], io["sigmas"]) <= FLOW["tolerance"]["tables_abs"]
    x = io["ex/x_T"]
    for i, (now, after) in enumerate(pairwise(sigmas)):
        velocity = torch.einsum("ij,bjthw->bithw", io["ex/A"], x) + now * x
        x = euler_step(x, velocity, float(now), float(after))
        if i == 0:
            assert max_abs(x, io["ex/x_after_first"]) <= 1e-5
    largest = float(io["ex/x_0"].abs().max())
    assert max_abs(x, io["ex/x_0"]) <= FLOW["tolerance"]["euler_rel"] * largest


@pytest.mark.parametrize("case", BOXES["mask_cases"], ids=lambda c: c["name"])
@pytest.mark.parametrize(("kind", "cell"), [("face", "face_json"), ("hand", "hand_object_json")])
def test_box_masks_are_exact(case, kind, cell):
    original, target = case["original_size"], case["target_size"]
    grid = BoxGrid(
        frames=case["num_latent_frames"],
        height=case["latent_h"] // BOXES["patch_size"][0],
        width=case["latent_w"] // BOXES["patch_size"][1],
        original=original and tuple(original),
        target=target and tuple(target),
        pixels_per_latent=BOXES["vae_scale_factor"],
    )
    mask = boxes_to_mask(parse_boxes(case[cell], OFFICIAL), grid, OFFICIAL)
    assert torch.equal(mask, BOXES_IO[f"mask/{case['name']}/{kind}"].bool())
    assert int(mask.sum()) == case[f"{kind}_on"]


@pytest.mark.parametrize("case", BOXES["router_cases"], ids=lambda c: c["name"])
def test_router_loss_and_its_gradient(case):
    io = {k.split("/")[-1]: v for k, v in BOXES_IO.items() if f"router/{case['name']}/" in k}
    logits = io["logits"].clone().requires_grad_()
    classes = router_classes(io["face"].bool()[None], io["hand"].bool()[None])
    assert torch.equal(torch.nn.functional.one_hot(classes[0], 3).float(), io["targets"])
    weights = RouterWeights(
        base=case["base_weight"], hand=case["hand_weight"], head=case["face_weight"]
    )
    loss = router_loss(list(logits), classes, weights)
    loss.backward()
    assert loss.item() == pytest.approx(io["loss"].item(), rel=BOXES["tolerance"]["loss_rel"])
    assert max_abs(logits.grad, io["grad_logits"]) <= 1e-7
    right = router_accuracy(io["logits"], classes)
    expected = case["mean_weight_of_right_expert"]
    assert right["head"] == pytest.approx(expected["face"], rel=1e-6)
    assert right["hand"] == pytest.approx(expected["hand"], rel=1e-6)
