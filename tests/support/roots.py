"""A root with one finished run of ready-made clips, for commands that read a root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curation.chain import Chain
from curation.publish import publish
from curation.recipe import Recipe
from curation.root.ledger import Ledger
from curation.root.store import Store
from curation.root.tables import models_to_parquet, put_blob_bytes
from schemas.manifest import DatasetManifest, RunRecord
from schemas.outcome import Decision
from schemas.rows import Clip, SourceVideo
from stages.files import Files
from stages.packing.shards import ShardsConfig, ShardsStage, plan_shards


def new_root(root: Path) -> Ledger:
    """Mark an empty folder as a root; files of clips may then be put below it."""
    return Ledger(Store(str(root)))


def finish_run(
    ledger: Ledger, clips: Sequence[Clip], *, number: int = 0, snapshot: int | None = None
) -> str:
    """Clips whose files already lie below the root become its latest run; its id."""

    def put(models: Sequence, kind: type):
        return put_blob_bytes(ledger.store, models_to_parquet(models, kind), ".parquet")

    run_id = f"20260101T00000000{number}-abcdef"
    ledger.write_run(
        RunRecord(
            run_id=run_id, recipe={}, stages=(), sources=put([], SourceVideo), clips=put(clips, Clip),
            decisions=put([], Decision), num_stage_calls={}, wall_s=1.0,
            started_at="2026-01-01T00:00:00+00:00", snapshot=snapshot, versions={},
        )
    )  # fmt: skip
    return run_id


def publish_clips(
    ledger: Ledger, clips: Sequence[Clip], files: Files, txn: str, *, max_samples: int = 2
) -> DatasetManifest:
    """Clips with latents become the root's newest snapshot. Inside ``files.row_scope``."""
    stage = ShardsStage(ShardsConfig())
    plans = [stage.process(plan, files).rows[0] for plan in plan_shards(clips, max_samples)]
    return publish(ledger, plans, Recipe(name="toy", stages={}), Chain((), {}), txn)
