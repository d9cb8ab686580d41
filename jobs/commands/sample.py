"""``handloom sample``: a video from a checkpoint, without the structure branch unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import options
from jobs.console import Exit, RunProgress, guarded, print_json, say


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
    audio: Annotated[Path | None, typer.Option(help="16 kHz mono wav.")] = None,
    prompt: Annotated[str, typer.Option(help="Description of the clip.")] = "",
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Take references, sound and prompt of this root's first clip."),
    ] = None,
    changes: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Sample an mp4 with sound. --set changes sampling: steps, shift, text_guidance, with_hoi, seed ..."""
    from pydantic import ValidationError

    from curation.recipe import apply_change, explain_validation
    from model.sampler import SampleConfig, sample
    from schemas.errors import ConfigError
    from stages import media

    if out.exists():
        raise ConfigError(f"{out} exists; nothing is overwritten, choose another --out")
    settings: dict[str, Any] = {"steps": 20}
    for change in changes or []:
        apply_change(settings, change)
    try:
        config = SampleConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, "sample")) from error
    request, wav = build_request(person, product, audio, prompt, root)
    with RunProgress() as progress:
        result = sample(
            find_checkpoint(checkpoint), request, config,
            lambda done, of: progress.step("sampling", done, of),
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(out, result.rgb, crf=14, audio=wav)
    if result.hoi is not None:
        media.write_video(out.with_suffix(".hoi.mp4"), result.hoi, crf=14)
    if as_json:
        print_json(
            {"video": str(out), "num_frames": len(result.rgb), "size": result.rgb.shape[1:3]}
        )
    else:
        say(f"{out}: {len(result.rgb)} frames, {result.rgb.shape[2]}x{result.rgb.shape[1]}")
    return Exit.DONE


def find_checkpoint(path: Path) -> Path:
    """A checkpoint folder, or the latest one of a training folder.

    Raises:
        ConfigError: There is none.
    """
    from model.train_state import latest_checkpoint
    from schemas.errors import ConfigError

    if (path / "model.safetensors").is_file():
        return path
    found = latest_checkpoint(path) if path.is_dir() else None
    if found is None:
        raise ConfigError(
            f"{path} holds no checkpoint; make one with: handloom train ROOT --out {path}"
        )
    return found


def build_request(
    person: Path | None, product: Path | None, audio: Path | None, prompt: str, root: Path | None
) -> tuple[Any, Path | None]:
    """Read references, sound and prompt from files, or from the first clip of a root.

    Raises:
        ConfigError: Something needed was not given.
    """
    from model.sampler import SampleRequest
    from schemas.errors import ConfigError, DataError
    from stages import media
    from stages.foreign_picture import read_foreign_picture

    if root is not None:
        clip = first_clip(root)
        blobs = root / "blobs"
        person = person or blobs.parent / clip.references.person_image.name
        product = product or blobs.parent / clip.references.product_image.name
        prompt = prompt or clip.caption.prompt
        audio = audio or (blobs.parent / clip.media.audio.name if clip.media.audio else None)
        first = clip.media.num_motion_frames * media.SAMPLES_PER_FRAME
    else:
        clip, first = None, 0
    if person is None or product is None or not prompt:
        raise ConfigError(
            "give --person, --product and --prompt, or --root to take them from a clip"
        )
    try:
        images = [read_foreign_picture(p) for p in (person, product)]
        samples = media.read_wav(audio)[first:] if audio else None
    except (DataError, FileNotFoundError) as error:
        raise ConfigError(f"cannot read a reference: {error}") from error
    hoi_prompt = clip.caption.hoi_prompt if clip else prompt
    request = SampleRequest(
        person=images[0], product=images[1], prompt=prompt, hoi_prompt=hoi_prompt, audio=samples
    )
    return request, audio


def first_clip(root: Path) -> Any:
    """The first kept clip of a root's latest run.

    Raises:
        ConfigError: The root has none.
    """
    from curation.storage import StoreOptions
    from curation.tables import read_models
    from schemas.errors import ConfigError
    from schemas.rows import Clip

    store, run = options.open_root(str(root), StoreOptions())
    clips = read_models(store, run.clips, Clip)
    kept = [c for c in clips if c.latents is not None and c.references is not None and c.caption]
    if not kept:
        raise ConfigError(f"{root} has no kept clip")
    return kept[0]
