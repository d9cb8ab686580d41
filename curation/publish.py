"""From surviving clips to a published snapshot of shards."""

from __future__ import annotations

from collections.abc import Sequence

from curation.chain import Chain
from curation.recipe import Recipe
from curation.root.ledger import Ledger
from schemas.manifest import DatasetManifest, ShardEntry
from schemas.rows import Clip, Row
from schemas.sample import ShardPlan
from schemas.shard_columns import SCHEMA_VERSION
from stages.packing.shards import plan_shards


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
