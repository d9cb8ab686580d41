"""Storage faults between us and a real S3 server: survived, or a clear error in bounded time."""

from __future__ import annotations

import os
import time

import pytest

from curation.inputs.sources import list_sources
from curation.root import store as storage
from curation.root.leases import Lease
from curation.root.ledger import Ledger
from curation.root.store import ObjectChangedError, Store, StoreOptions
from schemas.errors import ConfigError, HandloomError, TransientError
from schemas.manifest import LogEntry
from schemas.outcome import Outcome, StageResult
from tests.support import s3
from tests.support.fault_proxy import FAULTS, fault_proxy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3.s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        s3.make_bucket(endpoint, "raw")
        yield endpoint


@pytest.fixture
def env(server, monkeypatch):
    """Credentials in the environment, as the only place for them."""

    def put(access_key=s3.ACCESS_KEY, secret=s3.SECRET_KEY):
        for key, value in s3.environment(server, access_key, secret).items():
            monkeypatch.setenv(key, value)
        monkeypatch.delenv("AWS_ENDPOINT_URL")

    put()
    return put


@pytest.fixture
def proxy(server, env):
    with fault_proxy(server) as running:
        yield running


@pytest.fixture
def faulty(proxy, tmp_path):
    return Store(
        f"s3://raw/{tmp_path.name}", StoreOptions(endpoint_url=proxy.endpoint, timeout_s=1)
    )


@pytest.fixture
def healthy(server, env, tmp_path):
    return Store(f"s3://raw/{tmp_path.name}", StoreOptions(endpoint_url=server))


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_survived_by_every_operation(faulty, healthy, proxy, fault, tmp_path):
    big = os.urandom(3_000_000)
    proxy.plan(fault, "PUT", "big")
    faulty.put_new("big", big)
    assert healthy.read("big") == big
    proxy.plan(fault, "GET", "big", times=2)
    assert faulty.read("big") == big
    proxy.plan(fault, "GET", "big")
    faulty.fetch("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big
    proxy.plan(fault, "GET", "list-type")
    assert [m.name for m in faulty.list()] == ["big"]
    proxy.plan(fault, "HEAD", "big")
    assert faulty.exists("big")
    proxy.plan(fault, "DELETE", "big")
    faulty.delete("big")
    assert not healthy.exists("big")
    assert proxy.injected[fault] >= (3 if fault == "truncate" else 5)


def test_a_lost_answer_is_recognised_as_our_own_success(faulty, healthy, proxy):
    proxy.plan("lost", "PUT", "probe/mine")
    assert faulty.put_mine("probe/mine", b"my token")
    proxy.plan("lost", "PUT", "probe")
    faulty.check_create_if_absent()
    ledger = Ledger(faulty)
    for number in (1, 2):
        proxy.plan("lost", "PUT", "log/")
        assert ledger.append(LogEntry(txn=f"t{number}", kind="results")) == number
    assert [e.txn for _, e in Ledger(healthy).entries()] == ["t1", "t2"]
    assert proxy.injected["lost"] == 4


def test_a_lost_answer_to_a_receipt_does_not_do_the_work_twice(faulty, healthy, proxy):
    ledger = Ledger(faulty)
    result = StageResult(
        unit_key="ab" * 16,
        stage="s",
        fingerprint="f",
        closure="c",
        row_id="r",
        outcome=Outcome.KEPT,
    )
    proxy.plan("lost", "PUT", "receipts/")
    assert ledger.record(result, "c") == result
    assert Ledger(healthy).find("s", "c", result.unit_key) == result
    assert proxy.injected["lost"] == 1


@pytest.mark.parametrize("fault", ["reset", "503", "stall"])
def test_what_stays_broken_is_a_clear_error_in_bounded_time(faulty, proxy, fault, monkeypatch):
    monkeypatch.setattr(storage, "_MAX_TRIES", 2)
    proxy.plan(fault, "PUT", "x", times=1000)
    begun = time.monotonic()
    with pytest.raises(TransientError, match=r"cannot write x .* after 2 tries") as caught:
        faulty.put_new("x", b"data")
    assert time.monotonic() - begun < 60
    assert s3.SECRET_KEY not in str(caught.value)


def test_an_object_replaced_between_two_chunks_is_never_read_as_a_mixture(
    healthy, monkeypatch, server
):
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1000)
    healthy.put_new("film", b"a" * 2500)
    chunks = healthy.stream("film")
    assert next(chunks) == b"a" * 1000
    healthy.delete("film")
    healthy.put_new("film", b"b" * 2500)
    with pytest.raises(ObjectChangedError):
        next(chunks)


def test_sources_are_listed_and_hashed_through_faults(faulty, healthy, proxy):
    for index in range(20):
        healthy.put_new(f"raw/{index}.mp4", f"film {index}".encode())
    proxy.every = 7
    options = StoreOptions(endpoint_url=proxy.endpoint, timeout_s=1)
    found = list_sources([f"{faulty.uri}/raw"], options)
    assert len(found.rows) == 20
    assert proxy.injected.total() >= 5


# --- requests that cannot be met


def test_wrong_credentials_and_missing_buckets_are_requests_gone_wrong(healthy, env, server):
    options = StoreOptions(endpoint_url=server)
    with pytest.raises(ConfigError, match="no such bucket"):
        list_sources(["s3://nobucket/x"], options)
    env(secret="wrongsecret")
    with pytest.raises(ConfigError, match="access denied; check the credentials") as caught:
        list_sources([healthy.uri], options)
    assert "wrongsecret" not in str(caught.value)


def test_a_read_only_identity_reads_sources_and_is_refused_a_root(healthy, env, server):
    healthy.put_new("raw/a.mp4", b"film")
    env("rokey", "rosecret123")
    options = StoreOptions(endpoint_url=server)
    assert len(list_sources([f"{healthy.uri}/raw"], options).rows) == 1
    with pytest.raises(ConfigError, match=r"output root cannot be used.*access denied"):
        Ledger(Store(f"{healthy.uri}/root", options))


def test_an_empty_bucket_or_prefix_is_a_request_gone_wrong(server, env, tmp_path):
    s3.make_bucket(server, "empty")
    options = StoreOptions(endpoint_url=server)
    for address in ("s3://empty", "s3://empty/"):
        with pytest.raises(ConfigError, match="no files in"):
            list_sources([address], options)
    with pytest.raises(ConfigError, match="no such object or prefix"):
        list_sources([f"s3://raw/{tmp_path.name}/none.mp4"], options)


def test_one_object_can_be_a_source(healthy, server):
    healthy.put_new("a b (ü).mp4", b"film")
    found = list_sources([f"{healthy.uri}/a b (ü).mp4"], StoreOptions(endpoint_url=server))
    assert [(r.uri, r.num_bytes) for r in found.rows] == [(f"{healthy.uri}/a b (ü).mp4", 4)]


def test_anonymous_access_sends_no_credentials(healthy, server):
    store = Store("s3://raw", StoreOptions(endpoint_url=server, anonymous=True))
    with pytest.raises(ConfigError, match="access denied"):
        store.read("anything")


def test_leases_work_on_a_bucket(healthy):
    Ledger(healthy)
    with Lease(healthy, "run", "one"):
        with pytest.raises(HandloomError, match="in use by one"), Lease(healthy, "vacuum", "v"):
            pass
    with Lease(healthy, "vacuum", "v"):
        pass
    assert not list(healthy.list("leases"))


def test_a_store_that_ignores_create_if_absent_is_refused_before_anything_is_written(
    faulty, healthy, proxy
):
    healthy.check_create_if_absent()  # the server itself honours it
    proxy.is_forgetful = True
    with pytest.raises(ConfigError, match="ignores create-if-absent"):
        Ledger(faulty, "test")
    assert [m.name for m in healthy.list()] == []
