"""Runs rows in the driver's own process, through the same worker code: what is tiny is not worth a cluster."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

import pyarrow as pa

from curation.chain import AnyStage
from curation.context import RunContext
from curation.root.store import Store
from curation.scratch import remove_scratch
from curation.worker import ROW_SCHEMA, StageWorker, row_record
from schemas.outcome import StageResult
from schemas.rows import Row

TINY_S = 8.0
"""About what Ray's start costs on two cores: less work than this is done sooner here."""


def execute_here(
    pending: Sequence[tuple[Row, int]], stages: Sequence[AnyStage], context: RunContext
) -> Iterator[list[StageResult]]:
    """Run the unknown units of some rows one after the other; yields results as rows finish.

    Raises:
        HandloomError: Something that is no row's fault, such as a full disk.
    """
    worker = StageWorker(stages, (0, len(stages)), context)
    try:
        for row, start in pending:
            with _marked(row, context.store):
                done = worker(pa.Table.from_pylist([row_record(row, start)], schema=ROW_SCHEMA))
            for texts in done.column("results").to_pylist():
                if texts:
                    yield [StageResult.model_validate_json(t) for t in texts]
    finally:
        remove_scratch(context.run_id)


@contextlib.contextmanager
def _marked(row: Row, store: Store) -> Iterator[None]:
    """Say in the root what this process is about to do: it stays there only if the process dies of it."""
    store.put_new(_mark(row), b"here")
    try:
        yield
    finally:
        store.delete(_mark(row))


def _mark(row: Row) -> str:
    return f"attempts/here/{row.row_id}"


def is_tiny(
    pending: Sequence[tuple[Row, int]],
    stages: Sequence[AnyStage],
    known: Iterable[StageResult],
    store: Store,
) -> bool:
    """Whether work is known to be small and harmless: by what the same stages took in this root.

    A row at which a process died is not harmless: it goes to a worker, which may die alone.

    Args:
        pending: Rows, each with the index of its next stage.
        stages: The group's stages.
        known: Finished units of the root.
        store: The root.
    """
    if any(stage.resources.num_gpus for stage in stages):
        return False
    taken: dict[str, list[float]] = defaultdict(list)
    for result in known:
        taken[result.stage].append(result.seconds_spent)
    expected_s = 0.0
    for _, start in pending:
        for stage in stages[start:]:
            if stage.name not in taken:
                return False
            expected_s += fmean(taken[stage.name])
        if expected_s > TINY_S:
            return False
    return not any(store.exists(_mark(row)) for row, _ in pending)
