"""Running one group of stages: replay what is known, execute what is not, commit, judge together."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from curation import failpoints
from curation.books import RunState
from curation.chain import AnyStage, Chain
from curation.context import RunContext
from curation.here import execute_here, is_tiny
from curation.log_lines import tell
from curation.nodes import NodeCheck
from curation.recipe import RunConfig
from curation.resources import check_fit, this_cluster
from curation.root.leases import Lease
from curation.root.ledger import Ledger, is_final
from curation.together import judge_together
from curation.walk import Walked, walk
from schemas.errors import InvariantError
from schemas.outcome import Outcome, StageResult
from schemas.rows import Row

log = logging.getLogger(__name__)

Group = tuple[AnyStage, ...]
Pending = list[tuple[Row, int]]
"""Rows whose next unit is not known yet, with the index of that stage in its group."""


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


@dataclass(frozen=True)
class GroupRunner:
    """Runs the groups of one run, one after the other.

    Args:
        chain: All stages.
        config: How the run is executed.
        context: What its workers know.
        known: Finished units by key; grows as units finish.
        ledger: The root's history.
        lease: Ours, while vacuum may not think that we are dead.
        nodes: Checks the machines of a cluster.
        progress: Is told how far the run is.
    """

    chain: Chain
    config: RunConfig
    context: RunContext
    known: dict[str, StageResult]
    ledger: Ledger
    lease: Lease
    nodes: NodeCheck
    progress: Progress

    def run(self, group: Group, rows: Sequence[Row], state: RunState) -> list[Row]:
        """Take rows through a group; the rows that come through, by id."""
        first = self._walk_all(rows, group)
        names = [stage.name for stage in group]
        num_todo = len(first.pending)
        num_known = len(rows) - len({r.row_id for r, _ in first.pending})
        if num_todo or not state.lost:
            self.progress.group(names, num_known, num_todo)
        started = time.monotonic()
        tell(log, "group_begun", stages=names, known=num_known, todo=num_todo)
        if first.pending:
            self._execute(group, first.pending, state)
        walked = self._walk_all(rows, group)
        if walked.pending:
            raise InvariantError(f"{len(walked.pending)} rows came back without a result: {names}")
        state.stand_ins |= judge_together(group, walked, state.lost)
        state.decisions += walked.decisions
        state.remember([*rows, *walked.seen])
        seconds = time.monotonic() - started
        tell(log, "group_ended", stages=names, rows=len(walked.survivors), seconds=seconds)
        return sorted(walked.survivors, key=lambda r: r.row_id)

    def _walk_all(self, rows: Sequence[Row], group: Group) -> Walked:
        walked = Walked()
        for row in rows:
            walk(row, group, self.chain.closures, self.known, 0, walked)
        return walked

    def _execute(self, group: Group, pending: Pending, state: RunState) -> None:
        outcomes = Counter[str]()
        waiting: list[StageResult] = []
        last_commit = time.monotonic()
        for results in self._results(group, pending):
            fresh = [r for r in results if r.unit_key not in self.known]
            self.known.update({r.unit_key: r for r in fresh})
            state.calls.update(r.stage for r in fresh)
            _tell_quarantined(fresh)
            waiting += filter(is_final, fresh)
            outcomes[str(results[-1].outcome)] += 1
            self.progress.advance(outcomes)
            failpoints.hit("driver.row")
            due = time.monotonic() - last_commit > self.config.commit_every_s
            if len(waiting) >= self.config.commit_every_rows * len(group) or due:
                self._commit(waiting, group, state)
                waiting, last_commit = [], time.monotonic()
        self._commit(waiting, group, state)

    def _results(self, group: Group, pending: Pending) -> Iterator[list[StageResult]]:
        """Compute here what is tiny, everything else with Ray Data."""
        runner, context = self.config.runner, self.context
        if runner == "here" or (
            runner == "auto" and is_tiny(pending, group, self.known.values(), context.store)
        ):
            return execute_here(pending, group, context)
        from curation.cluster import start_ray
        from curation.execute import execute

        start_ray()
        check_fit(self.chain.groups(), this_cluster())
        self.nodes.check()
        return execute(pending, group, context, self.config.max_workers)

    def _commit(self, results: Sequence[StageResult], group: Group, state: RunState) -> None:
        """Commit results, unless vacuum may think that we are dead."""
        self.lease.check()
        txn = f"{state.run_id}/{group[0].name}/{state.num_commits}"
        self.ledger.commit_results(results, txn)
        state.num_commits += 1
        if results:
            tell(log, "commit", txn=txn, units=len(results))


def _tell_quarantined(results: Sequence[StageResult]) -> None:
    for r in results:
        if r.outcome is Outcome.QUARANTINED:
            tell(
                log,
                "quarantined",
                level=logging.WARNING,
                row=r.row_id,
                stage=r.stage,
                reason=r.reason,
                detail=r.detail,
            )
