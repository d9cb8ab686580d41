"""What curating costs: CPU and wall seconds of every stage, per second of video, in one process."""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from curation.root.store import StoreOptions
from curation.root.tables import read_models
from jobs.outputs import CurationCost, StageCost
from jobs.requests import Looks, prepare
from schemas.errors import ConfigError
from schemas.manifest import RunRecord
from schemas.outcome import Decision
from schemas.rows import Clip, SourceVideo

_LIBRARIES = ("handloom", "torch", "numpy", "scipy", "opencv-python-headless", "av", "mediapipe")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_NUM_THREADS")


def measure_curation(videos: Sequence[Path], changes: Sequence[str] = ()) -> CurationCost:
    """Curate videos into a temporary root, one row after the other in this process.

    Args:
        videos: Files or folders.
        changes: ``--set`` changes to the default recipe.

    Raises:
        ConfigError: The request is wrong.
    """
    cpu_before, begun = _cpu_s(), time.perf_counter()
    settings = ["run.runner=here", "run.gates.min_kept_clips=0", *changes]
    with tempfile.TemporaryDirectory(prefix="handloom-bench-") as folder:
        sources = [str(video) for video in videos]
        curation = prepare(sources, f"{folder}/root", "default", settings, StoreOptions(), Looks())
        record = curation.run()
        cpu_s, wall_s = _cpu_s() - cpu_before, time.perf_counter() - begun
        decisions = read_models(curation.store, record.decisions, Decision)
        rows = read_models(curation.store, record.sources, SourceVideo)
        clips = read_models(curation.store, record.clips, Clip)
    return CurationCost(
        videos=tuple(sorted(Path(row.uri).name for row in rows)),
        source_s=sum(row.seconds for row in rows),
        num_clips=len(clips),
        num_kept=sum(d.stage == "shards" and d.outcome == "kept" for d in decisions),
        stages=_stages(record, decisions),
        cpu_s=cpu_s,
        wall_s=wall_s,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        machine=machine(),
    )


def _stages(record: RunRecord, decisions: Sequence[Decision]) -> tuple[StageCost, ...]:
    return tuple(
        StageCost(
            name=stage.name,
            num_rows=len(own),
            cpu_s=sum(d.cpu_spent_s for d in own),
            wall_s=sum(d.seconds_spent for d in own),
        )
        for stage in record.stages
        for own in [[d for d in decisions if d.stage == stage.name]]
    )


def machine() -> dict[str, str]:
    """What figures depend on: processor, cores, versions, threads asked for."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    model = text.partition("model name")[2].partition("\n")[0].strip("\t: ")
    threads = {name: os.environ[name] for name in _THREADS if name in os.environ}
    return {
        "processor": model or platform.processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        **threads,
    }


def read_cost(path: Path) -> CurationCost:
    """A cost that ``handloom bench curation --out`` wrote.

    Raises:
        ConfigError: It is none.
    """
    try:
        return CurationCost.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{path}: not written by handloom bench curation --out: {error}"
        ) from error


def table(cost: CurationCost, before: CurationCost | None = None) -> str:
    """The cost as text, beside an earlier one where there is one: ratios below 1 are gains."""
    old = {stage.name: stage for stage in before.stages} if before else {}
    lines = [
        f"{cost.source_s:.1f} s of video, {cost.num_clips} clips, {cost.num_kept} kept, "
        f"on {cost.machine['processor']}",
        f"{'':<12}{'rows':>6}{'CPU s':>9}{'wall s':>9}{'CPU s a video s':>17}{'before':>9}{'ratio':>7}",
    ]
    for stage in (*cost.stages, _rest(cost)):
        was = old.get(stage.name) or (
            _rest(before) if before and stage.name == "the rest" else None
        )
        lines.append(_line(stage, cost.source_s, was, before.source_s if before else 0.0))
    lines.append(
        f"stages together {cost.stage_cpu_s:.1f} CPU s, {cost.video_s_per_s:.2f} video s a second on two "
        f"cores; peak memory {cost.peak_bytes / 1e9:.2f} GB"
    )
    if before:
        lines.append(
            f"before: {before.stage_cpu_s:.1f} CPU s, {before.video_s_per_s:.2f} video s a second"
        )
        if before.machine != cost.machine:
            lines.append("before was measured on another machine or with other versions")
    return "\n".join(lines)


def _rest(cost: CurationCost) -> StageCost:
    wall_s = max(0.0, cost.wall_s - sum(stage.wall_s for stage in cost.stages))
    return StageCost(name="the rest", num_rows=0, cpu_s=cost.overhead_cpu_s, wall_s=wall_s)


def _line(stage: StageCost, source_s: float, was: StageCost | None, was_source_s: float) -> str:
    rate = stage.cpu_s / source_s if source_s else 0.0
    line = (
        f"{stage.name:<12}{stage.num_rows:>6}{stage.cpu_s:>9.2f}{stage.wall_s:>9.2f}{rate:>17.3f}"
    )
    if was is None or not was_source_s:
        return line
    before = was.cpu_s / was_source_s
    ratio = f"{rate / before:>7.2f}" if before > 0 else f"{'':>7}"
    return f"{line}{before:>9.3f}{ratio}"


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
