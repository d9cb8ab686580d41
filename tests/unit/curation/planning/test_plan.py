"""The plan of a run: what is known, what is left, what it will cost, and what would stop the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curation.inputs.sources import list_sources
from curation.planning.estimates import Total, add_up, predict
from curation.planning.plan import make_plan, spread
from curation.planning.wall_time import scheduled_s, start_of_group_s, starting_s
from curation.resources import check_fit
from curation.root.store import StoreOptions
from jobs.plan_text import plan_lines
from schemas.errors import ConfigError
from schemas.outcome import Outcome
from tests.unit.curation.toy_runs import TEXTS, curate, decisions_of, outcomes, request, toy


class FullDisk:
    free = 0


def unread(curation, *paths):
    """The request with sources listed as a dry run does: looked at, not read."""
    found = list_sources([str(p) for p in paths], StoreOptions(), read=False)
    return replace(curation, sources=found)


def num_kept(curation, record):
    return outcomes(decisions_of(curation.store, record), "shards")[Outcome.KEPT]


def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def by_name(plan):
    return {s.name: s for s in plan.stages}


@pytest.mark.parametrize("num_sampled", [4, 12])
def test_nine_in_ten_intervals_hold_the_total(num_sampled):
    rng = np.random.default_rng(0)
    num_new, hits = 40, 0
    for _ in range(1500):
        sizes = rng.uniform(5, 50, num_sampled + num_new)
        amounts = sizes * rng.normal(0.3, 0.08, len(sizes)).clip(0)
        pairs = list(zip(sizes, amounts, strict=True))
        total = predict(pairs[:num_sampled], float(sizes[num_sampled:].sum()))
        assert total is not None
        guess = total.estimate()
        hits += guess.low <= amounts[num_sampled:].sum() <= guess.high
    assert 0.84 <= hits / 1500 <= 0.95


def test_one_source_gives_a_value_without_an_interval_and_none_gives_nothing():
    one = predict([(2.0, 10.0)], 6.0)
    assert one is not None
    assert one.estimate().model_dump() == {"value": 30.0, "low": None, "high": None}
    assert predict([], 6.0) is None
    assert add_up([Total(1.0), None]) is None
    assert predict([], 0.0) == Total()
    exact = add_up([Total(1.0), Total(2.0)])
    assert exact is not None
    assert exact.estimate().model_dump() == {"value": 3.0, "low": 3.0, "high": 3.0}


def test_a_plan_without_a_past_knows_the_sources_and_says_what_it_does_not_know(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    plan = make_plan(unread(request(sources, tmp_path / "root", shards=True), sources))
    assert (plan.num_sources, plan.num_unread, plan.num_clips_known) == (6, 6, 0)
    assert plan.num_bytes_unread == sum(len(t) for t in TEXTS.values())
    assert by_name(plan)["segment"].todo_rows.value == 6
    assert plan.num_clips is None
    assert plan.wall_s is None
    assert all(s.todo_rows is None for s in plan.stages[1:])
    assert not (tmp_path / "root").exists()
    assert any("--sample" in line for line in plan_lines(plan, "root"))


def test_a_plan_over_a_finished_root_is_what_a_run_then_does(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    curate(sources, tmp_path / "root", shards=True)
    before = snapshot(tmp_path / "root")
    plan = make_plan(request(sources, tmp_path / "root", shards=True))
    assert all(s.todo_rows.value == 0 for s in plan.stages)
    assert by_name(plan)["shards"].num_known > 0
    assert plan.bytes_to_read == 0
    changed = request(sources, tmp_path / "root", shards=True, quality={"scale": 2.0})
    plan = make_plan(changed)
    assert snapshot(tmp_path / "root") == before
    record = changed.run()
    told = {name: s.todo_rows.value for name, s in by_name(plan).items() if name != "shards"}
    assert told == {n: record.num_stage_calls[n] for n in told}
    assert plan.num_clips.value == num_kept(changed, record)


def test_new_sources_beside_known_ones_are_told_from_the_known(tmp_path):
    texts = {f"{i:02}.txt": f"text {i:02} {'x' * (i % 7)}" for i in range(20)}
    sources = toy.write_sources(tmp_path / "raw", texts)
    curate(sources, tmp_path / "root", shards=True)
    new = toy.write_sources(tmp_path / "new", {f"n{i}.txt": f"novel {i:03}" for i in range(10)})
    curation = unread(request(sources, tmp_path / "root", shards=True), new)
    plan = make_plan(curation)
    low, high = plan.num_clips.low, plan.num_clips.high
    run = request(new, tmp_path / "root", shards=True)
    assert low <= num_kept(run, run.run()) <= high < 40
    assert plan.stages[0].todo_rows.value == 10
    assert plan.basis.startswith("20 sources of run ")
    assert plan.bytes_to_write.value > 0
    assert plan.wall_s.value > plan.worker_s.value / plan.num_workers


def test_a_sample_is_curated_aside(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {f"{i}.txt": f"text {i}" for i in range(8)})
    root = tmp_path / "root"
    plan = make_plan(unread(request(sources, root, shards=True), sources), num_samples=4)
    assert plan.basis == "a sample of 4 sources"
    assert plan.num_clips.value == pytest.approx(16)
    assert plan.cpu_s is not None
    assert not root.exists()
    assert "told from a sample of 4 sources" in list(plan_lines(plan, "root"))
    assert spread({"a": 1, "b": 9, "c": 5}, 5) == ["a", "c", "b"]


def test_rounds_of_few_rows_and_starts_of_groups():
    groups = toy.toy_chain().groups()
    todo = {s.name: (3.0, 30.0) for g in groups for s in g}
    num_stages = sum(len(g) for g in groups)
    assert scheduled_s(groups, todo, 2) == pytest.approx(num_stages * 20)
    assert scheduled_s(groups, {n: (2000.0, s) for n, (_, s) in todo.items()}, 2) == pytest.approx(
        num_stages * 15
    )
    assert starting_s(groups, {}, 5) == 0
    wall_s = scheduled_s(groups, todo, 2) + starting_s(groups, todo, 7)
    assert start_of_group_s(wall_s, groups, todo, 2) == pytest.approx(7)


def test_what_would_stop_the_run_stops_the_plan(tmp_path, monkeypatch):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        make_plan(request(sources, full))
    with pytest.raises(ConfigError, match="the cluster has 0"):
        check_fit(toy.toy_chain().groups(), {"CPU": 0.0})
    monkeypatch.setattr(
        "curation.planning.checks.this_machine", lambda: {"CPU": 0.1, "memory": 9e9}
    )
    checks = {c.name: c for c in make_plan(request(sources, tmp_path / "root")).checks}
    assert not checks["workers"].is_ok
    assert "CPU at once, the cluster has 0.1" in checks["workers"].detail
    assert checks["output root"].is_ok


def test_a_folder_that_cannot_be_written_is_told_before_the_run(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    checks = {c.name: c for c in make_plan(request(sources, "/proc/root-of-mine")).checks}
    assert not checks["output root"].is_ok
    assert "/proc cannot be written" in checks["output root"].detail


def test_a_full_disk_is_told_before_the_run(tmp_path, monkeypatch):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    curation = unread(request(sources, tmp_path / "root", shards=True), sources)
    monkeypatch.setattr("curation.planning.checks.shutil.disk_usage", lambda _: FullDisk)
    checks = {c.name: c for c in make_plan(curation, num_samples=2).checks}
    assert not checks["output root"].is_ok
    assert "needed" in checks["output root"].detail
