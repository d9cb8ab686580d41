"""The cost table counts what the theory says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.cost.flops import (
    VARIANTS,
    BenchSize,
    attention_share,
    build,
    count_attention_flops,
    count_flops,
    count_table,
    make_inputs,
    render,
)
from model.cost.measure import expert_loop, expert_seconds, measure
from model.network.moe import Expert, mix_experts
from tests.unit.model.network.dit_cases import max_abs

S2V = BenchSize("s2v-14b", layers=2)
SMALL = BenchSize("s2v ratios", height=64, width=64, latents=2, layers=1)


def test_moe_costs_at_most_four_percent_at_the_published_widths():
    ratio = count_flops(S2V, "moe") / count_flops(S2V, "plain")
    assert 1.01 < ratio <= 1.04  # three experts and the router


def test_asymmetric_attention_is_three_quarters_of_full_attention():
    assert count_attention_flops(S2V, "asymmetric") / count_attention_flops(S2V, "full") == 0.75
    assert count_attention_flops(S2V, "full") == 4 * count_attention_flops(S2V, "plain")
    assert count_attention_flops(S2V, "dense mask") == count_attention_flops(S2V, "full")
    n, d = S2V.tokens, 5120
    assert count_attention_flops(S2V, "plain") == 4 * n * n * d


def test_counted_costs_follow_the_theory():
    rows = {row.variant: row for row in count_table(S2V)}
    a = attention_share(S2V)
    assert 0.4 < a < 0.6
    for variant in ("asymmetric", "full", "dense mask"):
        moe = rows["moe"].flops / rows["plain"].flops - 1  # experts: RGB stream only
        relative = rows[variant].flops / rows["plain"].flops - moe
        assert relative == pytest.approx(rows[variant].theory, rel=0.01), variant
    assert rows["asymmetric"].theory == 2 + a
    large = replace(S2V, height=1280, width=720)
    assert count_flops(large, "asymmetric") <= 0.80 * count_flops(large, "full")


@torch.no_grad()
def test_dense_mask_variant_computes_the_same_velocities():
    torch.manual_seed(0)
    ours, dense = (
        build(SMALL, variant, "cpu", torch.float32) for variant in ("asymmetric", "dense mask")
    )
    for parameter in ours.parameters():
        parameter.normal_(std=0.05)
    dense.load_state_dict(ours.state_dict())
    inputs = make_inputs(ours.config, SMALL, "cpu", hoi=True)
    got, want = (model(inputs, attention="asymmetric") for model in (ours, dense))
    assert max_abs(got.rgb_velocity, want.rgb_velocity) < 1e-5
    assert max_abs(got.hoi_velocity, want.hoi_velocity) < 1e-5


def test_measured_rows_and_their_rendering():
    found = measure(SMALL, "asymmetric", repeats=1)
    assert found.seconds > 0
    rows = count_table(SMALL)
    assert [row.variant for row in rows] == list(VARIANTS)
    rows[0] = replace(rows[0], seconds=2.0, peak_bytes=1 << 21)
    rows[1] = replace(rows[1], seconds=3.0)
    lines = render(rows)
    assert lines[1].split()[-3:] == ["2.00", "1.00", "2"]
    assert lines[2].split()[-3:] == ["3.00", "1.50", "-"]
    assert lines[3].split()[-3:] == ["-", "-", "-"]


def test_loop_and_grouped_experts_agree_and_are_timed():
    experts, x, weights = (
        [Expert(16, 8) for _ in range(3)],
        torch.randn(1, 5, 16),
        torch.rand(1, 5, 3),
    )
    assert max_abs(mix_experts(x, weights, experts), expert_loop(x, weights, experts)) < 1e-6
    assert min(expert_seconds(16, 8, 2, 10, repeats=1).values()) > 0
