"""What every stage promises, whatever it does."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from curation.chain import build_chain, closure_fingerprints, stage_class
from curation.recipe import Recipe
from curation.stage_list import GROUPS, STAGE_CLASSES, STAGES
from schemas.arrow import arrow_schema
from schemas.errors import ConfigError
from schemas.rows import Clip, SourceVideo


@pytest.fixture(scope="module")
def chain():
    return build_chain(Recipe(name="test", stages={}))


@pytest.mark.parametrize("name", STAGE_CLASSES)
class TestEachStage:
    def test_declares_its_row_types_and_facet(self, chain, name):
        stage = chain[name]
        assert stage.name == name
        if stage.facet:
            assert stage.row_in is stage.row_out
            assert stage.facet in stage.row_out.model_fields
        assert stage.reasons
        assert all(" " not in r for r in stage.reasons)

    def test_travels_to_workers(self, chain, name):
        twin = pickle.loads(pickle.dumps(chain[name]))
        assert twin.fingerprint == chain[name].fingerprint

    def test_refuses_unknown_settings_by_path(self, name):
        with pytest.raises(ConfigError, match=rf"{name}\.tpyo: unknown key"):
            build_chain(Recipe(name="test", stages={name: {"tpyo": 1}}))


def test_the_list_holds_every_stage_once_under_its_own_name_and_groups_are_neighbours():
    assert [name for group in GROUPS for name in group] == [s.name for s in STAGES]
    assert len(STAGE_CLASSES) == len(STAGES)
    assert len(GROUPS) == len({s.group for s in STAGES})
    assert {name: stage_class(name).name for name in STAGE_CLASSES} == {n: n for n in STAGE_CLASSES}


def test_a_change_reaches_exactly_the_stages_that_read_it(chain):
    before = chain.closures
    detect = chain["detect"]
    other = type(detect)(detect.config)
    type(other).version, version = detect.version + 1, detect.version
    try:
        after = closure_fingerprints([other if s.name == "detect" else s for s in chain.stages])
    finally:
        type(other).version = version
    changed = {name for name in before if before[name] != after[name]}
    assert set(before) - changed == {"probe", "segment", "quality"}


@pytest.mark.parametrize("model", [SourceVideo, Clip])
def test_rows_have_arrow_schemas(model):
    assert arrow_schema(model).names == list(model.model_fields)


def test_importing_stages_is_cheap_and_knows_no_ray():
    code = (
        "import sys; from curation.stage_list import STAGE_CLASSES; import importlib;"
        "[importlib.import_module(c.split(':')[0]) for c in STAGE_CLASSES.values()];"
        "heavy = {'ray', 'mediapipe', 'anny', 'pyrender', 'sam2', 'ultralytics', 'smplx', 'diffusers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
