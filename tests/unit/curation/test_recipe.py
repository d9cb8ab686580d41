"""Recipes: typos are refused by path, changes are typed, errors teach."""

from __future__ import annotations

import re

import pytest

from curation.recipe import apply_change, load_recipe
from jobs.sampling import sample_config
from model.training.config import train_recipe
from schemas.errors import ConfigError

STAGES = ["probe", "segment", "quality"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "default.yaml").write_text("name: default\nsegment: {num_frames: 81}\n")
    return tmp_path


def test_a_recipe_is_found_by_name_and_changed(folder):
    recipe = load_recipe("default", ["segment.num_frames=33", "run.max_workers=1"], STAGES, folder)
    assert recipe.stages["segment"] == {"num_frames": 33}
    assert recipe.stages["quality"] == {}
    assert recipe.run.max_workers == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["segmnt.num_frames=33"], "did you mean segment"),
        (["segment.num_frames"], "expected stage.key=value"),
        (["=3"], "expected stage.key=value"),
        (["name.x=3"], "not a group"),
        (["run.max_workers=0"], "run.max_workers"),
        (["run.tpyo=1"], "run.tpyo: unknown key"),
    ],
)
def test_a_wrong_change_is_refused_with_its_path(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("default", changes, STAGES, folder)


def test_an_unknown_recipe_names_the_known_ones(folder):
    with pytest.raises(ConfigError, match=r"\['default'\]"):
        load_recipe("defualt", [], STAGES, folder)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "!!python/object/apply:os.system ['true']"])
def test_what_is_not_a_plain_mapping_is_refused(folder, text):
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_recipe("bad", [], STAGES, folder)


def test_values_are_yaml():
    settings = {}
    apply_change(settings, "quality.gate.min_sharpness=1.5")
    apply_change(settings, "quality.gate.require=false")
    assert settings == {"quality": {"gate": {"min_sharpness": 1.5, "require": False}}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimiser": {"learnin_rate": 1}}, "optimiser.learnin_rate: unknown key; did you mean learning_rate?"),
        ({"objective": {"flow": {"shft": 1}}}, "objective.flow.shft: unknown key; did you mean shift?"),
        ({"stepsfull": 1}, "stepsfull: unknown key; did you mean steps_full?"),
        ({"steps_full": "many"}, "(got 'many')"),
    ],
)  # fmt: skip
def test_mistyped_keys_of_training_are_answered_with_the_nearest(changes, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        train_recipe("smoke", changes)


def test_mistyped_keys_of_sampling_are_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=re.escape("sample.stps: unknown key; did you mean steps?")
    ):
        sample_config(["stps=1"])
