"""What became of a row, and the record of one stage's work on it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import FileRef, Id, Model


class Outcome(StrEnum):
    """The four ends of a row at a stage. In = kept + dropped + failed + quarantined."""

    KEPT = "kept"
    DROPPED = "dropped"
    FAILED = "failed"
    QUARANTINED = "quarantined"


SKIPPED = frozenset(
    {
        "duplicate_content",
        "folder_marker",
        "given_twice",
        "handloom_root",
        "hidden",
        "link_out_of_tree",
        "link_to_folder",
        "not_a_file",
        "over_limit",
    }
)
"""Reasons of inputs that are not read on purpose: they are ``dropped``, all others ``failed``."""

UNCOUNTED = SKIPPED | {"not_video"}
"""Reasons that say nothing of how good the sources are: no gate of the run counts such a row."""


class StageResult(Model):
    """One unit of work, done: what ``stage`` computed for one row.

    ``unit_key`` = sha256 of the row's content, the stage's fingerprint and the keys of the stages whose
    facets it reads. A result never depends on gate thresholds: those are applied when it is read.
    """

    unit_key: Id
    stage: Id
    fingerprint: str
    closure: Id
    """Fingerprint of the stage together with all stages whose facets it reads."""
    row_id: Id
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    rows_json: tuple[str, ...] = ()
    """Fan-out stages: the emitted rows. Other stages: empty."""
    facet_json: str = ""
    """One-to-one stages: the facet. Fan-out stages: empty."""
    files: tuple[FileRef, ...] = ()
    generation: int = Field(ge=0, default=0)
    """How often ``retry`` had asked for this unit again when it was done. Only the newest counts."""
    limits_json: str = ""
    """Of failed and quarantined units: the stage's limits at the time, for they may be why."""
    seconds_spent: float = Field(ge=0, default=0.0)
    """By the clock, in the worker."""
    cpu_spent_s: float = Field(ge=0, default=0.0)
    """CPU seconds of the worker and of the children it waited for. 0 in results of earlier versions."""
    peak_bytes: int = Field(ge=0, default=0)


class Decision(Model):
    """A row's fate at one stage, after the gate."""

    row_id: str
    source_id: str
    stage: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    seconds: float = Field(ge=0, default=0.0)
    """Video seconds that the row stands for."""
    unit_key: str = ""
    fingerprint: str = ""
    seconds_spent: float = Field(ge=0, default=0.0)
    cpu_spent_s: float = Field(ge=0, default=0.0)
    num_bytes_written: int = Field(ge=0, default=0)
    """Of the files that the unit refers to; a file that several refer to counts for each."""
    num_emitted: int = Field(ge=0, default=1)
    """Rows that went on from here (fan-out stages emit several)."""
