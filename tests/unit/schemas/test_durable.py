"""Files are whole or not there."""

from __future__ import annotations

import os

import pytest

from schemas.durable import sync, written_whole


def test_what_is_written_takes_the_place_of_what_was_there_at_once(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert partial.parent == path.parent  # or the last step would be a copy
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_all_as_it_was(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_partial(tmp_path):
    path = tmp_path / "a.json"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_files_and_folders_are_synced(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle))
    )
    (tmp_path / "a").write_bytes(b"x")
    sync(tmp_path / "a")
    sync(tmp_path)
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]
