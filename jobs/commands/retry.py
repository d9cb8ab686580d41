"""``handloom retry``: do failed and quarantined rows of a reason again."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import options
from jobs.commands.curate import finish
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress


@guarded
def command(
    root: options.Root,
    reason: Annotated[str, typer.Option(help="Reason code, as the report shows it.")],
    stage: Annotated[str | None, typer.Option(help="Only rows that ended at this stage.")] = None,
    run: Annotated[
        bool, typer.Option("--run/--mark-only", help="Mark only: the next curate does them.")
    ] = True,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Do the newest run's failed and quarantined rows of a reason again, with its own recipe.

    Dropped rows are decisions by thresholds: to revise those, change the threshold and curate again.
    """
    from curation.root.ledger import Ledger
    from curation.upkeep.retry import find_failures, mark_for_retry, replay

    access = options.store_options(endpoint_url, region, anon)
    store, record = options.open_root(root, access)
    failures = find_failures(store, record, reason, stage)
    curation = replay(store, record, access) if run else None  # refuses before anything is marked
    entry = mark_for_retry(Ledger(store), failures)
    logged = f" (log entry {entry})" if entry else ""
    say(f"{len(failures)} rows will be done again{logged}", as_json=as_json)
    if curation is None:
        if as_json:
            print_json("retry", {"num_rows": len(failures), "log_entry": entry, "run_id": None})
        return Exit.DONE
    with RunProgress() as progress:
        done = curation.run(progress)
    return finish(curation, done, as_json)
