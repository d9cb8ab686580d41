"""Writes docs/commands.md and docs/commands.schema.json: what each command takes, and what it prints with --json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from typer._click import Command, Context
from typer.core import TyperGroup

from curation.log_lines import EVENTS
from jobs.cli import app
from jobs.outputs import OUTPUTS, models_of

DOCS = Path(__file__).parents[1] / "docs"
PAGE, SCHEMAS = DOCS / "commands.md", DOCS / "commands.schema.json"
HEAD = """# Commands

Written by `make docs` from the code; a test keeps it true.

Exit codes: 0 done, 1 failed, 2 the request is wrong (nothing was done), 3 a gate of the run failed or `verify` found a
problem, 130 and 143 stopped by Ctrl-C or SIGTERM (what was finished is kept).

With `--json` a command prints one JSON document on standard output and its progress on standard error. The tables below
say what is in it; [commands.schema.json](commands.schema.json) holds the full JSON Schema of each, by command. A command
that fails prints `{{"error": {{"exit_code": 2, "message": "..."}}}}` instead.

## Log lines

Log lines go to standard error: warnings always, all of these with `handloom -v COMMAND`; `--log-format json` makes each one
object, with the values as keys of their own. As text a line reads `INFO curation.group: group_ended stages=probe,segment
rows=12 seconds=4.2`. Lines of worker processes come with the rows that they are about.

| event | what it tells |
|---|---|
{events}
"""
_WIDTH = 100


def commands_page() -> str:
    """The whole page."""
    events = "\n".join(f"| `{name}` | {told} |" for name, told in EVENTS.items())
    parts = [HEAD.format(events=events)]
    for name, command in _commands(typer.main.get_command(app), ()):
        context = Context(command, info_name=f"handloom {name}", help_option_names=["-h", "--help"])
        context.max_content_width = context.terminal_width = _WIDTH
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
        if name in OUTPUTS:
            parts += [_table(model) for model in models_of(name)]
        if name == "curate":
            parts += [f"With `--dry-run`:\n\n{_table(m)}" for m in models_of("curate --dry-run")]
    return "\n".join(parts)


def schemas_text() -> str:
    """JSON Schemas by command; several where a command prints one of several documents."""
    names = sorted([*OUTPUTS, "curate --dry-run"])
    found = {name: [m.model_json_schema() for m in models_of(name)] for name in names}
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _commands(group: TyperGroup, path: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    context = Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    head = (model.__doc__ or "").strip().split("\n")[0].replace("``", "`")
    rows = [
        f"| `{name}` | {_type(field)} | {_plain(field.get('description', ''))} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join(
        [f"`{model.__name__}`: {head}\n", "| key | type | |", "|---|---|---|", *rows, ""]
    )


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"{field['$ref'].rpartition('/')[2]}"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        inner = _type(field["items"]) if field.get("items") else ""
        return f"list of {inner}" if inner else "list"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, dict) else "object"
    return str(field.get("type", "any"))


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(commands_page(), encoding="utf-8")
    SCHEMAS.write_text(schemas_text(), encoding="utf-8")
