"""Streams rows through one group of stages with Ray Data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from curation import failpoints
from curation.chain import AnyStage
from curation.cluster import start_ray
from curation.nodes import RootProof
from curation.resources import check_fit, plan_spans
from curation.root.store import Store, StoreOptions
from curation.scratch import remove_scratch
from curation.worker import ROW_SCHEMA, StageWorker
from schemas.errors import HandloomError
from schemas.outcome import StageResult
from schemas.rows import Row

__all__ = ["check_cluster", "execute", "start_ray"]

_ROWS_PER_BLOCK = 4
_STALL_LIMIT_S = 6 * 3600
_MAX_INIT_DEATHS = 5


def check_cluster(groups: Sequence[Sequence[AnyStage]]) -> None:
    """Check that one worker of every operator of every group fits at the same time.

    Raises:
        ConfigError: The cluster is too small; Ray Data would wait forever.
    """
    check_fit(groups, ray.cluster_resources())


def execute(
    pending: Sequence[tuple[Row, int]],
    stages: Sequence[AnyStage],
    closures: dict[str, str],
    *,
    store: Store,
    source_options: StoreOptions,
    run_id: str,
    proof: RootProof,
    max_workers: int | None,
    max_attempts: int,
    generations: Mapping[str, int],
) -> Iterator[list[StageResult]]:
    """Run the unknown units of some rows; yields results as rows finish, in no fixed order.

    Worker processes that die are started again without limit: what bounds a row is ``max_attempts``.

    Raises:
        HandloomError: A worker met something that is no row's fault, such as a full disk.
    """
    context = DataContext.get_current()
    context.execution_options.preserve_order = False
    context.max_errored_blocks = 0
    context.raise_original_map_exception = True  # a HandloomError stays one on its way here
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = _MAX_INIT_DEATHS
    context.issue_detectors_config.detectors = []  # they print advice over our progress
    context.execution_no_progress_timeout_s = _STALL_LIMIT_S
    records = [{"row_json": r.model_dump_json(), "start": s, "results": []} for r, s in pending]
    table = pa.Table.from_pylist(records, schema=ROW_SCHEMA)
    blocks = [table.slice(i, _ROWS_PER_BLOCK) for i in range(0, len(table), _ROWS_PER_BLOCK)]
    cpus = int(ray.cluster_resources().get("CPU", 1))
    spans = plan_spans(stages)
    per_operator = max(1, math.floor(min(max_workers or cpus, len(table)) / len(spans)))
    # one row a block while rows are few, so that all workers have some
    if len(table) <= per_operator * _ROWS_PER_BLOCK:
        blocks = [table.slice(i, 1) for i in range(len(table))]
    dataset = ray.data.from_arrow(blocks)
    for span in spans:
        needs = stages[span[0]].resources
        dataset = dataset.map_batches(
            StageWorker,
            fn_constructor_args=(
                stages,
                span,
                closures,
                store,
                source_options,
                run_id,
                max_attempts,
                dict(generations),
                failpoints.export(run_id),
                proof,
            ),
            batch_format="pyarrow",
            batch_size=1,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(min_size=1, max_size=per_operator),
            num_cpus=needs.num_cpus,
            num_gpus=needs.num_gpus or None,
            memory=needs.memory_bytes,
        )
    try:
        for batch in dataset.iter_batches(
            batch_format="pyarrow", batch_size=None, prefetch_batches=0
        ):
            for texts in batch.column("results").to_pylist():
                if texts:
                    yield [StageResult.model_validate_json(t) for t in texts]
    except ray.exceptions.RayError as error:
        raise _our_error(error) from error
    finally:
        remove_scratch(run_id)


def _our_error(error: BaseException) -> HandloomError:
    """What really happened, out of the wrappings that an error gets on its way from a worker."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HandloomError) and not isinstance(seen, ray.exceptions.RayError):
            return type(seen)(*seen.args)
        seen = getattr(seen, "cause", None) or seen.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return HandloomError(f"Ray ended the run: {lines[-1] if lines else type(error).__name__}")
