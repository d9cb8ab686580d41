"""The ``handloom`` command. Commands live in jobs/commands and import heavy things when they run."""

from __future__ import annotations

import typer

from jobs.commands import (
    bench,
    curate,
    doctor,
    inspect,
    models,
    report,
    retry,
    sample,
    studio,
    train,
    vacuum,
    verify,
)

app = typer.Typer(
    name="handloom",
    help="Raw product-demonstration video in, paired RGB / HOI training shards out, and a model on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("curate")(curate.command)
app.command("report")(report.command)
app.command("explain")(inspect.explain_command)
app.command("diff")(inspect.diff_command)
app.command("retry")(retry.command)
app.command("vacuum")(vacuum.command)
app.command("verify")(verify.command)
app.command("train")(train.command)
app.command("sample")(sample.command)
app.command("studio")(studio.command)
app.command("doctor")(doctor.command)
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
