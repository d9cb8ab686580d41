"""Recipes: typos are refused by path, changes are typed, errors teach."""

from __future__ import annotations

import re

import pytest

from curation.chain import build_chain
from curation.recipe import load_recipe
from curation.stage_list import STAGE_CLASSES
from jobs.options import CURATE_RECIPES
from jobs.sampling import sample_config
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


def test_mistyped_keys_of_sampling_are_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=re.escape("sample.stps: unknown key; did you mean steps?")
    ):
        sample_config(["stps=1"])


def test_every_shipped_recipe_is_one():
    names = sorted(p.stem for p in CURATE_RECIPES.glob("*.yaml"))
    assert names == ["default", "silent"]
    for name in names:
        recipe = load_recipe(name, [], list(STAGE_CLASSES), CURATE_RECIPES)
        assert recipe.name == name
        assert recipe.description
        build_chain(recipe)
