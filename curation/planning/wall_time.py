"""From the time of workers to time by the clock: what runs side by side, and what starting takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from curation.chain import AnyStage
from curation.planning.foresight import Experience

Todo = Mapping[str, tuple[float, float]]
"""Rows and worker seconds by stage."""

RAY_START_S = 6.0
GROUP_START_S = 12.0
"""What Ray, and the workers of one group with their networks, took before the first row on two quiet cores."""


def scheduled_s(groups: Sequence[Sequence[AnyStage]], todo: Todo, num_workers: int) -> float:
    """Seconds until all groups are done, one after the other, rows in rounds of ``num_workers``.

    Few rows leave workers idle in the last round: three rows take two workers two rounds.
    """
    total_s = 0.0
    for group in groups:
        num_rows = max((todo[s.name][0] for s in group if s.name in todo), default=0.0)
        if num_rows <= 0:
            continue
        rounds = math.ceil(num_rows / num_workers - 1e-9)
        worker_s = sum(todo[s.name][1] for s in group if s.name in todo)
        total_s += worker_s * min(1.0, rounds / num_rows)
    return total_s


def starting_s(groups: Sequence[Sequence[AnyStage]], todo: Todo, group_s: float) -> float:
    """Seconds that Ray and the workers of all groups with something to do take to start."""
    busy = _num_busy(groups, todo)
    return RAY_START_S + group_s * busy if busy else 0.0


def spent(past: Sequence[Experience]) -> dict[str, tuple[float, float]]:
    """Rows and worker seconds of earlier sources, by stage."""
    names = {name for one in past for name in one.num_rows}
    return {
        name: (float(sum(o.num_rows[name] for o in past)), sum(o.worker_s[name] for o in past))
        for name in names
    }


def start_of_group_s(
    wall_s: float, groups: Sequence[Sequence[AnyStage]], done: Todo, num_workers: int
) -> float:
    """What a run that computed all of ``done`` took to start each group: what its rows do not explain."""
    busy = _num_busy(groups, done)
    if not busy:
        return GROUP_START_S
    idle_s = wall_s - RAY_START_S - scheduled_s(groups, done, num_workers)
    return max(1.0, idle_s / busy)


def _num_busy(groups: Sequence[Sequence[AnyStage]], todo: Todo) -> int:
    return sum(any(todo.get(s.name, (0.0, 0.0))[0] > 0 for s in group) for group in groups)
