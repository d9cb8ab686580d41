"""Noise levels and how they are drawn."""

from __future__ import annotations

import pytest
import torch

from model.flow import (
    FlowConfig,
    add_noise,
    sample_times,
    shift_sigma,
    sigma_grid,
    times_at,
    velocity_target,
)
from schemas.errors import ConfigError


def draw(config, batch=20_000, seed=0):
    return sample_times(config, batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampling", ["grid", "uniform", "logit_normal"])
def test_draws_repeat_with_the_generator_and_stay_in_range(sampling):
    config = FlowConfig(sampling=sampling, shift=5.0, weighting="bell")
    first, again, other = draw(config), draw(config), draw(config, seed=1)
    assert torch.equal(first.t, again.t)
    assert not torch.equal(first.t, other.t)
    assert float(first.sigma.min()) >= 0
    assert float(first.sigma.max()) <= 1
    assert torch.allclose(first.t, 1000 * first.sigma)
    assert float(first.weight.min()) >= 0


def test_shift_moves_the_median_to_where_the_formula_says():
    for shift in (1.0, 3.0, 5.0):
        median = float(draw(FlowConfig(shift=shift)).sigma.median())
        expected = float(shift_sigma(torch.tensor(0.5), shift))
        assert median == pytest.approx(expected, abs=0.01)
    narrow = draw(FlowConfig(shift=1.0, sampling="logit_normal", logit_mean=1.0, logit_std=0.01))
    assert float(narrow.sigma.mean()) == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=1e-3)


def test_bell_weights_average_to_one_over_the_grid_and_none_is_one():
    grid = 1000 * sigma_grid(1000, 5.0)
    assert float(times_at(grid, FlowConfig(weighting="bell")).weight.mean()) == pytest.approx(1)
    assert torch.equal(times_at(grid, FlowConfig()).weight, torch.ones(1000))


def test_bf16_rounding_is_a_switch():
    t = torch.tensor([612.5, 999.0])
    assert torch.equal(times_at(t, FlowConfig()).t, t)
    rounded = times_at(t, FlowConfig(bf16_timestep=True)).t
    assert rounded.tolist() == [612.0, 1000.0]
    assert FlowConfig.for_mode("official").bf16_timestep
    assert not FlowConfig.for_mode("paper").bf16_timestep


def test_velocity_leads_from_noise_back_to_the_clean_latent():
    clean, noise, sigma = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.tensor([0.0, 0.3, 1.0])
    noisy = add_noise(clean, noise, sigma)
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[2], noise[2])
    assert torch.allclose(
        noisy - sigma.reshape(-1, *[1] * (noisy.ndim - 1)) * velocity_target(clean, noise),
        clean,
        atol=1e-6,
    )


@pytest.mark.parametrize(("steps", "shift"), [(0, 5.0), (4, 0.0)])
def test_grids_need_steps_and_a_shift(steps, shift):
    with pytest.raises(ConfigError, match=f"steps={steps} and shift={shift}"):
        sigma_grid(steps, shift)
