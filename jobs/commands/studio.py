"""``handloom studio``: short clips with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress


@guarded
def command(
    out: Annotated[Path, typer.Option("--out", help="Folder for the clips and their truth.")],
    clips: Annotated[
        list[str] | None,
        typer.Option("--clip", help="Name of a clip; may be repeated; all for all. Default: two."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Varies people, products and rooms.")] = 0,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "480x832",
    as_json: options.Json = False,
) -> Exit:
    """Render clips of a body that holds and moves a product, with sound and truth beside them."""
    from jobs.studio.generate import generate
    from schemas.errors import ConfigError

    try:
        width, height = (int(part) for part in size.lower().split("x"))
    except ValueError:
        raise ConfigError(f"--size {size!r}: expected WIDTHxHEIGHT, for example 480x832") from None
    with RunProgress() as progress:
        made = generate(
            out, clips=clips, seed=seed, size_px=(width, height), progress=progress.step
        )
    if as_json:
        print_json("studio", {"clips": [str(c.video) for c in made]})
    else:
        for clip in made:
            say(f"{clip.video}")
    return Exit.DONE
