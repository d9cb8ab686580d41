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
from curation.inputs.sources import SourceList, list_again
from curation.recipe import Recipe, RunConfig
from curation.root.ledger import Ledger
from curation.root.store import Store, StoreOptions
from curation.root.tables import read_models
from curation.run import Curation
from schemas.errors import ConfigError
from schemas.manifest import InputLine, RunRecord
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
    decisions = read_models(store, run.decisions, Decision)
    failures = [d for d in decisions if d.outcome in _RETRIED]
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


def mark_for_retry(ledger: Ledger, failures: Sequence[Decision]) -> int | None:
    """Log that the failures' results no longer count.

    Returns:
        The log entry's number; None if no failure has a result: inputs that could not be read are read
        again by every run.
    """
    keys = [d.unit_key for d in failures if d.unit_key]
    return ledger.commit_retry(keys, f"retry/{secrets.token_hex(8)}") if keys else None


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
    return Curation(recipe, chain, _sources(store, run, source_options), store, source_options)


def _sources(store: Store, run: RunRecord, options: StoreOptions) -> SourceList:
    """All inputs of a run; those that could not be read are looked for again."""
    rows = read_models(store, run.sources, SourceVideo)
    rows = [row.replace(probe=None) for row in rows]
    lines = read_models(store, run.inputs, InputLine) if run.inputs else []
    others = [line for line in lines if line.outcome is Outcome.DROPPED]
    failed = [line for line in lines if line.outcome is Outcome.FAILED]
    return list_again(rows, others, failed, options)
