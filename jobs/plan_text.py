"""A plan as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from schemas.text import bytes_text, duration_text

if TYPE_CHECKING:
    from curation.planning.estimates import Estimate
    from curation.planning.plan import Plan

_UNKNOWN = "not known"


def plan_lines(plan: Plan, root: str) -> Iterator[str]:
    """The plan, line by line, for people."""
    yield (
        f"{plan.num_sources} sources ({bytes_text(plan.num_bytes)}) into {root}, of which "
        f"{plan.num_unread} ({bytes_text(plan.num_bytes_unread)}) are new or changed"
    )
    for reason, count in plan.not_used.items():
        yield f"  not used: {count} {reason}"
    yield ""
    yield f"  {'stage':<11} {'known':>8}  {'to do':<22} {'time of workers'}"
    for stage in plan.stages:
        todo = estimate_text(stage.todo_rows, "{:.0f}".format)
        cost = estimate_text(stage.worker_s, duration_text)
        yield f"  {stage.name:<11} {stage.num_known:>8}  {todo:<22} {cost}".rstrip()
    yield ""
    yield f"clips:    {plan.num_clips_known} known, expected in the end: {_all(plan)}"
    written = estimate_text(plan.bytes_to_write, bytes_text)
    yield f"bytes:    {bytes_text(plan.bytes_to_read)} of sources to read, {written} to write"
    cpu = estimate_text(plan.cpu_s, duration_text)
    yield f"time:     {estimate_text(plan.wall_s, duration_text)} with {plan.num_workers} workers, CPU time {cpu}"
    yield f"told from {plan.basis or 'nothing: no finished run here; try a few sources with --sample 3'}"
    for check in plan.checks:
        yield f"{'ok' if check.is_ok else 'FAILS'}: {check.name}: {check.detail}"


def estimate_text(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    """A value and its 90 % interval.

    >>> from curation.planning.estimates import Estimate
    >>> estimate_text(Estimate(value=12, low=9, high=15), "{:.0f}".format)
    '12 (9 to 15)'
    """
    if estimate is None:
        return _UNKNOWN
    value = show(estimate.value)
    if estimate.low is None and estimate.high is None:
        return f"{value} (one source)"
    if estimate.low is None or estimate.high is None:
        return f"at least {value}"
    low, high = show(estimate.low), show(estimate.high)
    return value if low == value == high else f"{value} ({low} to {high})"


def _all(plan: Plan) -> str:
    if plan.num_clips is None or plan.clip_hours is None:
        return _UNKNOWN
    hours = estimate_text(plan.clip_hours, lambda h: duration_text(3600 * h))
    return f"{estimate_text(plan.num_clips, '{:.0f}'.format)} of {hours}"
