"""Wan 2.1 VAE through diffusers, from the user's local folder."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model.codecs.pixels import CHANNELS, Stream, check_pixels
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.facets import ChannelStatistics

WAN_LATENT_MEAN = (
    -0.7571,
    -0.7089,
    -0.9113,
    0.1075,
    -0.1745,
    0.9653,
    -0.1517,
    1.5508,
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
WAN_LATENT_STD = (
    2.8184,
    1.4541,
    2.3275,
    2.6558,
    1.2196,
    1.7708,
    2.6052,
    2.0743,
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
)
"""Published statistics of the Wan 2.1 VAE. Source: Wan-Video/Wan2.2@42bf4cf wan/modules/vae2_1.py."""


class WanVaeCodec:
    """Wan 2.1 VAE through diffusers: posterior mode, normalised by the published statistics.

    Args:
        vae: A ``diffusers.AutoencoderKLWan`` in evaluation mode.
        weights_sha256: Digest of its weight files.
        device: Where to run.
    """

    statistics = ChannelStatistics(mean=WAN_LATENT_MEAN, std=WAN_LATENT_STD)

    def __init__(self, vae: Any, weights_sha256: str = "", *, device: str = "cpu") -> None:
        if vae.config.z_dim != CHANNELS:
            raise ConfigError(
                f"the VAE has z_dim={vae.config.z_dim}, expected {CHANNELS} (Wan 2.1)"
            )
        self.ref = BackendRef(
            name="wan2.1-vae",
            version="diffusers",
            weights_sha256=weights_sha256,
            licence="Apache-2.0",
        )
        self._vae = vae.to(device).eval().requires_grad_(False)
        self._device, self._dtype = device, vae.dtype
        shape = (1, CHANNELS, 1, 1, 1)
        self._mean = torch.tensor(WAN_LATENT_MEAN, device=device).view(shape)
        self._std = torch.tensor(WAN_LATENT_STD, device=device).view(shape)

    def for_stream(self, stream: Stream) -> WanVaeCodec:
        """The published statistics hold for both streams: weights were trained on both with them."""
        del stream
        return self

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 1 + 4m frames: z = (mode - mean) / std.

        Raises:
            ValueError: Frame count or size does not fit the strides.
        """
        check_pixels(pixels)
        mode = self._vae.encode(pixels.to(self._device, self._dtype)).latent_dist.mode()
        normalised: Tensor = (mode.float() - self._mean) / self._std
        return normalised.cpu()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode z * std + mean."""
        raw = latents.to(self._device).float() * self._std + self._mean
        pixels: Tensor = self._vae.decode(raw.to(self._dtype)).sample
        return pixels.float().clamp(-1, 1).cpu()
