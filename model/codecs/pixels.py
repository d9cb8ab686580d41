"""Strides that all codecs share, and pixels between u8 frames and tensors."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from schemas.clock import FRAMES_PER_LATENT, PX_PER_LATENT

CHANNELS = 16
Stream: TypeAlias = Literal["rgb", "hoi"]
"""Kind of picture: video and references, or structure on black."""


def check_pixels(pixels: Float[Tensor, "b 3 f hp wp"]) -> None:
    """Refuse sizes that do not fit the strides.

    Raises:
        ValueError: With the numbers.
    """
    _, channels, frames, height, width = pixels.shape
    if (
        channels != 3
        or frames % FRAMES_PER_LATENT != 1
        or height % PX_PER_LATENT
        or width % PX_PER_LATENT
    ):
        raise ValueError(
            f"expected (b, 3, 1+4m, multiple of 8, multiple of 8) pixels, got {tuple(pixels.shape)}"
        )


def to_pixels(frames: UInt8[np.ndarray, "f hp wp 3"]) -> Float[Tensor, "1 3 f hp wp"]:
    """Turn u8 RGB frames into float pixels in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))
    return planes.float().div_(127.5).sub_(1.0)[None]


def to_planes(pixels: Float[Tensor, "1 3 f hp wp"]) -> UInt8[np.ndarray, "3 f hp wp"]:
    """Turn float pixels in [-1, 1] into u8 colour planes."""
    values = pixels[0].clamp(-1, 1).add_(1).mul_(127.5).round_()
    return np.asarray(values.to(torch.uint8).numpy())


def to_frames(pixels: Float[Tensor, "1 3 f hp wp"]) -> UInt8[np.ndarray, "f hp wp 3"]:
    """Turn float pixels in [-1, 1] into u8 RGB frames."""
    return np.ascontiguousarray(to_planes(pixels).transpose(1, 2, 3, 0))
