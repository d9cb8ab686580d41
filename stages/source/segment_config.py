"""Settings of stage ``segment``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from schemas.backend import by_name
from schemas.clock import FRAMES_PER_LATENT, PX_PER_TOKEN
from schemas.settings import BESIDE, LIMIT
from stages.base import GateConfig, StageConfig
from stages.source.pyscenedetect import PySceneDetectConfig
from stages.source.transnetv2 import TransNetV2Config

Bucket = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


Detector = Annotated[
    TransNetV2Config | PySceneDetectConfig,
    Field(discriminator="name"),
    by_name("transnetv2"),
    BESIDE,
]


class SegmentGate(GateConfig):
    """Every window that fits is a clip: later stages judge it."""


class SegmentConfig(StageConfig):
    """How sources are cut.

    Args:
        detector: Shot detector. docs/front.md has the comparison behind the default.
        cut_margin_frames: Ticks given up on each side of a transition.
        max_gap_s: A longer hole in the frame times separates shots.
        num_frames: Target frames per clip, 1 + 4k.
        max_motion_frames: Context frames before the target at most; floored to 0, 5, 9, 13 ...
        stride_frames: Step between targets; below ``num_frames`` they overlap.
        max_clips_per_source: Keep an even spread of this many windows; None keeps all.
        buckets: (width, height) of clips, multiples of 16. The nearest aspect wins, then the largest
            that does not enlarge. Add (720, 1280) and (1280, 720) for 720p.
        max_upscale: Linear enlargement at most; smaller pictures are dropped as ``too_small``.
        crop_black_bars: Remove bars before choosing the bucket: black, flat, shaded, or a blurred copy of the picture.
        crf: x264 quality of the clips.
        max_frame_pixels: See ``probe``.
        max_frames: See ``probe``.
        timeout_s: Wall clock of each of the two child processes.
        memory_bytes: Address space of the child process.
    """

    detector: Detector = TransNetV2Config()
    cut_margin_frames: int = Field(default=1, ge=0, le=25)
    max_gap_s: float = Field(default=0.5, gt=0)
    num_frames: int = Field(default=81, ge=5)
    max_motion_frames: int = Field(default=73, ge=0)
    stride_frames: int = Field(default=81, ge=1)
    max_clips_per_source: int | None = Field(default=None, ge=1)
    buckets: tuple[Bucket, ...] = ((480, 832), (832, 480), (624, 624))
    max_upscale: float = Field(default=1.5, ge=1)
    crop_black_bars: bool = True
    crf: int = Field(default=12, ge=0, le=40)
    max_frame_pixels: Annotated[int, LIMIT] = Field(default=4096 * 2304, gt=0)
    max_frames: Annotated[int, LIMIT] = Field(default=432_000, gt=0)
    timeout_s: Annotated[float, LIMIT] = Field(default=3600, gt=0)
    memory_bytes: Annotated[int, LIMIT] = Field(default=6_000_000_000, gt=0)
    gate: SegmentGate = SegmentGate()

    @field_validator("num_frames")
    @classmethod
    def _whole_latents(cls, value: int) -> int:
        if value % FRAMES_PER_LATENT != 1:
            raise ValueError(
                f"num_frames={value}; expected 1 + 4k, such as 81: latents cover 4 frames"
            )
        return value

    @field_validator("buckets")
    @classmethod
    def _whole_patches(cls, value: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
        bad = [b for b in value if b[0] % PX_PER_TOKEN or b[1] % PX_PER_TOKEN]
        if bad or not value:
            raise ValueError(
                f"buckets={value}; expected at least one, sides in multiples of {PX_PER_TOKEN}"
            )
        return value
