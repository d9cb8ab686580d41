"""The soak of benchmarks/soak.py at full size: ends, balanced, memory flat, nothing lost."""

from __future__ import annotations

import pytest

from curation.recipe import RunConfig
from tests.support.soak import equal_to_undisturbed, soak
from tests.unit.curation import toy


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_thousand_clips_while_workers_are_killed(tmp_path, ray_cluster):
    texts = {f"{i:05d}.txt": f"text number {i}" for i in range(200)}
    sources = str(toy.write_sources(tmp_path / "raw", texts))
    config = RunConfig(
        max_workers=2, max_attempts_per_row=50, max_samples_per_shard=256, runner="ray"
    )
    result = soak(sources, tmp_path / "root", 5.0, config, 10, tmp_path / "soak.png")
    assert result.num_clips == 2000
    assert result.num_kills >= 3
    assert result.outcomes["shards"] == {"kept": 2000}
    assert result.num_problems == 0
    early, late = result.driver_mb
    assert late < 1.3 * early + 50
    assert equal_to_undisturbed(sources, tmp_path / "root", tmp_path / "calm", config, 10)
