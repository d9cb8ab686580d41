"""Pictures from anywhere come out upright, in sRGB, eight bits; what cannot is refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from schemas.errors import DecodeError
from stages.kit import media
from stages.source import foreign_picture
from stages.source.foreign_picture import convert_file, read_foreign_picture

RED, GREEN, BLUE = (208, 32, 32), (32, 176, 64), (30, 60, 200)


def corners(width: int = 60, height: int = 40) -> np.ndarray:
    """Grey with a red, a green and a blue corner: no two orientations look alike."""
    image = np.full((height, width, 3), 120, np.uint8)
    image[:14, :20], image[:14, -20:], image[-14:, :20] = RED, GREEN, BLUE
    return image


def read(path, max_pixels: int = 1_000_000) -> np.ndarray:
    """Through the child's function, in this process: fast."""
    target = path.parent / "read.png"
    target.unlink(missing_ok=True)
    convert_file({"path": str(path), "target": str(target), "max_pixels": max_pixels})
    return media.read_png(target)


def error_of(path, **changes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        read(path, **changes)
    return caught.value


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientations_of_cameras(tmp_path, orientation, suffix):
    """Stored as the sensor saw it, tagged with how to hold it: upright again for all eight."""
    upright = Image.fromarray(corners())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"phone.{suffix}"
    stored.save(path, exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    found = read(path)
    assert found.shape == (40, 60, 3)
    assert np.abs(found.astype(int) - corners()).mean() < 5


def png(header: bytes, rows: bytes, *chunks: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    parts = [chunk(b"IHDR", header), *(chunk(c[:4], c[4:]) for c in chunks)]
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, kind):
    """Grey, RGB, grey with alpha and RGBA PNGs of 16 bits: a ramp stays a ramp."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    ramp = np.linspace(0, 65535, 64).round().astype(">u2")
    pixels = np.repeat(np.repeat(ramp[None, :, None], channels, 2), 20, 0)
    if kind in (4, 6):
        pixels[..., -1] = 65535
        pixels[:10, :, -1] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path = tmp_path / "deep.png"
    path.write_bytes(png(struct.pack(">2I5B", 64, 20, 16, kind, 0, 0, 0), rows))
    found = read(path)
    assert found.shape[2] == (4 if kind in (4, 6) else 3)
    for channel in range(3):
        assert np.abs(found[15, :, channel] - np.linspace(0, 255, 64)).max() <= 1.01
    if kind in (4, 6):
        assert (found[:10, :, 3] == 0).all()
        assert (found[10:, :, 3] == 255).all()


def test_sixteen_bit_tiff(tmp_path):
    ramp = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None], 20, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    assert np.abs(read(tmp_path / "deep.tif")[3, :, 1] - np.linspace(0, 255, 64)).max() <= 1.01


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_modes_without_alpha(tmp_path, mode):
    grey = mode in {"1", "L"}
    truth = (
        np.where(corners() > 100, 255, 0).astype(np.uint8)[..., :1].repeat(3, 2)
        if grey
        else corners()
    )
    suffix = "jpg" if mode == "YCbCr" else "tif"
    image = Image.fromarray(truth)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    path = tmp_path / f"mode.{suffix}"
    image.save(path, **({"quality": 98} if suffix == "jpg" else {}))
    found = read(path)
    assert found.shape == (40, 60, 3)
    assert np.abs(found.astype(int) - truth).mean() < 4


def test_adobe_cmyk_jpeg_is_not_inverted(tmp_path):
    path = tmp_path / "print.jpg"
    Image.fromarray(corners()).convert("CMYK").save(path, quality=98)
    assert np.abs(read(path).astype(int) - corners()).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_kept(tmp_path, mode):
    rgba = np.dstack([corners(), np.full((40, 60), 255, np.uint8)])
    rgba[20:, 30:, 3] = 0
    image = Image.fromarray(rgba)
    if mode == "PA":
        image = image.quantize(16, method=Image.Quantize.FASTOCTREE)
    elif mode == "LA":
        image = image.convert("LA")
    path = tmp_path / "cut.png"
    image.save(path)
    found = read(path)
    assert found.shape == (40, 60, 4)
    assert (found[25:35, 35:55, 3] == 0).all()
    assert (found[:15, :, 3] == 255).all()


def test_palette_and_grey_with_one_transparent_colour(tmp_path):
    grey = np.full((20, 20), 200, np.uint8)
    grey[:10] = 7
    Image.fromarray(grey).save(tmp_path / "key.png", transparency=7)
    found = read(tmp_path / "key.png")
    assert (found[:10, :, 3] == 0).all()
    assert (found[10:, :, 3] == 255).all()
    Image.fromarray(grey).convert("P").save(tmp_path / "key.gif", transparency=7)
    assert (read(tmp_path / "key.gif")[:10, :, 3] == 0).all()


def test_opaque_alpha_is_dropped(tmp_path):
    Image.fromarray(np.dstack([corners(), np.full((40, 60), 255, np.uint8)])).save(
        tmp_path / "full.png"
    )
    assert read(tmp_path / "full.png").shape == (40, 60, 3)


def test_a_profile_of_its_own_is_followed(tmp_path):
    """A picture whose profile swaps nothing stays; one in linear XYZ-like Lab space is converted."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(corners()).save(tmp_path / "tagged.png", icc_profile=srgb)
    assert np.abs(read(tmp_path / "tagged.png").astype(int) - corners()).max() <= 2
    wide = wide_gamut_profile()
    Image.fromarray(corners()).save(tmp_path / "wide.png", icc_profile=wide)
    found = read(tmp_path / "wide.png")
    assert int(found[5, 5, 0]) > RED[0] + 8  # the same numbers mean a stronger red
    assert np.abs(found[20, 30].astype(int) - 120).max() <= 3  # grey stays grey
    Image.fromarray(corners()).save(tmp_path / "broken.png", icc_profile=b"\0" * 200)
    assert error_of(tmp_path / "broken.png").code == "picture_unreadable"


def wide_gamut_profile() -> bytes:
    """The sRGB profile of the library with the primaries of Display P3 written into it."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    colorants = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for index in range(struct.unpack_from(">I", data, 128)[0]):
        name, offset, _ = struct.unpack_from(">4s2I", data, 132 + 12 * index)
        if name in colorants:
            fixed = [round(v * 65536) for v in colorants[name]]
            struct.pack_into(">3i", data, offset + 8, *fixed)
    return bytes(data)


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    path = tmp_path / "x.png"
    for data in (b"", b"hello" * 50, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4 ..."):
        path.write_bytes(data)
        assert error_of(path).code == "picture_unreadable"
    whole = io.BytesIO()
    Image.fromarray(corners()).save(whole, "PNG")
    path.write_bytes(whole.getvalue()[:120])
    assert error_of(path).code == "picture_unreadable"
    Image.fromarray(corners().astype(np.float32)[..., 0]).save(tmp_path / "float.tif")
    assert "kind F" in error_of(tmp_path / "float.tif").detail
    first, second = Image.fromarray(corners()), ImageOps.mirror(Image.fromarray(corners()))
    first.save(tmp_path / "moves.gif", save_all=True, append_images=[second])
    assert "2 pictures" in error_of(tmp_path / "moves.gif").detail


def test_an_opener_that_another_package_put_in_pillows_place_ends_as_unreadable(
    tmp_path, monkeypatch
):
    def opener(*_args, **_kwargs):
        raise ModuleNotFoundError("No module named 'some_heif'")

    (tmp_path / "x.png").write_bytes(b"hello")
    monkeypatch.setattr(Image, "open", opener)
    assert error_of(tmp_path / "x.png").code == "picture_unreadable"


def test_a_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(struct.pack(">2I5B", 60_000, 60_000, 1, 0, 0, 0, 0), b""))
    assert error_of(path, max_pixels=100_000_000).code == "picture_too_large"
    assert error_of(path, max_pixels=10**12).code == "picture_too_large"


def test_through_the_child(tmp_path, monkeypatch):
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(corners()).save(path, exif=exif)
    assert read_foreign_picture(path).shape == (60, 40, 3)
    with pytest.raises(DecodeError) as caught:
        read_foreign_picture(path, max_pixels=100)
    assert caught.value.code == "picture_too_large"
    monkeypatch.setattr(foreign_picture, "MAX_BYTES", 10)
    with pytest.raises(DecodeError, match="at most 10"):
        read_foreign_picture(path)
    with pytest.raises(FileNotFoundError):
        read_foreign_picture(tmp_path / "absent.jpg")
