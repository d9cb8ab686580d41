"""The engine: nothing lost, nothing done twice, thresholds re-decide, poison rows are set aside."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from curation.ledger import Ledger
from curation.storage import Store
from curation.tables import models_from_parquet
from schemas.outcome import Outcome
from schemas.rows import Clip
from tests.unit.curation.toy_runs import TEXTS, curate, outcomes, request, toy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def test_every_row_ends_with_one_outcome_and_a_second_run_computes_nothing(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    record, decisions = curate(sources, tmp_path / "root")
    assert outcomes(decisions, "sources") == {Outcome.KEPT: 5, Outcome.DROPPED: 1}
    assert outcomes(decisions, "segment") == {
        Outcome.KEPT: 2,
        Outcome.FAILED: 1,
        Outcome.DROPPED: 1,
        Outcome.QUARANTINED: 1,
    }
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 4}
    assert record.num_stage_calls == {"segment": 5, "quality": 4, "speech": 4}
    again, same = curate(sources, tmp_path / "root")
    assert sum(again.num_stage_calls.values()) == 0
    assert sorted(same, key=str) == sorted(decisions, key=str)


def test_a_threshold_redecides_without_computing(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    curate(sources, tmp_path / "root")
    record, decisions = curate(sources, tmp_path / "root", quality={"gate": {"min_sharpness": 9}})
    assert sum(record.num_stage_calls.values()) == 0
    assert outcomes(decisions, "quality") == {Outcome.KEPT: 2, Outcome.DROPPED: 2}
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 2}


def test_a_gate_over_all_rows_keeps_the_books_balanced_and_redecides(tmp_path):
    """Toy clips of one length are as sharp as each other: one of each stays, whatever came later goes."""
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    _, before = curate(sources, tmp_path / "root")
    twins = {"gate": {"drops_twins": True}}
    record, decisions = curate(sources, tmp_path / "root", quality=twins)
    assert sum(record.num_stage_calls.values()) == 0
    dropped = [d for d in decisions if d.reason == "twin"]
    assert dropped
    assert {d.stage for d in dropped} == {"quality"}
    assert all(d.num_emitted == 0 for d in dropped)
    went_on = {d.row_id for d in decisions if d.stage == "speech"}
    assert went_on == {d.row_id for d in before if d.stage == "speech"} - {
        d.row_id for d in dropped
    }
    assert {d.detail for d in dropped} <= went_on


def test_the_twin_that_stays_is_one_that_survives_the_chain(tmp_path):
    """Four clips are each other's twins: one goes the whole way, the next only where that one falls."""
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "hello", "b.txt": "there"})

    def run(*drops: str):
        caption = {"gate": {"drops": drops}}
        quality = {"gate": {"drops_twins": True}}
        record, decisions = curate(
            sources, tmp_path / "root", quality=quality, caption=caption, shards=True
        )
        clips = [d for d in decisions if d.row_id != d.source_id]
        return record, {d.row_id: (d.stage, d.reason, d.detail) for d in clips}, decisions

    record, ends, _ = run()
    ids = sorted(ends)
    assert ends == {ids[0]: ("shards", "", "")} | dict.fromkeys(
        ids[1:], ("quality", "twin", ids[0])
    )
    assert record.num_stage_calls["caption"] == 1
    record, ends, decisions = run(ids[0])
    assert ends[ids[0]] == ("caption", "unwanted", "")
    assert ends[ids[1]] == ("shards", "", "")
    assert {ends[i] for i in ids[2:]} == {("quality", "twin", ids[1])}
    assert record.num_stage_calls["caption"] == 1
    again, _, same = run(ids[0])
    assert sum(again.num_stage_calls.values()) == 0
    assert sorted(same, key=str) == sorted(decisions, key=str)
    record, ends, decisions = run(*ids)
    assert {e[:2] for e in ends.values()} == {("caption", "unwanted")}
    assert record.num_stage_calls["caption"] == 2
    assert outcomes(decisions, "quality") == {Outcome.KEPT: 4}


def test_a_parameter_recomputes_exactly_its_cone(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    curate(sources, tmp_path / "root")
    record, _ = curate(sources, tmp_path / "root", quality={"scale": 2.0})
    assert record.num_stage_calls == {"segment": 0, "quality": 4, "speech": 0}
    (sources / "e.txt").write_text("changed by some bytes")
    record, _ = curate(sources, tmp_path / "root", quality={"scale": 2.0})
    assert record.num_stage_calls == {"segment": 1, "quality": 2, "speech": 2}


def test_a_raised_limit_does_again_what_failed_below_it_and_nothing_else(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    first, decisions = curate(sources, tmp_path / "root", segment={"max_chars": 10})
    assert {d.reason for d in decisions if d.outcome is Outcome.FAILED} == {"too_long", "bad_text"}
    again, _ = curate(sources, tmp_path / "root", segment={"max_chars": 10})
    assert sum(again.num_stage_calls.values()) == 0
    raised = request(sources, tmp_path / "root", segment={"max_chars": 50})
    num_known = {s["name"]: s["num_known"] for s in raised.plan()["stages"]}
    assert num_known == {"segment": 2, "quality": 2, "speech": 2}
    record = raised.run()
    assert record.num_stage_calls == {"segment": 3, "quality": 2, "speech": 2}
    assert {s.name: s.closure_fingerprint for s in record.stages} == {
        s.name: s.closure_fingerprint for s in first.stages
    }
    lowered, same = curate(sources, tmp_path / "root", segment={"max_chars": 3})
    assert sum(lowered.num_stage_calls.values()) == 0
    assert outcomes(same, "speech") == {Outcome.KEPT: 4}


def test_a_row_that_kills_its_worker_is_quarantined_and_the_run_ends(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {**TEXTS, "k.txt": "kill me", "z.txt": "bug"})
    _, decisions = curate(sources, tmp_path / "root")
    reasons = Counter(d.reason for d in decisions if d.outcome is Outcome.QUARANTINED)
    assert reasons == {"worker_died": 1, "unexpected_error": 1, "crash_SIGSEGV": 1}
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 4}


def test_uncommitted_receipts_are_found_again(tmp_path):
    """A driver that dies before its commit loses nothing."""
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    _record, _ = curate(sources, tmp_path / "root")
    for folder in ("log", "runs", "dataset"):  # what a driver writes after its workers
        shutil.rmtree(tmp_path / "root" / folder, ignore_errors=True)
    again, _ = curate(sources, tmp_path / "root")
    assert sum(again.num_stage_calls.values()) == 0
    assert len(Ledger(Store(str(tmp_path / "root"))).entries()) >= 1


def test_rows_are_equal_on_another_root(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    first, _ = curate(sources, tmp_path / "one")
    second, _ = curate(sources, tmp_path / "two")
    assert first.clips == second.clips
    store = Store(str(tmp_path / "one"))
    clips = models_from_parquet(store.read(first.clips.name), Clip)
    assert len(clips) == 4
    assert all(c.speech and c.quality for c in clips)
