"""Streams rows through one group of stages with Ray Data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from curation.chain import AnyStage, plan_spans
from curation.context import RunContext
from curation.log_lines import kept_lines, say_again
from curation.ray_errors import our_error_in
from curation.resources import this_cluster
from curation.scratch import remove_scratch
from curation.worker import ROW_SCHEMA, StageWorker, row_record
from schemas.errors import HandloomError
from schemas.outcome import StageResult
from schemas.rows import Row

_ROWS_PER_BLOCK = 4
_STALL_LIMIT_S = 6 * 3600
_MAX_INIT_DEATHS = 5
_OURS = ("results", "lines")
"""Columns that are for the driver."""


class _Operator(StageWorker):
    """A worker in an actor of Ray's: what it logs travels to the driver with its rows."""

    def __call__(self, block: pa.Table) -> pa.Table:
        with kept_lines() as lines:
            done = super().__call__(block)
        records = done.to_pylist()
        records[0]["lines"] += lines
        return pa.Table.from_pylist(records, schema=ROW_SCHEMA)


def execute(
    pending: Sequence[tuple[Row, int]],
    stages: Sequence[AnyStage],
    context: RunContext,
    max_workers: int | None,
) -> Iterator[list[StageResult]]:
    """Run the unknown units of some rows; yields results as rows finish, in no fixed order.

    Worker processes that die are started again without limit: what bounds a row is ``context.max_attempts``.

    Args:
        pending: Rows, each with the index of its next stage.
        stages: The group's stages.
        context: The run.
        max_workers: Worker processes of the group; None: one per CPU.

    Raises:
        HandloomError: A worker met something that is no row's fault, such as a full disk.
    """
    _set_up_ray_data()
    dataset = _pipeline(pending, stages, context, max_workers)
    try:
        for batch in dataset.iter_batches(
            batch_format="pyarrow", batch_size=None, prefetch_batches=0
        ):
            for texts, lines in zip(*(batch[name].to_pylist() for name in _OURS), strict=True):
                say_again(lines)
                if texts:
                    yield [StageResult.model_validate_json(t) for t in texts]
    except ray.exceptions.RayError as error:
        raise (our_error_in(error) or _last_line(error)) from error
    finally:
        remove_scratch(context.run_id)


def _set_up_ray_data() -> None:
    context = DataContext.get_current()
    context.execution_options.preserve_order = False
    context.max_errored_blocks = 0
    context.raise_original_map_exception = True  # a HandloomError stays one on its way here
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = _MAX_INIT_DEATHS
    context.issue_detectors_config.detectors = []  # they print advice over our progress
    context.execution_no_progress_timeout_s = _STALL_LIMIT_S


def _pipeline(
    pending: Sequence[tuple[Row, int]],
    stages: Sequence[AnyStage],
    context: RunContext,
    max_workers: int | None,
) -> Dataset:
    """One operator for each span of stages that need the same."""
    spans = plan_spans(stages)
    workers = min(max_workers or int(this_cluster().get("CPU", 1)), len(pending))
    per_operator = max(1, math.floor(workers / len(spans)))
    dataset = ray.data.from_arrow(_blocks(pending, per_operator))
    for span in spans:
        needs = stages[span[0]].resources
        dataset = dataset.map_batches(
            _Operator,
            fn_constructor_args=(stages, span, context),
            batch_format="pyarrow",
            batch_size=1,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(min_size=1, max_size=per_operator),
            num_cpus=needs.num_cpus,
            num_gpus=needs.num_gpus or None,
            memory=needs.memory_bytes,
        )
    return dataset


def _blocks(pending: Sequence[tuple[Row, int]], num_workers: int) -> list[pa.Table]:
    """Rows in blocks, one row a block while rows are few, so that all workers have some."""
    table = pa.Table.from_pylist([row_record(r, s) for r, s in pending], schema=ROW_SCHEMA)
    size = 1 if len(table) <= num_workers * _ROWS_PER_BLOCK else _ROWS_PER_BLOCK
    return [table.slice(i, size) for i in range(0, len(table), size)]


def _last_line(error: BaseException) -> HandloomError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return HandloomError(f"Ray ended the run: {lines[-1] if lines else type(error).__name__}")
