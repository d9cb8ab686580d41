"""The ``handloom`` command. A command's module is imported when that command is called, not before."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer._click import ClickException, Command, Context, HelpFormatter
from typer.core import TyperGroup

from jobs.console import Exit, fail, set_up_logging, wants_json


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, and its line in the list of commands (its docstring's first sentence)."""

    target: str
    summary: str


COMMANDS = {
    "curate": Entry(
        "jobs.commands.curate:command",
        "Turn raw product videos into paired RGB / HOI shards with a report.",
    ),
    "report": Entry(
        "jobs.commands.report:command",
        "Write (or find) the report of a run, the latest by default, and print where it is.",
    ),
    "runs": Entry("jobs.commands.runs:command", "List the finished runs of a root."),
    "explain": Entry(
        "jobs.commands.inspect:explain_command",
        "Show a clip's source, window, scores with thresholds, and every stage's decision.",
    ),
    "show": Entry(
        "jobs.commands.show:command",
        "Write a film of one clip: RGB, boxes, product mask and structure side by side, with sound.",
    ),
    "shards": Entry(
        "jobs.commands.shards:command", "List the shards of a root's current snapshot."
    ),
    "diff": Entry(
        "jobs.commands.inspect:diff_command",
        "Compare two runs: settings, counts per stage, rows whose fate differs, shards.",
    ),
    "retry": Entry(
        "jobs.commands.retry:command",
        "Do the newest run's failed and quarantined rows of a reason again, with its own recipe.",
    ),
    "vacuum": Entry(
        "jobs.commands.vacuum:command",
        "Find files that no receipt, log entry, snapshot or run refers to; delete them with --apply.",
    ),
    "verify": Entry(
        "jobs.commands.verify:command",
        "Hash every file of a root again and check that everything referred to is there.",
    ),
    "train": Entry(
        "jobs.commands.train:command",
        "Train under Ray Train; metrics go to OUT/metrics.jsonl, curves to OUT/curves.svg.",
    ),
    "sample": Entry("jobs.commands.sample:command", "Sample an mp4 with sound."),
    "studio": Entry(
        "jobs.commands.studio:command",
        "Render clips of a body that holds and moves a product, with sound and truth beside them.",
    ),
    "doctor": Entry(
        "jobs.commands.doctor:command",
        "Check Python, packages, ffmpeg, memory, disk, rendering, the recipe's stages, that Ray starts.",
    ),
    "bench": Entry("jobs.commands.bench:app", "Measurements that anybody can repeat."),
    "models": Entry("jobs.commands.models:app", "List, check and pin models."),
}
"""In the order of ``handloom --help``."""


class LazyGroup(TyperGroup):
    """Knows the names of its commands; what they need is imported when one is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Every command, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import a command."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        return _load(cmd_name, entry) if entry else None

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        """Name the nearest command where there is none of that name."""
        if args and args[0] not in COMMANDS:
            from difflib import get_close_matches

            close = get_close_matches(args[0], list(COMMANDS), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _load(name: str, entry: Entry) -> Command:
    module, _, attribute = entry.target.partition(":")
    target: Any = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_group(target)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(target)
    return typer.main.get_command(single)


app = typer.Typer(
    name="handloom",
    help="Raw product-demonstration video in, paired RGB / HOI training shards out, and a model on them.",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"handloom {version('handloom')}\n")
        raise typer.Exit


@app.callback()
def _common(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="More log lines; -vv for all.")
    ] = 0,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="HANDLOOM_LOG_LEVEL")
    ] = "",
    log_format: Annotated[
        str, typer.Option(help="text or json: one object a line.", envvar="HANDLOOM_LOG_FORMAT")
    ] = "text",
) -> None:
    del show_version
    set_up_logging(log_level or ("warning", "info", "debug")[min(verbose, 2)], log_format)


def main() -> None:
    """Entry point of the console script."""
    # Before numpy is loaded: thousands of small matrices a clip, where BLAS threads mostly wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = app(standalone_mode=False)
    except ClickException as error:  # the command line itself is wrong
        if wants_json(sys.argv):
            sys.exit(fail(error.format_message(), Exit.REQUEST, as_json=True))
        error.show()
        code = Exit.REQUEST
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
