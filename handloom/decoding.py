"""What a clip shows, as arrays: read from its own files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from schemas.base import FileRef
from schemas.clock import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from schemas.rows import Clip
from stages.kit import media
from stages.kit.arrays import F32, Frames

Local: TypeAlias = Callable[[FileRef], Path]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Target frames at 25 per second with their structure stream and sound; motion context is left out.

    Attributes:
        rgb: (T,H,W,3) u8.
        hoi: (T,H,W,3) u8, the body and the held product on black. None for a clip that ended before.
        audio: (T * 640,) f32 in [-1, 1], mono at 16 kHz. None where the source has no sound.
    """

    fps: ClassVar[int] = FPS
    sample_rate_hz: ClassVar[int] = SAMPLE_RATE_HZ

    rgb: Frames
    hoi: Frames | None
    audio: F32 | None


def decode_clip(clip: Clip, local: Local) -> Decoded:
    """Read the target frames of a clip's videos, and its sound.

    Raises:
        DataError: A file cannot be read.
    """
    first = clip.media.num_motion_frames
    hoi = None
    if clip.structure is not None:
        hoi = media.read_video(local(clip.structure.video))[first:]
    rgb = media.read_video(local(clip.media.video))[first:]
    audio = None
    if clip.media.audio is not None:
        audio = target_sound(local(clip.media.audio), first, len(rgb))
    return Decoded(rgb, hoi, audio)


def target_sound(wav: Path, first: int, num_frames: int) -> F32:
    """The sound of frames ``[first, first + num_frames)`` of one of our own wav files.

    Raises:
        DataError: It cannot be read.
    """
    start, stop = (frame * SAMPLES_PER_FRAME for frame in (first, first + num_frames))
    return media.read_wav(wav)[start:stop]
