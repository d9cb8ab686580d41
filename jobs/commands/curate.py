"""``handloom curate``: raw videos in, shards and a report out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.plan_text import plan_lines
from jobs.progress import RunProgress
from jobs.requests import Looks, prepare
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from curation.run import Curation
    from schemas.manifest import RunRecord


@guarded
def command(
    out: Annotated[str, typer.Option("--out", help="Output root; new, or from an earlier run.")],
    src: Annotated[
        list[str] | None, typer.Argument(help="Video files, folders or bucket addresses.")
    ] = None,
    files_from: Annotated[
        str,
        typer.Option(
            "--files-from", metavar="LIST", help="A file with an address a line; - is stdin."
        ),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Use the first N files, by address."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe name or path of a YAML file.")] = "default",
    changes: options.Set = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check and plan: yield, bytes and time; --out is left alone."
        ),
    ] = False,
    sample: Annotated[
        int,
        typer.Option(
            "--sample",
            min=0,
            metavar="N",
            help="With --dry-run: curate N sources aside, to tell times and yield from them.",
        ),
    ] = 0,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every source again for its name's sake.")
    ] = False,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Turn raw product videos into paired RGB / HOI shards with a report.

    Safe to interrupt and to run again: finished work is kept, nothing is overwritten.
    """
    from curation.root.addresses import read_address_list, require_paths

    if sample and not dry_run:
        raise ConfigError("--sample belongs to --dry-run: add it, or leave --sample out")
    require_paths(src or [])  # before anything that takes time to import
    sources = [*(src or []), *(read_address_list(files_from) if files_from else [])]
    if not sources:
        raise ConfigError(
            "nothing to curate: give files, folders or addresses, or --files-from LIST"
        )

    access = options.store_options(endpoint_url, region, anon)
    looks = Looks(read=not dry_run, rehash=rehash, limit=limit)
    curation = prepare(sources, out, recipe, changes or [], access, looks)
    if dry_run:
        return _dry_run(curation, sample, as_json)
    with RunProgress() as progress:
        record = curation.run(progress)
    return finish(curation, record, as_json)


def finish(curation: Curation, record: RunRecord, as_json: bool) -> Exit:
    """Write the report and say how the run ended."""
    from curation.report import render_funnel_text
    from curation.report.write import report_inputs, write_report

    with report_inputs(curation.store, record) as inputs:
        report, page = write_report(curation.store, inputs)
    if as_json:
        print_json(
            "curate",
            {
                "run_id": record.run_id,
                "verdict": report.verdict,
                "report": str(page),
                "snapshot": record.snapshot,
                "num_stage_calls": record.num_stage_calls,
                "report_json": report.model_dump(mode="json"),
            },
        )
    else:
        say(render_funnel_text(report))
        say(
            f"{report.verdict}: run {record.run_id}, {record.wall_s:.0f} s, "
            f"{sum(record.num_stage_calls.values())} stage calls"
        )
        say(f"report: {page}")
        if record.snapshot:
            say(f"shards: snapshot {record.snapshot} of {curation.store.uri}")
    return Exit.GATE if report.verdict == "FAIL" else Exit.DONE


def _dry_run(curation: Curation, num_samples: int, as_json: bool) -> Exit:
    """Say what would be done, and what it would cost."""
    from curation.planning.plan import make_plan

    with RunProgress() as progress:
        plan = make_plan(curation, num_samples, progress)
    if as_json:
        print_json("curate --dry-run", plan.model_dump(mode="json"))
    else:
        for line in plan_lines(plan, curation.store.uri):
            say(line)
    return Exit.DONE if all(c.is_ok for c in plan.checks) else Exit.REQUEST
