"""``retry``: do failed and quarantined units again, for example after a repair or a bigger machine.

Receipts are never overwritten. ``retry`` logs which units' results no longer count; the run that follows
does them as the next generation, together with whatever depends on them.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

from curation.chain import Chain, build_chain
from curation.ledger import Ledger
from curation.recipe import Recipe, RunConfig
from curation.run import Curation
from curation.sources import SourceList
from curation.storage import Store, StoreOptions
from curation.tables import models_from_parquet
from schemas.errors import ConfigError
from schemas.manifest import RunRecord
from schemas.outcome import Decision, Outcome
from schemas.rows import SourceVideo

_RETRIED = (Outcome.FAILED, Outcome.QUARANTINED)


def find_failures(
    store: Store, run: RunRecord, reason: str, stage: str | None = None
) -> list[Decision]:
    """The run's failed and quarantined rows of a reason.

    Raises:
        ConfigError: There is none; the message lists the reasons that there are.
    """
    decisions = models_from_parquet(store.read(run.decisions.name), Decision)
    failures = [d for d in decisions if d.outcome in _RETRIED and d.unit_key]
    found = [d for d in failures if d.reason == reason and stage in (None, d.stage)]
    if found:
        return found
    there = Counter(f"{d.reason} at {d.stage}" for d in failures)
    dropped = any(d.reason == reason and d.outcome is Outcome.DROPPED for d in decisions)
    hint = "; it drops rows by a threshold: change that instead" if dropped else ""
    listed = ", ".join(f"{count} {what}" for what, count in sorted(there.items())) or "none"
    raise ConfigError(
        f"run {run.run_id} has no failed or quarantined rows of reason {reason!r}"
        f"{f' at stage {stage!r}' if stage else ''}{hint}; there are: {listed}"
    )


def mark_for_retry(ledger: Ledger, failures: Sequence[Decision]) -> int:
    """Log that the failures' results no longer count; returns the log entry's number."""
    txn = f"retry/{secrets.token_hex(8)}"
    return ledger.commit_retry([d.unit_key for d in failures], txn)


def replay(
    store: Store, run: RunRecord, source_options: StoreOptions, chain: Chain | None = None
) -> Curation:
    """The request of a finished run, to be run again.

    Args:
        store: The root.
        run: What to repeat.
        source_options: How to reach remote sources.
        chain: The run's stages, where they are not those of Handloom's own chain.

    Raises:
        ConfigError: This Handloom's stages are not those of the run.
    """
    recipe = Recipe(
        name=str(run.recipe["name"]),
        run=RunConfig.model_validate(run.recipe["run"]),
        stages={s.name: dict(s.config) for s in run.stages},
    )
    try:
        chain = chain or build_chain(recipe)
    except ConfigError as error:
        raise ConfigError(
            f"the stages of run {run.run_id} do not fit this Handloom ({error}): "
            "run handloom curate instead"
        ) from error
    then: dict[str, Any] = {s.name: s.closure_fingerprint for s in run.stages}
    changed = sorted(n for n in {*then, *chain.closures} if then.get(n) != chain.closures.get(n))
    if changed:
        raise ConfigError(
            f"stages {changed} are not what they were in run {run.run_id}: "
            "run handloom curate instead, it does what has changed"
        )
    rows = models_from_parquet(store.read(run.sources.name), SourceVideo)
    sources = SourceList(rows=tuple(r.replace(probe=None) for r in rows), duplicates=())
    return Curation(recipe, chain, sources, store, source_options)
