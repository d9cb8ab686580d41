"""One curation run: list, replay what is known, execute what is not, commit, publish, report."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

from curation import failpoints
from curation.chain import AnyStage, Chain
from curation.here import execute_here, is_tiny
from curation.inputs.remembered import remember
from curation.inputs.sources import SourceList
from curation.limits import known_results
from curation.nodes import NodeCheck
from curation.recipe import Recipe
from curation.root.leases import Lease
from curation.root.ledger import Ledger, is_final, run_txn
from curation.root.store import Store, StoreOptions
from curation.root.tables import M, models_to_parquet, put_blob_bytes
from curation.scratch import sweep_scratch
from curation.together import judge_together
from curation.walk import Walked, walk
from schemas.base import FileRef
from schemas.errors import InvariantError
from schemas.manifest import DatasetManifest, InputLine, LogEntry, RunRecord
from schemas.outcome import Decision, Outcome, StageResult
from schemas.rows import Clip, Row, SourceVideo

log = logging.getLogger(__name__)

_VERSIONED = ("handloom", "ray", "torch", "numpy", "av", "mediapipe", "anny", "pyarrow")
SOURCES_STAGE = "sources"


class Progress(Protocol):
    """Where a run tells how far it is."""

    def group(self, names: Sequence[str], known: int, todo: int) -> None:
        """A group of stages begins: rows whose results are known, and rows to compute."""

    def advance(self, outcomes: Counter[str]) -> None:
        """One more row of the group is done."""


class Silent:
    """A progress that says nothing."""

    def group(self, names: Sequence[str], known: int, todo: int) -> None:
        """Say nothing."""

    def advance(self, outcomes: Counter[str]) -> None:
        """Say nothing."""


@dataclass
class RunState:
    """What a run has found out so far."""

    run_id: str
    begun: datetime
    decisions: list[Decision] = field(default_factory=list)
    clips: dict[str, Clip] = field(default_factory=dict)
    sources: dict[str, SourceVideo] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    snapshot: DatasetManifest | None = None
    num_commits: int = 0
    stand_ins: set[str] = field(default_factory=set)
    """Rows that were chosen to stand for others."""
    lost: set[str] = field(default_factory=set)
    """Those among them that did not come through: others are chosen instead."""


@dataclass(frozen=True)
class _Work:
    """What the groups of one run share."""

    known: dict[str, StageResult]
    ledger: Ledger
    lease: Lease
    nodes: NodeCheck
    progress: Progress

    def commit(self, results: Sequence[StageResult], txn: str) -> None:
        """Commit results, unless vacuum may think that we are dead."""
        self.lease.check()
        self.ledger.commit_results(results, txn)


@dataclass(frozen=True)
class Curation:
    """A request to curate, checked: sources exist, the recipe parses, backends are there."""

    recipe: Recipe
    chain: Chain
    sources: SourceList
    store: Store
    source_options: StoreOptions = field(default_factory=StoreOptions)

    def run(self, progress: Progress | None = None) -> RunRecord:
        """Run to the end. Safe to kill anywhere and to run again.

        Raises:
            InvariantError: The conservation law is broken.
            ConfigError: The root is not ours, or the cluster is too small.
        """
        failpoints.check()
        ledger = Ledger(self.store, f"handloom {version('handloom')}")
        begun = datetime.now(UTC)
        # milliseconds: the newest run is the one whose name sorts last
        run_id = f"{begun:%Y%m%dT%H%M%S}{begun.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        sweep_scratch()
        uris = [row.uri for row in self.sources.rows]
        nodes = NodeCheck(self.store, self.source_options, uris, run_id, self.chain.stages)
        with Lease(self.store, "run", run_id) as lease, nodes:
            ledger.check_history()
            known = known_results(ledger, self.chain)
            work = _Work(known, ledger, lease, nodes, progress or Silent())
            return self._run(RunState(run_id, begun), work)

    def _run(self, state: RunState, work: _Work) -> RunRecord:
        started = time.monotonic()
        failpoints.hit("driver.begin")
        remember(self.store, state.run_id, self.sources.fresh)
        rows = self._curate(self._begin(state), work, state)
        for group in self.chain.groups():
            if group[0].name == "shards":
                self._shard(group, rows, work, state)
                failpoints.hit("driver.group.done")
        check_conservation(state.decisions, [SOURCES_STAGE, *self.chain.closures])
        work.lease.check()
        return self._finish(work.ledger, state, time.monotonic() - started)

    def _begin(self, state: RunState) -> list[Row]:
        for row in self.sources.rows:
            state.sources[row.row_id] = row
        state.decisions += map(_listed, self.sources.lines)
        return list(self.sources.rows)

    def _curate(self, listed: list[Row], work: _Work, state: RunState) -> list[Row]:
        """Run all groups before the shards; the rows that come through.

        A row that was chosen to stand for others may fall at a later stage. Then the choice is made again without
        it, and the next one goes the whole way: of several copies the one that stays is one that survives.
        """
        begun = len(state.decisions)
        while True:
            rows = listed
            state.stand_ins.clear()
            for group in self.chain.groups():
                if group[0].name != "shards":
                    rows = self._run_group(group, rows, work, state)
                    failpoints.hit("driver.group.done")
            fallen = state.stand_ins - {r.row_id for r in rows}
            if not fallen:
                return rows
            state.lost |= fallen
            del state.decisions[begun:]

    def _run_group(
        self, group: tuple[AnyStage, ...], rows: Sequence[Row], work: _Work, state: RunState
    ) -> list[Row]:
        first = self._walk_all(rows, group, work.known)
        names = [stage.name for stage in group]
        num_todo = len(first.pending)
        if num_todo or not state.lost:
            num_known = len(rows) - len({r.row_id for r, _ in first.pending})
            work.progress.group(names, num_known, num_todo)
        if first.pending:
            self._execute(group, first.pending, work, state)
        walked = self._walk_all(rows, group, work.known)
        if walked.pending:
            raise InvariantError(f"{len(walked.pending)} rows came back without a result: {names}")
        state.stand_ins |= judge_together(group, walked, state.lost)
        state.decisions += walked.decisions
        _remember([*rows, *walked.seen], state)
        return sorted(walked.survivors, key=lambda r: r.row_id)

    def _walk_all(
        self, rows: Sequence[Row], group: Sequence[AnyStage], known: dict[str, StageResult]
    ) -> Walked:
        walked = Walked()
        for row in rows:
            walk(row, group, self.chain.closures, known, 0, walked)
        return walked

    def _execute(
        self,
        group: tuple[AnyStage, ...],
        pending: list[tuple[Row, int]],
        work: _Work,
        state: RunState,
    ) -> None:
        run, outcomes = self.recipe.run, Counter[str]()
        waiting: list[StageResult] = []
        last_commit = time.monotonic()
        for results in self._results(group, pending, work, state):
            fresh = [r for r in results if r.unit_key not in work.known]
            work.known.update({r.unit_key: r for r in fresh})
            state.calls.update(r.stage for r in fresh)
            waiting += filter(is_final, fresh)
            outcomes[str(results[-1].outcome)] += 1
            work.progress.advance(outcomes)
            failpoints.hit("driver.row")
            due = time.monotonic() - last_commit > run.commit_every_s
            if len(waiting) >= run.commit_every_rows * len(group) or due:
                self._commit(waiting, group, work, state)
                waiting, last_commit = [], time.monotonic()
        self._commit(waiting, group, work, state)

    def _results(
        self,
        group: tuple[AnyStage, ...],
        pending: list[tuple[Row, int]],
        work: _Work,
        state: RunState,
    ) -> Iterator[list[StageResult]]:
        """Compute here what is tiny, everything else with Ray Data."""
        run = self.recipe.run
        shared: dict[str, Any] = {
            "store": self.store,
            "source_options": self.source_options,
            "run_id": state.run_id,
            "proof": work.nodes.proof,
            "max_attempts": run.max_attempts_per_row,
            "generations": work.ledger.generations,
        }
        here = run.runner == "here" or (
            run.runner == "auto" and is_tiny(pending, group, work.known.values(), self.store)
        )
        if here:
            return execute_here(pending, group, self.chain.closures, **shared)
        from curation.execute import check_cluster, execute, start_ray

        start_ray()
        check_cluster(self.chain.groups())
        work.nodes.check()
        return execute(pending, group, self.chain.closures, max_workers=run.max_workers, **shared)

    def _commit(
        self,
        results: Sequence[StageResult],
        group: Sequence[AnyStage],
        work: _Work,
        state: RunState,
    ) -> None:
        work.commit(results, f"{state.run_id}/{group[0].name}/{state.num_commits}")
        state.num_commits += 1

    def _shard(
        self,
        group: tuple[AnyStage, ...],
        rows: Sequence[Row],
        work: _Work,
        state: RunState,
    ) -> list[Row]:
        """Write shards for the surviving clips, publish the snapshot, account per clip."""
        from curation.publish import plan_dataset, publish

        clips = [r for r in rows if isinstance(r, Clip)]
        plans = plan_dataset(clips, self.recipe.run.max_samples_per_shard)
        before = len(state.decisions)
        done = self._run_group(group, plans, work, state)
        per_plan = {d.row_id: d for d in state.decisions[before:]}
        del state.decisions[before:]
        for plan in plans:
            decision = per_plan[plan.row_id]
            state.decisions += [
                decision.replace(
                    row_id=c.clip_id,
                    source_id=c.source_id,
                    seconds=c.seconds,
                    seconds_spent=decision.seconds_spent / len(plan.clips),
                    cpu_spent_s=decision.cpu_spent_s / len(plan.clips),
                    num_bytes_written=decision.num_bytes_written // len(plan.clips),
                )
                for c in plan.clips
            ]
        if done:
            txn = f"{state.run_id}/dataset"
            work.lease.check()
            state.snapshot = publish(work.ledger, done, self.recipe, self.chain, txn)
        return done

    def _finish(self, ledger: Ledger, state: RunState, wall_s: float) -> RunRecord:
        def put(models: Sequence[M], kind: type[M]) -> FileRef:
            return put_blob_bytes(self.store, models_to_parquet(models, kind), ".parquet")

        record = RunRecord.model_validate(
            {
                "run_id": state.run_id,
                "recipe": {
                    "name": self.recipe.name,
                    "run": self.recipe.run.model_dump(mode="json"),
                },
                "stages": self.chain.records(),
                "sources": put(sorted(state.sources.values(), key=lambda s: s.uri), SourceVideo),
                "inputs": put(self.sources.lines, InputLine),
                "clips": put([state.clips[k] for k in sorted(state.clips)], Clip),
                "decisions": put(state.decisions, Decision),
                "num_stage_calls": {s.name: state.calls[s.name] for s in self.chain.stages},
                "wall_s": wall_s,
                "started_at": state.begun.isoformat(timespec="seconds"),
                "snapshot": state.snapshot.snapshot if state.snapshot else None,
                "versions": {name: version(name) for name in _VERSIONED},
            }
        )
        failpoints.hit("driver.run.rows")
        # the entry goes first: a record without its entry means that history was lost
        entry = LogEntry(txn=run_txn(state.run_id), kind="run", files=record.files)
        record = record.replace(log_number=ledger.append(entry))
        failpoints.hit("driver.run.logged")
        ledger.write_run(record)
        failpoints.hit("driver.run.record")
        return record


def _listed(line: InputLine) -> Decision:
    return Decision(
        row_id=line.row_id,
        source_id=line.row_id,
        stage=SOURCES_STAGE,
        outcome=line.outcome,
        reason=line.reason,
        detail=line.detail,
        num_emitted=int(line.outcome is Outcome.KEPT),
    )


def check_conservation(decisions: Sequence[Decision], order: Sequence[str]) -> None:
    """Check that every row that enters a stage leaves it with one outcome.

    What enters a stage is what the previous one sent on.

    Raises:
        InvariantError: Rows were lost, duplicated or came from nowhere.
    """
    entering: int | None = None
    for stage in order:
        here = [d for d in decisions if d.stage == stage]
        if entering is not None and len(here) != entering:
            raise InvariantError(
                f"conservation law broken at {stage!r}: {entering} rows in, {len(here)} decisions"
            )
        ids = Counter(d.row_id for d in here if stage != SOURCES_STAGE)
        twice = [row_id for row_id, count in ids.items() if count > 1]
        if twice:
            raise InvariantError(f"{stage!r} decided twice on {twice[:3]}")
        entering = sum(d.num_emitted for d in here if d.outcome is Outcome.KEPT)


def _remember(rows: Sequence[Row], state: RunState) -> None:
    """Keep the version of every row that knows most, for the run's record."""
    for row in rows:
        if isinstance(row, Clip):
            old = state.clips.get(row.clip_id)
            if old is None or _num_facets(row) > _num_facets(old):
                state.clips[row.clip_id] = row
        elif isinstance(row, SourceVideo):
            old_source = state.sources.get(row.row_id)
            if old_source is None or (row.probe and not old_source.probe):
                state.sources[row.row_id] = row


def _num_facets(clip: Clip) -> int:
    return sum(value is not None for value in dict(clip).values())
