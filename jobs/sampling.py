"""What ``handloom sample`` shows and says: request from files or from a clip of a root, and the mp4."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from curation.root.store import StoreOptions
from curation.root.tables import read_models
from jobs import options
from model.sampler import SampleConfig, SampleRequest, SampleResult
from model.training.state import TrainState
from schemas.base import FileRef
from schemas.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from schemas.errors import ConfigError, DataError
from schemas.mistakes import parse_settings
from schemas.recipes import apply_change
from schemas.rows import Clip
from stages.kit import media
from stages.kit.arrays import F32, Frames, Image
from stages.packing.caption import HOI_PREFIX
from stages.source.foreign_picture import read_foreign_picture
from stages.source.foreign_sound import read_foreign_sound


def sample_config(changes: Sequence[str]) -> SampleConfig:
    """Settings of a sampling run, from ``--set`` changes.

    Raises:
        ConfigError: Unknown setting, or a value that does not fit.
    """
    settings: dict[str, Any] = {"steps": 20}
    for change in changes:
        apply_change(settings, change)
    return parse_settings(SampleConfig, settings, "sample")


def build_request(
    person: Path | None,
    product: Path | None,
    audio: Path | None,
    prompt: str,
    root: Path | None,
    *,
    hears: bool,
) -> SampleRequest:
    """Read references, sound and prompt from files; what is not given comes from a root's first clip.

    Args:
        person: Picture of the person.
        product: Picture of the product.
        audio: The user's own sound, heard from its first sample on.
        prompt: Description of the clip.
        root: Output root of a curation.
        hears: Whether the checkpoint takes sound; the clip's own is left out otherwise.

    Raises:
        ConfigError: Something needed was not given, or cannot be read.
    """
    clip = first_clip(root) if root is not None else None
    if clip is None and (person is None or product is None or not prompt):
        raise ConfigError(
            "give --person, --product and --prompt, or --root to take them from a clip"
        )
    hoi_prompt = HOI_PREFIX + prompt
    if not prompt:
        caption = _facet(_facet(clip).caption)
        prompt, hoi_prompt = caption.prompt, caption.hoi_prompt
    try:
        images = [
            read_foreign_picture(path) if path else own_picture(clip, root, name)
            for name, path in (("person", person), ("product", product))
        ]
        samples = None
        if audio is not None:
            samples = read_foreign_sound(audio)
        elif clip is not None and root is not None and hears:
            samples = target_sound(clip, root)
    except (DataError, FileNotFoundError) as error:
        raise ConfigError(f"cannot read a reference: {error}") from error
    return SampleRequest(
        person=images[0], product=images[1], prompt=prompt, hoi_prompt=hoi_prompt, audio=samples
    )


def own_picture(clip: Clip | None, root: Path | None, name: str) -> Image:
    """A reference picture that curation made of a clip: ``person`` or ``product``."""
    assert clip is not None
    assert root is not None
    picture: FileRef = getattr(_facet(clip.references), f"{name}_image")
    return media.read_png(root / picture.name)


def target_sound(clip: Clip, root: Path) -> F32 | None:
    """The clip's sound from its first target frame on: what lies before belongs to the motion context."""
    if clip.media.audio is None:
        return None
    samples = media.read_wav(root / clip.media.audio.name)
    return samples[clip.media.num_motion_frames * SAMPLES_PER_FRAME :]


def first_clip(root: Path) -> Clip:
    """The first kept clip of a root's latest run.

    Raises:
        ConfigError: The root has none.
    """
    store, run = options.open_root(str(root), StoreOptions())
    clips = read_models(store, run.clips, Clip)
    kept = [c for c in clips if c.latents is not None and c.references is not None and c.caption]
    if not kept:
        raise ConfigError(f"{root} has no kept clip")
    return kept[0]


class Film(Protocol):
    """Frames at 25 per second with their sound, sampled or decoded."""

    @property
    def rgb(self) -> Frames:
        """(T,H,W,3) RGB."""

    @property
    def hoi(self) -> Frames | None:
        """(T,H,W,3), the structure stream."""

    @property
    def audio(self) -> F32 | None:
        """Mono at 16 kHz, as long as the frames."""


def check_free(out: Path) -> None:
    """Refuse to write over a video.

    Raises:
        ConfigError: It, or that of the structure stream beside it, exists.
    """
    taken = [p for p in (out, out.with_suffix(".hoi.mp4")) if p.exists()]
    if taken:
        raise ConfigError(f"{taken[0]} exists; nothing is overwritten, choose another --out")


def write_result(out: Path, result: Film) -> None:
    """Write the mp4 with exactly the sound that the network listened to, and the structure video."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wav = None
        if result.audio is not None:
            wav = Path(folder) / "sound.wav"
            media.write_wav(wav, result.audio)
        media.write_video(out, result.rgb, crf=14, audio=wav)
    if result.hoi is not None:
        media.write_video(out.with_suffix(".hoi.mp4"), result.hoi, crf=14)


def find_notes(
    result: SampleResult, request: SampleRequest, state: TrainState, *, has_root_sound: bool
) -> list[str]:
    """What a user should know about the sampled video, and might not expect."""
    notes: list[str] = []
    if result.attention == "full":
        notes.append(
            "sampled with full attention, as the checkpoint was trained (stage 1, RGB sees the structure "
            "stream): both streams were denoised; --set attention=asymmetric leaves it out"
            if state.attention == "full"
            else "sampled with full attention, the checkpoint was trained without (stage 2)"
        )
    elif state.attention == "full" and state.network.hoi_branch:
        notes.append(
            "sampled without the structure stream, the checkpoint was trained with full attention (stage 1): "
            "expect a worse video than with --set attention=trained"
        )
    if has_root_sound and not state.hears:
        notes.append("the checkpoint was trained without sound: the video has none")
    if result.audio is not None and request.audio is not None:
        given_s, video_s = (len(x) / SAMPLE_RATE_HZ for x in (request.audio, result.audio))
        if given_s < video_s:
            notes.append(
                f"the sound is {given_s:.2f} s long, the video {video_s:.2f} s: silence follows"
            )
    return notes


def _facet(facet: Any) -> Any:
    """``first_clip`` takes only clips that have it."""
    assert facet is not None
    return facet
