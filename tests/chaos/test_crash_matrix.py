"""Kill anything at any point and run again: same rows, same shards, no duplicates, nothing missing."""

from __future__ import annotations

import pytest

from curation.root.store import Store
from tests.chaos.driver import Settings, run
from tests.support import chaos, s3
from tests.support.chaos import Cell
from tests.unit.curation import toy
from tests.unit.curation.toy_runs import facts

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

CUT = [
    Cell("worker.blob.after", "worker"),
    Cell("worker.receipt.before", "driver"),
    Cell("driver.commit.blob", "driver"),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return str(toy.write_sources(tmp_path_factory.mktemp("chaos") / "raw", chaos.TEXTS))


@pytest.fixture(scope="module")
def reference(tmp_path_factory, ray_cluster, sources):
    """What an undisturbed run on a local root gives; all others are compared with it."""
    root = str(tmp_path_factory.mktemp("undisturbed") / "root")
    run(sources, root, Settings())
    found = facts(Store(root))
    assert len(found["clip_ids"]) == 6  # hello, a longer text, and one more: two clips each
    assert len(found["shards"]) == 3
    return found


@pytest.fixture(params=["local", "s3"])
def new_root(request, tmp_path):
    if request.param == "local":
        yield lambda name: str(tmp_path / name)
    else:
        with s3.bucket(tmp_path) as bucket, s3.cluster_of_its_own():
            yield lambda name: f"{bucket}/{name}"


@pytest.mark.parametrize("cell", CUT, ids=str)
def test_a_killed_run_leaves_no_trace_after_the_next(cell, sources, reference, tmp_path):
    result = chaos.run_cell(cell, sources, str(tmp_path / "root"), reference, tmp_path)
    assert result.is_ok, result


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_whole_matrix(new_root, sources, reference, tmp_path):
    broken = [
        result
        for index, cell in enumerate(chaos.all_cells())
        if not (
            result := chaos.run_cell(cell, sources, new_root(f"root-{index}"), reference, tmp_path)
        ).is_ok
    ]
    assert broken == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_times_on_one_root(tmp_path):
    texts = {f"{i:03d}.txt": f"text number {i}" for i in range(60)}
    sources = str(toy.write_sources(tmp_path / "raw", texts))
    settings = Settings(seconds=0.2, max_attempts=20, max_workers=2)
    root = str(tmp_path / "root")
    victims = list(chaos.kill_at_random(sources, root, settings, 50))
    assert len(victims) == 50
    assert set(victims) == {"worker", "driver"}
    run(sources, root, settings)
    run(sources, str(tmp_path / "undisturbed"), settings)
    assert facts(Store(root)) == facts(Store(str(tmp_path / "undisturbed")))
