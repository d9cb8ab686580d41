"""What a node must see before a run begins, and what its errors are worth; two real nodes: chaos/test_two_disks.py."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from curation.nodes import NodeCheck, RootProof, Sight, describe, look, unset_of
from curation.root.store import Store, StoreOptions
from schemas.errors import ConfigError
from tests.unit.curation import toy
from tests.unit.curation.toy_runs import RAY, TEXTS, curate


@pytest.fixture
def root(tmp_path) -> Store:
    return Store(str(tmp_path / "root"))


def test_the_token_is_there_while_the_run_is_and_no_longer(root):
    with NodeCheck(root, StoreOptions(), [], "r1") as nodes:
        assert nodes.proof.problem(root) == ""
    assert "not there" in nodes.proof.problem(root)
    assert list(root.list()) == []


def test_another_root_at_the_same_address_is_found_out(root):
    root.put_new("probe/r1", b"another")
    with pytest.raises(ConfigError, match="another root lies there; use a mount that all nodes"):
        RootProof("probe/r1", "ours").check(root)


def test_a_missing_source_is_named(root, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "empty.mp4").write_bytes(b"")
    uris = [str(tmp_path / name) for name in ("a.mp4", "empty.mp4", "gone.mp4")]
    with NodeCheck(root, StoreOptions(), uris, "r1") as nodes:
        assert look(nodes.proof, root, StoreOptions(), uris[:2], {}) == Sight()
        seen = look(nodes.proof, root, StoreOptions(), uris, {})
    assert seen.source_uri == uris[2]
    assert f"does not see the source {uris[2]}: it is not there; use a mount" in describe(
        seen, root
    )


def test_variables_that_a_node_lacks_are_named_where_a_bucket_is_meant(root, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    assert unset_of(["AWS_ACCESS_KEY_ID", "AWS_REGION"]) == ("AWS_ACCESS_KEY_ID",)
    seen = Sight(root_problem="access denied")
    said = describe(seen, Store("s3://bucket/root"), ["AWS_ACCESS_KEY_ID"])
    assert "AWS_ACCESS_KEY_ID are set here but not there" in said
    assert "AWS_" not in describe(seen, root, ["AWS_ACCESS_KEY_ID"]), "a folder needs none"


class WeighedStage(toy.LoudStage):
    """Its weights are a file of the machine that it runs on."""

    weights: Path

    @property
    def weights_sha256(self) -> str:
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()


def test_a_node_with_other_weights_or_none_is_named(root, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    monkeypatch.setattr(WeighedStage, "weights", weights, raising=False)
    weights.write_bytes(b"ours")
    stage = WeighedStage(toy.LoudConfig())
    with NodeCheck(root, StoreOptions(), [], "r1", [stage]) as nodes:
        there = {stage.fingerprint: stage}
        assert look(nodes.proof, root, StoreOptions(), [], there) == Sight()
        weights.write_bytes(b"theirs")
        seen = look(nodes.proof, root, StoreOptions(), [], there)
        assert "has another stage speech: its weights" in describe(seen, root)
        weights.unlink()
        seen = look(nodes.proof, root, StoreOptions(), [], there)
        assert "cannot run stage speech" in describe(seen, root)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_wrong_request_stays_one_wherever_it_is_found_out(tmp_path, monkeypatch):
    sources = toy.write_sources(tmp_path / "raw", {**TEXTS, "w.txt": "wrong request of a stage"})
    with pytest.raises(ConfigError, match="wrong request of a stage"):
        curate(sources, tmp_path / "root", RAY)
    written = NodeCheck.__enter__
    monkeypatch.setattr(
        NodeCheck, "__enter__", lambda self: (written(self), self._store.delete(self.proof.name))[0]
    )
    with pytest.raises(ConfigError, match="what the driver wrote is not there"):
        curate(sources, tmp_path / "other", RAY)
    assert not (tmp_path / "other" / "receipts").exists()
