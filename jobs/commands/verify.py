"""``handloom verify``: read everything again and compare it with its names."""

from __future__ import annotations

import dataclasses

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress


@guarded
def command(
    root: options.Root,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Hash every file of a root again and check that everything referred to is there.

    Ends with code 3 and a list if something is wrong. Changes nothing; safe beside a live run.
    """
    from curation.upkeep.verify import verify

    store = options.open_store(root, options.store_options(endpoint_url, region, anon))
    with RunProgress() as progress:
        result = verify(store, lambda done, total: progress.step("hashing files", done, total))
    if as_json:
        print_json("verify", dataclasses.asdict(result))
    else:
        for problem in result.problems:
            say(f"{problem.kind:<10} {problem.name}: {problem.detail}")
        say(
            f"{len(result.problems)} problems; read {result.num_blobs} files "
            f"({result.num_bytes / 1e6:.1f} MB, {result.num_unreferenced} not referred to), "
            f"{result.num_control} control files, {result.num_snapshots} snapshots"
        )
    return Exit.GATE if result.problems else Exit.DONE
