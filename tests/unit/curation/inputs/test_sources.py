"""Listing sources: by content, sorted, nothing skipped without a word."""

from __future__ import annotations

import pytest

from curation.inputs.sources import list_sources
from curation.root.store import StoreOptions
from schemas.errors import ConfigError


def listed(*addresses):
    return list_sources([str(a) for a in addresses], StoreOptions())


def test_folders_files_and_odd_names(tmp_path):
    names = ["b.mp4", "a (ü) $(x).mp4", "-lead.mp4", "sub/c.mkv"]
    for index, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes([index]))
    (tmp_path / ".hidden").write_bytes(b"h")
    found = listed(tmp_path, tmp_path / "b.mp4")
    assert [r.uri for r in found.rows] == sorted(str(tmp_path / n) for n in names)
    assert found.reasons == {"hidden": 1, "given_twice": 1}


def test_equal_contents_are_one_row_and_one_counted_duplicate(tmp_path):
    for name in ("x.mp4", "y.mp4"):
        (tmp_path / name).write_bytes(b"same")
    found = listed(tmp_path)
    assert [r.uri for r in found.rows] == [str(tmp_path / "x.mp4")]
    assert [(line.uri, line.reason, line.detail) for line in found.others] == [
        (str(tmp_path / "y.mp4"), "duplicate_content", f"same content as {tmp_path / 'x.mp4'}")
    ]


def test_ids_come_from_content_not_from_names_or_times(tmp_path):
    (tmp_path / "one.mp4").write_bytes(b"bytes")
    first = listed(tmp_path / "one.mp4").rows[0]
    (tmp_path / "two.mp4").write_bytes(b"bytes")
    assert listed(tmp_path / "two.mp4").rows[0].row_id == first.row_id


def test_links_out_of_the_tree_are_not_followed(tmp_path):
    (tmp_path / "outside.mp4").write_bytes(b"secret")
    inside = tmp_path / "raw"
    inside.mkdir()
    (inside / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (inside / "real.mp4").write_bytes(b"real")
    found = listed(inside)
    assert [r.uri for r in found.rows] == [str(inside / "real.mp4")]
    assert found.reasons == {"link_out_of_tree": 1}


@pytest.mark.parametrize("name", ["none.mp4", "empty"])
def test_missing_paths_and_empty_folders_are_requests_gone_wrong(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"does not exist|no files"):
        listed(tmp_path / name)
