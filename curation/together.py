"""Gates that look at all rows of a run together, after every gate that looks at one."""

from __future__ import annotations

from collections.abc import Container, Sequence

from curation.chain import AnyStage
from curation.walk import Walked
from schemas.errors import InvariantError
from schemas.outcome import Outcome
from stages.base import Dropped


def judge_together(
    group: Sequence[AnyStage], walked: Walked, lost: Container[str] = ()
) -> set[str]:
    """Apply the ``gate_all`` of each stage of a group to its survivors, in place.

    A row that falls is dropped at the stage whose gate it was; what later stages of the group had decided on
    it goes, for it never came to them.

    Args:
        group: Stages that share an execution.
        walked: What their own gates made of the rows.
        lost: Ids of rows that later stages drop: they stand for nobody, and nobody stands for them.

    Returns:
        Ids of the rows that stand for others.
    """
    stand_ins: set[str] = set()
    for index, stage in enumerate(group):
        candidates = [r for r in walked.survivors if r.row_id not in lost]
        verdicts: dict[str, Dropped] = stage.gate_all(candidates)
        if not verdicts:
            continue
        unknown = {v.reason for v in verdicts.values()} - stage.reasons
        if unknown:
            raise InvariantError(f"stage {stage.name!r} gave {unknown}, not in its closed set")
        stand_ins |= {v.kept_id for v in verdicts.values()} - verdicts.keys()
        later = {s.name for s in group[index + 1 :]}
        walked.survivors[:] = [r for r in walked.survivors if r.row_id not in verdicts]
        decisions = []
        for decision in walked.decisions:
            verdict = verdicts.get(decision.row_id)
            if verdict is None or decision.stage not in {stage.name, *later}:
                decisions.append(decision)
            elif decision.stage == stage.name:
                decisions.append(
                    decision.replace(
                        outcome=Outcome.DROPPED,
                        reason=verdict.reason,
                        detail=verdict.detail,
                        num_emitted=0,
                    )
                )
        walked.decisions[:] = decisions
    return stand_ins
