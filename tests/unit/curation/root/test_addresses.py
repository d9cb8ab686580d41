"""Where a source lies is a fact of one run: no row, no result and no shard keeps it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from curation.report.build import summarise
from curation.report.write import report_inputs
from curation.root.store import Store
from jobs.cli import app
from schemas.rows import Clip
from tests.unit.curation.toy_runs import TEXTS, curate, facts, toy

pytestmark = pytest.mark.slow


def handloom(*argv):
    done = CliRunner().invoke(app, [str(a) for a in argv])
    assert done.exit_code in (0, 3), done.stderr
    return done.stdout


def test_a_source_that_was_renamed_is_told_by_its_name_of_today(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"old.txt": "hello", "other.txt": "good bye"})
    curate(sources, tmp_path / "root", shards=True)
    before = facts(Store(str(tmp_path / "root")))
    (sources / "old.txt").rename(sources / "new.txt")
    record, _ = curate(sources, tmp_path / "root", shards=True)
    assert sum(record.num_stage_calls.values()) == 0
    root = Store(str(tmp_path / "root"))
    assert facts(root) == before
    with report_inputs(root, record) as inputs:
        assert {s.uri for s in summarise(inputs).sources} == {
            str(sources / "new.txt"),
            str(sources / "other.txt"),
        }
    explained = [handloom("explain", tmp_path / "root", c) for c in before["clip_ids"]]
    assert sum(str(sources / "new.txt") in text for text in explained) == 2
    assert not any("old.txt" in text for text in explained)


def test_equal_sources_give_equal_shards_wherever_they_and_the_root_lie(tmp_path):
    here = toy.write_sources(tmp_path / "here", TEXTS)
    names = dict(zip(TEXTS, ["z.txt", "y.txt", "x.txt", "w.txt", "v.txt", "u.txt"], strict=True))
    there = toy.write_sources(tmp_path / "there", {names[n]: text for n, text in TEXTS.items()})
    curate(here, tmp_path / "a", shards=True)
    curate(there, tmp_path / "b", shards=True)
    assert facts(Store(str(tmp_path / "a"))) == facts(Store(str(tmp_path / "b")))
    found = json.loads(handloom("diff", tmp_path / "a", tmp_path / "b", "--json"))
    assert found["same"]
    assert "same: settings, fates and shards" in handloom("diff", tmp_path / "a", tmp_path / "b")
    for name in ("a", "b"):
        root = Store(str(tmp_path / name))
        for meta in [*root.list("receipts"), *root.list("dataset")]:
            assert str(tmp_path).encode() not in root.read(meta.name), meta.name


def test_explain_names_every_address_of_a_source(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "hello", "copy.txt": "hello"})
    curate(sources, tmp_path / "root", shards=True)
    clip_id = facts(Store(str(tmp_path / "root")))["clip_ids"][0]
    told = json.loads(handloom("explain", tmp_path / "root", clip_id, "--json"))
    assert told["addresses"] == [str(sources / "a.txt"), str(sources / "copy.txt")]
    assert str(sources / "copy.txt") in handloom("explain", tmp_path / "root", clip_id)


def test_details_of_failures_name_no_folder_of_this_machine(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "lost blob", "b.txt": "lost scratch"})
    _, decisions = curate(sources, tmp_path / "root")
    told = [d.detail for d in decisions if d.reason == "unexpected_error"]
    assert len(told) == 2
    assert not any("/tmp" in detail or str(tmp_path) in detail for detail in told), told


def test_clips_of_earlier_versions_are_read_without_the_address_that_they_kept(clip_row):
    old = {**clip_row.model_dump(mode="json"), "source_uri": "/raw/old.mp4"}
    assert Clip.model_validate(old) == clip_row
    assert Clip.model_validate_json(json.dumps(old)) == clip_row


@pytest.fixture
def clip_row(tmp_path):
    from tests.support.clips import make_clip
    from tests.unit.stages.source.synth import toy_files

    files = toy_files(tmp_path)
    with files.row_scope():
        return make_clip(files)
