"""What a run writes down about its rows, and the law that none of them is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas.errors import InvariantError
from schemas.manifest import DatasetManifest, InputLine
from schemas.outcome import Decision, Outcome
from schemas.rows import Clip, Row, SourceVideo

SOURCES_STAGE = "sources"
"""Where inputs that are no rows are decided on: before the first stage."""


@dataclass
class RunState:
    """What a run has found out so far."""

    run_id: str
    begun: datetime
    decisions: list[Decision] = field(default_factory=list)
    clips: dict[str, Clip] = field(default_factory=dict)
    sources: dict[str, SourceVideo] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    snapshot: DatasetManifest | None = None
    num_commits: int = 0
    stand_ins: set[str] = field(default_factory=set)
    """Rows that were chosen to stand for others."""
    lost: set[str] = field(default_factory=set)
    """Those among them that did not come through: others are chosen instead."""

    def list_inputs(self, rows: Sequence[SourceVideo], lines: Sequence[InputLine]) -> None:
        """Write down what the run begins with: rows, and a decision on every input."""
        self.sources.update({row.row_id: row for row in rows})
        self.decisions += map(_listed, lines)

    def remember(self, rows: Sequence[Row]) -> None:
        """Keep the version of every row that knows most, for the run's record."""
        for row in rows:
            if isinstance(row, Clip):
                old = self.clips.get(row.clip_id)
                if old is None or _num_facets(row) > _num_facets(old):
                    self.clips[row.clip_id] = row
            elif isinstance(row, SourceVideo):
                old_source = self.sources.get(row.row_id)
                if old_source is None or (row.probe and not old_source.probe):
                    self.sources[row.row_id] = row


def check_conservation(decisions: Sequence[Decision], order: Sequence[str]) -> None:
    """Check that every row that enters a stage leaves it with one outcome.

    What enters a stage is what the previous one sent on.

    Raises:
        InvariantError: Rows were lost, duplicated or came from nowhere.
    """
    entering: int | None = None
    for stage in order:
        here = [d for d in decisions if d.stage == stage]
        if entering is not None and len(here) != entering:
            raise InvariantError(
                f"conservation law broken at {stage!r}: {entering} rows in, {len(here)} decisions"
            )
        ids = Counter(d.row_id for d in here if stage != SOURCES_STAGE)
        twice = [row_id for row_id, count in ids.items() if count > 1]
        if twice:
            raise InvariantError(f"{stage!r} decided twice on {twice[:3]}")
        entering = sum(d.num_emitted for d in here if d.outcome is Outcome.KEPT)


def _listed(line: InputLine) -> Decision:
    return Decision(
        row_id=line.row_id,
        source_id=line.row_id,
        stage=SOURCES_STAGE,
        outcome=line.outcome,
        reason=line.reason,
        detail=line.detail,
        num_emitted=int(line.outcome is Outcome.KEPT),
    )


def _num_facets(clip: Clip) -> int:
    return sum(value is not None for value in dict(clip).values())
