"""A root with one finished run of ready-made clips, for commands that read a root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curation.root.ledger import Ledger
from curation.root.store import Store
from curation.root.tables import models_to_parquet, put_blob_bytes
from schemas.manifest import RunRecord
from schemas.rows import Clip


def new_root(root: Path) -> Ledger:
    """Mark an empty folder as a root; files of clips may then be put below it."""
    return Ledger(Store(str(root)))


def finish_run(ledger: Ledger, clips: Sequence[Clip]) -> None:
    """Clips whose files already lie below the root become its latest run."""
    table = put_blob_bytes(ledger.store, models_to_parquet(clips, Clip), ".parquet")
    ledger.write_run(
        RunRecord(
            run_id="20260101T000000000-abcdef", recipe={}, stages=(), sources=table, clips=table,
            decisions=table, num_stage_calls={}, wall_s=1.0,
            started_at="2026-01-01T00:00:00+00:00", versions={},
        )
    )  # fmt: skip
