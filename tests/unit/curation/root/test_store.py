"""One storage primitive, on a folder and on a real S3 server."""

from __future__ import annotations

import os
import pickle

import pytest

from curation.root.store import Store, StoreOptions, redact, require_format
from schemas.errors import ConfigError, HandloomError, ResumeMismatchError
from tests.support import s3


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """``s3://`` address of a fresh bucket, with credentials in the environment only."""
    import obstore  # noqa: F401  (the client under test)

    folder = tmp_path_factory.mktemp("s3")
    with s3.s3_server(folder) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_REGION", "us-east-1")
        s3.make_bucket(endpoint, "raw")
        yield "s3://raw"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request, tmp_path):
    if request.param == "local":
        return Store(str(tmp_path / "new" / "root"))
    return Store(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")


def test_create_if_absent_never_overwrites(store):
    assert store.put_new("a b/ü (1).txt", b"one")
    assert not store.put_new("a b/ü (1).txt", b"two")
    assert store.read("a b/ü (1).txt") == b"one"
    store.check_create_if_absent()


def test_list_gives_sorted_names_below_a_prefix(store):
    for name in ("x/2", "x/1", "y/1"):
        store.put_new(name, name.encode())
    assert [m.name for m in store.list("x")] == ["x/1", "x/2"]
    assert [m.name for m in store.list()] == ["x/1", "x/2", "y/1"]
    assert [m.num_bytes for m in store.list("y")] == [3]


def test_missing_objects_are_file_not_found(store):
    with pytest.raises(FileNotFoundError):
        store.read("none")
    assert not store.exists("none")


def test_files_travel_whole(store, tmp_path):
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(3_000_000))
    assert store.put_new("big.bin", source)
    store.fetch("big.bin", tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


def test_a_store_travels_to_workers_as_its_address(store):
    store.put_new("k", b"v")
    text = pickle.dumps(store)
    assert b"testsecret" not in text
    assert pickle.loads(text).read("k") == b"v"


def test_a_root_is_marked_once_and_a_foreign_folder_is_refused(store):
    require_format(store, "test", 1)
    require_format(store, "another", 1)
    assert b'"test"' in store.read("_format.json")


def test_a_newer_format_is_refused(tmp_path):
    store = Store(str(tmp_path))
    store.put_new("_format.json", b'{"format": "handloom-root", "version": 99}')
    with pytest.raises(ResumeMismatchError, match="v99"):
        require_format(store, "test", 1)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="not empty"):
        require_format(Store(str(tmp_path)), "test", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_opening_a_store_creates_nothing(tmp_path):
    assert not Store(str(tmp_path / "none")).exists("_format.json")
    assert not (tmp_path / "none").exists()


def test_a_path_that_cannot_be_written_is_a_clear_error():
    with pytest.raises(ConfigError, match="output root cannot be used"):
        require_format(Store("/proc/handloom"), "test", 1)


@pytest.mark.slow
def test_wrong_credentials_and_missing_buckets_are_clear_errors(bucket, monkeypatch):
    with pytest.raises(HandloomError, match="nobucket"):
        require_format(Store("s3://nobucket/x"), "test", 1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigError, match="access denied") as caught:
        require_format(Store(f"{bucket}/x"), "test", 1)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://key:secret@bucket/x"])
def test_strange_addresses_are_refused_without_showing_secrets(address):
    with pytest.raises(ConfigError) as caught:
        Store(address, StoreOptions())
    assert "secret" not in str(caught.value)


def test_redaction():
    assert "abc" not in redact("GET https://h/x?X-Amz-Credential=abc&X-Amz-Signature=abc")
