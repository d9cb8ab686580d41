"""``handloom models``: which backends there are, and whether a recipe's are ready here."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from schemas.backend import About

app = typer.Typer(help="List, check and pin models.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@guarded
def list_command(as_json: options.Json = False) -> Exit:
    """Show every backend with its licence, where its weights come from, and whether it is installed."""
    from curation.chain import known_backends

    known = known_backends()
    if as_json:
        print_json("models list", {"backends": [_line(*found) for found in known]})
        return Exit.DONE
    for stage, setting, about, is_default in known:
        state = "installed" if about.is_installed else f"missing: {about.remedy}"
        key = f"{stage}.{setting}" if setting else stage
        name = f"{about.name}{' *' if is_default else ''}"
        say(f"{key:<22} {name:<16} {about.licence:<30} {about.weights:<15} {state}")
    say("* used unless a recipe says otherwise")
    return Exit.DONE


def _line(stage: str, setting: str, about: About, is_default: bool) -> dict[str, object]:
    return about._asdict() | {
        "stage": stage,
        "setting": setting,
        "is_default": is_default,
        "installed": about.is_installed,
    }


@app.command("check")
@guarded
def check_command(
    recipe: Annotated[str, typer.Option(help="Recipe name or path.")] = "default",
    train: Annotated[
        str, typer.Option(help="Training recipe (name or path) whose network's memory is planned.")
    ] = "paper",
    changes: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Check that every backend and weight file of a recipe is usable here; plan the network's memory."""
    from curation.chain import build_chain
    from curation.recipe import load_recipe
    from curation.stage_list import STAGE_CLASSES
    from model.cost.memory import memory_plan
    from model.training.config import load_train_recipe

    resolved = load_recipe(recipe, changes or [], list(STAGE_CLASSES), options.CURATE_RECIPES)
    chain = build_chain(resolved)
    rows = [_checked(stage) for stage in chain.stages]
    config = load_train_recipe(train, [], options.TRAIN_RECIPES)
    plan = memory_plan(config.network.build())
    if as_json:
        print_json("models check", {"stages": rows, "network": asdict(plan)})
        return Exit.DONE
    for row in rows:
        say(f"ok {row['stage']:<11} {row['fingerprint']}  {', '.join(row['backends'])}".rstrip())
    say(f"\nnetwork of training recipe {train} ({config.network.preset}), one device, 480x832x81:")
    say("\n".join(plan.lines()))
    return Exit.DONE


def _checked(stage: Any) -> dict[str, Any]:
    """A stage that can run here, with what its settings chose."""
    from schemas.backend import BackendConfig

    chosen = [value.name for _, value in stage.config if isinstance(value, BackendConfig)]
    return {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        "backends": chosen,
        "weights_sha256": stage.weights_sha256,
    }


@app.command("pin")
@guarded
def pin_command(
    file: Annotated[Path, typer.Argument(help="A weight file.")], as_json: options.Json = False
) -> Exit:
    """Print the sha256 of a weight file, to be written into a recipe."""
    if not file.is_file():
        raise ConfigError(f"{file} is not a file")
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if as_json:
        print_json("models pin", {"file": str(file), "sha256": digest})
    else:
        say(digest)
    return Exit.DONE


@app.command("convert-smplx")
@guarded
def convert_smplx_command(
    source: Annotated[Path, typer.Argument(help="The old .pkl, or an .npz with pickled arrays.")],
    target: Annotated[Path, typer.Argument(help="The .npz to write, for body.backend.model_file.")],
    as_json: options.Json = False,
) -> Exit:
    """Convert an old SMPL-X model file to plain arrays; what the pickle asks to run is refused."""
    from stages.body_models.smplx_convert import convert_smplx

    shapes = convert_smplx(source, target)
    if as_json:
        print_json("models convert-smplx", {"file": str(target), "arrays": shapes})
        return Exit.DONE
    for name, shape in shapes.items():
        say(f"{name:<16} {' x '.join(map(str, shape))}")
    say(f"wrote {target}; set body.backend.model_file={target}")
    return Exit.DONE
