"""``handloom explain`` and ``handloom diff``: what history says, read only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say

if TYPE_CHECKING:
    from curation.root.store import StoreOptions


@guarded
def explain_command(
    root: options.Root,
    what: Annotated[
        str,
        typer.Argument(
            metavar="CLIP|SOURCE",
            help="A clip's id or its first digits; or a source's address, file name or id.",
        ),
    ],
    run: options.Run = "",
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Show a clip's source, window, scores with thresholds, and every stage's decision.

    For a source: what became of it, and where each of its clips ended.
    """
    from curation.report import explain_clip
    from curation.report.write import report_inputs
    from curation.upkeep.explain import explain
    from curation.upkeep.explain_source import find_source

    access = options.store_options(endpoint_url, region, anon)
    store, record = options.open_run(root, access, run)
    source = find_source(store, record, what)
    if source is not None:
        if as_json:
            print_json("explain", source.as_json())
        else:
            say(source.as_text())
        return Exit.DONE
    explained = explain(store, record, what)
    if as_json:
        print_json("explain", explained.as_json())
        return Exit.DONE
    with report_inputs(store, record) as inputs:
        say(explain_clip(inputs, explained.clip.clip_id))
    for shard in explained.shards:
        say(f"in snapshot {record.snapshot}: {shard}")
    return Exit.DONE


@guarded
def diff_command(
    root_a: options.Root,
    root_b: Annotated[
        str, typer.Argument(help="Another output root; default: the two newest runs of ROOT_A.")
    ] = "",
    run_a: Annotated[str, typer.Option(help="A run of ROOT_A; default: its newest.")] = "",
    run_b: Annotated[str, typer.Option(help="A run of ROOT_B; default: its newest.")] = "",
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Compare two runs: settings, counts per stage, rows whose fate differs, shards.

    With one root: its newest run (B) and the one before it (A), or those that --run-a and --run-b name.
    """
    from curation.upkeep.explain import diff_runs

    access = options.store_options(endpoint_url, region, anon)
    if not root_b:
        root_b, run_a = root_a, run_a or _run_before(root_a, access, run_b)
    first, second = options.open_run(root_a, access, run_a), options.open_run(root_b, access, run_b)
    found = diff_runs(*first, *second)
    if as_json:
        print_json("diff", found)
    else:
        for line in _diff_lines(found):
            say(line)
    return Exit.DONE


def _run_before(root: str, access: StoreOptions, run_b: str) -> str:
    """The run before another one, or before the newest."""
    from curation.root.ledger import Ledger
    from schemas.errors import ConfigError

    ids = [run.run_id for run in Ledger(options.open_store(root, access)).runs()]
    place = ids.index(run_b) if run_b in ids else len(ids) - 1
    if place < 1:
        raise ConfigError(f"{root} has no two runs to compare; name another root")
    return ids[place - 1]


def _diff_lines(found: dict[str, Any]) -> Iterator[str]:
    a, b = found["runs"]
    yield f"A {a}\nB {b}"
    yield "same: settings, fates and shards" if found["same"] else "not the same:"
    for change in found["settings"]:
        if "only_in" in change:
            yield f"stage {change['stage']}: only in {change['only_in'].upper()}"
            continue
        for key, (old, new) in change["config"].items():
            yield f"setting {change['stage']}.{key}: {old} -> {new}"
        if change["closure_fingerprints"][0] != change["closure_fingerprints"][1]:
            yield f"results of {change['stage']}: computed anew in B"
    for stage, counts in found["funnel"].items():
        parts = [f"{n} {old}->{new}" for n, (old, new) in sorted(counts.items()) if old != new]
        if parts:
            yield f"counts at {stage:<11} {', '.join(parts)}"
    rows, shards = found["rows"], found["shards"]
    yield (
        f"rows: {rows['num_same_fate']} same, {sum(f['num_rows'] for f in rows['flips'])} differ, "
        f"{rows['num_only_a']} only in A, {rows['num_only_b']} only in B"
    )
    for flip in rows["flips"]:
        yield f"  {flip['num_rows']:>6}  {flip['from']}  ->  {flip['to']}"
    yield (
        f"shards: {shards['num_same']} same, {shards['num_only_a']} only in A, "
        f"{shards['num_only_b']} only in B; samples {shards['num_samples'][0]} and "
        f"{shards['num_samples'][1]}"
    )
