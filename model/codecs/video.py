"""Video codecs: pixels to latents and back, behind one Protocol.

Layout legend: b batch, f frames, n = 1 + (f-1)/4 latents, c = 16 channels, h and w latent pixels (1/8).
Pixels are float in [-1, 1], RGB. Latents are in normalised units (about zero mean, unit variance).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from model.codecs.codec_choice import CodecChoice, codec_id
from model.codecs.pixels import Stream, to_frames, to_pixels
from schemas.base import BackendRef
from schemas.clock import FRAMES_PER_LATENT
from schemas.errors import ConfigError
from schemas.facets import ChannelStatistics

_CHUNK_LATENTS = 4


class VideoCodec(Protocol):
    """Encodes 1 + 4m frames to 1 + m latents, causally: the first latent sees the first frame alone."""

    ref: BackendRef
    is_blockwise: bool
    """True when latent k depends on its own frames alone and decodes to them alone."""
    statistics: ChannelStatistics
    """What latents of this codec's stream are normalised with."""

    def for_stream(self, stream: Stream) -> VideoCodec:
        """The same latent space, normalised for RGB pictures or for structure pictures."""

    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode pixels in [-1, 1]."""

    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode to pixels, clamped to [-1, 1]."""


def codec_that_wrote(wanted: str, config: object, whose: str) -> VideoCodec:
    """Build a run's codec, for latents that it is said to have written.

    Args:
        wanted: The latent space (``codec_id``) that the latents name.
        config: The codec's settings in the run's record.
        whose: Clip or sample, for the message.

    Raises:
        ConfigError: The codec gives another latent space, or cannot run here.
    """
    codec: VideoCodec = TypeAdapter(CodecChoice).validate_python(config).build().opened
    if codec_id(codec.ref) != wanted:
        raise ConfigError(
            f"{whose} has latents of {wanted}, this is {codec_id(codec.ref)}: curate it again, or use "
            "the version that made it"
        )
    return codec


def encode_frames(
    codec: VideoCodec, frames: UInt8[np.ndarray, "f hp wp 3"]
) -> Float[Tensor, "c n h w"]:
    """Encode 1 + 4m u8 frames; block-wise codecs in bounded memory."""
    if not codec.is_blockwise:
        return codec.encode(to_pixels(frames))[0]
    parts = [
        codec.encode(to_pixels(frames[start:stop]))[0][:, skip:]
        for start, stop, skip in _chunks(len(frames))
    ]
    return torch.cat(parts, dim=1)


def _chunks(num_frames: int) -> Iterator[tuple[int, int, int]]:
    """Frame ranges (start, stop, latents to skip) that encode alone to the same latents.

    Every later range starts one frame early, so that its own causal first latent can be cut off.

    >>> list(_chunks(25))
    [(0, 17, 0), (16, 25, 1)]
    """
    step = FRAMES_PER_LATENT * _CHUNK_LATENTS
    for start in range(0, max(1, num_frames - 1), step):
        yield start, min(start + step + 1, num_frames), int(start > 0)


def decode_frames(
    codec: VideoCodec, latents: Float[Tensor, "c n h w"], first_frame: int = 0
) -> Iterator[tuple[int, UInt8[np.ndarray, "f hp wp 3"]]]:
    """Decode to u8 frames in pieces: yields (index of the piece's first frame, frames).

    Pieces that end before ``first_frame`` may be left out.
    """
    if not codec.is_blockwise:
        yield 0, to_frames(codec.decode(latents[None]))
        return
    for start, stop, skip in _chunks(1 + FRAMES_PER_LATENT * (latents.shape[1] - 1)):
        if stop <= first_frame:
            continue
        part = latents[None, :, start // FRAMES_PER_LATENT : 1 + (stop - 1) // FRAMES_PER_LATENT]
        yield start + skip, to_frames(codec.decode(part))[skip:]


def round_trip_psnr_db(
    codec: VideoCodec,
    frames: UInt8[np.ndarray, "f hp wp 3"],
    latents: Float[Tensor, "c n h w"],
    first_frame: int = 0,
) -> float:
    """Peak signal-to-noise ratio of decoded latents against their frames, in dB, at most 100.

    Args:
        codec: What made the latents.
        frames: The frames that they were made of.
        latents: As stored.
        first_frame: Frames before it are not counted.
    """
    squares, count = 0.0, 0
    for start, decoded in decode_frames(codec, latents, first_frame):
        skip = max(0, first_frame - start)
        wanted = frames[start + skip : start + len(decoded)]
        errors = decoded[skip:].astype(np.float32) - wanted.astype(np.float32)
        squares += float(np.square(errors).sum(dtype=np.float64))
        count += errors.size
    mse = squares / count
    return 100.0 if mse <= 255.0**2 * 1e-10 else float(10 * np.log10(255.0**2 / mse))


def as_array(tensor: Tensor, dtype: type[np.floating[Any]] = np.float16) -> NDArray[Any]:
    """Copy a tensor to a contiguous numpy array of a storage type."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(dtype))
