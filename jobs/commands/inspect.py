"""``handloom explain``: where a clip came from and what each stage decided."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, say


@guarded
def explain_command(
    root: options.Root,
    clip_id: Annotated[str, typer.Argument(help="A clip's id, as the report shows it.")],
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
) -> Exit:
    """Show a clip's source, window, scores, and every stage's decision with its fingerprint."""
    from curation.report import explain_clip
    from curation.reporting import report_inputs

    store, record = options.open_root(root, options.store_options(endpoint_url, region, anon))
    with report_inputs(store, record) as inputs:
        say(explain_clip(inputs, clip_id))
    return Exit.DONE
