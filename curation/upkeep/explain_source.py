"""``explain`` for a source: where it lay, what became of it and of its clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curation.root.store import Store
from curation.root.tables import models_from_parquet
from schemas.errors import ConfigError
from schemas.manifest import RunRecord
from schemas.outcome import Decision, Outcome
from schemas.rows import Clip, SourceVideo


@dataclass(frozen=True)
class ExplainedSource:
    """A source's story in one run."""

    run: RunRecord
    source: SourceVideo
    decisions: tuple[Decision, ...]
    """On the source itself, in the order of the stages."""
    clips: tuple[tuple[Clip, Decision], ...]
    """Its clips by start, each with the decision that ended it."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run_id": self.run.run_id,
            "source": self.source.model_dump(mode="json"),
            "decisions": [d.model_dump(mode="json") for d in self.decisions],
            "clips": [
                {"clip_id": c.clip_id, "start_s": c.start_s, "end_s": c.end_s,
                 "end": d.model_dump(mode="json")}
                for c, d in self.clips
            ],
        }  # fmt: skip

    def as_text(self) -> str:
        """For people."""
        lines = [f"source {self.source.uri} ({self.source.row_id})"]
        lines += [f"  {d.stage:<11} {d.outcome:<12}{_because(d)}" for d in self.decisions]
        lines.append(f"{len(self.clips)} clips")
        for clip, end in self.clips:
            lines.append(
                f"  {clip.clip_id}  {clip.start_s:>8.2f} s to {clip.end_s:>8.2f} s  "
                f"{end.outcome} at {end.stage}{_because(end)}"
            )
        return "\n".join(lines)


def find_source(store: Store, run: RunRecord, text: str) -> ExplainedSource | None:
    """Find a source by its id's first digits, its address, or the end of its address; None if there is none.

    Raises:
        ConfigError: Several sources fit.
    """
    sources = models_from_parquet(store.read(run.sources.name), SourceVideo)
    found = {s.row_id: s for s in sources if _is_meant(s, text)}
    if len(found) > 1:
        names = [s.uri for s in found.values()][:5]
        raise ConfigError(f"{len(found)} sources fit {text!r}: {names}; give more of the address")
    if not found:
        return None
    (source,) = found.values()
    order = {"sources": -1} | {s.name: i for i, s in enumerate(run.stages)}
    decisions = sorted(
        (
            d
            for d in models_from_parquet(store.read(run.decisions.name), Decision)
            if d.source_id == source.row_id
        ),
        key=lambda d: order.get(d.stage, -1),
    )
    ends = {d.row_id: d for d in decisions}  # the last one of each row
    clips = [
        c for c in models_from_parquet(store.read(run.clips.name), Clip)
        if c.source_id == source.row_id
    ]  # fmt: skip
    return ExplainedSource(
        run=run,
        source=source,
        decisions=tuple(d for d in decisions if d.row_id == source.row_id),
        clips=tuple((c, ends[c.clip_id]) for c in sorted(clips, key=lambda c: c.start_s)),
    )


def _is_meant(source: SourceVideo, text: str) -> bool:
    if not text:
        return False
    is_id = len(text) >= 4 and source.row_id.startswith(text)
    return is_id or source.uri == text or source.uri.endswith(f"/{text.lstrip('./')}")


def _because(decision: Decision) -> str:
    if decision.outcome is Outcome.KEPT:
        return ""
    return f" {decision.reason}: {decision.detail}" if decision.detail else f" {decision.reason}"
