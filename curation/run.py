"""One curation run: list, replay what is known, execute what is not, commit, publish, report."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from curation import failpoints
from curation.books import SOURCES_STAGE, RunState, check_conservation
from curation.chain import Chain
from curation.context import RunContext
from curation.group import GroupRunner, Progress, Silent
from curation.inputs.remembered import remember
from curation.inputs.sources import SourceList
from curation.limits import known_results
from curation.log_lines import tell
from curation.nodes import NodeCheck, RootProof
from curation.publish import SHARDS_STAGE, write_shards
from curation.recipe import Recipe
from curation.root.leases import Lease
from curation.root.ledger import Ledger, run_txn
from curation.root.store import Store, StoreOptions
from curation.root.tables import M, models_to_parquet, put_blob_bytes
from curation.scratch import sweep_scratch
from schemas.base import FileRef
from schemas.manifest import InputLine, LogEntry, RunRecord
from schemas.outcome import Decision
from schemas.rows import Clip, Row, SourceVideo

log = logging.getLogger(__name__)

_VERSIONED = ("handloom", "ray", "torch", "numpy", "av", "mediapipe", "anny", "pyarrow")


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
            num_inputs = len(self.sources.lines)
            tell(log, "run_begun", run=run_id, inputs=num_inputs, rows=len(uris), known=len(known))
            groups = GroupRunner(
                chain=self.chain,
                config=self.recipe.run,
                context=self._context(run_id, nodes.proof, ledger.generations),
                known=known,
                ledger=ledger,
                lease=lease,
                nodes=nodes,
                progress=progress or Silent(),
            )
            return self._run(RunState(run_id, begun), groups)

    def _context(self, run_id: str, proof: RootProof, generations: Mapping[str, int]) -> RunContext:
        return RunContext(
            run_id=run_id,
            store=self.store,
            source_options=self.source_options,
            proof=proof,
            closures=self.chain.closures,
            generations=dict(generations),
            max_attempts=self.recipe.run.max_attempts_per_row,
            failpoint=failpoints.export(run_id),
        )

    def _run(self, state: RunState, groups: GroupRunner) -> RunRecord:
        started = time.monotonic()
        failpoints.hit("driver.begin")
        remember(self.store, state.run_id, self.sources.fresh)
        state.list_inputs(self.sources.rows, self.sources.lines)
        rows = self._curate(groups, state)
        for group in self.chain.groups():
            if group[0].name == SHARDS_STAGE:
                write_shards(groups, group, rows, self.recipe, state)
                failpoints.hit("driver.group.done")
        check_conservation(state.decisions, [SOURCES_STAGE, *self.chain.closures])
        groups.lease.check()
        record = self._finish(groups.ledger, state, time.monotonic() - started)
        tell(
            log,
            "run_ended",
            run=state.run_id,
            clips=len(state.clips),
            units=sum(state.calls.values()),
            snapshot=record.snapshot,
            seconds=record.wall_s,
        )
        return record

    def _curate(self, groups: GroupRunner, state: RunState) -> list[Row]:
        """Run all groups before the shards; the rows that come through.

        A row that was chosen to stand for others may fall at a later stage. Then the choice is made again without
        it, and the next one goes the whole way: of several copies the one that stays is one that survives.
        """
        begun = len(state.decisions)
        while True:
            rows: list[Row] = list(self.sources.rows)
            state.stand_ins.clear()
            for group in self.chain.groups():
                if group[0].name != SHARDS_STAGE:
                    rows = groups.run(group, rows, state)
                    failpoints.hit("driver.group.done")
            fallen = state.stand_ins - {r.row_id for r in rows}
            if not fallen:
                return rows
            state.lost |= fallen
            del state.decisions[begun:]

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
