"""Pure bookkeeping: what known results and today's thresholds make of a row.

The driver and the workers use the same functions, so that a row stops at the same gate in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from curation.chain import AnyStage, unit_key
from schemas.arrow import strip_optional
from schemas.base import Model
from schemas.outcome import Decision, Outcome, StageResult
from schemas.rows import Clip, Row
from schemas.settings import limits_of
from stages.base import Dropped

_UNDONE = frozenset({Outcome.FAILED, Outcome.QUARANTINED})


@dataclass
class Walked:
    """What became of rows on their way through some stages."""

    survivors: list[Row] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    pending: list[tuple[Row, int]] = field(default_factory=list)
    """Rows whose next unit is not known yet, with the index of that stage."""
    seen: list[Row] = field(default_factory=list)
    """Every version of every row, with the facets it has got, also when a gate dropped it then."""


def walk(
    row: Row,
    stages: Sequence[AnyStage],
    closures: Mapping[str, str],
    known: Mapping[str, StageResult],
    start: int = 0,
    into: Walked | None = None,
) -> Walked:
    """Follow a row through stages as far as results are known."""
    walked = into if into is not None else Walked()
    if start == len(stages):
        walked.survivors.append(row)
        return walked
    stage = stages[start]
    result = known.get(unit_key(row, closures[stage.name]))
    if result is None:
        walked.pending.append((row, start))
        return walked
    decision, rows = judge(stage, row, result)
    walked.decisions.append(decision)
    if result.outcome is Outcome.KEPT:
        walked.seen += restore_rows(stage, row, result)
    for following in rows:
        walk(following, stages, closures, known, start + 1, walked)
    return walked


def judge(stage: AnyStage, row: Row, result: StageResult) -> tuple[Decision, list[Row]]:
    """Apply a result and the stage's gate to a row: the decision and the rows that go on."""
    rows: list[Row] = []
    outcome, reason, detail = result.outcome, result.reason, result.detail
    if outcome is Outcome.KEPT:
        rows = restore_rows(stage, row, result)
        verdict = None if result.rows_json else stage.gate(rows[0])
        if verdict is not None:
            outcome, reason, detail, rows = Outcome.DROPPED, verdict.reason, verdict.detail, []
    if reason and reason not in stage.reasons and outcome is Outcome.DROPPED:
        raise ValueError(f"stage {stage.name!r} gave {reason!r}, which is not in its closed set")
    seconds = row.seconds or (rows[0].seconds if rows else 0.0)
    return Decision(
        row_id=row.row_id,
        source_id=source_id(row),
        stage=stage.name,
        outcome=outcome,
        reason=reason,
        detail=detail,
        seconds=seconds,
        unit_key=result.unit_key,
        fingerprint=stage.fingerprint,
        seconds_spent=result.seconds_spent,
        cpu_spent_s=result.cpu_spent_s,
        num_bytes_written=sum(f.num_bytes for f in result.files),
        num_emitted=len(rows),
    ), rows


def restore_rows(stage: AnyStage, row: Row, result: StageResult) -> list[Row]:
    """Rebuild the rows that a kept result stands for."""
    if result.rows_json:
        return [stage.row_out.model_validate_json(text) for text in result.rows_json]
    facet = _facet_type(stage).model_validate_json(result.facet_json)
    return [row.with_facet(stage.facet, facet)]


def pack_result(
    stage: AnyStage,
    row: Row,
    closure: str,
    outcome: Outcome,
    rows: Sequence[Row],
    dropped: Dropped | None = None,
    **measured: object,
) -> StageResult:
    """Make the record of one finished unit."""
    facet_json, rows_json = "", tuple(r.model_dump_json() for r in rows)
    if stage.facet and rows:
        facet_json, rows_json = getattr(rows[0], stage.facet).model_dump_json(), ()
    return StageResult.model_validate(
        {
            "unit_key": unit_key(row, closure),
            "stage": stage.name,
            "fingerprint": stage.fingerprint,
            "closure": closure,
            "row_id": row.row_id,
            "outcome": outcome,
            "reason": dropped.reason if dropped else "",
            "detail": dropped.detail if dropped else "",
            "rows_json": rows_json,
            "limits_json": _limits_json(stage) if outcome in _UNDONE else "",
            "facet_json": facet_json,
            **measured,
        }
    )


def _limits_json(stage: AnyStage) -> str:
    limits = limits_of(stage.config)
    return json.dumps(limits, sort_keys=True) if limits else ""


def source_id(row: Row) -> str:
    """The source that a row comes from."""
    return row.source_id if isinstance(row, Clip) else row.row_id


def _facet_type(stage: AnyStage) -> type[Model]:
    annotation, _ = strip_optional(stage.row_out.model_fields[stage.facet].annotation)
    return cast(type[Model], annotation)
