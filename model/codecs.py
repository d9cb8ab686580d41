"""Video codecs: pixels to latents and back, behind one Protocol.

Layout legend: b batch, f frames, n = 1 + (f-1)/4 latents, c = 16 channels, h and w latent pixels (1/8).
Pixels are float in [-1, 1], RGB. Latents are in normalised units (about zero mean, unit variance).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from schemas.base import BackendRef, Model
from schemas.errors import ConfigError

STRIDE_T = 4
STRIDE_S = 8
CHANNELS = 16
_CHUNK_LATENTS = 4


class VideoCodec(Protocol):
    """Encodes 1 + 4m frames to 1 + m latents, causally: the first latent sees the first frame alone."""

    ref: BackendRef
    is_blockwise: bool
    """True when latent k depends on its own frames alone and decodes to them alone."""

    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode pixels in [-1, 1]."""

    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode to pixels, clamped to [-1, 1]."""


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

DCT_MEAN = (
    -4.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    2.0,
    0.2,
)
DCT_STD = (
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
)
"""Fixed constants of the latent space, part of its version. They never change with the data."""


def dct_matrix(size: int) -> Float[Tensor, "size size"]:
    """Orthonormal DCT-II matrix: row k is the basis function of frequency k.

    >>> bool(torch.allclose(dct_matrix(8) @ dct_matrix(8).T, torch.eye(8, dtype=torch.float64)))
    True
    """
    k = torch.arange(size, dtype=torch.float64)[:, None]
    x = torch.arange(size, dtype=torch.float64)[None, :]
    matrix = torch.cos(torch.pi * (2 * x + 1) * k / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def dct_basis() -> Float[Tensor, "c d"]:
    """The kept basis functions over one block of d = 3 * 4 * 8 * 8 values (colour, t, y, x)."""
    colour, time, space = dct_matrix(3), dct_matrix(STRIDE_T), dct_matrix(STRIDE_S)
    rows = [
        torch.einsum("a,b,c,d->abcd", colour[i], time[t], space[y], space[x]).flatten()
        for i, t, y, x in DCT_BAND
    ]
    return torch.stack(rows).float()


class DctCodec:
    """Orthonormal DCT over colour, time and space, cut to 16 of 768 coefficients per block.

    Linear, without weights, exactly invertible on its band. The first frame is transformed as a still
    of four equal frames, so a single image is a valid clip and its temporal channels are zero.
    """

    ref = BackendRef(name="dct", version="1", licence="Apache-2.0")
    is_blockwise = True

    def __init__(self) -> None:
        self._basis = dct_basis()
        self._mean = torch.tensor(DCT_MEAN)
        self._std = torch.tensor(DCT_STD)

    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 1 + 4m frames.

        Raises:
            ValueError: Frame count or size does not fit the strides.
        """
        check_pixels(pixels)
        first = repeat(pixels[:, :, :1], "b c 1 h w -> b c t h w", t=STRIDE_T)
        return self.encode_blocks(torch.cat([first, pixels[:, :, 1:]], dim=2))

    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode to 1 + 4(n-1) frames; the first latent becomes the mean of its four equal frames."""
        frames = self.decode_blocks(latents)
        first = frames[:, :, :STRIDE_T].mean(dim=2, keepdim=True)
        return torch.cat([first, frames[:, :, STRIDE_T:]], dim=2).clamp(-1, 1)

    def encode_blocks(self, pixels: Float[Tensor, "b 3 f4 hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 4n frames to n latents, without a causal first frame."""
        blocks = rearrange(
            pixels.float(),
            "b c (n t) (h y) (w x) -> b n h w (c t y x)",
            t=STRIDE_T,
            y=STRIDE_S,
            x=STRIDE_S,
        )
        coefficients = blocks @ self._basis.T
        return rearrange((coefficients - self._mean) / self._std, "b n h w c -> b c n h w")

    def decode_blocks(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f4 hp wp"]:
        """Decode n latents to 4n frames (not clamped)."""
        coefficients = rearrange(latents.float(), "b c n h w -> b n h w c") * self._std + self._mean
        return rearrange(
            coefficients @ self._basis,
            "b n h w (c t y x) -> b c (n t) (h y) (w x)",
            c=3,
            t=STRIDE_T,
            y=STRIDE_S,
            x=STRIDE_S,
        )


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
        dtype: Computation type; ``float32`` on CPU.
    """

    is_blockwise = False

    def __init__(
        self,
        vae: Any,
        weights_sha256: str = "",
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
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
        self._vae = vae.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._device, self._dtype = device, dtype
        shape = (1, CHANNELS, 1, 1, 1)
        self._mean = torch.tensor(WAN_LATENT_MEAN, device=device).view(shape)
        self._std = torch.tensor(WAN_LATENT_STD, device=device).view(shape)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 f hp wp"]) -> Float[Tensor, "b c n h w"]:
        """Encode 1 + 4m frames: z = (mode - mean) / std.

        Raises:
            ValueError: Frame count or size does not fit the strides.
        """
        check_pixels(pixels)
        mode = self._vae.encode(pixels.to(self._device, self._dtype)).latent_dist.mode()
        return ((mode.float() - self._mean) / self._std).cpu()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b 3 f hp wp"]:
        """Decode z * std + mean."""
        raw = latents.to(self._device).float() * self._std + self._mean
        pixels = self._vae.decode(raw.to(self._dtype)).sample
        return pixels.float().clamp(-1, 1).cpu()


class CodecConfig(Model):
    """Which latent space to work in.

    Args:
        name: ``dct`` (embedded) or ``wan2.1-vae``.
        folder: The user's local diffusers folder of the VAE (``config.json`` + safetensors).
        weights_sha256: Expected digest of that folder's weights (``weights_digest``); checked when set.
        device: Torch device of the VAE.
    """

    name: Literal["dct", "wan2.1-vae"] = "dct"
    folder: str | None = Field(default=None, exclude=True)
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    device: str = "cpu"


def check_codec(config: CodecConfig) -> None:
    """Check that a codec can run here, without loading it.

    Raises:
        ConfigError: A package, folder or weight file is missing, or its digest is another one.
    """
    if config.name == "wan2.1-vae":
        digest = weights_digest(model_folder(config.folder, "codec.folder", "Wan 2.1 VAE"))
        if config.weights_sha256 not in (None, digest):
            raise ConfigError(
                f"codec.folder={config.folder}: weights have sha256 {digest}, the recipe pins "
                f"{config.weights_sha256}; use the pinned files or change codec.weights_sha256"
            )
        require_package("diffusers", "codec.name=wan2.1-vae")


def build_codec(config: CodecConfig) -> VideoCodec:
    """Build the configured codec.

    Raises:
        ConfigError: See ``check_codec``.
    """
    check_codec(config)
    if config.name == "dct":
        return DctCodec()
    from diffusers import AutoencoderKLWan

    folder = model_folder(config.folder, "codec.folder", "Wan 2.1 VAE")
    vae = AutoencoderKLWan.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return WanVaeCodec(vae, weights_digest(folder), device=config.device)


def codec_weights_sha256(config: CodecConfig) -> str:
    """Digest of the configured codec's weight files; empty for ``dct``."""
    if config.name == "dct":
        return ""
    return weights_digest(model_folder(config.folder, "codec.folder", "Wan 2.1 VAE"))


def codec_id(ref: BackendRef) -> str:
    """Name a latent or feature space: equal text means comparable values.

    >>> codec_id(BackendRef(name="dct", version="1", licence="Apache-2.0"))
    'dct@1'
    """
    return f"{ref.name}@{ref.version}" + (
        f"#{ref.weights_sha256[:16]}" if ref.weights_sha256 else ""
    )


def check_pixels(pixels: Float[Tensor, "b 3 f hp wp"]) -> None:
    """Refuse sizes that do not fit the strides.

    Raises:
        ValueError: With the numbers.
    """
    _, channels, frames, height, width = pixels.shape
    if channels != 3 or frames % STRIDE_T != 1 or height % STRIDE_S or width % STRIDE_S:
        raise ValueError(
            f"expected (b, 3, 1+4m, multiple of 8, multiple of 8) pixels, got {tuple(pixels.shape)}"
        )


def to_pixels(frames: UInt8[np.ndarray, "f hp wp 3"]) -> Float[Tensor, "1 3 f hp wp"]:
    """Turn u8 RGB frames into float pixels in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)
    return pixels.float().div_(127.5).sub_(1.0)[None]


def to_frames(pixels: Float[Tensor, "1 3 f hp wp"]) -> UInt8[np.ndarray, "f hp wp 3"]:
    """Turn float pixels in [-1, 1] into u8 RGB frames."""
    frames = ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(frames.permute(1, 2, 3, 0).contiguous().numpy())


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
    step = STRIDE_T * _CHUNK_LATENTS
    for start in range(0, max(1, num_frames - 1), step):
        yield start, min(start + step + 1, num_frames), int(start > 0)


def decode_frames(
    codec: VideoCodec, latents: Float[Tensor, "c n h w"]
) -> Iterator[tuple[int, UInt8[np.ndarray, "f hp wp 3"]]]:
    """Decode to u8 frames in pieces: yields (index of the piece's first frame, frames)."""
    if not codec.is_blockwise:
        yield 0, to_frames(codec.decode(latents[None]))
        return
    for start, stop, skip in _chunks(1 + STRIDE_T * (latents.shape[1] - 1)):
        part = latents[None, :, start // STRIDE_T : 1 + (stop - 1) // STRIDE_T]
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
    for start, decoded in decode_frames(codec, latents):
        skip = max(0, first_frame - start)
        wanted = frames[start + skip : start + len(decoded)]
        errors = decoded[skip:].astype(np.float32) - wanted.astype(np.float32)
        squares += float(np.square(errors).sum(dtype=np.float64))
        count += errors.size
    mse = squares / count
    return 100.0 if mse <= 255.0**2 * 1e-10 else float(10 * np.log10(255.0**2 / mse))


def model_folder(folder: str | None, key: str, what: str) -> Path:
    """Return the user's local model folder.

    Raises:
        ConfigError: Not set, or it has no ``config.json`` or no safetensors weights.
    """
    if not folder:
        raise ConfigError(f"{key} is not set: put the {what} into a local folder and name it there")
    path = Path(folder)
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise ConfigError(
            f"{key}={folder}: expected a folder with config.json and *.safetensors ({what}); "
            "Handloom downloads nothing and reads no pickles"
        )
    return path


def weights_digest(folder: Path) -> str:
    """Digest of a model folder: sha256 over the names and digests of its json, model and text files."""
    names = sorted(
        p for p in folder.iterdir() if p.suffix in {".safetensors", ".json", ".model", ".txt"}
    )
    digests = {p.name: _file_sha256(p) for p in names}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_package(name: str, why: str) -> None:
    """Check that an optional package is installed, without importing it.

    Raises:
        ConfigError: It is not; the message says how to install it.
    """
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise ConfigError(f"{why} needs the package {name}: pip install 'handloom[wan]'")


def as_array(tensor: Tensor, dtype: type[np.floating[Any]] = np.float16) -> NDArray[Any]:
    """Copy a tensor to a contiguous numpy array of a storage type."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(dtype))
