"""``handloom shards``: where the current snapshot's shards are."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, note, print_json, say


@guarded
def command(
    root: options.Root,
    snapshot: Annotated[int, typer.Option(help="A snapshot's number; default: the newest.")] = 0,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """List the shards of a root's current snapshot.

    One address a line, for DuckDB, pandas, polars or datasets: docs/dataset.md. A pattern below the root
    would find shards of older snapshots as well.
    """
    from curation.root.ledger import Ledger
    from curation.root.store import join
    from schemas.errors import ConfigError
    from schemas.shard_columns import SCHEMA_VERSION

    store = options.open_store(root, options.store_options(endpoint_url, region, anon))
    ledger = Ledger(store)
    manifest = ledger.dataset(snapshot) if snapshot else ledger.latest_dataset()
    if manifest is None:
        raise ConfigError(f"{root} has no shards yet: no clip was kept, or no run has finished")
    if manifest.schema_version != SCHEMA_VERSION:
        note(
            f"snapshot {manifest.snapshot} is of schema version {manifest.schema_version}, not "
            f"{SCHEMA_VERSION}: docs/dataset.md says how they differ; curate again to write the new one"
        )
    if as_json:
        print_json(
            "shards",
            {
                "snapshot": manifest.snapshot,
                "schema_version": manifest.schema_version,
                "shards": [
                    {
                        "path": join(store.uri, s.file.name),
                        "num_samples": s.num_samples,
                        "num_bytes": s.file.num_bytes,
                    }
                    for s in manifest.shards
                ],
            },
        )
        return Exit.DONE
    for shard in manifest.shards:
        say(join(store.uri, shard.file.name))
    return Exit.DONE
