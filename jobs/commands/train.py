"""``handloom train``: train the co-generation DiT on a root's shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress


@guarded
def command(
    root: Annotated[str, typer.Argument(help="Output root of `handloom curate` (local).")],
    recipe: Annotated[
        str, typer.Option(help="smoke, paper, official, or path of a YAML file.")
    ] = "smoke",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for checkpoints and metrics; default: ROOT/train-RECIPE."
        ),
    ] = None,
    changes: options.Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    as_json: options.Json = False,
) -> Exit:
    """Train under Ray Train; metrics go to OUT/metrics.jsonl, curves to OUT/curves.svg."""
    from jobs.training import check_local_root, train_under_ray
    from model.training.config import load_train_recipe
    from model.training.shard_reader import shard_paths
    from schemas.errors import ConfigError

    path = check_local_root(root)
    config = load_train_recipe(recipe, changes or [], options.TRAIN_RECIPES)
    shard_paths(path)
    out = out or path / f"train-{Path(recipe).stem}"
    if not resume and out.exists() and any(out.iterdir()):
        raise ConfigError(
            f"{out} holds an earlier run; go on with --resume or choose another --out"
        )
    lines: list[dict[str, Any]] = []
    with RunProgress() as progress:
        progress.step("training", 0, config.steps)

        def show(line: dict[str, Any]) -> None:
            lines.append(line)
            progress.step("training", int(line.get("step", 0)), config.steps)
            if "loss" in line:
                progress.note(f"loss {line['loss']:.3f}")

        train_under_ray(config, path, out, resume=resume, on_metrics=show)
    evals = [line for line in lines if line.get("kind") == "eval"]
    if as_json:
        print_json("train", {"out": str(out), "first_eval": evals[:1], "last_eval": evals[-1:]})
        return Exit.DONE
    for line in evals[:1] + evals[-1:]:
        numbers = ", ".join(f"{k} {v:.4g}" for k, v in line.items() if isinstance(v, float))
        say(f"step {line.get('step')}: {numbers}")
    say(f"checkpoints, metrics.jsonl and curves.svg: {out}")
    return Exit.DONE
