"""``explain`` and ``diff``: what history says about one clip, and how two runs differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from curation.root.ledger import Ledger
from curation.root.store import Store
from curation.root.tables import read_models
from schemas.errors import ConfigError
from schemas.manifest import DatasetManifest, InputLine, RunRecord
from schemas.outcome import Decision, Outcome
from schemas.rows import Clip, SourceVideo

_MAX_NAMED = 20


@dataclass(frozen=True)
class Explained:
    """A clip's story in one run."""

    run: RunRecord
    clip: Clip
    source: SourceVideo | None
    addresses: tuple[str, ...]
    """Where the run found the source: copies have the same content."""
    decisions: tuple[Decision, ...]
    """In the order of the stages: those on its source, then its own."""
    shards: tuple[str, ...]
    """Shards of the run's snapshot that hold it."""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run_id": self.run.run_id,
            "clip": self.clip.model_dump(mode="json"),
            "source": self.source.model_dump(mode="json") if self.source else None,
            "addresses": list(self.addresses),
            "decisions": [d.model_dump(mode="json") for d in self.decisions],
            "stages": {
                s.name: {"fingerprint": s.fingerprint, "closure": s.closure_fingerprint}
                for s in self.run.stages
            },
            "snapshot": self.run.snapshot,
            "shards": list(self.shards),
        }


def explain(store: Store, run: RunRecord, clip_id: str) -> Explained:
    """Find a clip in a run; the first digits of its id are enough if they are no other's.

    Raises:
        ConfigError: No such clip, or several.
    """
    clips = read_models(store, run.clips, Clip)
    found = [c for c in clips if clip_id and c.clip_id.startswith(clip_id)]
    exact = [c for c in found if c.clip_id == clip_id] or found
    if len(exact) != 1:
        several = f"{len(found)} clips begin with {clip_id!r}: {[c.clip_id for c in found[:5]]}"
        none = f"no clip or source {clip_id!r} in run {run.run_id}; the report lists them"
        raise ConfigError(several if found else none)
    clip = exact[0]
    order = {"sources": -1} | {s.name: i for i, s in enumerate(run.stages)}
    decisions = [
        d
        for d in read_models(store, run.decisions, Decision)
        if d.row_id in {clip.clip_id, clip.source_id}
    ]
    sources = read_models(store, run.sources, SourceVideo)
    lines = read_models(store, run.inputs, InputLine) if run.inputs else []
    manifest = _snapshot(store, run)
    return Explained(
        run=run,
        clip=clip,
        source=next((s for s in sources if s.row_id == clip.source_id), None),
        addresses=tuple(line.uri for line in lines if line.row_id == clip.source_id),
        decisions=tuple(sorted(decisions, key=lambda d: order.get(d.stage, -1))),
        shards=tuple(
            s.file.name for s in (manifest.shards if manifest else ()) if clip.clip_id in s.clip_ids
        ),
    )


def diff_runs(store_a: Store, run_a: RunRecord, store_b: Store, run_b: RunRecord) -> dict[str, Any]:
    """How two runs differ: settings, counts per stage, fates of rows, shards."""
    decisions = [
        read_models(store, run.decisions, Decision)
        for store, run in ((store_a, run_a), (store_b, run_b))
    ]
    fates_a, fates_b = (_fates(d) for d in decisions)
    common = set(fates_a) & set(fates_b)
    flips = Counter((fates_a[r], fates_b[r]) for r in common if fates_a[r] != fates_b[r])
    shards_a, shards_b = (
        {s.file.sha256: s.num_samples for s in (m.shards if m else ())}
        for m in (_snapshot(store_a, run_a), _snapshot(store_b, run_b))
    )
    settings = _settings(run_a, run_b)
    return {
        "same": not settings
        and not flips
        and fates_a.keys() == fates_b.keys()
        and shards_a == shards_b,
        "runs": [run_a.run_id, run_b.run_id],
        "settings": settings,
        "funnel": _funnel(*decisions),
        "rows": {
            "num_same_fate": len(common) - sum(flips.values()),
            "flips": [
                {"from": before, "to": after, "num_rows": count}
                for (before, after), count in sorted(flips.items())
            ],
            **_only("only_a", set(fates_a) - common),
            **_only("only_b", set(fates_b) - common),
        },
        "shards": {
            "num_same": len(set(shards_a) & set(shards_b)),
            **_only("only_a", set(shards_a) - set(shards_b)),
            **_only("only_b", set(shards_b) - set(shards_a)),
            "num_samples": [sum(shards_a.values()), sum(shards_b.values())],
        },
    }


def _fates(decisions: Iterable[Decision]) -> dict[str, str]:
    """Where every row ended: decisions come in the order of the stages."""
    fates = {}
    for d in decisions:
        fates[d.row_id] = (
            f"kept through {d.stage}"
            if d.outcome is Outcome.KEPT
            else f"{d.outcome} at {d.stage}: {d.reason}"
        )
    return fates


def _settings(run_a: RunRecord, run_b: RunRecord) -> list[dict[str, Any]]:
    a, b = ({s.name: s for s in run.stages} for run in (run_a, run_b))
    changes: list[dict[str, Any]] = []
    for name in [*a, *(n for n in b if n not in a)]:
        if name not in a or name not in b:
            changes.append({"stage": name, "only_in": "a" if name in a else "b"})
            continue
        keys = _flat(a[name].config), _flat(b[name].config)
        changed = {k: [keys[0].get(k), keys[1].get(k)] for k in {*keys[0], *keys[1]}}
        changed = {k: v for k, v in sorted(changed.items()) if v[0] != v[1]}
        prints = [a[name].closure_fingerprint, b[name].closure_fingerprint]
        if changed or prints[0] != prints[1]:
            changes.append({"stage": name, "config": changed, "closure_fingerprints": prints})
    return changes


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _funnel(a: list[Decision], b: list[Decision]) -> dict[str, dict[str, list[int]]]:
    funnel: dict[str, dict[str, list[int]]] = {}
    for side, decisions in enumerate((a, b)):
        for d in decisions:
            counts = funnel.setdefault(d.stage, {}).setdefault(str(d.outcome), [0, 0])
            counts[side] += 1
    return funnel


def _only(name: str, ids: set[str]) -> dict[str, Any]:
    return {f"num_{name}": len(ids), name: sorted(ids)[:_MAX_NAMED]}


def _snapshot(store: Store, run: RunRecord) -> DatasetManifest | None:
    return Ledger(store).dataset(run.snapshot) if run.snapshot else None
