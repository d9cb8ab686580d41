"""A cluster whose nodes do not see the same root, sources or credentials: refused before any work, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.root.store import Store
from curation.upkeep.verify import verify
from tests.support import nodes, s3
from tests.unit.curation import toy

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

TEXTS = {f"{i}.txt": f"text number {i}" for i in range(4)}


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """A folder that the second node has on a disk of its own."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, disk):
    if reason := nodes.cannot_unshare():
        pytest.skip(reason)
    with nodes.two_nodes([disk], tmp_path_factory.mktemp("nodes") / "log") as address:
        yield address


def test_a_root_on_a_disk_that_one_node_does_not_have_is_refused(cluster, disk, tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    done = nodes.curate(cluster, str(sources), str(disk / "root"))
    assert done.returncode == 2, done.stderr
    assert f"does not see the output root {disk / 'root'}" in done.stderr
    assert "a mount that all nodes share, or a bucket" in done.stderr
    left = {p.parent.name: p.name for p in (disk / "root").rglob("*") if p.is_file()}
    assert left.pop("root") == "_format.json"
    assert left.keys() <= {"identities"}, "what the driver knows of the sources is all there may be"


def test_sources_that_one_node_does_not_have_are_refused(cluster, disk, tmp_path):
    sources = toy.write_sources(disk / "raw", TEXTS)
    done = nodes.curate(cluster, str(sources), str(tmp_path / "root"))
    assert done.returncode == 2, done.stderr
    assert f"does not see the source {sources / '0.txt'}: it is not there" in done.stderr
    assert not (tmp_path / "root" / "receipts").exists()


def test_credentials_that_are_here_but_not_there_are_named(cluster, tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    with s3.s3_server(tmp_path) as endpoint:
        s3.make_bucket(endpoint, "raw")
        env = s3.environment(endpoint)
        done = nodes.curate(cluster, str(sources), "s3://raw/root", **env)
    assert done.returncode == 2, done.stderr
    assert "does not see the output root s3://raw/root" in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr
    assert "are set here but not there" in done.stderr
    assert s3.SECRET_KEY not in done.stderr


def test_a_root_that_both_nodes_see_is_used(cluster, tmp_path):
    sources = toy.write_sources(tmp_path / "raw", TEXTS)
    done = nodes.curate(cluster, str(sources), str(tmp_path / "root"))
    assert done.returncode == 0, done.stderr
    result = verify(Store(str(tmp_path / "root")))
    assert result.problems == ()
    assert result.num_snapshots == 1
    assert not list((tmp_path / "root" / "probe").glob("*"))
