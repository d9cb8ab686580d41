"""What a run logs: few lines, each an event with its fields, also from worker processes."""

from __future__ import annotations

import logging

import pytest

from curation.log_lines import EVENTS, kept_lines, say_again, tell
from curation.recipe import RunConfig
from tests.unit.curation.toy_runs import HERE, TEXTS, curate, toy

log = logging.getLogger("curation.somewhere")


def told(caplog) -> list[dict[str, object]]:
    return [r.fields for r in caplog.records if hasattr(r, "fields")]


def of(caplog, event: str) -> list[dict[str, object]]:
    return [fields for fields in told(caplog) if fields["event"] == event]


def test_a_run_tells_its_groups_commits_backends_and_what_it_set_aside(tmp_path, caplog):
    caplog.set_level(logging.INFO, "curation")
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    record, decisions = curate(sources, tmp_path / "root", HERE, shards=True)
    assert [fields["event"] for fields in told(caplog)] == [
        "run_begun",
        "group_begun", "quarantined", "commit", "group_ended",
        "group_begun", "backend_loaded", "commit", "group_ended",
        "group_begun", "commit", "group_ended",
        "run_ended",
    ]  # fmt: skip
    (begun,), (ended,) = of(caplog, "run_begun"), of(caplog, "run_ended")
    assert begun == {"event": "run_begun", "run": record.run_id, "inputs": 6, "rows": 5, "known": 0}
    assert (ended["run"], ended["clips"], ended["snapshot"]) == (record.run_id, 4, 1)
    assert ended["units"] == sum(record.num_stage_calls.values())
    assert ended["seconds"] == pytest.approx(record.wall_s, abs=0.001)
    (loaded,) = of(caplog, "backend_loaded")
    assert (loaded["stage"], loaded["backends"]) == ("speech", ["toy"])
    (aside,) = of(caplog, "quarantined")
    crashed = next(d for d in decisions if d.reason == "crash_SIGSEGV")
    assert (aside["row"], aside["stage"], aside["reason"]) == (
        crashed.row_id, "segment", "crash_SIGSEGV"
    )  # fmt: skip
    first, second, _ = of(caplog, "group_begun")
    assert (first["stages"], first["known"], first["todo"]) == (["segment"], 0, 5)
    assert (second["stages"], second["known"], second["todo"]) == (["quality", "speech"], 0, 4)
    assert [c["units"] for c in of(caplog, "commit")] == [5, 8, 1]

    caplog.clear()
    curate(sources, tmp_path / "root", HERE, shards=True)
    assert {fields["event"] for fields in told(caplog)} == {
        "run_begun", "group_begun", "group_ended", "run_ended"
    }  # fmt: skip
    assert of(caplog, "run_begun")[0]["known"] == 14


@pytest.mark.slow
def test_lines_of_workers_reach_the_driver_with_their_rows(tmp_path, caplog, ray_cluster):
    caplog.set_level(logging.INFO, "curation")
    texts = {"a.txt": "hello", "bug.txt": "bug here", "once.txt": f"once {tmp_path / 'mark'}"}
    sources = toy.write_sources(tmp_path / "raw", texts)
    curate(sources, tmp_path / "root", RunConfig(max_attempts_per_row=2, runner="ray"))
    (again,) = of(caplog, "attempt")
    assert (again["stage"], again["attempt"], again["of"]) == ("segment", 2, 2)
    (aside,) = of(caplog, "quarantined")
    assert (aside["reason"], aside["row"] != again["row"]) == ("unexpected_error", True)
    (broke,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert broke.name == "curation.worker"
    assert broke.fields["row"] == aside["row"]
    assert "ZeroDivisionError: bug here" in broke.getMessage()
    assert {fields["stage"] for fields in of(caplog, "backend_loaded")} == {"speech"}


def test_a_line_can_be_kept_and_said_elsewhere(caplog):
    with kept_lines() as lines:
        tell(log, "attempt", level=logging.WARNING, row="r", of=3)
        log.debug("not worth the way")
    caplog.clear()
    say_again(lines)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("curation.somewhere", logging.WARNING)
    assert record.getMessage() == "attempt row=r of=3"
    assert record.fields == {"event": "attempt", "row": "r", "of": 3}
    with kept_lines() as more:
        pass
    assert not more
    assert log.getEffectiveLevel() == logging.getLogger().getEffectiveLevel()


def test_nothing_is_put_together_for_a_line_that_nobody_reads(caplog):
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("asked for its text")

    caplog.set_level(logging.WARNING, "curation")
    tell(log, "commit", txn=Costly())
    assert not caplog.records


def test_only_events_that_are_documented_exist():
    with pytest.raises(AssertionError, match="commited"):
        tell(log, "commited", level=logging.DEBUG)
    assert all(name == name.lower() and " " not in name for name in EVENTS)
