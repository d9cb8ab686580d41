"""The report as plain text."""

from __future__ import annotations

from curation.report.build import ReportInputs
from curation.report.seconds import seconds_text
from schemas.errors import ConfigError
from schemas.report import RunReport


def render_funnel_text(report: RunReport) -> str:
    """The funnel as a table for the console."""
    head = f"{'stage':<11}{'in':>6}{'kept':>6}{'drop':>6}{'fail':>6}{'quar':>6}{'out':>6}{'work s':>9}  reasons"
    lines = [head]
    for s in report.stages:
        reasons = ", ".join(f"{name} {count}" for name, count in s.reasons.items())
        lines.append(
            f"{s.name:<11}{s.num_in:>6}{s.num_kept:>6}{s.num_dropped:>6}{s.num_failed:>6}"
            f"{s.num_quarantined:>6}{s.num_out:>6}{s.work_s:>9.1f}  {reasons}"
        )
    if report.seconds:
        lines.append(seconds_text(report.seconds))
    return "\n".join(lines)


def explain_clip(inputs: ReportInputs, clip_id: str) -> str:
    """Where a clip came from, and what every stage decided about it with which scores.

    Raises:
        ConfigError: The run knows no such clip.
    """
    clip = next((c for c in inputs.clips if c.clip_id == clip_id), None)
    if clip is None:
        raise ConfigError(
            f"no clip {clip_id!r} in run {inputs.run.run_id}; the report lists the ids"
        )
    lines = [
        f"clip {clip.clip_id}",
        f"source {inputs.address_of(clip)} ({clip.source_id})",
        *(f"copy of the source {line.uri}" for line in inputs.copies_of(clip)),
        f"window {clip.start_s:.2f} s to {clip.end_s:.2f} s, context from {clip.motion_start_s:.2f} s",
    ]
    facets = {s.name: s for s in inputs.run.stages}
    for d in inputs.decisions:
        if d.row_id not in {clip.clip_id, clip.source_id}:
            continue
        because = f" {d.reason}: {d.detail}" if d.reason else ""
        lines.append(f"  {d.stage:<11} {d.outcome:<12} {d.fingerprint:<16}{because}")
        if d.stage in facets and d.row_id == clip.clip_id:
            lines += [f"    {key} = {value}" for key, value in _scores(clip, d.stage).items()]
    return "\n".join(lines)


def _scores(clip: object, stage: str) -> dict[str, object]:
    facet = getattr(clip, {"detect": "boxes", "segment": "media"}.get(stage, stage), None)
    if facet is None:
        return {}
    return {k: v for k, v in dict(facet).items() if isinstance(v, int | float | str | bool)}
