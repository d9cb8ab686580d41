"""Recipes of training: the shipped ones, the user's own, and what is refused."""

from __future__ import annotations

import re

import pytest

from jobs.options import TRAIN_RECIPES
from model.training.config import load_train_recipe
from schemas.errors import ConfigError


def test_every_shipped_recipe_is_one():
    assert sorted(p.stem for p in TRAIN_RECIPES.glob("*.yaml")) == ["official", "paper", "smoke"]


@pytest.mark.parametrize(
    ("name", "steps", "rate", "weights", "dim"),
    [
        ("smoke", 200, 2e-3, (1.0, 1.0), 144),
        ("paper", 7000, 1e-4, (1.0, 1.0), 5120),
        ("official", 7000, 1e-5, (0.5, 0.05), 5120),
    ],
)
def test_recipes_resolve(name, steps, rate, weights, dim):
    recipe = load_train_recipe(name, [], TRAIN_RECIPES)
    network = recipe.network.build()
    assert (recipe.name, recipe.steps, recipe.optimiser.learning_rate) == (name, steps, rate)
    assert (recipe.objective.lambda_hoi, recipe.objective.eta_router) == weights
    assert (network.hoi_branch, network.dim) == (True, dim)
    assert recipe.description


def test_a_file_of_ones_own_is_a_recipe_and_is_changed_like_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("network: {preset: smoke}\noptimiser: {betas: [0.8, 0.9]}\nsteps_full: 7\n")
    recipe = load_train_recipe(mine, ["steps_asymmetric=2", "optimiser.grad_clip=3"], TRAIN_RECIPES)
    assert (recipe.name, recipe.steps) == ("mine", 9)
    assert (recipe.optimiser.betas, recipe.optimiser.grad_clip) == ((0.8, 0.9), 3.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("optimiser.learnin_rate=1", "smoke.yaml: optimiser.learnin_rate: unknown key; did you mean learning_rate?"),
        ("objective.flow.shft=1", "objective.flow.shft: unknown key; did you mean shift?"),
        ("stepsfull=1", "stepsfull: unknown key; did you mean steps_full?"),
        ("steps_full=many", "(got 'many')"),
    ],
)  # fmt: skip
def test_mistyped_keys_are_answered_with_the_nearest(change, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_train_recipe("smoke", [change], TRAIN_RECIPES)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"\['official', 'paper', 'smoke'\]"):
        load_train_recipe("big", [], TRAIN_RECIPES)


@pytest.mark.parametrize(
    "text",
    [
        "network: &n {overrides: *n}",
        "network: " + "[" * 5000 + "]" * 5000,
        "&a0 x: &a [y, y]\n" + "\n".join(f"k{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 10)}]" for i in range(9)),
        "steps_full: 2024-99-99",
        "name: !!python/object/apply:os.system ['true']",
        "seed: " + "y" * 100_000,
        "segment: {num_frames: 33}",
    ],
    ids=["self", "nested", "aliases", "date", "object", "long", "of curation"],
)  # fmt: skip
def test_a_hostile_or_foreign_file_is_a_short_error(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_recipe(path, [], TRAIN_RECIPES)
    assert len(str(caught.value)) < 5000
