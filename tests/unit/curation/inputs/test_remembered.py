"""Sources are named once: a root remembers what it read, and forgets when an object changes."""

from __future__ import annotations

import os
import time

import pytest

from curation.inputs.remembered import Identity, is_settled, recall, remember
from curation.inputs.sources import list_sources
from curation.root.store import Store, StoreOptions


def aged(path, data, age_s=60.0):
    """A file that was written a while ago, so far as its content's time says."""
    path.write_bytes(data)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


@pytest.fixture
def settled(monkeypatch):
    """A file's inode was changed just now by the test itself; look at it as from an hour later."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)


def listed(folder, known=None, **options):
    return list_sources([str(folder)], StoreOptions(), known=known, **options)


def as_known(fresh):
    return {(i.uri, i.state): i for i in fresh}


def forbid_reading(monkeypatch):
    def refuse(_found):
        raise AssertionError("it was read")

    monkeypatch.setattr("curation.inputs.sources._hash_object", refuse)


def test_what_is_known_is_not_read_again(tmp_path, settled, monkeypatch):
    aged(tmp_path / "a.mp4", b"one")
    first = listed(tmp_path)
    assert len(first.fresh) == 1
    forbid_reading(monkeypatch)
    again = listed(tmp_path, as_known(first.fresh))
    assert again.rows == first.rows
    assert again.fresh == ()


@pytest.mark.parametrize("same_times", [False, True])
def test_a_change_is_read_even_if_size_and_time_are_set_back(tmp_path, settled, same_times):
    path = aged(tmp_path / "a.mp4", b"one")
    first = listed(tmp_path)
    times = path.stat()
    path.write_bytes(b"two")
    if same_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = listed(tmp_path, as_known(first.fresh))
    assert again.rows[0].content_sha256 != first.rows[0].content_sha256


def test_a_file_of_this_very_second_is_not_remembered(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")
    assert listed(tmp_path).fresh == ()


def test_another_file_under_the_name_is_read(tmp_path, settled):
    path = aged(tmp_path / "a.mp4", b"one")
    first = listed(tmp_path)
    other = aged(tmp_path / "b", b"two")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    again = listed(tmp_path, as_known(first.fresh))
    assert again.rows[0].content_sha256 != first.rows[0].content_sha256


def test_a_look_reads_nothing_and_counts_what_it_does_not_know(tmp_path, settled, monkeypatch):
    aged(tmp_path / "a.mp4", b"one")
    known = as_known(listed(tmp_path).fresh)
    aged(tmp_path / "b.mp4", b"four")
    forbid_reading(monkeypatch)
    seen = listed(tmp_path, known, read=False)
    assert [r.uri for r in seen.rows] == [str(tmp_path / "a.mp4")]
    assert [(f.uri, f.num_bytes) for f in seen.unread] == [(str(tmp_path / "b.mp4"), 4)]


def test_a_root_recalls_all_runs_and_bears_damage(tmp_path):
    store = Store(str(tmp_path / "root"))
    rows = [
        Identity(uri=f"/raw/{n}.mp4", state=f"s{n}", num_bytes=n, content_sha256=f"{n:064x}")
        for n in (1, 2)
    ]
    remember(store, "r1", rows[:1])
    remember(store, "r2", rows[1:])
    remember(store, "r3", [])
    store.put_new("identities/r4.parquet", b"half a fi")
    assert recall(store) == as_known(rows)


def test_tags_of_buckets_are_always_settled():
    assert is_settled('"0cc175b9"/3', 0)
    assert not is_settled(f"{time.time_ns()}-5-1-2-3", time.time_ns())
