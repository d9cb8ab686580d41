"""What commands print with ``--json``: a model per command, from which docs/commands.md is written.

``print_json`` checks what it prints against these models, so that neither can drift.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.base import Model
from schemas.outcome import Decision
from schemas.report import RunReport
from schemas.rows import Clip, SourceVideo


class Failure(Model):
    """Why a command failed."""

    exit_code: int
    """1: it failed; 2: the request is wrong; 130, 143: it was stopped."""
    message: str


class Failed(Model):
    """Of any command that fails: on standard output in place of its own document."""

    error: Failure


class Curated(Model):
    """A finished run."""

    run_id: str
    verdict: str
    """``PASS`` or ``FAIL`` (exit code 3)."""
    report: str
    """Address of the page."""
    snapshot: int | None
    """Of the data set; None: no clip came through."""
    num_stage_calls: dict[str, int]
    """Units of work that were computed, by stage."""
    report_json: RunReport


class Marked(Model):
    """``retry --no-run``: what the next run will do again. A retry that runs prints what ``curate`` does."""

    num_rows: int
    log_entry: int | None
    run_id: None


class RunLine(Model):
    """One finished run."""

    run_id: str
    started_at: str
    wall_s: float
    recipe: str
    num_stage_calls: int
    snapshot: int | None


class Runs(Model):
    """All finished runs, oldest first."""

    runs: tuple[RunLine, ...]


class Fingerprints(Model):
    """Of a stage in a run."""

    fingerprint: str
    closure: str
    """Of the stage and of all that it reads from."""


class ExplainedClip(Model):
    """``explain ROOT CLIP``."""

    run_id: str
    clip: Clip
    """All that stages found."""
    source: SourceVideo | None
    addresses: tuple[str, ...]
    """Where the source lay in this run, copies too."""
    decisions: tuple[Decision, ...]
    stages: dict[str, Fingerprints]
    snapshot: int | None
    shards: tuple[str, ...]


class EndedClip(Model):
    """A clip of a source and where it ended."""

    clip_id: str
    start_s: float
    end_s: float
    end: Decision


class ExplainedSource(Model):
    """``explain ROOT SOURCE``."""

    run_id: str
    source: SourceVideo
    decisions: tuple[Decision, ...]
    clips: tuple[EndedClip, ...]


class Film(Model):
    """A film of one clip."""

    video: str
    clip_id: str
    panels: tuple[str, ...]
    """From left to right."""
    num_frames: int
    size: tuple[int, int]
    """Height and width in pixels, of all panels together."""


class ShardLine(Model):
    """One Parquet file."""

    path: str
    num_samples: int
    num_bytes: int


class Shards(Model):
    """The shards of the current snapshot."""

    snapshot: int
    schema_version: str
    shards: tuple[ShardLine, ...]


class Diff(Model):
    """How two runs differ."""

    same: bool
    runs: tuple[str, str]
    settings: tuple[dict[str, Any], ...]
    """Per stage that differs: ``changed`` settings as [of A, of B], or ``only_in``."""
    funnel: dict[str, Any]
    """Per stage, counts of outcomes as [of A, of B]."""
    rows: dict[str, Any]
    """Rows of the same fate, ``flips`` from one fate to another, and rows of one run alone."""
    shards: dict[str, Any]


class Vacuumed(Model):
    """What nothing refers to."""

    applied: bool
    """Whether it was deleted."""
    num_objects: int
    num_bytes: int
    by_folder: dict[str, int]
    num_referenced_blobs: int
    num_too_young: int
    names: tuple[str, ...]


class Problem(Model):
    """Something wrong with a file of a root."""

    kind: str
    name: str
    detail: str


class Verified(Model):
    """What was read, and what is wrong: exit code 3 if anything is."""

    num_control: int
    num_blobs: int
    num_bytes: int
    num_unreferenced: int
    num_snapshots: int
    problems: tuple[Problem, ...]


class Trained(Model):
    """Metrics of the first and the last evaluation, by name."""

    out: str
    first_eval: tuple[dict[str, Any], ...]
    last_eval: tuple[dict[str, Any], ...]


class Sampled(Model):
    """A sampled film."""

    video: str
    num_frames: int
    size: tuple[int, int]
    """Height and width in pixels."""
    has_sound: bool
    attention: str
    """The attention kernel that ran."""
    notes: tuple[str, ...]


class Rendered(Model):
    """Studio clips."""

    clips: tuple[str, ...]


class CatalogueObject(Model):
    """An object that the studio can put into hands."""

    key: str
    name: str
    longest_cm: float
    """Its real longest side."""
    author: str
    licence: str


class Catalogue(Model):
    """With ``--list-objects``."""

    objects: tuple[CatalogueObject, ...]


class DoctorLine(Model):
    """One check of this machine."""

    name: str
    is_ok: bool
    found: str
    remedy: str


class Doctored(Model):
    """All checks: exit code 2 if one fails."""

    checks: tuple[DoctorLine, ...]


class BackendLine(Model):
    """One backend of a stage."""

    stage: str
    setting: str
    """What chooses it; empty for what a stage always uses."""
    name: str
    is_default: bool
    package: str
    """The module that it needs."""
    extra: str
    licence: str
    weights: str
    installed: bool


class Backends(Model):
    """``models list``."""

    backends: tuple[BackendLine, ...]


class CheckedStage(Model):
    """A stage that can run here, and the backends that its settings chose."""

    stage: str
    fingerprint: str
    backends: tuple[str, ...]
    weights_sha256: str


class CheckedModels(Model):
    """``models check``: every stage can run; bytes that the network needs, by purpose."""

    stages: tuple[CheckedStage, ...]
    network: dict[str, Any]


class Pinned(Model):
    """``models pin``."""

    file: str
    sha256: str


class Converted(Model):
    """``models convert-smplx``: shapes of the arrays written."""

    file: str
    arrays: dict[str, tuple[int, ...]]


class Accuracy(Model):
    """``bench accuracy``: see docs/accuracy.md for the figures."""

    figures: dict[str, float | None]
    dropped: dict[str, Any]
    """By clip: the stage and reason that it was lost at."""
    parts: tuple[dict[str, Any], ...] = ()
    """With ``--real``: what was found in each part of a video."""


class StageCost(Model):
    """One stage of ``bench curation``, over all rows of the run."""

    name: str
    num_rows: int
    cpu_s: float
    """Of the process, all its threads, and the children that it waited for."""
    wall_s: float


class CurationCost(Model):
    """``bench curation``: one run in one process, which load beside it slows but does not make dearer."""

    videos: tuple[str, ...]
    source_s: float
    """Seconds of source video."""
    num_clips: int
    num_kept: int
    stages: tuple[StageCost, ...]
    cpu_s: float
    """Of the whole run: stages, loading of models, ledger."""
    wall_s: float
    peak_bytes: int
    """Largest resident set of the process so far."""
    machine: dict[str, str]

    @property
    def stage_cpu_s(self) -> float:
        """Of all stages together."""
        return sum(stage.cpu_s for stage in self.stages)

    @property
    def overhead_cpu_s(self) -> float:
        """What is no stage's: imports, models loaded, ledger, tables."""
        return max(0.0, self.cpu_s - self.stage_cpu_s)

    @property
    def video_s_per_s(self) -> float:
        """Seconds of source video for every second of two busy cores."""
        return 2 * self.source_s / self.stage_cpu_s if self.stage_cpu_s else 0.0


class ModelCost(Model):
    """``bench model``: see docs/model.md."""

    counted: tuple[dict[str, Any], ...]
    counted_720p: tuple[dict[str, Any], ...]
    measured: tuple[dict[str, Any], ...]
    size: dict[str, Any]
    attention_asymmetric_over_full: float | None
    expert_seconds: Any
    backbone_seconds: Any


OUTPUTS: dict[str, tuple[type[Model], ...]] = {
    "error": (Failed,),
    "curate": (Curated,),
    "report": (RunReport,),
    "runs": (Runs,),
    "explain": (ExplainedClip, ExplainedSource),
    "show": (Film,),
    "shards": (Shards,),
    "diff": (Diff,),
    "retry": (Marked, Curated),
    "vacuum": (Vacuumed,),
    "verify": (Verified,),
    "train": (Trained,),
    "sample": (Sampled,),
    "studio": (Rendered, Catalogue),
    "doctor": (Doctored,),
    "bench accuracy": (Accuracy,),
    "bench curation": (CurationCost,),
    "bench model": (ModelCost,),
    "models list": (Backends,),
    "models check": (CheckedModels,),
    "models pin": (Pinned,),
    "models convert-smplx": (Converted,),
}
"""By command; ``error`` is what any of them prints that fails."""


def models_of(command: str) -> tuple[type[BaseModel], ...]:
    """What a command may print.

    Raises:
        KeyError: It is none that prints JSON.
    """
    if command == "curate --dry-run":  # takes scipy and the chain, which others need not wait for
        from curation.planning.plan import Plan

        return (Plan,)
    return OUTPUTS[command]


def check_output(command: str, document: dict[str, Any]) -> None:
    """Check that a document is one that the command may print.

    Raises:
        pydantic.ValidationError: It is not: a fault of ours.
    """
    problems = []
    for kind in models_of(command):
        try:
            kind.model_validate(document)
        except ValidationError as error:
            problems.append(error)
        else:
            return
    raise min(problems, key=ValidationError.error_count)
