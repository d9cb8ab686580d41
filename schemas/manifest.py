"""What the ledger writes: log entries, dataset snapshots and run records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from schemas.base import FileRef, Id, Model
from schemas.outcome import Outcome
from schemas.rows import FORMER_FACETS

ROOT_FORMAT_VERSION = 1
ROOT_MARKER = "_format.json"
"""The file by which an output root is known."""


class LogEntry(Model):
    """One create-if-absent entry of the log; its number is its place in history."""

    txn: str
    """``run_id/group/sequence``: finding our own txn at a number means that we wrote it."""
    kind: Literal["results", "run", "dataset", "retry"]
    files: tuple[FileRef, ...] = ()
    num_rows: int = Field(ge=0, default=0)
    snapshot: int | None = None


class Retried(Model):
    """One unit whose results up to here no longer count: ``retry`` asked to do it again."""

    unit_key: Id


class ShardEntry(Model):
    """One published shard."""

    file: FileRef
    num_samples: int = Field(gt=0)
    clip_ids: tuple[Id, ...]


class DatasetManifest(Model):
    """A whole, immutable snapshot of training shards: ``dataset/<20 digits>.json``."""

    snapshot: int = Field(ge=1)
    schema_version: str
    shards: tuple[ShardEntry, ...]
    dataset_card: dict[str, object]


class StageRecord(Model):
    """How one stage was configured in a run."""

    name: Id
    facet: str = ""
    """The field of the row that the stage fills; empty for a fan-out stage."""
    version: int
    fingerprint: str
    closure_fingerprint: str
    needs: tuple[str, ...]
    reasons: tuple[str, ...]
    config: dict[str, object]

    @field_validator("facet")
    @classmethod
    def _of_earlier_versions(cls, name: str) -> str:
        """Take the former name of a facet that earlier versions wrote."""
        return FORMER_FACETS.get(name, name)


class InputLine(Model):
    """One thing that a run found below its addresses: every one has a line, used or not."""

    uri: str
    """Where it lay in this run."""
    row_id: Id
    """Its ``source_id`` if it was read, else an id of its name below the address that was given."""
    num_bytes: int = Field(ge=0, default=0)
    outcome: Outcome
    reason: str = ""
    detail: str = ""


class RunRecord(Model):
    """One run over a root. Everything that a report needs, by reference."""

    run_id: Id
    recipe: dict[str, object]
    stages: tuple[StageRecord, ...]
    sources: FileRef
    """Rows of ``SourceVideo``: source ids with an address of this run."""
    inputs: FileRef | None = None
    """Rows of ``InputLine``. None: the run is of a version that kept none."""
    clips: FileRef
    decisions: FileRef
    num_stage_calls: dict[str, int]
    """Stage computations that this run really did (0 for all: everything was known)."""
    wall_s: float
    started_at: str
    snapshot: int | None = None
    log_number: int | None = None
    """The run's own entry of the log, its last. None: the run is of a version that did not say."""
    versions: dict[str, str]

    @property
    def files(self) -> tuple[FileRef, ...]:
        """What the run refers to."""
        found = (self.sources, self.inputs, self.clips, self.decisions)
        return tuple(ref for ref in found if ref is not None)
