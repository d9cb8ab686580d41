"""What curating costs: the table beside an earlier one, and one real run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.bench.curation_cost import machine, measure_curation, read_cost, table
from jobs.outputs import CurationCost, StageCost
from jobs.studio import generate, scripts
from schemas.errors import ConfigError


def cost(cpu_s: float, source_s: float = 4.0, **changes: object) -> CurationCost:
    stages = (
        StageCost(name="probe", num_rows=1, cpu_s=1.0, wall_s=1.5),
        StageCost(name="detect", num_rows=2, cpu_s=cpu_s, wall_s=cpu_s),
    )
    kept = {
        "videos": ("a.mp4",), "source_s": source_s, "num_clips": 2, "num_kept": 1, "stages": stages,
        "cpu_s": cpu_s + 3.0, "wall_s": cpu_s + 4.0, "peak_bytes": 10**9, "machine": machine(),
    }  # fmt: skip
    return CurationCost.model_validate(kept | changes)


def test_totals_are_of_the_stages_and_the_rest_is_what_is_left():
    one = cost(7.0)
    assert one.stage_cpu_s == 8.0
    assert one.overhead_cpu_s == 2.0
    assert one.video_s_per_s == 1.0  # 4 s of video for 8 s on one core, so 4 on two


def test_ratios_are_of_cpu_seconds_for_a_second_of_video():
    now, before = cost(3.0, source_s=4.0), cost(12.0, source_s=8.0)
    lines = {line.split()[0]: line.split() for line in table(now, before).splitlines()}
    assert lines["detect"][-2:] == ["1.500", "0.50"]
    assert lines["probe"][-2:] == ["0.125", "2.00"]
    assert "another machine" not in table(now, before)
    assert "another machine" in table(now, cost(12.0, machine={"processor": "other"}))


def test_figures_are_read_again_and_nothing_else_is(tmp_path):
    path = tmp_path / "before.json"
    path.write_text(cost(3.0).model_dump_json())
    assert read_cost(path) == cost(3.0)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="bench curation"):
        read_cost(path)
    with pytest.raises(ConfigError, match="no\\.json"):
        read_cost(tmp_path / "no.json")


@pytest.mark.slow
def test_every_stage_of_a_real_run_is_counted(tmp_path, monkeypatch):
    take = replace(scripts.SCRIPTS["clean"].takes[0], num_frames=96)
    monkeypatch.setitem(scripts.SCRIPTS, "short", scripts.ClipScript("short", (take,)))
    (clip,) = generate.generate(tmp_path / "studio", clips=["short"], size_px=(240, 416))
    found = measure_curation([clip.video], ["segment.buckets=[[240, 416]]"])
    assert found.source_s == pytest.approx(96 / 25, abs=0.1)
    rows = {stage.name: stage for stage in found.stages}
    assert list(rows)[:3] == ["probe", "segment", "detect"]
    assert rows["detect"].num_rows == 1
    assert 0 < rows["detect"].cpu_s <= found.cpu_s
    assert found.stage_cpu_s + found.overhead_cpu_s == pytest.approx(found.cpu_s)
