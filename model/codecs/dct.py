"""The embedded latent codec: a cut orthonormal DCT over colour, time and space.

Layout legend: b batch, f frames, n latents, c = 16 channels, h and w latent pixels (1/8 of the picture).
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from model.codecs.pixels import Stream, check_pixels
from schemas.base import BackendRef
from schemas.clock import FRAMES_PER_LATENT, PX_PER_LATENT
from schemas.facets import ChannelStatistics

DCT_BAND: tuple[tuple[int, int, int, int], ...] = (
    (0, 0, 0, 0),
    (0, 0, 0, 1),
    (0, 0, 1, 0),
    (0, 0, 1, 1),
    (0, 0, 0, 2),
    (0, 0, 2, 0),
    (0, 0, 1, 2),
    (0, 0, 2, 1),
    (0, 0, 0, 3),
    (0, 0, 3, 0),
    (0, 1, 0, 0),
    (0, 2, 0, 0),
    (0, 1, 0, 1),
    (0, 1, 1, 0),
    (1, 0, 0, 0),
    (2, 0, 0, 0),
)
"""The 16 of 768 coefficients that are kept, as (colour, time, row, column) frequencies: the largest by
energy on product videos, made symmetric in rows and columns (docs/codec.md)."""

DCT_STATISTICS: dict[Stream, ChannelStatistics] = {
    "rgb": ChannelStatistics(
        mean=(-4.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2.0, 0.2),
        std=(
            14.0,
            1.7,
            1.7,
            0.65,
            0.75,
            0.75,
            0.38,
            0.38,
            0.43,
            0.43,
            1.0,
            0.45,
            0.42,
            0.42,
            3.0,
            0.7,
        ),
    ),
    "hoi": ChannelStatistics(
        mean=(-18.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10.5, 5.3),
        std=(
            9.0,
            0.76,
            0.76,
            0.25,
            0.27,
            0.27,
            0.14,
            0.14,
            0.15,
            0.15,
            0.82,
            0.31,
            0.31,
            0.31,
            11.0,
            8.4,
        ),
    ),
}
"""Fixed constants of the latent space, part of its version. They never change with the data. How they were
measured: docs/codec.md and benchmarks/latent_statistics.py."""


def dct_matrix(size: int) -> Float[Tensor, "size size"]:
    """Orthonormal DCT-II matrix: row k is the basis function of frequency k.

    >>> bool(torch.allclose(dct_matrix(8) @ dct_matrix(8).T, torch.eye(8, dtype=torch.float64)))
    True
    """
    k = torch.arange(size, dtype=torch.float64)[:, None]
    x = torch.arange(size, dtype=torch.float64)[None, :]
    matrix: Tensor = torch.cos(torch.pi * (2 * x + 1) * k / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


class DctCodec:
    """Orthonormal DCT over colour, time and space, cut to 16 of 768 coefficients per block.

    Linear, without weights, exactly invertible on its band. The first frame is transformed as a still
    of four equal frames, so a single image is a valid clip and its temporal channels are constant.
    The transform is separable: one small matrix product per axis.

    Args:
        stream: Kind of picture whose statistics normalise the latents.
    """

    ref = BackendRef(name="dct", version="2", licence="Apache-2.0")

    def __init__(self, stream: Stream = "rgb") -> None:
        self.statistics = DCT_STATISTICS[stream]
        band = torch.tensor(DCT_BAND)
        kept = (band.amax(dim=0) + 1).tolist()  # frequencies in use per axis: (3, 3, 4, 4)
        sizes = (3, FRAMES_PER_LATENT, PX_PER_LATENT, PX_PER_LATENT)
        self._bases = tuple(
            dct_matrix(size)[:count].float() for size, count in zip(sizes, kept, strict=True)
        )
        self._kept = tuple(kept)
        self._mean = torch.tensor(self.statistics.mean)[:, None, None, None]
        self._std = torch.tensor(self.statistics.std)[:, None, None, None]
        self._slots = tuple(band.T)

    def for_stream(self, stream: Stream) -> DctCodec:
        """The same transform, normalised for RGB pictures or for structure pictures."""
        return DctCodec(stream)

    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 1 + 4m frames.

        Raises:
            ValueError: Frame count or size does not fit the strides.
        """
        check_pixels(pixels)
        first = repeat(pixels[:, :, :1], "b c 1 h w -> b c t h w", t=FRAMES_PER_LATENT)
        return self.encode_blocks(torch.cat([first, pixels[:, :, 1:]], dim=2))

    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode to 1 + 4(n-1) frames; the first latent becomes the mean of its four frames."""
        frames = self.decode_blocks(latents)
        first = frames[:, :, :FRAMES_PER_LATENT].mean(dim=2, keepdim=True)
        return torch.cat([first, frames[:, :, FRAMES_PER_LATENT:]], dim=2).clamp(-1, 1)

    def encode_blocks(self, pixels: Float[Tensor, "b 3 f4 hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 4n frames to n latents, without a causal first frame."""
        colour, time, rows, columns = self._bases
        x: Tensor = rearrange(pixels.float(), "b c f hp (w q) -> b c f hp w q", q=PX_PER_LATENT)
        x = x @ columns.T  # (b, 3, f, hp, w, x)
        x = rearrange(x, "b c f (h p) w x -> b c f h p (w x)", p=PX_PER_LATENT)
        x = rows @ x  # (b, 3, f, h, y, (w x))
        x = rearrange(x, "b c (n p) h y v -> b c n p (h y v)", p=FRAMES_PER_LATENT)
        x = time @ x  # (b, 3, n, t, (h y w x))
        n = x.shape[2]
        x = colour @ x.flatten(2)  # (b, c, (n t h y w x))
        width = pixels.shape[-1] // PX_PER_LATENT
        x = rearrange(
            x,
            "b c (n t h y w x) -> c t y x b n h w",
            n=n,
            t=self._kept[1],
            y=self._kept[2],
            x=self._kept[3],
            w=width,
        )
        kept: Tensor = rearrange(x[self._slots], "c b n h w -> b c n h w")
        return (kept - self._mean) / self._std

    def decode_blocks(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f4 hp wp"]:
        """Decode n latents to 4n frames (not clamped)."""
        colour, time, rows, columns = self._bases
        b, _, n, h, w = latents.shape
        full = torch.zeros(*self._kept, b, n, h, w)
        full[self._slots] = rearrange(
            latents.float() * self._std + self._mean, "b c n h w -> c b n h w"
        )
        x = rearrange(full, "c t y x b n h w -> b c (n t h y w x)")
        x = rearrange(colour.T @ x, "b c (n t v) -> b c n t v", n=n, t=self._kept[1])
        x = rearrange(time.T @ x, "b c n p (h y v) -> b c (n p) h y v", h=h, y=self._kept[2])
        x = rearrange(rows.T @ x, "b c f h p (w x) -> b c f (h p) w x", w=w)
        return (x @ columns).flatten(-2)
