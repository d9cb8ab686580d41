"""What is asked of the sampler, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import Field

from model.codecs.codec_choice import CodecChoice, DctConfig
from model.codecs.encoder_choice import (
    AudioEncoderChoice,
    ByteTextConfig,
    LogMelConfig,
    TextEncoderChoice,
)
from model.network.inputs import Attention
from schemas.base import Model
from schemas.clock import PX_PER_TOKEN

Image: TypeAlias = UInt8[np.ndarray, "h w c"]
Frames: TypeAlias = UInt8[np.ndarray, "f hp wp 3"]


class SampleConfig(Model):
    """How to sample.

    Args:
        steps: Euler steps.
        shift: Of the noise levels.
        text_guidance: Weight of text guidance; 1 follows the conditional prediction.
        audio_guidance: Weight of audio guidance; 1 likewise.
        with_hoi: Also return the structure video.
        attention: Which streams see each other: ``trained`` is what the checkpoint's last step had. Under
            ``full`` (stage 1) RGB sees the structure stream, which is then denoised beside it in any case.
        num_clips: Clips chained by motion context; each adds 4n frames.
        seed: Of both streams' noise.
        num_latents: Target latents n per clip; None takes the training size.
        height_px: Picture height; None takes the training size.
        width_px: Picture width; None takes the training size.
        device: Torch device; ``auto`` takes CUDA where there is one.
        use_ema: Sample from the moving average, where the checkpoint has one.
        codec: Must be the latent space of the checkpoint.
        text_encoder: Must be the checkpoint's.
        audio_encoder: Must be the checkpoint's.
        target_lufs: Sound is brought to this loudness, as in curation.
    """

    steps: int = Field(default=40, ge=1)
    shift: float = Field(default=5.0, gt=0)
    text_guidance: float = Field(default=5.0, ge=0)
    audio_guidance: float = Field(default=5.0, ge=0)
    with_hoi: bool = False
    attention: Literal["trained"] | Attention = "trained"
    num_clips: int = Field(default=1, ge=1)
    seed: int = 0
    num_latents: int | None = Field(default=None, ge=1)
    height_px: int | None = Field(default=None, gt=0, multiple_of=PX_PER_TOKEN)
    width_px: int | None = Field(default=None, gt=0, multiple_of=PX_PER_TOKEN)
    device: str = "cpu"
    use_ema: bool = True
    codec: CodecChoice = DctConfig()
    text_encoder: TextEncoderChoice = ByteTextConfig()
    audio_encoder: AudioEncoderChoice = LogMelConfig()
    target_lufs: float = -23.0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What to show.

    Attributes:
        person: RGB(A) reference of the person, any size.
        product: RGB(A) reference of the product, any size.
        prompt: Description of the clip.
        hoi_prompt: Description of the structure video; needed where that is denoised.
        negative_prompt: Guidance goes away from it; empty takes the trained null condition.
        audio: Mono samples at 16 kHz from the first frame on; cut or padded with silence to the video. None
            takes the trained null condition.
    """

    person: Image
    product: Image
    prompt: str
    hoi_prompt: str = ""
    negative_prompt: str = ""
    audio: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Frames at 25 fps: ``num_clips * 4n`` of them.

    Attributes:
        rgb: The video.
        hoi: The structure video; None unless asked for.
        audio: Exactly what the network listened to, at the loudness that it came with: 640 samples a frame
            from the first frame on. None without sound.
        attention: Rule under which the streams saw each other.
    """

    rgb: Frames
    hoi: Frames | None
    audio: Float[np.ndarray, " n"] | None
    attention: Attention
