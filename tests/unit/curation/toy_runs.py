"""Runs of the toy chain, as the tests of the engine need them."""

from __future__ import annotations

from collections import Counter

from ray import cloudpickle

from curation.inputs.sources import list_sources
from curation.recipe import Recipe, RunConfig
from curation.root.ledger import Ledger
from curation.root.store import Store, StoreOptions
from curation.root.tables import models_from_parquet
from curation.run import Curation
from schemas.outcome import Decision
from tests.unit.curation import toy

cloudpickle.register_pickle_by_value(toy)

TEXTS = {
    "a.txt": "hello",
    "b.txt": "bad one",
    "c.txt": "short",
    "d.txt": "crash now",
    "e.txt": "a longer text",
    "f.txt": "hello",
}


HERE = RunConfig(max_attempts_per_row=1, runner="here")
RAY = RunConfig(max_attempts_per_row=1, runner="ray")
"""For tests of what only worker processes show; it takes seconds a group of stages."""


def request(sources, root, run: RunConfig = HERE, **configs) -> Curation:
    """A run of the toy chain over a folder or bucket, not yet begun."""
    recipe = Recipe(name="toy", stages={}, run=run)
    found = list_sources([str(sources)], StoreOptions())
    return Curation(recipe, toy.toy_chain(**configs), found, Store(str(root)))


def curate(sources, root, run: RunConfig = HERE, **configs):
    """Run to the end; the record and the decisions."""
    curation = request(sources, root, run, **configs)
    record = curation.run()
    return record, decisions_of(curation.store, record)


def decisions_of(store: Store, record) -> list[Decision]:
    return models_from_parquet(store.read(record.decisions.name), Decision)


def outcomes(decisions, stage):
    return Counter(d.outcome for d in decisions if d.stage == stage)


def facts(store: Store) -> dict[str, object]:
    """What two undisturbed or disturbed runs must agree on: rows, fates and shards by content."""
    ledger = Ledger(store)
    record = ledger.latest_run()
    decisions = decisions_of(store, record)
    fates = [(d.row_id, d.stage, str(d.outcome), d.reason) for d in decisions]
    latest = ledger.latest_dataset()
    return {
        "clips": record.clips.sha256,
        "fates": sorted(fates),
        "num_duplicates": len(fates) - len(set(fates)),
        "shards": [s.file.sha256 for s in latest.shards] if latest else [],
        "clip_ids": sorted(c for s in latest.shards for c in s.clip_ids) if latest else [],
    }
