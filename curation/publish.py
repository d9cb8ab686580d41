"""From surviving clips to a published snapshot of shards."""

from __future__ import annotations

from collections.abc import Sequence

from curation.books import RunState
from curation.chain import Chain
from curation.group import Group, GroupRunner
from curation.recipe import Recipe
from curation.root.ledger import Ledger
from schemas.manifest import DatasetManifest, ShardEntry
from schemas.outcome import Decision
from schemas.rows import Clip, Row
from schemas.sample import ShardPlan
from schemas.shard_columns import SCHEMA_VERSION
from stages.packing.shards import plan_shards

SHARDS_STAGE = "shards"
"""The last stage: its rows are plans of shards, made by the driver from the clips that came through."""


def write_shards(
    groups: GroupRunner, group: Group, rows: Sequence[Row], recipe: Recipe, state: RunState
) -> None:
    """Write shards for the surviving clips, publish the snapshot, account per clip."""
    clips = [r for r in rows if isinstance(r, Clip)]
    plans = plan_dataset(clips, recipe.run.max_samples_per_shard)
    before = len(state.decisions)
    done = groups.run(group, plans, state)
    per_plan = {d.row_id: d for d in state.decisions[before:]}
    del state.decisions[before:]
    for plan in plans:
        state.decisions += _per_clip(per_plan[plan.row_id], plan.clips)
    if done:
        txn = f"{state.run_id}/dataset"
        groups.lease.check()
        state.snapshot = publish(groups.ledger, done, recipe, groups.chain, txn)


def _per_clip(decision: Decision, clips: Sequence[Clip]) -> list[Decision]:
    """A shard's decision as its clips' decisions, each with its part of what it took."""
    return [
        decision.replace(
            row_id=c.clip_id,
            source_id=c.source_id,
            seconds=c.seconds,
            seconds_spent=decision.seconds_spent / len(clips),
            cpu_spent_s=decision.cpu_spent_s / len(clips),
            num_bytes_written=decision.num_bytes_written // len(clips),
        )
        for c in clips
    ]


def plan_dataset(clips: Sequence[Clip], max_samples: int) -> list[ShardPlan]:
    """Split clips into shards; the same clips always give the same shards."""
    return list(plan_shards(sorted(clips, key=lambda c: c.clip_id), max_samples))


def publish(
    ledger: Ledger, plans: Sequence[Row], recipe: Recipe, chain: Chain, txn: str
) -> DatasetManifest:
    """Publish the written shards as the next snapshot."""
    shards = []
    for plan in plans:
        assert isinstance(plan, ShardPlan)
        assert plan.shard is not None
        # a remembered shard of an older schema: its stage's version was not raised with the schema
        assert plan.shard.schema_version == SCHEMA_VERSION, plan.shard
        shards.append(
            ShardEntry(
                file=plan.shard.file,
                num_samples=plan.shard.num_samples,
                clip_ids=tuple(c.clip_id for c in plan.clips),
            )
        )
    card: dict[str, object] = {
        "recipe": recipe.name,
        "num_samples": sum(s.num_samples for s in shards),
        "seconds": sum(c.seconds for p in plans if isinstance(p, ShardPlan) for c in p.clips),
        "fingerprints": dict(chain.closures),
    }
    manifest = DatasetManifest(
        snapshot=1,
        schema_version=SCHEMA_VERSION,
        shards=tuple(sorted(shards, key=lambda s: s.file.sha256)),
        dataset_card=card,
    )
    return ledger.publish_dataset(manifest, txn)
