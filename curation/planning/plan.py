"""The plan of a run: what is known, what there is to do, what that will cost, and the checks of the real run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from curation.chain import Chain, unit_key
from curation.group import Progress
from curation.inputs.sources import SourceList, list_sources
from curation.limits import stopped_lower
from curation.planning.checks import Check, Machine, check_all
from curation.planning.estimates import Estimate, Total
from curation.planning.foresight import Experience, Forecast, Foreseen, experiences, foresee
from curation.planning.wall_time import (
    GROUP_START_S,
    scheduled_s,
    spent,
    start_of_group_s,
    starting_s,
)
from curation.publish import SHARDS_STAGE, plan_dataset
from curation.root.ledger import Ledger
from curation.root.store import Store, check_may_begin
from curation.root.tables import read_models
from curation.run import Curation
from schemas.base import Model
from schemas.manifest import ROOT_MARKER, RunRecord
from schemas.outcome import Decision, StageResult
from schemas.rows import SourceVideo


class StagePlan(Model):
    """One stage of a plan."""

    name: str
    fingerprint: str
    num_known: int
    """Results that will be used again."""
    todo_rows: Estimate | None
    """Results to compute; None: nothing is known that it could be told from."""
    worker_s: Estimate | None


class Plan(Model):
    """What a run would do. Intervals hold 90 % of such totals; None where nothing is known."""

    num_sources: int
    """All that would be used: read before or not."""
    num_bytes: int
    num_unread: int
    """New or changed since their content was named: their bytes are read to name them."""
    num_bytes_unread: int
    num_duplicates: int
    not_used: dict[str, int] = Field(default_factory=dict)
    stages: tuple[StagePlan, ...]
    num_clips_known: int
    """Clips that are known to come through."""
    num_clips: Estimate | None
    """All that are expected in the end."""
    clip_hours: Estimate | None
    bytes_to_read: int
    """Of sources: to name new ones, and by the stages that open them."""
    bytes_to_write: Estimate | None
    worker_s: Estimate | None
    """Seconds of workers, by the clock."""
    cpu_s: Estimate | None
    num_workers: int
    wall_s: Estimate | None
    basis: str
    """Where the estimates come from; empty if there is nothing to tell them from."""
    checks: tuple[Check, ...] = ()


def make_plan(curation: Curation, num_samples: int = 0, progress: Progress | None = None) -> Plan:
    """Plan a run. Nothing is written into the root.

    Args:
        curation: The request.
        num_samples: Curate so many of the sources that have something to do in a temporary root, and estimate from
            them rather than from the root's newest run.
        progress: Where the sample says how far it is.

    Raises:
        ConfigError: The root is not ours, or cannot be one.
        InvariantError: The root's history is damaged.
    """
    known = _known(curation)
    seen = foresee(curation.chain, curation.sources.rows, known)
    past, start_s, basis = _experience(curation, seen, num_samples, progress)
    sources = curation.sources
    unread = (len(sources.unread), sum(f.num_bytes for f in sources.unread))
    forecast = Forecast(curation.chain, seen, unread, past)
    machine = Machine.find()
    workers = curation.recipe.run.max_workers or machine.num_cpus
    worker_s, written = forecast.cost("worker_s"), forecast.cost("written_bytes")
    stages = tuple(
        _stage_plan(s.name, curation.chain, seen, forecast) for s in curation.chain.stages
    )
    stages = _with_shards(stages, curation, seen, known)
    return Plan(
        num_sources=len(sources.rows) + unread[0],
        num_bytes=sum(r.num_bytes for r in sources.rows) + unread[1],
        num_unread=unread[0],
        num_bytes_unread=unread[1],
        num_duplicates=sources.reasons["duplicate_content"],
        not_used=dict(sorted(sources.reasons.items())),
        stages=stages,
        num_clips_known=len(seen.survivors),
        num_clips=_estimate(forecast.yields("num_clips"), len(seen.survivors)),
        clip_hours=_estimate(
            forecast.yields("clip_s"), sum(c.seconds for c in seen.survivors), 1 / 3600
        ),
        bytes_to_read=2 * unread[1] + sum(r.num_bytes for r in _opened(seen)),
        bytes_to_write=_estimate(written),
        worker_s=_estimate(worker_s),
        cpu_s=_estimate(forecast.cost("cpu_s")) if any(o.cpu_s for o in past) else None,
        num_workers=workers,
        wall_s=_wall_s(_estimate(worker_s), stages, curation, workers, start_s),
        basis=basis,
        checks=check_all(curation, _estimate(written), machine),
    )


def _known(curation: Curation) -> Mapping[str, StageResult]:
    store = curation.store
    if not store.exists(ROOT_MARKER):
        check_may_begin(store)
        return {}
    ledger = Ledger(store)
    ledger.check_history()
    results = ledger.known_results(curation.chain.closures)
    again = set(stopped_lower(results.values(), curation.chain))
    return {key: r for key, r in results.items() if key not in again}


def _experience(
    curation: Curation, seen: Foreseen, num_samples: int, progress: Progress | None
) -> tuple[list[Experience], float, str]:
    """Earlier sources, what starting a group took then, and in words where that is from."""
    nothing: tuple[list[Experience], float, str] = ([], GROUP_START_S, "")
    if num_samples:
        return _try_some(curation, seen, num_samples, progress) or nothing
    run = Ledger(curation.store).latest_run() if curation.store.exists(ROOT_MARKER) else None
    if run is None:
        return nothing
    past = _of_run(curation.store, run, read_models(curation.store, run.sources, SourceVideo))
    if not past:
        return nothing
    now = {s.name: s.fingerprint for s in curation.chain.stages}
    other = [s.name for s in run.stages if now.get(s.name) != s.fingerprint]
    told = f", whose settings of {', '.join(other)} were others" if other else ""
    return past, GROUP_START_S, f"{len(past)} sources of run {run.run_id}{told}"


def _of_run(store: Store, run: RunRecord, sources: Sequence[SourceVideo]) -> list[Experience]:
    return experiences(sources, read_models(store, run.decisions, Decision))


def _try_some(
    curation: Curation, seen: Foreseen, num_samples: int, progress: Progress | None
) -> tuple[list[Experience], float, str] | None:
    """Curate some sources that have something to do, in a root of their own that is thrown away."""
    waiting = {getattr(r, "source_id", r.row_id) for rows in seen.pending.values() for r in rows}
    todo = {r.uri: r.num_bytes for r in curation.sources.rows if r.row_id in waiting}
    todo |= {f.uri: f.num_bytes for f in curation.sources.unread}
    chosen = spread(todo, num_samples)
    if not chosen:
        return None
    named = list_sources(chosen, curation.source_options)
    with tempfile.TemporaryDirectory(prefix="handloom-sample-") as folder:
        trial = replace(curation, sources=SourceList(named.rows), store=Store(folder))
        run = trial.run(progress)
        past = _of_run(trial.store, run, named.rows)
    start_s = GROUP_START_S
    if curation.recipe.run.runner != "here":
        workers = curation.recipe.run.max_workers or Machine.find().num_cpus
        start_s = start_of_group_s(run.wall_s, curation.chain.groups(), spent(past), workers)
    return past, start_s, f"a sample of {len(past)} sources"


def spread(sizes: Mapping[str, int], count: int) -> list[str]:
    """Some of the names, evenly over the order of their sizes: small and large ones in their share.

    >>> spread({"a": 1, "b": 9, "c": 5, "d": 7}, 2)
    ['a', 'd']
    """
    ordered = sorted(sizes, key=lambda name: (sizes[name], name))
    step = max(1.0, len(ordered) / count)
    return [ordered[int(i * step)] for i in range(min(count, len(ordered)))]


def _stage_plan(name: str, chain: Chain, seen: Foreseen, forecast: Forecast) -> StagePlan:
    return StagePlan(
        name=name,
        fingerprint=chain[name].fingerprint,
        num_known=seen.num_known[name],
        todo_rows=_estimate(forecast.rows(name)),
        worker_s=_estimate(forecast.stage_cost("worker_s", name)),
    )


def _with_shards(
    stages: tuple[StagePlan, ...],
    curation: Curation,
    seen: Foreseen,
    known: Mapping[str, StageResult],
) -> tuple[StagePlan, ...]:
    """Shards hold clips of many sources: which are known is told from the clips that come through."""
    if SHARDS_STAGE not in curation.chain.closures:
        return stages
    closure = curation.chain.closures[SHARDS_STAGE]
    plans = plan_dataset(seen.survivors, curation.recipe.run.max_samples_per_shard)
    num_known = sum(unit_key(plan, closure) in known for plan in plans)
    is_all = not seen.pending and not curation.sources.unread
    todo = Estimate(value=len(plans) - num_known, low=0, high=None)
    if is_all:
        todo = Total(float(len(plans) - num_known)).estimate()
    last = stages[-1].model_copy(
        update={"num_known": num_known, "todo_rows": todo if plans or is_all else None}
    )
    return (*stages[:-1], last)


def _opened(seen: Foreseen) -> Sequence[SourceVideo]:
    """Sources that some stage will open."""
    rows = [r for rows in seen.pending.values() for r in rows]
    return [r for r in rows if isinstance(r, SourceVideo)]


def _wall_s(
    worker_s: Estimate | None,
    stages: Sequence[StagePlan],
    curation: Curation,
    workers: int,
    start_s: float,
) -> Estimate | None:
    if worker_s is None:
        return None
    todo = {
        s.name: (s.todo_rows.value, s.worker_s.value)
        for s in stages
        if s.todo_rows is not None and s.worker_s is not None
    }
    is_here = curation.recipe.run.runner == "here"
    groups = curation.chain.groups()
    busy_s = scheduled_s(groups, todo, 1 if is_here else workers)
    share = busy_s / worker_s.value if worker_s.value else 0.0
    offset_s = 0.0 if is_here else starting_s(groups, todo, start_s)

    def clock(seconds: float | None) -> float | None:
        return None if seconds is None else offset_s + share * seconds

    return Estimate(value=offset_s + busy_s, low=clock(worker_s.low), high=clock(worker_s.high))


def _estimate(total: Total | None, more: float = 0.0, unit: float = 1.0) -> Estimate | None:
    """An estimate of a total and of what is known beside it, in another unit."""
    if total is None:
        return None
    e = total.estimate()

    def scaled(value: float | None) -> float | None:
        return None if value is None else (value + more) * unit

    return Estimate(value=(e.value + more) * unit, low=scaled(e.low), high=scaled(e.high))
