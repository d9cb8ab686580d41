"""The report as plain text."""

from __future__ import annotations

from curation.report.build import ReportInputs
from curation.report.seconds import seconds_text
from schemas.errors import ConfigError
from schemas.manifest import StageRecord
from schemas.report import RunReport
from schemas.rows import Clip


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


def render_verdict_text(report: RunReport) -> str:
    """One line: the verdict, and which gates of the run failed."""
    failed = [
        f"{g.name} {g.observed:.3g} (wanted {g.threshold:g})" for g in report.gates if not g.passed
    ]
    because = f": {', '.join(failed)}" if failed else ""
    return f"{report.verdict}{because}; run {report.run_id}, {report.num_samples} samples kept"


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
            lines += [f"    {line}" for line in score_texts(clip, facets[d.stage])]
    return "\n".join(lines)


def score_texts(clip: Clip, stage: StageRecord) -> list[str]:
    """Every score of a stage's facet; gated ones with unit, threshold and margin (negative: it fails)."""
    facet = getattr(clip, {"segment": "media"}.get(stage.name, stage.facet or stage.name), None)
    gate = stage.config.get("gate")
    thresholds = gate if isinstance(gate, dict) else {}
    lines = []
    for key, value in dict(facet or {}).items():
        if isinstance(value, bool | str):
            lines.append(f"{key} = {value}")
        elif isinstance(value, int | float):
            unit = unit_of(key)
            text = f"{key} = {value:.4g}{unit}"
            low, high = thresholds.get(f"min_{key}"), thresholds.get(f"max_{key}")
            if low is not None:
                text += f"  at least {low:g}{unit}, margin {value - low:+.3g}"
            if high is not None:
                text += f"  at most {high:g}{unit}, margin {high - value:+.3g}"
            lines.append(text)
    return lines


_UNITS = {"px": "px", "s": "s", "hz": "Hz", "db": "dB", "lufs": "LUFS", "dbfs": "dBFS",
          "deg": "deg", "head": "head heights", "fps": "fps"}  # fmt: skip


def unit_of(name: str) -> str:
    """The unit that a score's name ends with, with a blank before it; empty where it has none.

    >>> unit_of("loudness_lufs"), unit_of("face_share")
    (' LUFS', '')
    """
    unit = _UNITS.get(name.rpartition("_")[2], "")
    return f" {unit}" if unit else ""
