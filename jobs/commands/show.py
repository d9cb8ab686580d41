"""``handloom show``: one clip as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say


@guarded
def command(
    root: options.Root,
    clip_id: Annotated[
        str, typer.Argument(help="A clip's id, as the report shows it, or its first digits.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The mp4 to write; must not exist.")],
    run: options.Run = "",
    from_latents: Annotated[
        bool, typer.Option("--from-latents", help="Decode the latents that a trainer reads.")
    ] = False,
    endpoint_url: options.Endpoint = None,
    region: options.Region = None,
    anon: options.Anon = False,
    as_json: options.Json = False,
) -> Exit:
    """Write a film of one clip: RGB, boxes, product mask and structure side by side, with sound.

    A clip that was dropped shows what there is of it up to there.
    """
    from curation.report.film import decoded_panels, panels, side_by_side
    from curation.report.write import report_inputs
    from curation.upkeep.explain import explain
    from schemas.errors import ConfigError
    from stages.kit import media

    if out.exists():
        raise ConfigError(f"{out} exists; nothing is overwritten, choose another --out")
    access = options.store_options(endpoint_url, region, anon)
    store, record = options.open_run(root, access, run)
    clip = explain(store, record, clip_id).clip
    with report_inputs(store, record) as inputs:
        if from_latents:
            latents = next(s for s in record.stages if s.name == "latents")
            shown = decoded_panels(clip, inputs.blobs, latents.config["codec"])
        else:
            shown = panels(clip, inputs.blobs)
        sound = clip.media.audio
        audio = inputs.blobs.fetch(sound) if sound and not from_latents else None
        out.parent.mkdir(parents=True, exist_ok=True)
        film = side_by_side(shown)
        media.write_video(out, film, crf=18, audio=audio)
    num_frames, height, width, _ = film.shape
    if as_json:
        print_json(
            "show",
            {
                "video": str(out),
                "clip_id": clip.clip_id,
                "panels": list(shown),
                "num_frames": num_frames,
                "size": [height, width],
            },
        )
    else:
        say(f"{out}: {' | '.join(shown)}, {num_frames} frames, {width}x{height}")
    return Exit.DONE
