"""``handloom report``: the page of the latest run of a root."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say


@guarded
def command(
    root: options.Root,
    run: options.Run = "",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Write (or find) the report of a run, the latest by default, and print where it is."""
    from curation.report import render_funnel_text, render_verdict_text
    from curation.report.write import report_inputs, write_report

    access = options.store_options(endpoint_url, region, anon)
    store, record = options.open_run(root, access, run)
    with report_inputs(store, record) as inputs:
        report, page = write_report(store, inputs)
    if as_json:
        print_json("report", report.model_dump(mode="json"))
    else:
        say(render_funnel_text(report))
        say(render_verdict_text(report))
        say(f"report: {page}")
    if open_page:
        webbrowser.open(str(page))
    return Exit.GATE if report.verdict == "FAIL" else Exit.DONE
