"""The 14 B network on the meta device, and its memory plan."""

from __future__ import annotations

import pytest
import torch

from model.cost.memory import ClipSize, memory_plan
from model.network.config import preset
from model.network.dit import CoGenDiT


def test_s2v_14b_has_exactly_the_published_tensors_and_parameters():
    with torch.device("meta"):
        model = CoGenDiT(preset("s2v-14b", cogen=False))
    state = model.state_dict()
    assert len(state) == 1260
    assert sum(t.numel() for t in state.values()) == 16_295_755_609  # 16.296 B
    shapes = {
        "blocks.39.ffn.0.weight": (13824, 5120),
        "text_embedding.0.weight": (5120, 4096),
        "time_projection.1.weight": (30720, 5120),
        "head.head.weight": (64, 5120),
        "casual_audio_encoder.weights": (1, 25, 1, 1),
        "casual_audio_encoder.encoder.conv1_local.conv.weight": (5120, 1024, 3),
        "casual_audio_encoder.encoder.conv3.conv.weight": (5120, 2560, 3),
        "audio_injector.injector_adain_layers.11.linear.weight": (10240, 5120),
        "frame_packer.proj_4x.weight": (5120, 16, 4, 8, 8),
        "trainable_cond_mask.weight": (3, 5120),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape, name


def test_plan_counts_every_part_of_the_co_generation_network():
    plan = memory_plan(preset("s2v-14b", "official"))
    assert plan.by_part["hoi branch"] == 1_904_704
    assert plan.by_part["experts"] == 40 * (13_122_563 + 2 * 2_626_816)
    assert plan.num_parameters == 16_295_755_609 + 1_904_704 + plan.by_part["experts"]
    three = memory_plan(preset("s2v-14b", "paper")).by_part["experts"]
    assert three - plan.by_part["experts"] == 40 * 2_626_816
    assert plan.tokens == {"rgb": 36_634, "hoi": 31_200}
    assert plan.inference["weights bf16"] == 2 * plan.num_parameters
    text = "\n".join(plan.lines())
    assert "17.033 B parameters" in text
    assert "36634 RGB, 31200 HOI" in text


@pytest.mark.parametrize(
    ("height", "width", "rgb"), [(720, 480, 31_688), (480, 832, 36_634), (1280, 720, 84_560)]
)
def test_token_counts_at_published_sizes(height, width, rgb):
    assert memory_plan(preset("s2v-14b"), ClipSize(height, width)).tokens["rgb"] == rgb


def test_smoke_is_about_three_million_parameters():
    assert 2.5e6 < memory_plan(preset("smoke")).num_parameters < 3.5e6
