"""Every input has a line with a reason, on folders and on stores alike; one odd object stops nothing."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from curation.inputs.listing import find_again
from curation.inputs.sources import list_sources
from curation.root import store as storage
from curation.root.blobs import StoreBlobs
from curation.root.ledger import PASSING
from curation.root.store import Store, StoreOptions
from schemas.errors import ConfigError, DataError, TransientError
from tests.support import s3
from tests.support.fault_proxy import fault_proxy

TREE = {
    "a.mp4": b"a", "copy of a.mp4": b"a", "sub/b.mp4": b"b", ".hidden.mp4": b"h", "sub/.DS_Store": b"d",
    ".Trash/x.mp4": b"t", ".Trash/deep/y.mp4": b"y", "old/_format.json": b'{"format": "handloom-root"}',
    "old/blobs/ab/clip.mp4": b"made by us", "notes/_format.json": b"{}",
}  # fmt: skip
ROWS = ["a.mp4", "notes/_format.json", "sub/b.mp4"]
REASONS = {"duplicate_content": 1, "hidden": 4, "handloom_root": 1, "folder_marker": 1}


def listed(*addresses, out="", **options):
    return list_sources([str(a) for a in addresses], StoreOptions(**options), out=str(out))


def names_of(found, base):
    return [row.uri.removeprefix(f"{base}/") for row in found.rows]


def write_tree(folder: Path) -> Path:
    for name, data in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "empty").mkdir()
    return folder


def test_every_file_of_a_folder_has_a_line(tmp_path):
    raw = write_tree(tmp_path / "raw")
    found = listed(raw)
    assert names_of(found, raw) == ROWS
    assert found.reasons == REASONS
    assert len(found.lines) == len(ROWS) + sum(REASONS.values())


def test_links_fifos_and_sockets_are_named_and_never_opened(tmp_path):
    raw = tmp_path / "raw"
    (raw / "sub").mkdir(parents=True)
    (raw / "real.mp4").write_bytes(b"real")
    (raw / "inside.mp4").symlink_to(raw / "real.mp4")
    (raw / "broken.mp4").symlink_to(raw / "none.mp4")
    (raw / "circle.mp4").symlink_to(raw / "circle.mp4")
    (raw / "outside.mp4").symlink_to("/etc/hostname")
    (raw / "loop").symlink_to(raw)
    os.mkfifo(raw / "sub/live.mp4")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(raw / "sub/s"))
        found = listed(raw)
    assert {Path(line.uri).name: line.reason for line in found.lines} == {
        "inside.mp4": "",
        "real.mp4": "duplicate_content",
        "broken.mp4": "broken_link",
        "circle.mp4": "broken_link",
        "outside.mp4": "link_out_of_tree",
        "loop": "link_to_folder",
        "live.mp4": "not_a_file",
        "s": "not_a_file",
    }
    with pytest.raises(ConfigError, match="1 not_a_file"):
        listed(raw / "sub/live.mp4")


def test_what_is_given_by_name_is_read_and_what_is_given_twice_is_counted(tmp_path):
    raw = write_tree(tmp_path / "raw")
    found = listed(raw / ".hidden.mp4", raw / "sub", raw / "sub/b.mp4", raw / "sub")
    assert names_of(found, raw) == [".hidden.mp4", "sub/b.mp4"]
    assert found.reasons == {"given_twice": 2, "hidden": 1}


def test_names_that_are_no_utf8_fail_by_name_and_the_rest_goes_on(tmp_path):
    raw = os.fsencode(tmp_path / "raw")
    Path(os.fsdecode(raw + b"/caf\xe9")).mkdir(parents=True)
    for name in (b"caf\xe9/x.mp4", b"\xff.mp4", b"good.mp4", "ü　\n.mp4".encode()):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(name)
    found = listed(tmp_path / "raw")
    assert [Path(r.uri).name for r in found.rows] == ["good.mp4", "ü　\n.mp4"]
    assert {line.uri.removeprefix(f"{tmp_path}/raw/") for line in found.others} == {
        r"caf\xe9/x.mp4",
        r"\xff.mp4",
    }
    assert found.reasons == {"name_not_utf8": 2}
    for line in found.lines:
        line.model_dump_json()


@pytest.fixture
def nobody():
    """A folder of a user who may not read everything."""
    if os.geteuid() != 0:
        pytest.skip("not root: cannot become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_unreadable_files_and_folders_are_counted(nobody):
    os.seteuid(0)
    for name in ("locked.mp4", "good.mp4", "closed/x.mp4"):
        (nobody / name).parent.mkdir(exist_ok=True)
        (nobody / name).write_bytes(name.encode())
    (nobody / "locked.mp4").chmod(0)
    (nobody / "closed").chmod(0)
    os.seteuid(65534)
    found = listed(nobody)
    assert names_of(found, nobody) == ["good.mp4"]
    assert {Path(line.uri).name: line.reason for line in found.others} == {
        "locked.mp4": "access_denied",
        "closed": "access_denied",
    }
    with pytest.raises(ConfigError, match="access denied; check the folder's permissions"):
        listed(nobody / "locked.mp4")


def test_own_output_is_no_source(tmp_path):
    raw = write_tree(tmp_path / "raw")
    for out in (raw, raw / "sub" / "..", tmp_path):
        with pytest.raises(ConfigError, match="is the output root"):
            listed(raw, out=out)
    (raw / "out/probe").mkdir(parents=True)  # a root that is not finished yet
    (raw / "out/probe/x").write_bytes(b"half")
    found = listed(raw, out=raw / "out")
    assert names_of(found, raw) == ROWS
    assert found.reasons == {**REASONS, "handloom_root": 2}
    for source in (raw / "old", raw / "old/blobs", raw / "old/blobs/ab/clip.mp4"):
        with pytest.raises(ConfigError, match="1 handloom_root"):
            listed(source)
    (tmp_path / "link").symlink_to(raw)
    with pytest.raises(ConfigError, match="is the output root"):
        listed(tmp_path / "link", out=raw)


def test_ids_of_lines_do_not_tell_where_the_folder_lies(tmp_path):
    found = [listed(write_tree(tmp_path / name)) for name in ("one", "two")]
    ids = [sorted((line.row_id, line.reason) for line in f.lines) for f in found]
    assert ids[0] == ids[1]


# --- buckets


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3.s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        s3.make_bucket(endpoint, "raw")
        yield endpoint


@pytest.fixture
def proxy(server, monkeypatch):
    for key, value in s3.environment(server).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(storage, "_MAX_TRIES", 2)
    with fault_proxy(server) as running:
        yield running


@pytest.fixture
def tree(server, proxy, tmp_path):
    """The tree in a bucket, with the marker that a browser's `create folder` makes."""
    base = f"s3://raw/{tmp_path.name}"
    store = Store(base, StoreOptions(endpoint_url=server))
    for name, data in TREE.items():
        store.put_new(name, data)
    s3.put_object(server, f"raw/{tmp_path.name}/empty/", b"")
    return base


@pytest.mark.slow
def test_a_bucket_gives_the_same_lines_as_a_folder(tree, proxy):
    found = listed(tree, endpoint_url=proxy.endpoint)
    assert names_of(found, tree) == ROWS
    assert found.reasons == REASONS
    with pytest.raises(ConfigError, match="is the output root"):
        listed(tree, out=f"{tree}/", endpoint_url=proxy.endpoint)
    below = listed(tree, out=f"{tree}/sub", endpoint_url=proxy.endpoint)
    assert below.reasons == {**REASONS, "handloom_root": 2, "hidden": 3}


@pytest.mark.slow
def test_keys_that_no_client_asks_for_fail_by_name_and_the_rest_goes_on(tree, server, proxy):
    name = tree.removeprefix("s3://raw/")
    s3.put_object(server, f"raw/{name}/new\nline.mp4", b"n")
    proxy.odd_keys = [f"{name}/sub//b.mp4", f"{name}/./c.mp4", f"{name}//a.mp4"]
    found = listed(tree, endpoint_url=proxy.endpoint)
    assert names_of(found, tree) == ROWS
    assert found.reasons == {**REASONS, "odd_key": 4}
    assert f"{tree}/sub//b.mp4" in [line.uri for line in found.others]
    again = find_again(f"{tree}/sub//b.mp4", StoreOptions(endpoint_url=proxy.endpoint))
    assert again is None  # a client would read sub/b.mp4 instead


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("archived", "archived"), ("denied", "access_denied"), ("503", "unreadable")],
)
def test_one_object_that_cannot_be_read_fails_by_name(tree, proxy, fault, reason):
    proxy.plan(fault, "GET", "sub/b.mp4", times=1000)
    found = listed(tree, endpoint_url=proxy.endpoint)
    assert names_of(found, tree) == ["a.mp4", "notes/_format.json"]
    assert found.reasons == {**REASONS, reason: 1}
    proxy.plans.clear()
    proxy.plan("denied", "GET", ".mp4", times=1000)
    with pytest.raises(ConfigError, match=r"none of 1 files can be read: .*credentials"):
        listed(f"{tree}/sub", endpoint_url=proxy.endpoint)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "reason"), [("archived", "archived"), ("503", "unreadable")])
def test_a_source_that_a_worker_cannot_read_is_one_row_and_not_remembered(
    tree, proxy, tmp_path, fault, reason
):
    options = StoreOptions(endpoint_url=proxy.endpoint)
    row = list_sources([f"{tree}/sub"], options).rows[0]
    proxy.plan(fault, "GET", "sub/b.mp4", times=1000)
    blobs = StoreBlobs(Store(str(tmp_path / "root")), options, tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    with pytest.raises(DataError) as caught:
        blobs.fetch_source(row)
    assert caught.value.code == reason
    assert reason in PASSING


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:9000", "ftp://host", "http://", "http://a b", "https://k:s@host", "http://h:x"],
)
@pytest.mark.parametrize("variable", ["", "AWS_ENDPOINT_URL"])
def test_an_endpoint_that_is_none_is_a_request_gone_wrong(monkeypatch, endpoint, variable):
    if variable:
        monkeypatch.setenv(variable, endpoint)
    with pytest.raises(ConfigError, match=r"endpoint-url|AWS_ENDPOINT_URL") as caught:
        Store("s3://raw/x", StoreOptions(endpoint_url=None if variable else endpoint))
    assert "k:s" not in str(caught.value)


@pytest.mark.parametrize("has_credentials", [True, False])
def test_a_dead_endpoint_is_told_from_denied_access(monkeypatch, has_credentials):
    monkeypatch.setattr(storage, "_MAX_TRIES", 2)
    for name, value in s3.environment("").items():
        monkeypatch.delenv(name, raising=False)
        if has_credentials and value:
            monkeypatch.setenv(name, value)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransientError, match=f"nothing answers at {endpoint}"):
            listed("s3://raw", endpoint_url=endpoint, region="us-east-1")
