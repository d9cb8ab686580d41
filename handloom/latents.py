"""What a sample shows, as arrays: its latents decoded by the codec that wrote them. Needs torch."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from handloom.decoding import Decoded, Local, target_sound
from model.codecs.video import VideoCodec, codec_that_wrote, decode_frames
from model.training.data import to_torch
from schemas.base import FileRef
from schemas.clock import FRAMES_PER_LATENT
from schemas.sample import Sample


@torch.no_grad()
def decode_sample(sample: Sample, codec_config: object, local: Local) -> Decoded:
    """Decode a sample's target frames 0 .. 4n-1; its sound is the clip's own, which shards do not hold.

    Args:
        sample: Of a checked shard.
        codec_config: The codec's settings in a run's record.
        local: Gives a local path of a file of the root.

    Raises:
        ConfigError: See ``codec_that_wrote``.
        DataError: A tensor holds NaN or infinity.
    """
    codec = codec_that_wrote(sample.codec, codec_config, f"sample {sample.clip_id}")
    motion = sample.rgb_motion_latent
    context = None if motion is None else to_torch(motion)
    rgb = target_frames(codec, to_torch(sample.rgb_latent), context)
    hoi = target_frames(codec.for_stream("hoi"), to_torch(sample.hoi_latent), None)
    audio = None
    if sha256 := sample.fingerprints.get("media.audio"):
        wav = local(FileRef(sha256=sha256, suffix=".wav", num_bytes=0))
        audio = target_sound(wav, sample.num_motion_frames, len(rgb))
    return Decoded(rgb, hoi, audio)


def target_frames(
    codec: VideoCodec, latents: Float[Tensor, "c n h w"], context: Float[Tensor, "c m h w"] | None
) -> UInt8[np.ndarray, "f hp wp 3"]:
    """Decode n latents to all their 4n frames.

    A codec is causal: the first latent that it gets becomes one frame. So the latents are decoded behind what
    stood before them: the motion context, or where none is stored the first latent as a still.
    """
    if context is None:
        context = codec.encode(codec.decode(latents[None, :, :1]))[0]
    num_before = 1 + FRAMES_PER_LATENT * (context.shape[1] - 1)
    pieces = decode_frames(codec, torch.cat([context, latents], dim=1), num_before)
    frames = np.concatenate([piece for _, piece in pieces])
    return frames[-FRAMES_PER_LATENT * latents.shape[1] :]
