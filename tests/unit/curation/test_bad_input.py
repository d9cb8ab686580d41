"""Runs over sources and roots that misbehave: a clear error or a counted outcome, nothing lost."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from curation.inputs.sources import list_sources
from curation.recipe import RunConfig
from curation.root import store as storage_module
from curation.root.ledger import Ledger
from curation.root.store import Store, StoreOptions
from curation.upkeep.verify import verify
from schemas.errors import HandloomError
from schemas.manifest import InputLine
from schemas.outcome import Outcome
from tests.support import s3
from tests.support.fault_proxy import fault_proxy
from tests.unit.curation.toy_runs import (
    RAY,
    TEXTS,
    curate,
    decisions_of,
    facts,
    outcomes,
    request,
    toy,
)

pytestmark = pytest.mark.slow


def test_a_source_that_changes_or_goes_away_is_counted_and_comes_back(tmp_path):
    sources = toy.write_sources(
        tmp_path / "raw", {"a.txt": "first", "b.txt": "second", "c.txt": "x"}
    )
    asked = request(sources, tmp_path / "root")
    (sources / "a.txt").write_text("first, but changed after it was listed")
    (sources / "b.txt").rename(tmp_path / "b.txt")
    record = asked.run()
    decisions = decisions_of(asked.store, record)
    reasons = Counter(d.reason for d in decisions if d.outcome is Outcome.FAILED)
    assert reasons == {"source_changed": 1, "source_missing": 1}
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 2}
    # neither is remembered against the content, which may come back
    (tmp_path / "b.txt").rename(sources / "b.txt")
    record, decisions = curate(sources, tmp_path / "root")
    assert record.num_stage_calls["segment"] == 2
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 6}
    assert verify(asked.store).problems == ()


def test_a_source_that_is_written_while_it_is_hashed_is_counted(tmp_path, monkeypatch):
    (tmp_path / "live.mp4").write_bytes(b"0" * 100)
    (tmp_path / "calm.mp4").write_bytes(b"calm")
    real, calls = storage_module.Store.stream, Counter()

    def stream(store, name):
        for chunk in real(store, name):
            calls[name] += 1
            if name == "live.mp4":
                with (tmp_path / name).open("ab") as handle:
                    handle.write(b"more")
            yield chunk

    monkeypatch.setattr("curation.root.store.CHUNK_BYTES", 40)
    monkeypatch.setattr(storage_module.Store, "stream", stream)
    found = list_sources([str(tmp_path)], StoreOptions())
    assert [Path(r.uri).name for r in found.rows] == ["calm.mp4"]
    assert [(Path(line.uri).name, line.reason) for line in found.others] == [
        ("live.mp4", "source_changed")
    ]
    assert calls["live.mp4"] == 2  # one chunk of each of two tries


def test_unreadable_sources_are_in_the_books(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "kept"})
    asked = request(sources, tmp_path / "root")
    gone = InputLine(
        uri="/gone.txt",
        row_id="0" * 16,
        outcome=Outcome.FAILED,
        reason="source_missing",
        detail="went away",
    )
    found = type(asked.sources)(asked.sources.rows, (gone,))
    asked = type(asked)(asked.recipe, asked.chain, found, asked.store)
    decisions = decisions_of(asked.store, asked.run())
    assert outcomes(decisions, "sources") == {Outcome.KEPT: 1, Outcome.FAILED: 1}


def test_ten_thousand_tiny_objects_are_listed_and_their_copies_counted(tmp_path):
    for index in range(10_000):
        (tmp_path / f"{index:05d}.mp4").write_bytes(b"%d" % (index % 9_000))
    found = list_sources([str(tmp_path)], StoreOptions())
    assert (len(found.rows), found.reasons["duplicate_content"]) == (9_000, 1_000)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small tmpfs: not root, or not allowed to")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half_written(small_disk, tmp_path):
    store = Store(str(small_disk / "root"))
    big = tmp_path / "big"
    big.write_bytes(os.urandom(2_000_000))
    store.put_new("small", b"fits")
    with pytest.raises(HandloomError, match=r"cannot write big .*No space left"):
        store.put_new("big", big)
    assert [m.name for m in store.list()] == ["small"]
    assert store.read("small") == b"fits"


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_a_full_disk_fails_clearly_and_goes_on_when_there_is_room(small_disk, tmp_path):
    texts = {f"{i}.txt": f"{i} " + "long text " * 15_000 for i in range(12)}  # 150 kB each
    sources = toy.write_sources(tmp_path / "raw", texts)
    roomy = {"max_chars": 1_000_000}
    asked = request(sources, small_disk / "root", RAY, segment=roomy)
    with pytest.raises(HandloomError, match="No space left") as caught:
        asked.run()
    assert "Traceback" not in str(caught.value)
    assert Ledger(asked.store).latest_run() is None
    known = len(list(asked.store.list("receipts/segment")))
    assert known < 12
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    record, decisions = curate(sources, small_disk / "root", segment=roomy)
    assert outcomes(decisions, "speech") == {Outcome.KEPT: 24}  # nothing was held against a row
    assert record.num_stage_calls["segment"] == 12 - known
    assert verify(asked.store).problems == ()


def test_the_same_shards_with_one_and_two_workers_on_a_folder_and_on_s3_with_faults(
    tmp_path, ray_cluster, caplog
):
    sources = toy.write_sources(tmp_path / "raw", TEXTS | {"g.txt": "and another", "h.txt": "more"})
    found = []
    with s3.s3_server(tmp_path) as endpoint, fault_proxy(endpoint) as proxy:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in s3.environment(proxy.endpoint).items():
                patch.setenv(key, value)
            s3.make_bucket(endpoint, "raw")
            with s3.cluster_of_its_own():
                for workers, root in (
                    (1, tmp_path / "one"),
                    (2, tmp_path / "two"),
                    (2, "s3://raw/r"),
                ):
                    proxy.every = 17
                    config = RunConfig(
                        max_workers=workers,
                        max_samples_per_shard=4,
                        max_attempts_per_row=3,
                        runner="here" if workers == 1 else "ray",
                    )
                    curate(sources, root, config, shards=True)
                    proxy.every = 0
                    found.append(facts(Store(str(root))))
                    assert verify(Store(str(root))).problems == ()
                told = everything_written(Store("s3://raw/r"))
    assert found[0] == found[1] == found[2]
    assert len(found[0]["shards"]) >= 2
    assert proxy.injected.total() >= 3
    for secret in (s3.SECRET_KEY, s3.ACCESS_KEY):
        assert secret.encode() not in told
        assert secret not in caplog.text


def everything_written(store: Store) -> bytes:
    return b"\0".join(m.name.encode() + store.read(m.name) for m in store.list())


@pytest.mark.usefixtures("ray_cluster")
def test_two_drivers_on_one_root_agree(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    asked = [request(sources, tmp_path / "root", RAY, shards=True) for _ in range(2)]
    records = []
    threads = [threading.Thread(target=lambda a=a: records.append(a.run())) for a in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 2
    assert records[0].clips == records[1].clips
    assert records[0].snapshot == records[1].snapshot == 1
    store = asked[0].store
    assert verify(store).problems == ()
    curate(sources, tmp_path / "alone", shards=True)
    assert facts(store) == facts(Store(str(tmp_path / "alone")))


def test_only_the_cone_of_a_change_is_computed(tmp_path):
    sources = toy.write_sources(tmp_path / "raw", {"a.txt": "one", "b.txt": "two"})

    def calls(**configs):
        return curate(sources, tmp_path / "root", shards=True, **configs)[0].num_stage_calls

    assert calls() == {"segment": 2, "quality": 4, "speech": 4, "shards": 1}
    (sources / "c.txt").write_text("three")  # a file more
    assert calls() == {"segment": 1, "quality": 2, "speech": 2, "shards": 1}
    (sources / "a.txt").write_text("onf")  # a byte
    assert calls() == {"segment": 1, "quality": 2, "speech": 2, "shards": 1}
    os.utime(sources / "a.txt", (1, 1))  # a time
    (sources / "b.txt").rename(sources / "d.txt")  # a name
    assert calls() == {"segment": 0, "quality": 0, "speech": 0, "shards": 0}
    assert calls(speech={"level": 2}) == {"segment": 0, "quality": 0, "speech": 6, "shards": 1}
    assert calls(speech={"level": 2}, quality={"gate": {"min_sharpness": 4}}) == {
        "segment": 0,
        "quality": 0,
        "speech": 0,
        "shards": 1,
    }
