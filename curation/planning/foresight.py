"""What a run would find known and what it would have to do, without doing it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from curation.chain import AnyStage, Chain, unit_key
from curation.planning.estimates import Total, add_up, predict
from curation.publish import SHARDS_STAGE
from curation.together import judge_together
from curation.walk import Walked, walk
from schemas.outcome import Decision, Outcome, StageResult
from schemas.rows import Clip, Row, SourceVideo


@dataclass
class Foreseen:
    """Rows as far as results are known."""

    num_known: Counter[str] = field(default_factory=Counter)
    """Units whose results are known, by stage."""
    pending: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """Rows whose next unit is not known, by that unit's stage."""
    known_later: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the pending clips of the first stage, how many results of the second, later one are known."""
    survivors: tuple[Clip, ...] = ()
    """Clips that are known to come through all stages before the shards."""


def foresee(chain: Chain, sources: Sequence[Row], known: Mapping[str, StageResult]) -> Foreseen:
    """Follow all sources through the chain as a run does, but leave out what it would compute."""
    groups = [g for g in chain.groups() if g[0].name != SHARDS_STAGE]
    lost: set[str] = set()
    while True:  # as a run does: who stands for others and falls is replaced by the next
        seen, rows, stand_ins = Foreseen(), list(sources), set[str]()
        for group in groups:
            rows = _pass(group, rows, chain, known, seen, lost, stand_ins)
        waiting = {row.row_id for rows_there in seen.pending.values() for row in rows_there}
        fallen = stand_ins - {r.row_id for r in rows} - waiting
        if not fallen:
            seen.survivors = tuple(r for r in rows if isinstance(r, Clip))
            _count_later(chain, seen, known)
            return seen
        lost |= fallen


def _pass(
    group: Sequence[AnyStage],
    rows: Sequence[Row],
    chain: Chain,
    known: Mapping[str, StageResult],
    seen: Foreseen,
    lost: set[str],
    stand_ins: set[str],
) -> list[Row]:
    walked = Walked()
    for row in rows:
        walk(row, group, chain.closures, known, 0, walked)
    stand_ins |= judge_together(group, walked, lost)
    seen.num_known.update(d.stage for d in walked.decisions)
    for row, index in walked.pending:
        seen.pending[group[index].name].append(row)
    return sorted(walked.survivors, key=lambda r: r.row_id)


def _count_later(chain: Chain, seen: Foreseen, known: Mapping[str, StageResult]) -> None:
    """Results behind one that is missing: used again, if they do not read what is missing."""
    order = [name for name in chain.closures if name != SHARDS_STAGE]
    for first, rows in seen.pending.items():
        clips = [r for r in rows if isinstance(r, Clip)]
        for later in order[order.index(first) + 1 :]:
            count = sum(unit_key(clip, chain.closures[later]) in known for clip in clips)
            seen.known_later[first, later] += count
            seen.num_known[later] += count


@dataclass
class Experience:
    """What one source cost in an earlier run, by stage, and what came of it."""

    num_bytes: int
    num_rows: Counter[str] = field(default_factory=Counter)
    """Rows that entered a stage."""
    worker_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    written_bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    num_clips: int = 0
    clip_s: float = 0.0


def experiences(sources: Sequence[SourceVideo], decisions: Sequence[Decision]) -> list[Experience]:
    """What each source of a finished run cost and gave."""
    found = {s.row_id: Experience(s.num_bytes) for s in sources}
    for decision in decisions:
        one = found.get(decision.source_id)
        if one is None or not decision.unit_key:
            continue
        one.num_rows[decision.stage] += 1
        one.worker_s[decision.stage] += decision.seconds_spent
        one.cpu_s[decision.stage] += decision.cpu_spent_s
        one.written_bytes[decision.stage] += decision.num_bytes_written
        if decision.stage == SHARDS_STAGE and decision.outcome is Outcome.KEPT:
            one.num_clips += 1
            one.clip_s += decision.seconds
    return list(found.values())


class Forecast:
    """Totals that the rows to do will come to, by what an earlier run's sources did.

    Args:
        chain: The stages.
        seen: Rows to do, by the stage that is their next.
        unread: Number and bytes of sources that nobody has read yet: they begin at the first stage.
        past: Earlier sources.
    """

    def __init__(
        self,
        chain: Chain,
        seen: Foreseen,
        unread: tuple[int, int],
        past: Sequence[Experience],
    ) -> None:
        self._order = list(chain.closures)
        self._of_sources = {s.name for s in chain.stages if s.row_in is SourceVideo}
        self._past = past
        self._seen = seen
        self._counts = Counter({name: len(rows) for name, rows in seen.pending.items() if rows})
        self._num_bytes = {
            name: sum(r.num_bytes for r in seen.pending[name] if isinstance(r, SourceVideo))
            for name in self._counts
        }
        if unread[0]:
            first = self._order[0]
            self._counts[first] += unread[0]
            self._num_bytes[first] = self._num_bytes.get(first, 0) + unread[1]

    def rows(self, stage: str) -> Total | None:
        """Units that a stage will compute: those that wait there, and those that will come."""
        later = self._sum(
            self._before(stage), lambda one, first: one.num_rows[stage] * self._share(first, stage)
        )
        return add_up([Total(self._counts[stage]), later])

    def stage_cost(self, what: str, stage: str) -> Total | None:
        """Worker seconds, CPU seconds or bytes (the name of a field) of one stage."""
        firsts = [*self._before(stage), *([stage] if self._counts[stage] else [])]
        return self._sum(
            firsts, lambda one, first: getattr(one, what)[stage] * self._share(first, stage)
        )

    def cost(self, what: str) -> Total | None:
        """Worker seconds, CPU seconds or bytes of all stages together."""

        def amount(one: Experience, first: str) -> float:
            later = self._order[self._order.index(first) :]
            return sum(getattr(one, what)[name] * self._share(first, name) for name in later)

        return self._sum(self._counts, amount)

    def yields(self, what: str) -> Total | None:
        """``num_clips`` or ``clip_s`` that will come of the rows to do."""
        return self._sum(self._counts, lambda one, _: float(getattr(one, what)))

    def _before(self, stage: str) -> list[str]:
        return [n for n in self._counts if self._order.index(n) < self._order.index(stage)]

    def _share(self, first: str, stage: str) -> float:
        """How much of a later stage's work is left for rows that wait at the first."""
        return 1 - self._seen.known_later[first, stage] / max(self._counts[first], 1)

    def _sum(
        self, firsts: Iterable[str], amount: Callable[[Experience, str], float]
    ) -> Total | None:
        return add_up(self._predict(first, amount) for first in firsts)

    def _predict(self, first: str, amount: Callable[[Experience, str], float]) -> Total | None:
        """By the number of rows, or for sources by their bytes where these tell more."""
        past = [one for one in self._past if one.num_rows[first]]
        amounts = [amount(one, first) for one in past]
        by_rows = predict(
            [(float(o.num_rows[first]), a) for o, a in zip(past, amounts, strict=True)],
            float(self._counts[first]),
        )
        if first not in self._of_sources or by_rows is None or not self._num_bytes[first]:
            return by_rows
        by_bytes = predict(
            [(float(o.num_bytes), a) for o, a in zip(past, amounts, strict=True)],
            float(self._num_bytes[first]),
        )
        if by_bytes is None or by_bytes.variance is None or by_rows.variance is None:
            return by_bytes or by_rows
        return min(by_bytes, by_rows, key=lambda total: total.variance or 0.0)
