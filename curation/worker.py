"""The only wrapper around stages: rows in, unit results out, whatever happens in between."""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation import failpoints
from curation.chain import AnyStage, unit_key
from curation.context import RunContext
from curation.log_lines import tell
from curation.root.blobs import StoreBlobs
from curation.root.ledger import Ledger, is_final
from curation.scratch import make_scratch
from curation.walk import judge, pack_result
from schemas.errors import ChildCrashError, DataError, HandloomError
from schemas.outcome import Outcome, StageResult
from schemas.rows import Row
from stages.base import Dropped, Kept, Stage
from stages.files import Files

log = logging.getLogger(__name__)

_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}

ROW_SCHEMA = pa.schema(
    [
        pa.field("row_json", pa.large_string(), nullable=True),
        pa.field("start", pa.int32()),
        pa.field("results", pa.list_(pa.large_string())),
        pa.field("lines", pa.list_(pa.large_string())),
    ]
)
"""What travels between operators: a row (null once it ended), the index of its next stage, and the results
and log lines made so far that are not yet in the driver's hands."""
Record = dict[str, Any]
"""One row of ``ROW_SCHEMA``."""


def row_record(row: Row | None, start: int) -> Record:
    """A row on its way to its next stage; None for one that ended."""
    text = row.model_dump_json() if row else None
    return {"row_json": text, "start": start, "results": [], "lines": []}


class StageWorker:
    """Runs a span of a group's stages on rows. One instance lives in each Ray actor.

    Args:
        stages: All stages of the group.
        span: Half-open range of stage indices that this operator runs.
        context: The run.
    """

    _ledger: Ledger
    _files: Files
    _scratch: Path

    def __init__(
        self, stages: Sequence[AnyStage], span: tuple[int, int], context: RunContext
    ) -> None:
        failpoints.adopt(context.failpoint)
        self._stages, self._span, self._context = stages, span, context
        self._ready: set[str] = set()
        self._is_open = False

    def _open(self) -> None:
        """Begin at the first row: what is raised while an actor is made reaches the driver as text only."""
        run = self._context
        run.proof.check(run.store)
        self._ledger = Ledger(run.store)
        self._ledger.generations = run.generations
        try:
            self._scratch = make_scratch(run.run_id)
            cache = self._scratch / "cache"
            cache.mkdir()
        except OSError as error:
            raise HandloomError(f"no room for a worker's files: {error}") from error
        blobs = StoreBlobs(run.store, run.source_options, cache)
        self._files, self._is_open = Files(blobs, self._scratch / "rows"), True

    def __call__(self, block: pa.Table) -> pa.Table:
        """Advance every row of a block through this worker's span of stages."""
        if not self._is_open:
            self._open()
        out: list[Record] = []
        for record in block.to_pylist():
            if record["row_json"] is None or not self._span[0] <= record["start"] < self._span[1]:
                out.append(record)
                continue
            row = self._stages[record["start"]].row_in.model_validate_json(record["row_json"])
            results, survivors = self._advance(row, record["start"])
            following = [row_record(r, self._span[1]) for r in survivors or (None,)]
            texts = [*record["results"], *(r.model_dump_json() for r in results)]
            following[0] |= {"results": texts, "lines": record["lines"]}
            out.extend(following)
            failpoints.hit("worker.row.done")
        return pa.Table.from_pylist(out, schema=ROW_SCHEMA)

    def _advance(self, row: Row, start: int) -> tuple[list[StageResult], list[Row]]:
        """Run stages from ``start`` to the span's end; fan-outs go on with every emitted row."""
        if start == self._span[1]:
            return [], [row]
        stage = self._stages[start]
        result = self._compute_once(stage, row)
        _, rows = judge(stage, row, result)
        results, survivors = [result], []
        for following in rows:
            more, ends = self._advance(following, start + 1)
            results += more
            survivors += ends
        return results, survivors

    def _compute_once(self, stage: AnyStage, row: Row) -> StageResult:
        """Compute a unit, or take it from its receipt; a row that keeps killing us is set aside."""
        closure = self._context.closures[stage.name]
        found = self._ledger.find(stage.name, closure, unit_key(row, closure))
        if found:
            return found
        if not self._may_try(stage, row):
            detail = f"its worker died {self._context.max_attempts} times"
            verdict = Dropped("worker_died", detail)
            result = pack_result(stage, row, closure, Outcome.QUARANTINED, (), verdict)
        else:
            result = self._compute(stage, row, closure)
        return self._ledger.record(result, closure) if is_final(result) else result

    def _may_try(self, stage: AnyStage, row: Row) -> bool:
        """Count this attempt in the store, where it survives our own death."""
        base = f"attempts/{self._context.run_id}/{stage.name}/{row.row_id}"
        ours, store = uuid.uuid4().hex.encode(), self._ledger.store
        tries = range(self._context.max_attempts)
        attempt = next((n for n in tries if store.put_mine(f"{base}/{n}", ours)), None)
        if attempt:
            tell(
                log,
                "attempt",
                level=logging.WARNING,
                row=row.row_id,
                stage=stage.name,
                attempt=attempt + 1,
                of=len(tries),
            )
        failpoints.hit("worker.attempt.marked")
        return attempt is not None

    def _set_up(self, stage: AnyStage) -> None:
        """Load a stage's weights, once."""
        if stage.name in self._ready:
            return
        started = time.perf_counter()
        stage.setup()
        self._ready.add(stage.name)
        seconds = time.perf_counter() - started
        if stage.backends or type(stage).setup is not Stage.setup:
            names = [backend.ref.name for backend in stage.backends]
            tell(log, "backend_loaded", stage=stage.name, backends=names, seconds=seconds)

    def _compute(self, stage: AnyStage, row: Row, closure: str) -> StageResult:
        self._set_up(stage)
        started, cpu_before_s = time.perf_counter(), _cpu_s()
        rows: Sequence[Row] = ()
        verdict: Dropped | None = None
        with self._files.row_scope() as written:
            try:
                done = stage.process(row, self._files)
                if isinstance(done, Kept):
                    outcome, rows = Outcome.KEPT, done.rows
                else:
                    outcome, verdict = Outcome.DROPPED, done
            except ChildCrashError as error:
                outcome, verdict = Outcome.QUARANTINED, Dropped(error.code, error.detail)
            except DataError as error:
                outcome, verdict = Outcome.FAILED, Dropped(error.code, error.detail)
            except HandloomError:  # the root, the recipe or Handloom itself: not this row's fault
                raise
            except Exception as error:  # the one place: a bug costs one row, loudly
                if isinstance(error, OSError) and error.errno in _MACHINE_FAULTS:
                    raise HandloomError(
                        f"stage {stage.name} on this machine: {error.strerror}; run again when it is "
                        "mended, finished work is kept"
                    ) from error
                tell(
                    log,
                    "unexpected_error",
                    level=logging.ERROR,
                    exc_info=True,
                    row=row.row_id,
                    stage=stage.name,
                )
                outcome = Outcome.QUARANTINED
                verdict = Dropped("unexpected_error", f"{type(error).__name__}: {error}"[:500])
        if verdict is not None:
            verdict = Dropped(verdict.reason, self._without_places(verdict.detail))
        return pack_result(
            stage,
            row,
            closure,
            outcome,
            rows,
            verdict,
            files=tuple(written),
            seconds_spent=time.perf_counter() - started,
            cpu_spent_s=max(0.0, _cpu_s() - cpu_before_s),
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def _without_places(self, detail: str) -> str:
        """Cut this machine's folders off the names of files: the detail outlives them."""
        for place in (self._scratch, self._ledger.store.local_root):
            detail = detail.replace(f"{place}/", "") if place else detail
        return detail


def _cpu_s() -> float:
    """CPU seconds of this process, all its threads, and of the children it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
