"""Counts decisions into a report and writes report.json, index.html and its pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from curation.books import SOURCES_STAGE
from curation.recipe import RunGates
from curation.report.scores import score_lines
from curation.report.seconds import seconds_line
from curation.report.strips import Earlier, write_strip
from schemas.errors import InvariantError
from schemas.manifest import InputLine, RunRecord
from schemas.outcome import UNCOUNTED, Decision, Outcome
from schemas.report import GateLine, RunReport, SourceLine, StageLine, Verdict
from schemas.rows import Clip, SourceVideo
from schemas.text import plain
from stages.files import Blobs

_MAX_STRIPS = 60
_MAX_SOURCE_LINES = 2000


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report is made of."""

    run: RunRecord
    decisions: tuple[Decision, ...]
    """One per row per stage reached; the first stage is called ``sources``."""
    sources: tuple[SourceVideo, ...]
    clips: tuple[Clip, ...]
    gates: RunGates
    blobs: Blobs
    others: tuple[InputLine, ...] = ()
    """Inputs that are no source: copies, what was left out, what could not be read."""

    @cached_property
    def _addresses(self) -> dict[str, str]:
        return {s.row_id: s.uri for s in self.sources}

    def address_of(self, clip: Clip) -> str:
        """Where the clip's source lay in this run."""
        return self._addresses.get(clip.source_id, "unknown")

    def copies_of(self, clip: Clip) -> list[InputLine]:
        """Other inputs of this run that hold the clip's source."""
        return [line for line in self.others if line.row_id == clip.source_id]


def build_report(
    inputs: ReportInputs, out_dir: Path, earlier: Earlier = lambda name, path: False
) -> RunReport:
    """Write the report into an empty folder; pictures that ``earlier`` has are not made again.

    Raises:
        InvariantError: The books of a stage do not balance (report.json is written all the same).
    """
    report = summarise(inputs)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "report.json").write_text(report.model_dump_json(indent=1))
    broken = [s.name for s in report.stages if not s.is_balanced]
    if broken:
        raise InvariantError(f"in = kept + dropped + failed + quarantined is broken at {broken}")
    kept = set(report.kept_clip_ids)
    shown = sorted((c for c in inputs.clips if c.clip_id in kept), key=lambda c: c.clip_id)
    (out_dir / "media").mkdir(exist_ok=True)
    media = out_dir / "media"
    strips = [(c, write_strip(c, inputs.blobs, media, earlier)) for c in shown[:_MAX_STRIPS]]
    environment = Environment(
        loader=PackageLoader("curation.report"), autoescape=select_autoescape(default=True),
        trim_blocks=True, lstrip_blocks=True, finalize=_plain,
    )  # fmt: skip
    page = environment.get_template("index.html.j2").render(
        report=report, strips=strips, run=inputs.run, num_hidden=max(0, len(shown) - _MAX_STRIPS),
        dropped=_dropped_clips(inputs), address_of=inputs.address_of,
        max_source_lines=_MAX_SOURCE_LINES,
    )  # fmt: skip
    (out_dir / "index.html").write_text(page, encoding="utf-8")
    return report


def _plain(value: object) -> object:
    """Names and details come from outside: nothing that steers a terminal gets into the page."""
    return plain(value) if type(value) is str else value


def summarise(inputs: ReportInputs) -> RunReport:
    """Count everything, without touching files."""
    order = [SOURCES_STAGE, *(s.name for s in inputs.run.stages)]
    stages = tuple(_stage_line(name, inputs) for name in order)
    last = order[-1]
    kept = tuple(
        sorted(d.row_id for d in inputs.decisions if d.stage == last and d.outcome is Outcome.KEPT)
    )
    gates = _gate_lines(inputs, len(kept))
    return RunReport(
        run_id=inputs.run.run_id, verdict=_verdict(gates, stages), gates=gates, stages=stages,
        scores=score_lines(inputs.run.stages, inputs.clips),
        seconds=seconds_line(inputs.sources, inputs.clips, inputs.decisions),
        sources=_source_lines(inputs, set(kept)), kept_clip_ids=kept, num_samples=len(kept),
        snapshot=inputs.run.snapshot, wall_s=inputs.run.wall_s, versions=inputs.run.versions,
    )  # fmt: skip


def _stage_line(name: str, inputs: ReportInputs) -> StageLine:
    here = [d for d in inputs.decisions if d.stage == name]
    count = Counter(d.outcome for d in here)
    return StageLine(
        name=name, num_in=len(here), num_kept=count[Outcome.KEPT],
        num_dropped=count[Outcome.DROPPED], num_failed=count[Outcome.FAILED],
        num_quarantined=count[Outcome.QUARANTINED],
        num_out=sum(d.num_emitted for d in here if d.outcome is Outcome.KEPT),
        seconds_in=sum(d.seconds for d in here),
        seconds_kept=sum(d.seconds for d in here if d.outcome is Outcome.KEPT),
        work_s=sum(d.seconds_spent for d in here),
        num_computed=inputs.run.num_stage_calls.get(name, 0),
        reasons=dict(sorted(Counter(d.reason for d in here if d.reason).items())),
    )  # fmt: skip


def _gate_lines(inputs: ReportInputs, num_kept: int) -> tuple[GateLine, ...]:
    gates = inputs.gates
    of_sources, of_clips = _end_shares(inputs.decisions)
    least = GateLine(name="min_kept_clips", threshold=gates.min_kept_clips, observed=num_kept,
                     passed=num_kept >= gates.min_kept_clips)  # fmt: skip
    most = (
        ("max_failed_share", gates.max_failed_share, of_sources[Outcome.FAILED]),
        ("max_quarantined_share", gates.max_quarantined_share, of_sources[Outcome.QUARANTINED]),
        ("max_failed_clip_share", gates.max_failed_clip_share, of_clips[Outcome.FAILED]),
        ("max_quarantined_clip_share", gates.max_quarantined_clip_share,
         of_clips[Outcome.QUARANTINED]),
    )  # fmt: skip
    return (least, *(
        GateLine(name=name, threshold=limit, observed=share, passed=share <= limit)
        for name, limit, share in most
    ))  # fmt: skip


def _end_shares(decisions: Sequence[Decision]) -> tuple[dict[Outcome, float], dict[Outcome, float]]:
    """Shares of sources, and of clips, that ended in each way: each by the number of its own kind."""
    ends: dict[bool, dict[tuple[str, int], Decision]] = {True: {}, False: {}}
    for index, d in enumerate(decisions):  # in the order of the stages: the last one stays
        is_no_row = d.stage == SOURCES_STAGE and d.outcome is not Outcome.KEPT
        ends[d.row_id == d.source_id][d.row_id, index if is_no_row else -1] = d
    return _shares(ends[True].values()), _shares(ends[False].values())


def _shares(ends: Iterable[Decision]) -> dict[Outcome, float]:
    counted = [d.outcome for d in ends if d.reason not in UNCOUNTED]
    return {o: counted.count(o) / max(len(counted), 1) for o in Outcome}


def _verdict(gates: tuple[GateLine, ...], stages: tuple[StageLine, ...]) -> Verdict:
    if not all(g.passed for g in gates):
        return "FAIL"
    return "WARN" if any(s.num_quarantined for s in stages) else "PASS"


def _source_lines(inputs: ReportInputs, kept: set[str]) -> tuple[SourceLine, ...]:
    clips = Counter(c.source_id for c in inputs.clips)
    good = Counter(c.source_id for c in inputs.clips if c.clip_id in kept)
    ends = {
        d.row_id: d for d in inputs.decisions
        if d.row_id == d.source_id and d.outcome is not Outcome.KEPT and d.stage != SOURCES_STAGE
    }  # fmt: skip
    clip_ends = _clip_ends(inputs)
    lines = []
    for source in sorted(inputs.sources, key=lambda s: s.uri):
        end = ends.get(source.row_id)
        lines.append(
            SourceLine(
                uri=source.uri,
                source_id=source.row_id,
                outcome=str(end.outcome) if end else str(Outcome.KEPT),
                stage=end.stage if end else "",
                reason=end.reason if end else "",
                detail=end.detail if end else "",
                num_clips=clips[source.row_id],
                num_kept=good[source.row_id],
                clip_ends=dict(sorted(clip_ends[source.row_id].items())),
            )
        )
    lines += [
        SourceLine(
            uri=line.uri, source_id=line.row_id, outcome=str(line.outcome), stage=SOURCES_STAGE,
            reason=line.reason, detail=line.detail, num_clips=0, num_kept=0,
        )
        for line in inputs.others
    ]  # fmt: skip
    return tuple(sorted(lines, key=lambda line: line.uri))


def _clip_ends(inputs: ReportInputs) -> dict[str, Counter[str]]:
    """Per source: the reasons for which its clips ended, counted."""
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    source_of = {c.clip_id: c.source_id for c in inputs.clips}
    for decision in inputs.decisions:
        if decision.outcome is not Outcome.KEPT and decision.row_id in source_of:
            ends[source_of[decision.row_id]][decision.reason] += 1
    return ends


def _dropped_clips(inputs: ReportInputs) -> list[tuple[Clip, Decision]]:
    clips = {c.clip_id: c for c in inputs.clips}
    ended = [d for d in inputs.decisions if d.outcome is not Outcome.KEPT and d.row_id in clips]
    return sorted(((clips[d.row_id], d) for d in ended), key=lambda p: (p[1].reason, p[0].clip_id))
