"""``handloom sample``: a video from a checkpoint, without the structure branch unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import options
from jobs.console import Exit, guarded, note, print_json, say
from jobs.progress import RunProgress


@guarded
def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="A training folder or one of its checkpoints.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The mp4 to write; must not exist.")],
    person: Annotated[
        Path | None, typer.Option(help="Picture of the person: PNG, JPEG, WebP, TIFF ...")
    ] = None,
    product: Annotated[Path | None, typer.Option(help="Picture of the product.")] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Sound from the first frame on: wav, flac, mp3, m4a ...")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Description of the clip.")] = "",
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Take references, sound and prompt of this root's first clip."),
    ] = None,
    changes: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Sample an mp4 with sound. --set changes sampling: steps, shift, text_guidance, with_hoi, seed ..."""
    from jobs.sampling import build_request, check_free, find_notes, sample_config, write_result
    from model.sampler import Sampler
    from model.training.state import find_checkpoint, read_state

    check_free(out)
    config = sample_config(changes or [])
    folder = find_checkpoint(checkpoint)
    state = read_state(folder)
    request = build_request(person, product, audio, prompt, root, hears=state.hears)
    with RunProgress() as progress:
        result = Sampler(folder, config).run(
            request, lambda done, of: progress.step("sampling", done, of)
        )
    write_result(out, result)
    notes = find_notes(result, request, state, has_root_sound=bool(root and not audio))
    for text in notes:
        note(text)
    if as_json:
        print_json(
            "sample",
            {
                "video": str(out),
                "num_frames": len(result.rgb),
                "size": result.rgb.shape[1:3],
                "has_sound": result.audio is not None,
                "attention": result.attention,
                "notes": notes,
            },
        )
    else:
        say(f"{out}: {len(result.rgb)} frames, {result.rgb.shape[2]}x{result.rgb.shape[1]}")
    return Exit.DONE
