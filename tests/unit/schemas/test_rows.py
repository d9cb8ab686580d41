"""Rows and records that earlier versions wrote are read as today's."""

import json

import pytest

from schemas.manifest import StageRecord
from schemas.rows import Clip
from tests.support.clips import make_clip
from tests.unit.stages.source.synth import toy_files


@pytest.fixture
def clip(tmp_path):
    files = toy_files(tmp_path)
    with files.row_scope():
        return make_clip(files)


def test_a_facet_by_its_former_name_is_read(clip):
    old = clip.model_dump(mode="json")
    old["boxes"] = old.pop("detect")
    assert clip.detect is not None
    assert Clip.model_validate(old) == clip
    assert Clip.model_validate_json(json.dumps(old)) == clip
    assert "boxes" not in json.loads(Clip.model_validate(old).model_dump_json())


def test_what_no_version_wrote_is_refused(clip):
    with pytest.raises(ValueError, match="extra_forbidden"):
        Clip.model_validate({**clip.model_dump(mode="json"), "hands": None})


def test_a_run_of_an_earlier_version_names_a_facet_that_clips_have():
    written = {
        "name": "detect", "facet": "boxes", "version": 3, "fingerprint": "f", "closure_fingerprint": "c",
        "needs": ["segment"], "reasons": [], "config": {},
    }  # fmt: skip
    for facet in ("boxes", "detect"):
        record = StageRecord.model_validate({**written, "facet": facet})
        assert record.facet == "detect"
        assert record.facet in Clip.model_fields
