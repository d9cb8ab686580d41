"""The objective, its regions, and box masks in strict mode."""

from __future__ import annotations

import math

import pytest
import torch

from model.network.inputs import DiTOutputs
from model.training.box_masks import BoxGrid, BoxRule, boxes_to_mask, parse_boxes
from model.training.losses import (
    BASE,
    HAND,
    HEAD,
    ObjectiveConfig,
    RouterWeights,
    Targets,
    flow_loss,
    objective,
    region_losses,
    router_classes,
    router_loss,
)
from schemas.errors import ConfigError, DataError

GRID = BoxGrid(frames=3, height=4, width=6)  # 64 x 96 pixels


def outputs(blocks=2, hoi=True):
    logits = tuple(torch.randn(2, 72, 3) for _ in range(blocks))
    rgb = torch.randn(2, 16, 3, 8, 12)
    return DiTOutputs(rgb, torch.randn_like(rgb) if hoi else None, logits)


def test_objective_adds_its_terms_with_both_presets_factors():
    out = outputs()
    head, hand = torch.zeros(2, 72, dtype=torch.bool), torch.zeros(2, 72, dtype=torch.bool)
    hand[:, :5] = True
    targets = Targets(
        torch.randn_like(out.rgb_velocity),
        torch.randn_like(out.rgb_velocity),
        torch.tensor([0.5, 2.0]),
        head,
        hand,
    )
    for mode, hoi_factor, router_factor in (("paper", 1.0, 1.0), ("official", 0.5, 0.05)):
        terms = objective(out, targets, ObjectiveConfig.for_mode(mode))
        total = terms.rgb + hoi_factor * terms.hoi + router_factor * terms.router
        assert terms.total.item() == pytest.approx(total.item())
        assert min(terms.rgb, terms.hoi, terms.router) > 0


def test_weight_is_per_sample():
    predicted, target = torch.zeros(2, 3), torch.tensor([[1.0] * 3, [2.0] * 3])
    assert flow_loss(predicted, target, torch.tensor([3.0, 0.5])).item() == (3 * 1 + 0.5 * 4) / 2


def test_absent_terms_are_absent_and_disagreeing_ones_refused():
    out = outputs(blocks=0, hoi=False)
    terms = objective(out, Targets(out.rgb_velocity, None, torch.ones(2)), ObjectiveConfig())
    assert terms.total.item() == 0
    assert terms.hoi is terms.router is None
    assert list(terms.present()) == ["rgb"]
    with pytest.raises(ConfigError, match="no target"):
        objective(outputs(), Targets(out.rgb_velocity, None, torch.ones(2)), ObjectiveConfig())
    with pytest.raises(ConfigError, match="differ"):
        flow_loss(torch.zeros(1, 2), torch.zeros(1, 3), torch.ones(1))
    with pytest.raises(ConfigError, match=r"\(1, 5, 3\).*\(1, 4\)"):
        router_loss([torch.zeros(1, 5, 3)], torch.zeros(1, 4, dtype=torch.long), RouterWeights())


def test_hand_wins_over_head_and_uniform_logits_cost_log_three():
    head, hand = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[0, 1, 1, 0]]).bool()
    classes = router_classes(head, hand)
    assert classes.tolist() == [[HEAD, HAND, HAND, BASE]]
    loss = router_loss([torch.zeros(1, 4, 3)], classes, RouterWeights())
    assert loss.item() == pytest.approx(math.log(3) * (10 + 10 + 10 + 1) / 4)


def test_region_losses_split_the_mean_squared_error():
    predicted = torch.zeros(1, 16, 1, 4, 4)
    target = torch.zeros_like(predicted)
    target[..., :2, :2] = 2.0  # token 0
    classes = torch.tensor([[HAND, BASE, BASE, BASE]])
    report = region_losses(predicted, target, classes, (1, 2, 2))
    assert report == {"base": (0.0, 3), "hand": (4.0, 1), "head": (0.0, 0)}
    total = sum(error * count for error, count in report.values()) / 4
    assert total == pytest.approx(float((predicted - target).square().mean()))


def test_frames_land_on_the_latent_that_covers_them():
    box = [[0.0, 0.0, 1.0, 1.0]]
    for mode, frames in (
        ("paper", {0: 0, 3: 0, 4: 1, 11: 2}),
        ("official", {2: 0, 5: 0, 6: 1, 0: None}),
    ):
        for frame, latent in frames.items():
            mask = boxes_to_mask({frame: box}, GRID, BoxRule.for_mode(mode)).reshape(3, 4, 6)
            hit = [k for k in range(3) if mask[k].any()]
            assert hit == ([] if latent is None else [latent]), (mode, frame)


def test_partly_outside_is_clipped_and_marks_only_the_inside():
    mask = boxes_to_mask({0: [[-50.0, 33.0, 16.5, 900.0]]}, GRID, BoxRule()).reshape(3, 4, 6)
    assert mask[0].nonzero().tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]


@pytest.mark.parametrize(
    ("boxes", "code", "message"),
    [
        ({0: [[200.0, 0.0, 300.0, 10.0]]}, "box_outside_frame", r"200.*96x64 pixels"),
        ({0: [[20.0, 0.0, 10.0, 10.0]]}, "box_malformed", r"x1 <= x2"),
        ({0: [[0.0, 0.0, math.nan, 10.0]]}, "box_malformed", r"nan"),
        ({99: [[0.0, 0.0, 9.0, 9.0]]}, "box_outside_clip", r"frame 99 is latent 24 of 3"),
    ],
)
def test_unusable_boxes_raise_in_paper_mode_and_are_passed_over_in_official(boxes, code, message):
    with pytest.raises(DataError, match=message) as caught:
        boxes_to_mask(boxes, GRID, BoxRule.for_mode("paper"))
    assert caught.value.code == code
    if not any(math.isnan(v) for box in boxes.get(0, []) for v in box):
        assert not boxes_to_mask(boxes, GRID, BoxRule.for_mode("official")).any()


@pytest.mark.parametrize(
    "cell", ["{not json", '{"frame_x": [0, 0, 1, 1]}', '{"frame_0": [1, 2, 3]}']
)
def test_malformed_cells_raise_in_paper_mode(cell):
    with pytest.raises(DataError, match="box_malformed"):
        parse_boxes(cell, BoxRule())
    assert not any(parse_boxes(cell, BoxRule.for_mode("official")).values())
