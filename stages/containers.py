"""Container formats by their bytes: what a file claims to be, and whether it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import DecodeError

_SNIFF_BYTES = 1024
_TS_PACKETS = ((188, 0), (192, 4))
_MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")


def sniff(head: bytes) -> str:
    r"""Name the container family by its first bytes; the extension says nothing. Empty if unknown.

    >>> sniff(b"\x00\x00\x00\x18ftypisom")
    'mp4'
    >>> sniff(b"#EXTM3U")
    ''
    """
    if head[4:8] in _MP4_ATOMS:
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for size, offset in _TS_PACKETS:
        marks = head[offset::size][:4]
        if len(marks) >= 2 and set(marks) == {0x47}:
            return "mpegts"
    return ""


def sniff_file(path: Path) -> str:
    """Check that a file is not empty and looks like a container that we read.

    Raises:
        DecodeError: ``empty_file`` or ``not_video``.
    """
    with path.open("rb") as handle:
        head = handle.read(_SNIFF_BYTES)
    if not head:
        raise DecodeError("empty_file", "0 bytes")
    family = sniff(head)
    if not family:
        raise DecodeError(
            "not_video",
            f"starts with {head[:12]!r}; expected mp4/mov, matroska/webm, avi or mpeg-ts",
        )
    return family


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """Top level of an mp4 file: which atoms there are, and whether the last one is complete."""

    names: frozenset[str]
    missing_bytes: int


def mp4_layout(path: Path, max_atoms: int = 10_000) -> Mp4Layout:
    """Walk the top-level atoms without reading their bodies."""
    names: set[str] = set()
    size_bytes = path.stat().st_size
    at = 0
    with path.open("rb") as handle:
        while at < size_bytes and len(names) < max_atoms:
            length, name = _atom(handle, at, size_bytes)
            names.add(name)
            if length < 8:
                break
            at += length
    return Mp4Layout(frozenset(names), max(0, at - size_bytes))


def _atom(handle: BinaryIO, at: int, size_bytes: int) -> tuple[int, str]:
    handle.seek(at)
    header = handle.read(16)
    length, name = int.from_bytes(header[:4], "big"), header[4:8].decode("latin-1")
    if length == 1:
        length = int.from_bytes(header[8:16], "big")
    return (size_bytes - at if length == 0 else length), name
