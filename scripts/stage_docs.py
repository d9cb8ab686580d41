"""Writes docs/stages.md from the stages themselves: settings, thresholds, reasons, what each reads."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from curation.chain import AnyStage, build_chain
from curation.recipe import Recipe, RunConfig, RunGates
from curation.stage_list import GROUPS, STAGE_CLASSES
from schemas.backend import BackendConfig, ResourceSettings, choices, members
from schemas.base import Model
from schemas.settings import kind_of

PAGE = Path(__file__).parents[1] / "docs" / "stages.md"
HEAD = """# Stages

Written by `make docs` from the code; a test keeps it true. Every setting can stand in a recipe
(`detect: {{every: 1}}`) or on the command line (`--set detect.every=1`). Settings under `gate` are thresholds:
changing one decides clips anew from stored scores and computes nothing. Any other setting is part of the stage's
fingerprint: changing it recomputes this stage and what reads its results. Three kinds are not, and say so: a *limit*
is what a row may cost (a raised one does again what failed below it, and nothing else), a *place* is where a file lies
(its content counts), a *pin* is checked before anything runs.

What a setting chooses, a *backend*, has settings of its own: `objects: {{backend: {{name: sam2, weights_file: ...}}}}`, or
`--set objects.backend.name=sam2 --set objects.backend.weights_file=...`; its name alone (`backend: sam2`) is enough
where they stay as they are.

Order and groups, each group one pass over the data that ends with a commit:
{groups}
"""


def stages_page() -> str:
    """The whole page."""
    chain = build_chain(Recipe(name="docs", stages={}))
    groups = "\n".join(
        f"{i}. {', '.join(f'[`{n}`](#{n})' for n in g)}" for i, g in enumerate(GROUPS, 1)
    )
    parts = [HEAD.format(groups=groups), *(_stage(chain[name]) for name in STAGE_CLASSES)]
    parts.append(
        "## resources\n\nWhat one worker of a stage asks Ray for, where the stage's own guess does not fit, for every "
        "stage (`objects: {resources: {num_gpus: 0.5}}`). None of it changes a result.\n\n"
        + _table(ResourceSettings, "<stage>.resources")
    )
    parts.append(
        "## run\n\nHow a run is executed (`run:` in a recipe). None of it changes a result.\n\n"
        + _table(RunConfig, "run")
        + "\n"
        + _table(RunGates, "run.gates")
    )
    return "\n".join(parts)


def _stage(stage: AnyStage) -> str:
    doc = inspect.getdoc(sys.modules[type(stage).__module__]) or ""
    text = doc.split("\n\n")[0].replace("\n", " ").replace("``", "`")
    reads = ", ".join(f"`{n}`" for n in stage.needs) or "the source object"
    reasons = ", ".join(f"`{r}`" for r in sorted(stage.reasons)) or "none"
    config, gate = type(stage.config), type(stage.config.gate)
    lines = [
        f"## {stage.name}\n\n{text}\n",
        f"Version {stage.version}. Reads: {reads}. Fills: {f'`{stage.facet}`' if stage.facet else 'new rows'}.\n",
        f"Reasons: {reasons}.\n",
    ]
    lines += [_table(config, stage.name), *_backends(stage), _table(gate, f"{stage.name}.gate")]
    return "\n".join(line for line in lines if line)


def _backends(stage: AnyStage) -> list[str]:
    """What each setting may choose, with the settings that each choice has."""
    lines = []
    for setting, member in choices(type(stage.config)):
        about, key = member.about, f"{stage.name}.{setting}"
        needs = f", {about.remedy}" if about.extra else ""
        text = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
        lines.append(
            f"`{key}: {about.name}`: {text} Licence: {about.licence}; weights: {about.weights}{needs}.\n"
        )
        lines.append(_table(member, key))
    if stage.fixed_backends:
        used = ", ".join(
            f"{a.name} ({a.licence}, weights: {a.weights})" for a in stage.fixed_backends
        )
        lines.append(f"Always uses {used}.\n")
    return lines


def _table(model: type[Model], prefix: str) -> str:
    rows = [
        f"| `{prefix}.{name}` | `{_default(field)}` | {_type(field)} | {_about(name, field, model)}{_kind(field)} |"
        for name, field in model.model_fields.items()
        if name not in {"gate", "gates", "resources"} and not _is_tag(name, field)
    ]
    if not rows:
        return ""
    return "\n".join(["| key | default | allowed | |", "|---|---|---|---|", *rows]) + "\n"


def _is_tag(name: str, field: FieldInfo) -> bool:
    """The name of a backend says nothing in a table of its own settings."""
    return name == "name" and get_origin(field.annotation) is Literal


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BackendConfig):
        return value.name
    return value.model_dump(mode="json") if isinstance(value, Model) else value


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    if chosen := members(field):
        return " or ".join(f"`{member.about.name}`" for member in chosen)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    is_plain = isinstance(annotation, type) and not get_args(annotation)
    name = annotation.__name__ if is_plain else str(annotation).removeprefix("typing.")
    limits = [
        f"{sign} {value:g}"
        for meta in field.metadata
        for sign, key in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
        if (value := getattr(meta, key, None)) is not None
    ]
    text = " ".join([name.replace("None", "null").replace("|", "or"), ", ".join(limits)])
    return text.strip()


def _about(name: str, field: FieldInfo, model: type[Model]) -> str:
    if field.description:
        return _plain(field.description)
    match = re.search(rf"^\s+{name}: (.+?)(?=^\s+\w+: |\Z)", model.__doc__ or "", re.M | re.S)
    return _plain(match[1]) if match else ""


def _kind(field: FieldInfo) -> str:
    kind = kind_of(field)
    return f" *{kind.capitalize()}.*" if kind else ""


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(stages_page(), encoding="utf-8")
