"""The engine: nothing lost, nothing done twice, thresholds re-decide, poison rows are set aside."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from curation.here import TINY_S, is_tiny
from curation.inputs.sources import list_sources
from curation.planning.plan import make_plan
from curation.recipe import RunConfig
from curation.root.ledger import Ledger
from curation.root.store import Store, StoreOptions
from curation.root.tables import models_from_parquet
from schemas.outcome import Outcome, StageResult
from schemas.rows import Clip
from tests.unit.curation.toy_runs import HERE, RAY, TEXTS, curate, facts, outcomes, request, toy

pytestmark = pytest.mark.slow


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


def test_a_limit_of_files_leaves_the_others_out_and_a_larger_one_goes_on(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)

    def run(limit):
        found = list_sources([str(sources)], StoreOptions(), limit=limit)
        curation = replace(request(sources, tmp_path / "root"), sources=found)
        return found, curation.run()

    found, record = run(2)
    assert [Path(r.uri).name for r in found.rows] == ["a.txt", "b.txt"]
    assert found.reasons == {"over_limit": 4}
    assert record.num_stage_calls["segment"] == 2
    found, record = run(5)
    assert found.reasons == {"over_limit": 1}
    assert record.num_stage_calls["segment"] == 3


def test_a_raised_limit_does_again_what_failed_below_it_and_nothing_else(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    first, decisions = curate(sources, tmp_path / "root", segment={"max_chars": 10})
    assert {d.reason for d in decisions if d.outcome is Outcome.FAILED} == {"too_long", "bad_text"}
    again, _ = curate(sources, tmp_path / "root", segment={"max_chars": 10})
    assert sum(again.num_stage_calls.values()) == 0
    raised = request(sources, tmp_path / "root", segment={"max_chars": 50})
    plan = make_plan(raised)
    assert {s.name: s.num_known for s in plan.stages} == {"segment": 2, "quality": 2, "speech": 2}
    record = raised.run()
    assert record.num_stage_calls == {"segment": 3, "quality": 2, "speech": 2}
    assert {s.name: s.closure_fingerprint for s in record.stages} == {
        s.name: s.closure_fingerprint for s in first.stages
    }
    lowered, same = curate(sources, tmp_path / "root", segment={"max_chars": 3})
    assert sum(lowered.num_stage_calls.values()) == 0
    assert outcomes(same, "speech") == {Outcome.KEPT: 4}


@pytest.mark.usefixtures("ray_cluster")
def test_a_row_that_kills_its_worker_is_quarantined_and_the_run_ends(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {**TEXTS, "k.txt": "kill me", "z.txt": "bug"})
    _, decisions = curate(sources, tmp_path / "root", RAY)
    reasons = Counter(d.reason for d in decisions if d.outcome is Outcome.QUARANTINED)
    assert reasons == {"worker_died": 1, "unexpected_error": 1, "crash_SIGSEGV": 1}
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 4}


@pytest.mark.usefixtures("ray_cluster")
def test_ray_and_the_drivers_own_process_make_the_same_of_everything(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {**TEXTS, "z.txt": "bug"})
    for run in (RAY, HERE):
        root = tmp_path / run.runner
        record, decisions = curate(sources, root, run, shards=True)
        assert record.num_stage_calls == {"segment": 6, "quality": 4, "speech": 4, "shards": 1}
        assert sum(curate(sources, root, run, shards=True)[0].num_stage_calls.values()) == 0
        assert outcomes(decisions, "segment")[Outcome.QUARANTINED] == 2
    assert facts(Store(str(tmp_path / "ray"))) == facts(Store(str(tmp_path / "here")))


def test_what_is_known_to_be_tiny_needs_no_ray(tmp_path):
    """A new threshold gives new shards; what that takes is known of this root."""
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    curate(sources, tmp_path / "root", shards=True)
    (sources / "g.txt").write_text("another one")
    script = f"""
import sys
from tests.unit.curation.toy_runs import RunConfig, curate
record, _ = curate({str(sources)!r}, {str(tmp_path / "root")!r}, RunConfig(), shards=True,
                   quality={{"gate": {{"min_sharpness": 9}}}})
assert record.num_stage_calls == {{"segment": 1, "quality": 2, "speech": 2, "shards": 1}}
import ray
assert not ray.is_initialized()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_row_at_which_the_process_died_goes_to_a_worker(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "hello"})
    curate(sources, tmp_path / "root")
    (sources / "k.txt").write_text("kill me")
    asked = request(sources, tmp_path / "root", RunConfig())
    pending = [(row, 0) for row in asked.sources.rows if row.uri.endswith("k.txt")]
    known = Ledger(asked.store).known_results(asked.chain.closures).values()
    (group, *_) = asked.chain.groups()
    assert is_tiny(pending, group, known, asked.store)
    script = f"""
from tests.unit.curation.toy_runs import RunConfig, curate
curate({str(sources)!r}, {str(tmp_path / "root")!r}, RunConfig())
"""
    died = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert not is_tiny(pending, group, known, asked.store)


def test_work_is_not_called_tiny_on_a_guess(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {f"{i}.txt": f"text {i}" for i in range(4)})
    asked = request(sources, tmp_path / "root")
    (group, *_) = asked.chain.groups()
    pending = [(row, 0) for row in asked.sources.rows]
    assert not is_tiny(pending, group, (), asked.store)

    def taking(seconds: float) -> list[StageResult]:
        return [
            StageResult(
                unit_key="0" * 32,
                stage=s.name,
                fingerprint="f",
                closure="0" * 16,
                row_id="0" * 16,
                outcome=Outcome.KEPT,
                seconds_spent=seconds,
            )
            for s in group
        ]

    each_s = TINY_S / (4 * len(group))
    assert is_tiny(pending, group, taking(0.9 * each_s), asked.store)
    assert not is_tiny(pending, group, taking(1.1 * each_s), asked.store)


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
