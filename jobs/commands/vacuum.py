"""``handloom vacuum``: remove what no history refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say


@guarded
def command(
    root: options.Root,
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it, only look.")] = False,
    min_age_hours: Annotated[
        float | None,
        typer.Option(min=0, help="Leave objects alone that are younger than this; default: a day."),
    ] = None,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Find files that no receipt, log entry, snapshot or run refers to; delete them with --apply.

    Never touches history itself. With --apply it refuses to work beside a live run.
    """
    from curation.upkeep.vacuum import DEFAULT_AGE_H, vacuum

    min_age_hours = DEFAULT_AGE_H if min_age_hours is None else min_age_hours
    store = options.open_store(root, options.store_options(endpoint_url, region, anon))
    result = vacuum(store, apply=apply, min_age_h=min_age_hours)
    found = result.as_json()
    if as_json:
        print_json("vacuum", found)
        return Exit.DONE
    for meta in result.garbage[:20]:
        say(f"  {meta.name}  {meta.num_bytes} bytes")
    if len(result.garbage) > 20:
        say(f"  ... and {len(result.garbage) - 20} more (--json lists all)")
    size = sum(m.num_bytes for m in result.garbage) / 1e6
    did = "deleted" if apply else "would delete"
    say(
        f"{did} {len(result.garbage)} objects, {size:.1f} MB; {result.num_referenced} blobs in use, "
        f"{result.num_too_young} objects in doubt are younger than {min_age_hours:g} h"
    )
    if result.garbage and not apply:
        say("delete them with: handloom vacuum ROOT --apply")
    return Exit.DONE
