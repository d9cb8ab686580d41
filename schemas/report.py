"""report.json: what a run did, in numbers. Version it when a field changes its meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Id, Model

REPORT_VERSION = "1.2"
Verdict = Literal["PASS", "WARN", "FAIL"]


class GateLine(Model):
    """One quality gate of the run."""

    name: str
    threshold: float
    observed: float
    passed: bool


class StageLine(Model):
    """One stage's books: in = kept + dropped + failed + quarantined, in rows and in seconds."""

    name: str
    num_in: int = Field(ge=0)
    num_kept: int = Field(ge=0)
    num_dropped: int = Field(ge=0)
    num_failed: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)
    num_out: int = Field(ge=0)
    """Rows that went on: more than kept after a fan-out."""
    seconds_in: float
    seconds_kept: float
    work_s: float
    num_computed: int = Field(ge=0)
    """Stage calls of this run; the rest was known from earlier runs."""
    reasons: dict[str, int]

    @property
    def is_balanced(self) -> bool:
        """The conservation law for this stage."""
        ends = (self.num_kept, self.num_dropped, self.num_failed, self.num_quarantined)
        return self.num_in == sum(ends)


class ScoreLine(Model):
    """How one gated score is spread over the clips that have it, beside its threshold."""

    stage: str
    name: str
    """Field of the stage's facet."""
    side: Literal["min", "max"]
    threshold: float | None
    """None: the gate is off."""
    num_beyond: int = Field(ge=0)
    """Clips whose score alone would drop them."""
    quantiles: tuple[float, float, float, float, float]
    """Smallest, 10 %, median, 90 %, largest."""
    bins: tuple[int, ...]
    """Clips per bin of equal width."""
    low: float
    high: float
    """Ends of the bins: they take in every score and the threshold."""


class SourceLine(Model):
    """One input: an object of the raw bucket, or whatever else lay there."""

    uri: str
    source_id: str
    outcome: str
    stage: str
    reason: str
    detail: str
    num_clips: int
    num_kept: int
    clip_ends: dict[str, int] = Field(default_factory=dict)
    """Reasons for which its clips ended, counted."""


class SecondsLine(Model):
    """Where the seconds of the sources went: found = in clips + left out."""

    found_s: float = Field(ge=0)
    in_clips_s: float = Field(ge=0)
    """In at least one clip, motion context included, whatever became of the clip."""
    left_out_s: dict[str, float] = Field(default_factory=dict)
    """By reason: what ``probe`` could not use, sources that were dropped, and what no window covers."""
    num_unknown: int = Field(ge=0, default=0)
    """Sources that could not be read at all: nobody knows how long they are."""


class RunReport(Model):
    """The whole report."""

    report_version: str = REPORT_VERSION
    run_id: Id
    verdict: Verdict
    gates: tuple[GateLine, ...]
    stages: tuple[StageLine, ...]
    scores: tuple[ScoreLine, ...] = ()
    seconds: SecondsLine | None = None
    sources: tuple[SourceLine, ...]
    kept_clip_ids: tuple[str, ...]
    num_samples: int
    snapshot: int | None
    wall_s: float
    versions: dict[str, str]
