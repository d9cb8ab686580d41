"""Pictures that a user hands in: any camera, any editor, hostile until checked.

They are read in a child process, upright, in sRGB, eight bits, RGB or RGBA. Pictures that Handloom wrote
itself are read by ``stages.kit.media``.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from schemas.errors import DecodeError
from stages.kit import media
from stages.kit.arrays import U8, Array
from stages.kit.isolate import ChildBudget, run_isolated

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
MAX_PIXELS = 100_000_000
MAX_BYTES = 200_000_000
_BUDGET = ChildBudget(wall_s=60, memory_bytes=4_000_000_000, max_output_bytes=10_000)
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


def read_foreign_picture(path: Path, max_pixels: int = MAX_PIXELS) -> U8:
    """Read a picture of unknown origin: (H,W,3) RGB or (H,W,4) RGBA u8, upright, sRGB.

    Args:
        path: A local file.
        max_pixels: Width times height at most.

    Raises:
        FileNotFoundError: There is none.
        DecodeError: ``picture_unreadable`` or ``picture_too_large``.
        ChildCrashError: The decoder died or needed more than a minute or 4 GB.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DecodeError("picture_too_large", f"{path.name}: {size} bytes, at most {MAX_BYTES}")
    with tempfile.TemporaryDirectory(prefix="handloom-picture-") as folder:
        target = Path(folder) / "picture.png"
        payload = {"path": str(path.resolve()), "target": str(target), "max_pixels": max_pixels}
        run_isolated("stages.source.foreign_picture:convert_file", payload, _BUDGET)
        return media.read_png(target)


def convert_file(payload: dict[str, Any]) -> dict[str, Any]:
    """Write ``path`` to ``target`` as our own kind of PNG: the child's side.

    Raises:
        DecodeError: See ``read_foreign_picture``.
    """
    path = Path(payload["path"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                check_header(picture, path.name, payload["max_pixels"])
                pixels = plain_pixels(picture)
    except Image.DecompressionBombError as error:
        raise DecodeError("picture_too_large", f"{path.name}: {error}") from error
    # ultralytics, once imported, puts an opener of its own in Pillow's place, which asks for another package
    except (OSError, SyntaxError, ValueError, ImportError) as error:
        raise DecodeError(
            "picture_unreadable",
            f"{path.name}: {error}; give a {', '.join(FORMATS)} file",
        ) from error
    media.write_png(Path(payload["target"]), pixels)
    return {"shape": list(pixels.shape)}


def check_header(picture: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse what is too large, moves, or has no meaning as colours, before a pixel is decoded.

    Raises:
        DecodeError: See ``read_foreign_picture``.
    """
    width, height = picture.size
    if width * height > max_pixels:
        raise DecodeError(
            "picture_too_large", f"{name}: {width}x{height}, at most {max_pixels} pixels"
        )
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a phone's second picture is a preview or depth
        raise DecodeError("picture_unreadable", f"{name}: {frames} pictures in one file; give one")
    if picture.mode not in (*_WIDE_MODES, *_PLAIN_MODES):
        raise DecodeError(
            "picture_unreadable", f"{name}: pixels of kind {picture.mode}; save it as RGB"
        )


def plain_pixels(picture: Image.Image) -> U8:
    """Decode a checked picture to (H,W,3|4) u8 sRGB, upright; alpha only where something shines through."""
    profile = picture.info.get("icc_profile")
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in _WIDE_MODES:
        return _from_wide(np.asarray(upright))
    alpha = None
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        alpha, upright = rgba.getchannel("A"), rgba.convert("RGB")
    rgb = _to_srgb(upright, profile)
    pixels = np.asarray(rgb, np.uint8)
    if alpha is None or alpha.getextrema() == (255, 255):
        return pixels
    return np.dstack([pixels, np.asarray(alpha, np.uint8)])


def _from_wide(grey: Array) -> U8:
    """Sixteen bits to eight by value, not by clipping."""
    if grey.min() < 0 or grey.max() > 65_535:
        raise ValueError(f"grey values {grey.min()} to {grey.max()}, expected 16 bits")
    narrow = (grey.astype(np.float32) / 257).round().astype(np.uint8)
    return np.repeat(narrow[:, :, None], 3, axis=2)


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the picture's own profile where it has one that fits; else by the usual formulas."""
    if picture.mode in ("1", "P", "YCbCr", "RGBX"):
        picture = picture.convert("RGB")
    if profile is None:
        return picture.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() == {"L": "GRAY"}.get(picture.mode, picture.mode):
            target = ImageCms.createProfile("sRGB")
            done = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
            assert done is not None
            return done
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(f"its colour profile cannot be read ({error})") from error
    return picture.convert("RGB")
