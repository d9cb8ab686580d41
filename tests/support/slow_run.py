"""``python -m tests.support.slow_run SOURCES ROOT``: the toy chain under the commands' own guard, a second a row."""

from __future__ import annotations

import sys

from jobs.console import Exit, guarded
from tests.unit.curation.toy_runs import RAY, request


@guarded
def command(sources: str, root: str) -> Exit:
    request(sources, root, RAY, quality={"seconds": 1.0}).run()
    return Exit.DONE


if __name__ == "__main__":
    import typer

    try:
        command(*sys.argv[1:])
    except typer.Exit as end:
        sys.exit(end.exit_code)
