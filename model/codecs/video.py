"""Video codecs: pixels to latents and back, behind one Protocol.

Layout legend: b batch, f frames, n = 1 + (f-1)/4 latents, c = 16 channels, h and w latent pixels (1/8).
Pixels are float in [-1, 1], RGB. Latents are in normalised units (about zero mean, unit variance).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from model.codecs.codec_choice import CodecChoice, codec_id
from model.codecs.pixels import Stream, to_pixels, to_planes
from schemas.base import BackendRef
from schemas.clock import FRAMES_PER_LATENT
from schemas.errors import ConfigError
from schemas.facets import ChannelStatistics

_ENCODED_LATENTS, _DECODED_LATENTS = 2, 1
"""At a time: at 480x832 what they take stays in the cache, which makes it three to five times faster than 4."""


class VideoCodec(Protocol):
    """Encodes 1 + 4m frames to 1 + m latents, causally: the first latent sees the first frame alone."""

    ref: BackendRef
    statistics: ChannelStatistics
    """What latents of this codec's stream are normalised with."""

    def for_stream(self, stream: Stream) -> VideoCodec:
        """The same latent space, normalised for RGB pictures or for structure pictures."""

    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode pixels in [-1, 1]."""

    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode to pixels, clamped to [-1, 1]."""


@runtime_checkable
class BlockCodec(Protocol):
    """A codec whose every latent stands for its own frames alone, and decodes to them alone."""

    def encode_blocks(self, pixels: Float[Tensor, "b 3 f4 hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 4n frames that follow the first one."""

    def decode_blocks(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f4 hp wp"]:
        """Decode n latents that follow the first one; not clamped."""


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
    """Encode 1 + 4m u8 frames; block codecs in pieces that stay in the processor's cache.

    Raises:
        ValueError: Another number of frames, or a size that does not fit the strides.
    """
    if not isinstance(codec, BlockCodec):
        return codec.encode(to_pixels(frames))[0]
    if len(frames) % FRAMES_PER_LATENT != 1:
        raise ValueError(f"expected 1 + 4m frames, got {len(frames)}")
    step = FRAMES_PER_LATENT * _ENCODED_LATENTS
    parts = [codec.encode(to_pixels(frames[:1]))[0]]
    parts += [
        codec.encode_blocks(to_pixels(frames[start : start + step]))[0]
        for start in range(1, len(frames), step)
    ]
    return torch.cat(parts, dim=1)


def decode_frames(
    codec: VideoCodec, latents: Float[Tensor, "c n h w"], first_frame: int = 0
) -> Iterator[tuple[int, UInt8[np.ndarray, "f hp wp 3"]]]:
    """Decode to u8 frames in pieces: yields (index of the piece's first frame, frames).

    Pieces that end before ``first_frame`` may be left out.
    """
    for start, planes in _decoded(codec, latents, first_frame):
        yield start, np.ascontiguousarray(planes.transpose(1, 2, 3, 0))


def _decoded(
    codec: VideoCodec, latents: Float[Tensor, "c n h w"], first_frame: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "3 f hp wp"]]]:
    """``decode_frames`` by colour planes, as they come out of the codec."""
    if not isinstance(codec, BlockCodec):
        yield 0, to_planes(codec.decode(latents[None]))
        return
    if first_frame < 1:
        yield 0, to_planes(codec.decode(latents[None, :, :1]))
    # latent k > 0 stands for frames 4k - 3 to 4k
    first = max(1, -(-first_frame // FRAMES_PER_LATENT))
    for k in range(first, latents.shape[1], _DECODED_LATENTS):
        part = latents[None, :, k : k + _DECODED_LATENTS]
        yield FRAMES_PER_LATENT * k - 3, to_planes(codec.decode_blocks(part))


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
    squares, count = 0, 0
    for start, planes in _decoded(codec, latents, first_frame):
        skip = max(0, first_frame - start)
        wanted = frames[start + skip : start + planes.shape[1]].transpose(3, 0, 1, 2)
        errors = np.subtract(planes[:, skip:], wanted, dtype=np.int16)
        squares += int(np.square(errors, dtype=np.int32).sum(dtype=np.int64))
        count += errors.size
    mse = squares / count
    return 100.0 if mse <= 255.0**2 * 1e-10 else float(10 * np.log10(255.0**2 / mse))


def as_array(tensor: Tensor, dtype: type[np.floating[Any]] = np.float16) -> NDArray[Any]:
    """Copy a tensor to a contiguous numpy array of a storage type."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(dtype))
