"""``handloom studio``: short clips with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress

if TYPE_CHECKING:
    from jobs.studio.catalogue import Object3D


@guarded
def command(
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the clips and their truth.")
    ] = None,
    clips: Annotated[
        list[str] | None,
        typer.Option(
            "--clip",
            help="Name of a clip; may be repeated; all for all. Default: two, where nothing else is asked for.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--object", help="A clip with this object of the catalogue; may be repeated."),
    ] = None,
    num_objects: Annotated[
        int,
        typer.Option(
            "--objects",
            min=0,
            help="Clips with so many objects of the catalogue, drawn by the seed.",
        ),
    ] = 0,
    num_empty: Annotated[
        int, typer.Option("--empty", min=0, help="Clips of people who talk with empty hands.")
    ] = 0,
    is_list: Annotated[
        bool, typer.Option("--list-objects", help="Show the catalogue's objects and end.")
    ] = False,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            help="Folder of *.sh3f files. Default: where Debian's sweethome3d-furniture puts them."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Varies people, products and rooms.")] = 0,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "480x832",
    as_json: options.Json = False,
) -> Exit:
    """Render clips of a body that holds and moves a product, with sound and truth beside them."""
    from jobs.studio.generate import generate
    from schemas.errors import ConfigError

    if is_list:
        return _list(catalogue, as_json)
    if out is None:
        raise ConfigError("where to? --out DIR is missing")
    try:
        width, height = (int(part) for part in size.lower().split("x"))
    except ValueError:
        raise ConfigError(f"--size {size!r}: expected WIDTHxHEIGHT, for example 480x832") from None
    objects = _choose(catalogue, names or [], num_objects, seed) if names or num_objects else []
    with RunProgress() as progress:
        made = generate(
            out,
            clips=clips,
            objects=objects,
            num_empty=num_empty,
            seed=seed,
            size_px=(width, height),
            progress=progress.step,
        )
    if as_json:
        print_json("studio", {"clips": [str(c.video) for c in made]})
    else:
        for clip in made:
            say(f"{clip.video}")
    return Exit.DONE


def _find(catalogue: Path | None) -> list[Object3D]:
    from jobs.studio.catalogue import FOLDER, find_objects

    return list(find_objects(catalogue or FOLDER))


def _choose(
    catalogue: Path | None, names: list[str], num_objects: int, seed: int
) -> list[Object3D]:
    """The named objects, then others that people hold up, none twice."""
    import numpy as np

    from jobs.studio.catalogue import pick_objects
    from schemas.errors import ConfigError

    objects = _find(catalogue)
    chosen = pick_objects(objects, names)
    others = [o for o in objects if o.is_hand_sized and o not in chosen]
    if num_objects > len(others):
        raise ConfigError(
            f"--objects {num_objects}: the catalogue has {len(others)} hand-sized ones"
        )
    drawn = np.random.default_rng(seed).choice(len(others), num_objects, replace=False)
    return chosen + [others[int(index)] for index in drawn]


def _list(catalogue: Path | None, as_json: bool) -> Exit:
    objects = _find(catalogue)
    if as_json:
        print_json(
            "studio",
            {
                "objects": [
                    {
                        "key": o.key,
                        "name": o.name,
                        "longest_cm": o.longest_cm,
                        "author": o.creator,
                        "licence": o.licence,
                    }
                    for o in objects
                ]
            },
        )
        return Exit.DONE
    for o in objects:
        say(f"{o.key:44} {o.name:32} {o.longest_cm:6.1f} cm  {o.creator}; {o.licence}")
    return Exit.DONE
