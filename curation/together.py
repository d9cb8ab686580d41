"""Gates that look at all rows of a run together, after every gate that looks at one."""

from __future__ import annotations

from collections.abc import Sequence

from curation.chain import AnyStage
from curation.walk import Walked
from schemas.errors import InvariantError
from schemas.outcome import Outcome
from stages.base import Dropped


def judge_together(group: Sequence[AnyStage], walked: Walked) -> None:
    """Apply the ``gate_all`` of each stage of a group to its survivors, in place.

    A row that falls is dropped at the stage whose gate it was; what later stages of the group had decided on
    it goes, for it never came to them.
    """
    for index, stage in enumerate(group):
        verdicts: dict[str, Dropped] = stage.gate_all(walked.survivors)
        if not verdicts:
            continue
        unknown = {v.reason for v in verdicts.values()} - stage.reasons
        if unknown:
            raise InvariantError(f"stage {stage.name!r} gave {unknown}, not in its closed set")
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
