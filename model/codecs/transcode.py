"""Shrinking ``dct`` latents, to train a small network on a full-size root."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

from model.codecs.dct import DctCodec
from schemas.base import Model
from schemas.clock import FRAMES_PER_LATENT


class Transcode(Model):
    """Shrink ``dct`` latents once, at loading, to train a small network on a full-size root.

    Latents are decoded, the pictures area-averaged to about ``height_px x width_px`` (the clip's own
    orientation is kept, sides are multiples of 16) and encoded again; boxes are scaled alike. Only for
    block-wise codecs without weights: shrinking latents of a VAE needs the original frames.
    """

    height_px: int = 96
    width_px: int = 160

    def size_for(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Target (height, width) for a clip, its long side along the clip's.

        >>> Transcode().size_for(832, 480), Transcode().size_for(480, 832)
        ((160, 96), (96, 160))
        """
        short, long = sorted((self.height_px, self.width_px))
        return (long, short) if height_px > width_px else (short, long)


def shrink_latent(
    latent: Float[Tensor, "c n h w"], size: tuple[int, int], codec: DctCodec
) -> Float[Tensor, "c n h2 w2"]:
    """Decode each latent to its four frames, area-average them to ``size`` pixels, encode again."""
    parts = []
    for start in range(0, latent.shape[1], FRAMES_PER_LATENT):
        some = latent[None, :, start : start + FRAMES_PER_LATENT]
        frames = codec.decode_blocks(some)[0]  # (3, f, H, W)
        small = nnf.interpolate(frames.clamp(-1, 1), size=size, mode="area")
        parts.append(codec.encode_blocks(small[None])[0])
    return torch.cat(parts, dim=1)
