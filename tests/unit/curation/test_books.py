"""The law of conservation, and what a run remembers of its rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from curation.books import SOURCES_STAGE, RunState, check_conservation
from schemas.errors import InvariantError
from schemas.manifest import InputLine
from schemas.outcome import Decision, Outcome
from schemas.rows import SourceVideo


def decided(row: str, stage: str, outcome: Outcome = Outcome.KEPT, emitted: int = 1) -> Decision:
    return Decision(row_id=row, source_id=row, stage=stage, outcome=outcome, num_emitted=emitted)


LISTED = [decided("a", SOURCES_STAGE), decided("a", SOURCES_STAGE, Outcome.DROPPED, 0)]
CUT = [*LISTED, decided("a", "segment", emitted=2)]


def test_books_that_balance_pass_also_where_rows_become_many():
    check_conservation(
        [*CUT, decided("a1", "quality"), decided("a2", "quality")],
        ["sources", "segment", "quality"],
    )


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ([decided("a1", "quality")], "'quality': 2 rows in, 1 decisions"),
        ([decided("a1", "quality")] * 2, "decided twice on .*a1"),
        ([decided(r, "quality") for r in ("a1", "a2", "b")], "2 rows in, 3 decisions"),
    ],
    ids=["lost", "twice", "from nowhere"],
)
def test_rows_that_are_lost_doubled_or_new_are_told(last, told):
    with pytest.raises(InvariantError, match=told):
        check_conservation([*CUT, *last], ["sources", "segment", "quality"])


def test_inputs_are_decisions_of_their_own():
    state = RunState("run", datetime.now(UTC))
    row = SourceVideo(uri="/a.mp4", num_bytes=3, content_sha256="0" * 64)
    used = InputLine(uri=row.uri, row_id=row.row_id, num_bytes=3, outcome=Outcome.KEPT)
    denied = InputLine(
        uri="/b.mp4", row_id="b", num_bytes=0, outcome=Outcome.FAILED, reason="access_denied"
    )
    state.list_inputs([row], [used, denied])
    assert [(d.stage, d.outcome, d.reason, d.num_emitted) for d in state.decisions] == [
        ("sources", Outcome.KEPT, "", 1),
        ("sources", Outcome.FAILED, "access_denied", 0),
    ]
    assert state.sources == {row.row_id: row}
