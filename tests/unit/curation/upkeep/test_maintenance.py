"""vacuum, verify, retry, explain and diff on the root of a toy run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from typer.testing import CliRunner

from curation.root import leases
from curation.root.leases import Lease
from curation.root.ledger import Ledger
from curation.root.store import Store
from curation.upkeep.explain import diff_runs, explain
from curation.upkeep.retry import find_failures, mark_for_retry, replay
from curation.upkeep.vacuum import vacuum
from curation.upkeep.verify import verify
from jobs.cli import app
from schemas.errors import ConfigError, InvariantError, TransientError
from tests.unit.curation.toy_runs import TEXTS, curate, decisions_of, facts, request, toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A root with one run in it, and its sources; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    texts = {**TEXTS, "n.txt": f"needs {folder / 'medicine'}"}
    sources = toy.write_sources(folder / "raw", texts)
    curate(sources, folder / "root", shards=True)
    return folder


@pytest.fixture
def root(finished, tmp_path):
    shutil.copytree(finished / "root", tmp_path / "root")
    return Store(str(tmp_path / "root"))


def handloom(*argv):
    done = CliRunner().invoke(app, [str(a) for a in argv])
    return done.exit_code, done.stdout, done.stderr


def files(store):
    return sorted(m.name for m in store.list())


def make_old(store, name):
    long_ago = time.time() - 48 * 3600
    os.utime(store.local_root / name, (long_ago, long_ago))


# --- verify


def test_verify_finds_nothing_wrong_with_a_finished_run(root):
    result = verify(root)
    assert result.problems == ()
    assert result.num_snapshots == 1
    assert result.num_unreferenced == 0
    assert handloom("verify", root.uri)[0] == 0


def first(store, prefix):
    return next(iter(store.list(prefix))).name


def shard_of(store):
    return Ledger(store).latest_dataset().shards[0].file.name


@pytest.mark.parametrize(
    ("what", "change", "kind"),
    [
        (shard_of, "flip", "damaged"),
        (shard_of, "remove", "missing"),
        (lambda s: Ledger(s).latest_run().clips.name, "empty", "damaged"),
        (lambda s: first(s, "receipts/quality"), "empty", "unreadable"),
        (lambda s: first(s, "log"), "remove", "gap"),
        (lambda s: first(s, "dataset"), "empty", "unreadable"),
        (lambda s: first(s, "receipts/quality"), "rename", "misnamed"),
    ],
)
def test_verify_names_what_is_wrong(root, what, change, kind):
    name = what(root)
    path = root.local_root / name
    if change == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "rename":
        name = f"{name[:-6]}_.json"
        path.rename(root.local_root / name)
    else:
        path.unlink()
    code, out, _ = handloom("verify", root.uri, "--json")
    assert code == 3
    problems = json.loads(out)["problems"]
    assert any(p["kind"] == kind and p["name"] in (name, "log") for p in problems), problems


# --- history that is not whole


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("change", ["remove", "truncate"])
def test_a_log_entry_that_is_cut_or_missing_is_a_clear_error_in_every_command(
    root, finished, which, change
):
    entries = [m.name for m in root.list("log")]
    path = root.local_root / entries[0 if which == "first" else -1]
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    clip_id = facts(root)["clip_ids"][0]
    for command in (
        ["report", root.uri],
        ["explain", root.uri, clip_id],
        ["diff", root.uri, root.uri],
        ["retry", root.uri, "--reason", "crash_SIGBUS"],
        ["vacuum", root.uri],
        ["verify", root.uri],
        ["train", root.uri, "--recipe", "smoke"],
        ["curate", finished / "raw", "--out", root.uri],
        ["curate", finished / "raw", "--out", root.uri, "--dry-run"],
    ):
        code, out, err = handloom(*command)
        told = " ".join((out + err).split())
        assert code in ((3,) if command[0] == "verify" else (1, 2)), (command, code, told)
        assert "Traceback" not in told
        assert path.stem in told or "damaged" in told or "missing" in told, (command, told)
    with pytest.raises(InvariantError, match="verify, restore it"):
        request(finished / "raw", root.uri, shards=True).run()


@pytest.mark.parametrize("change", ["remove", "truncate"])
def test_a_table_that_history_refers_to_is_missed_by_name(root, change):
    path = root.local_root / Ledger(root).latest_run().decisions.name
    path.unlink() if change == "remove" else path.write_bytes(path.read_bytes()[:100])
    for command in (["explain", root.uri, facts_of_clips(root)], ["diff", root.uri, root.uri]):
        code, _, err = handloom(*command)
        assert code == 1
        assert path.name in "".join(err.split()), err


def facts_of_clips(store):
    return Ledger(store).latest_dataset().shards[0].clip_ids[0]


def test_a_retry_entry_that_went_missing_is_told_by_what_it_asked_for(root, finished):
    ledger = Ledger(root)
    mark_for_retry(ledger, find_failures(root, ledger.latest_run(), "crash_SIGBUS"))
    asked = [m.name for m in root.list("log")][-1]
    receipt = next(m.name for m in root.list("receipts/segment"))
    root.put_new(receipt.replace(".json", ".1.json"), b"{}")
    (root.local_root / asked).unlink()
    with pytest.raises(InvariantError, match="lost a retry entry"):
        ledger.known_results({receipt.split("/")[1]: receipt.split("/")[2]})


# --- vacuum


def test_vacuum_of_a_finished_run_removes_marks_only_and_a_second_run_computes_nothing(
    root, finished
):
    assert all(m.name.startswith("attempts/") for m in vacuum(root, apply=False).garbage)
    before = files(root)
    vacuum(root, apply=True, min_age_h=0)
    gone = set(before) - set(files(root))
    assert gone
    assert all(name.startswith("attempts/") for name in gone)
    assert verify(root).problems == ()
    again = request(finished / "raw", root.uri, shards=True).run()
    assert sum(again.num_stage_calls.values()) == 0


def test_vacuum_takes_old_orphans_and_looks_only_unless_told(root):
    orphan = f"blobs/ab/{'ab' * 32}.txt"
    digest = hashlib.sha256(b"left behind").hexdigest()
    young = f"blobs/{digest[:2]}/{digest}.txt"
    for name in (orphan, young, "tmp/half", "attempts/never-ended/segment/x/0"):
        root.put_new(name, b"left behind")
    for name in (orphan, "tmp/half", "attempts/never-ended/segment/x/0"):
        make_old(root, name)
    before = files(root)
    code, out, _ = handloom("vacuum", root.uri)
    assert code == 0
    assert "would delete" in out
    assert files(root) == before
    code, out, _ = handloom("vacuum", root.uri, "--apply", "--json")
    assert code == 0
    assert {orphan, "tmp/half"} <= set(json.loads(out)["names"])
    left = files(root)
    assert orphan not in left
    assert young in left
    assert not any(n.startswith(("attempts", "leases", "tmp/")) for n in left)
    assert verify(root).problems == ()


def test_vacuum_deletes_nothing_of_a_damaged_root(root):
    (root.local_root / first(root, "receipts/quality")).write_bytes(b"{")
    before = files(root)
    with pytest.raises(ConfigError, match="run handloom verify"):
        vacuum(root, apply=True, min_age_h=0)
    assert files(root) == before


def test_vacuum_and_runs_keep_out_of_each_others_way(root, finished):
    with Lease(root, "run", "somebody"), pytest.raises(ConfigError, match="in use by somebody"):
        vacuum(root, apply=True)
    with Lease(root, "vacuum", "sweeper"):
        with pytest.raises(ConfigError, match="in use by sweeper"):
            request(finished / "raw", root.uri, shards=True).run()
        with pytest.raises(ConfigError, match="in use by sweeper"):
            vacuum(root, apply=True)
    with Lease(root, "run", "one"), Lease(root, "run", "two"):
        pass  # runs share a root
    assert vacuum(root, apply=True).applied
    assert not any(n.startswith("leases") for n in files(root))


def test_a_dead_process_holds_no_lease_and_a_silent_one_not_for_ever(root, monkeypatch):
    code = (
        "import sys, os, signal; from curation.root.store import Store; from curation.root.leases import Lease\n"
        "Lease(Store(sys.argv[1]), 'run', 'dead').__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, root.uri], check=False)
    assert [n for n in files(root) if n.startswith("leases/run/dead")]
    vacuum(root, apply=True, min_age_h=0)
    assert not [n for n in files(root) if n.startswith("leases")]
    # one of another machine: only its age tells
    root.put_new("leases/run/far/00000001.json", b'{"machine": ["far"], "pid": 1, "started": "1"}')
    with pytest.raises(ConfigError, match="in use by far"):
        vacuum(root, apply=True)
    make_old(root, "leases/run/far/00000001.json")
    assert vacuum(root, apply=True).applied


def test_a_lease_renews_itself_and_tells_when_it_cannot(tmp_path, monkeypatch):
    store = Store(str(tmp_path / "root"))
    monkeypatch.setattr(leases, "BEAT_S", 0.02)
    with Lease(store, "run", "busy") as lease:
        time.sleep(0.3)
        names = files(store)
        assert len(names) <= 2  # the old beat goes after the new one came
        assert names[-1] > "leases/run/busy/00000003.json"
        monkeypatch.setattr(store, "put_new", lambda *_: (_ for _ in ()).throw(TransientError("x")))
        monkeypatch.setattr(leases, "DEAD_AFTER_S", 0.2)
        time.sleep(0.3)
        with pytest.raises(TransientError, match="could not be renewed"):
            lease.check()


# --- retry


def test_retry_does_the_asked_rows_again_and_what_follows_from_them(root, finished):
    ledger = Ledger(root)
    record = ledger.latest_run()
    failures = find_failures(root, record, "crash_SIGBUS")
    (finished / "medicine").touch()
    try:
        mark_for_retry(ledger, failures)
        chain = toy.toy_chain(shards=True)
        again = replay(root, record, root.options, chain).run()
    finally:
        (finished / "medicine").unlink()
    assert again.num_stage_calls["segment"] == 1
    assert again.num_stage_calls["quality"] == again.num_stage_calls["speech"] == 2
    assert again.snapshot == record.snapshot + 1
    assert not any(d.reason == "crash_SIGBUS" for d in decisions_of(root, again))
    # the new generation counts from now on, from the log and from receipts alike
    third = request(finished / "raw", root.uri, shards=True).run()
    assert sum(third.num_stage_calls.values()) == 0
    assert third.clips == again.clips
    assert verify(root).problems == ()


def test_retry_forgets_no_input_and_reads_again_what_could_not_be_read(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "hello", "b.txt": "hello", ".h": "h"})
    (sources / "late.txt").symlink_to(sources / "later")
    record, _ = curate(sources, tmp_path / "root")
    store = Store(str(tmp_path / "root"))
    (sources / "later").write_text("a longer text")
    failures = find_failures(store, record, "broken_link")
    assert mark_for_retry(Ledger(store), failures) is None
    again = replay(store, record, store.options, toy.toy_chain()).run()
    told = Counter(d.reason for d in decisions_of(store, again) if d.stage == "sources")
    assert told == {"": 2, "duplicate_content": 1, "hidden": 1}
    assert again.num_stage_calls["segment"] == 1


def test_retry_refuses_what_it_cannot_do(root):
    for reason, message in (
        ("crash_SIGBUS_", "1 crash_SIGBUS at segment"),
        ("too_short", "change that instead"),
    ):
        code, _, err = handloom("retry", root.uri, "--reason", reason)
        assert code == 2
        assert message in " ".join(err.split())
    code, _, err = handloom("retry", root.uri, "--reason", "crash_SIGBUS")
    assert code == 2  # these are toy stages, not this Handloom's
    assert "handloom curate instead" in " ".join(err.split())
    assert not any(e.kind == "retry" for _, e in Ledger(root).entries())
    code, out, _ = handloom("retry", root.uri, "--reason", "crash_SIGBUS", "--mark-only", "--json")
    assert code == 0
    assert json.loads(out)["num_rows"] == 1


# --- explain and diff


def test_explain_tells_where_a_clip_came_from_and_what_was_decided(root):
    record = Ledger(root).latest_run()
    clip_id = facts(root)["clip_ids"][0]
    code, out, _ = handloom("explain", root.uri, clip_id[:10], "--json")
    assert code == 0
    told = json.loads(out)
    assert told["clip"]["clip_id"] == clip_id
    assert [d["stage"] for d in told["decisions"]] == [
        "sources",
        "segment",
        "quality",
        "speech",
        "shards",
    ]
    prints = {s.name: s.fingerprint for s in record.stages}
    assert all(d["fingerprint"] == prints[d["stage"]] for d in told["decisions"][1:])
    assert told["source"]["uri"].endswith(".txt")
    assert told["shards"] == [shard_of(root)]
    code, out, _ = handloom("explain", root.uri, clip_id)
    assert code == 0
    for text in (clip_id, prints["quality"], "sharpness", told["source"]["uri"], shard_of(root)):
        assert text in out
    assert handloom("explain", root.uri, "none")[0] == 2
    with pytest.raises(ConfigError):
        explain(root, record, "")


def test_diff_of_a_run_with_itself_is_empty_and_of_another_threshold_names_the_flips(
    root, finished
):
    record = Ledger(root).latest_run()
    same = diff_runs(root, record, root, record)
    assert same["settings"] == []
    assert same["rows"]["flips"] == []
    other = request(
        finished / "raw", root.uri, shards=True, quality={"gate": {"min_sharpness": 9}}
    ).run()
    code, out, _ = handloom(
        "diff", root.uri, root.uri, "--run-a", record.run_id, "--run-b", other.run_id, "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert found["settings"][0]["config"] == {"gate.min_sharpness": [0.0, 9.0]}
    assert found["rows"]["flips"] == [
        {"from": "kept through shards", "num_rows": 2, "to": "dropped at quality: blurry"}
    ]
    assert found["shards"]["num_samples"] == [4, 2]
    code, out, _ = handloom("diff", root.uri, root.uri, "--run-a", record.run_id)
    assert "kept through shards  ->  dropped at quality: blurry" in out
    assert handloom("diff", root.uri, root.uri, "--run-a", "none")[0] == 2
    assert json.loads(handloom("diff", root.uri, "--json")[1]) == found, "the two newest runs"


def test_diff_of_a_root_with_one_run_says_so(root):
    code, _, err = handloom("diff", root.uri)
    assert code == 2
    assert "has no two runs to compare" in " ".join(err.split())


@pytest.mark.parametrize("command", ["vacuum", "verify", "diff", "retry", "explain"])
def test_what_is_no_root_is_refused_and_left_alone(tmp_path, command):
    extra = {"diff": [tmp_path], "retry": ["--reason", "x"], "explain": ["abc"]}.get(command, [])
    code, _, err = handloom(command, tmp_path, *extra)
    assert code == 2
    assert "not a Handloom root" in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []
