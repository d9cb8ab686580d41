"""``handloom runs``: the finished runs of a root."""

from __future__ import annotations

from typing import Any

from jobs import options
from jobs.console import Exit, guarded, print_json, say


@guarded
def command(
    root: options.Root,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """List the finished runs of a root.

    Oldest first. report, explain and diff take such a run's id.
    """
    from curation.root.ledger import Ledger

    store = options.open_store(root, options.store_options(endpoint_url, region, anon))
    rows: list[dict[str, Any]] = [
        {
            "run_id": run.run_id,
            "started_at": run.started_at,
            "wall_s": round(run.wall_s, 1),
            "recipe": run.recipe.get("name", ""),
            "num_stage_calls": sum(run.num_stage_calls.values()),
            "snapshot": run.snapshot,
        }
        for run in Ledger(store).runs()
    ]
    if as_json:
        print_json("runs", {"runs": rows})
        return Exit.DONE
    if not rows:
        say(f"{root} has no finished run yet")
    for row in rows:
        shards = f"snapshot {row['snapshot']}" if row["snapshot"] else "no shards"
        say(
            f"{row['run_id']}  {row['started_at']}  {row['wall_s']:>8.1f} s  "
            f"{row['num_stage_calls']:>6} stage calls  recipe {row['recipe']}  {shards}"
        )
    return Exit.DONE
