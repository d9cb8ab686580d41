"""What must stay out of a key: where, when, by whom and how fast a run is done.

The stages' own settings are in tests/contract/test_keys.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from curation.chain import STAGE_CLASSES, build_chain, unit_key
from curation.recipe import Recipe, RunConfig, load_recipe
from jobs.options import CURATE_RECIPES
from schemas.rows import SourceVideo
from schemas.settings import NotContent
from tests.contract.test_keys import (
    LIMIT,
    MACHINE,
    PIN,
    PLACE,
    World,
    another,
    each_world,
    kinds_of,
    stage_of,
    write_weights,
)

REPO = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "name": "mine",
    "description": "some words",
    "run": {"max_workers": 2, "gates": {"min_kept_clips": 3}},
    "quality": {"read_text": False, "gate": {"min_sharpness": 9.0}},
    "latents": {"text_encoder": {"name": "bytes", "dim": 64, "max_tokens": 32}, "target_lufs": -20},
}


def recipe_of(folder: Path, settings: dict[str, Any]) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return load_recipe(path, [], list(STAGE_CLASSES), folder)


def keys_of(recipe: Recipe) -> dict[str, str]:
    return build_chain(recipe).closures


def backwards(value: Any) -> Any:
    """The same mapping, written from the last key to the first."""
    if not isinstance(value, dict):
        return value
    return {key: backwards(inner) for key, inner in reversed(value.items())}


def run_settings() -> list[tuple[str, Any]]:
    """Every setting of ``run`` with another value than the usual one."""

    def found(model: BaseModel, prefix: str) -> list[tuple[str, Any]]:
        lines = []
        for name, info in type(model).model_fields.items():
            value = getattr(model, name)
            if isinstance(value, BaseModel):
                lines += found(value, f"{prefix}{name}.")
            else:
                share = isinstance(value, float) and value <= 1
                lines.append((prefix + name, 0.25 if share else another(info, value)))
        return lines

    return found(RunConfig(), "run.")


@pytest.mark.parametrize(("path", "value"), run_settings(), ids=str)
def test_how_a_run_is_executed(path: str, value: Any) -> None:
    plain, changed = (
        load_recipe("default", changes, list(STAGE_CLASSES), CURATE_RECIPES)
        for changes in ([], [f"{path}={json.dumps(value)}"])
    )
    assert changed.run != plain.run
    assert keys_of(changed) == keys_of(plain)


def test_the_recipes_name_and_the_order_of_its_keys(tmp_path: Path) -> None:
    keys = keys_of(recipe_of(tmp_path, SETTINGS))
    assert keys_of(recipe_of(tmp_path, backwards(SETTINGS))) == keys
    renamed = SETTINGS | {"name": "yours", "description": ""}
    assert keys_of(recipe_of(tmp_path, renamed)) == keys
    other = {**SETTINGS, "quality": {"read_text": True}}
    assert keys_of(recipe_of(tmp_path, other)) != keys  # what decides a result is heard


def test_the_usual_value_written_down_is_the_usual_value(tmp_path: Path) -> None:
    plain = build_chain(recipe_of(tmp_path, {}))
    spelt = {s.name: s.config.model_dump(mode="json") for s in plain.stages}
    assert keys_of(recipe_of(tmp_path, spelt)) == plain.closures


def test_folder_environment_language_and_threads(tmp_path: Path) -> None:
    code = (
        "import json; from curation.chain import build_chain; from curation.recipe import Recipe;"
        "print(json.dumps(build_chain(Recipe(name='t', stages={})).closures))"
    )
    elsewhere = {
        "PYTHONPATH": str(REPO),
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "3",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "USER": "somebody",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | elsewhere,
    )
    assert json.loads(done.stdout) == keys_of(Recipe(name="t", stages={}))


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_where_the_code_lies_and_what_its_class_is_called(name: str, tmp_path: Path) -> None:
    stage = stage_of(World(name, "default"), tmp_path)
    stage_class, config_class = (
        type("Renamed", (kind,), {"__module__": "elsewhere.now"})
        for kind in (type(stage), type(stage.config))
    )
    moved = stage_class(config_class())
    assert type(moved).__module__ != type(stage).__module__
    assert moved.fingerprint == stage.fingerprint


@pytest.mark.parametrize("cpus", [1, 256])
def test_the_machine(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    here = keys_of(Recipe(name="t", stages={}))
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    assert keys_of(Recipe(name="t", stages={})) == here


def test_the_address_of_a_source() -> None:
    here, there = (
        SourceVideo(uri=uri, num_bytes=5, content_sha256="ab" * 32)
        for uri in ("/data/a.mp4", "s3://bucket/b.mov")
    )
    assert unit_key(here, "closure") == unit_key(there, "closure")
    other = here.replace(content_sha256="cd" * 32)
    assert unit_key(other, "closure") != unit_key(here, "closure")


def marks_of(config: BaseModel, path: str) -> list[str]:
    """The marks on a setting and on the groups that hold it."""
    marks = []
    for name in path.split("."):
        metadata = type(config).model_fields[name].metadata
        marks += [mark.kind for mark in metadata if isinstance(mark, NotContent)]
        config = getattr(config, name)
    return marks


@each_world
def test_the_marks_on_settings_are_those_written_down(world: World, tmp_path: Path) -> None:
    """A limit that is marked as a place would be left out for a wrong reason, and told so to people."""
    config = stage_of(world, write_weights(tmp_path / "weights")).config
    for path, kind in kinds_of(world.stage, config).items():
        expected = [kind] if kind in (LIMIT, PLACE, PIN, MACHINE) else []
        assert marks_of(config, path) == expected, path
