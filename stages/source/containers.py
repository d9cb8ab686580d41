"""Container formats by their bytes: what a file claims to be, and whether it is complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import DecodeError
from stages.source.mpegts import find_geometry

_SNIFF_BYTES = 1 << 16
_MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"jxl ")
_MAGICS = (
    (re.compile(rb"\x1a\x45\xdf\xa3"), "matroska"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "avi"),
    (re.compile(rb"FLV\x01"), "flv"),
)
_PS_PACK, _PS_STREAMS = b"\x00\x00\x01\xba", (b"\x00\x00\x01\xbb", b"\x00\x00\x01\xe0")
READ_FAMILIES = "mp4/mov, matroska/webm, avi, flv, mpeg-ts or mpeg-ps"

_UNREAD = (
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf/wmv"),
    (b"OggS", "ogg"),
    (b".RMF", "realmedia"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (b"DKIF", "ivf"),
    (b"YUV4MPEG2", "y4m"),
    (b"nut/multimedia container", "nut"),
    (b"\x00\x00\x01\xb3", "a bare mpeg-1/2 stream"),
    (b"\x00\x00\x00\x01\x67", "a bare h.264 stream"),
    (b"\x00\x00\x00\x01\x09", "a bare h.264 stream"),
    (b"\x00\x00\x00\x01\x40\x01", "a bare h.265 stream"),
)
"""Video that we do not read, by its first bytes: never to be taken for a sidecar file."""


def sniff(head: bytes) -> str:
    r"""Name the container family by its first bytes; the extension says nothing. Empty if unknown.

    Transport and programme streams may start in the middle of a packet.

    >>> sniff(b"\x00\x00\x00\x18ftypisom")
    'mp4'
    >>> sniff(b"#EXTM3U")
    ''
    """
    if head[4:8] in _MP4_ATOMS:
        return "" if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS else "mp4"
    for magic, family in _MAGICS:
        if magic.match(head):
            return family
    if find_geometry(head):
        return "mpegts"
    is_ps = _PS_PACK in head and any(mark in head for mark in _PS_STREAMS)
    return "mpegps" if is_ps else ""


def unread_format(head: bytes) -> str:
    """Name a video format that we know but do not read; empty for anything else."""
    return next((name for magic, name in _UNREAD if head.startswith(magic)), "")


def sniff_file(path: Path) -> str:
    """Check that a file is not empty and looks like a container that we read.

    Raises:
        DecodeError: ``empty_file``, ``container_unsupported`` for video of another format, or
            ``not_video`` for anything else: text, pictures, files that lie beside videos.
    """
    with path.open("rb") as handle:
        head = handle.read(_SNIFF_BYTES)
    if not head:
        raise DecodeError("empty_file", "0 bytes")
    family = sniff(head)
    if not family and (other := unread_format(head)):
        raise DecodeError(
            "container_unsupported", f"{other}; convert it to one of {READ_FAMILIES} first"
        )
    if not family:
        raise DecodeError("not_video", f"starts with {head[:12]!r}; expected {READ_FAMILIES}")
    return family


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """Top level of an mp4 file.

    Args:
        names: Which atoms there are.
        missing_bytes: How much of the last atom is missing.
        trailer_bytes: Bytes after the last atom that are no atom: padding, a camera's own data.
        starts: Where a file begins: 0, and the offset of each ``ftyp`` that follows a whole file.
    """

    names: frozenset[str]
    missing_bytes: int
    trailer_bytes: int = 0
    starts: tuple[int, ...] = (0,)


def mp4_layout(path: Path, max_atoms: int = 1_000_000) -> Mp4Layout:
    """Walk the top-level atoms without reading their bodies."""
    names: set[str] = set()
    since_start: set[str] = set()
    starts = [0]
    size_bytes = path.stat().st_size
    at = 0
    with path.open("rb") as handle:
        for _ in range(max_atoms):
            if at >= size_bytes:
                break
            length, name = _atom(handle, at, size_bytes)
            if _is_trailer(name, length, size_bytes - at, names):
                return Mp4Layout(frozenset(names), 0, size_bytes - at, tuple(starts))
            if name == "ftyp" and {"moov", "mdat"} <= since_start:
                starts.append(at)
                since_start = set()
            names.add(name)
            since_start.add(name)
            if length < 8:
                break
            at += length
    return Mp4Layout(frozenset(names), max(0, at - size_bytes), 0, tuple(starts))


_MEDIA_ATOMS = frozenset({"ftyp", "styp", "moov", "moof", "mdat", "sidx", "mfra", "emsg", "meta"})
_FILLERS = frozenset({"free", "skip", "wide", "pnot", "uuid", "udta"})


def _is_trailer(name: str, length: int, left_bytes: int, names: set[str]) -> bool:
    """No atom, or a filler that is cut off behind a whole film: nothing of the film is missing."""
    if not {"moov", "mdat"} <= names or name in _MEDIA_ATOMS:
        return False
    is_atom = name in _FILLERS or (name.isascii() and name.isprintable() and len(name) == 4)
    return not is_atom or length < 8 or length > left_bytes


def _atom(handle: BinaryIO, at: int, size_bytes: int) -> tuple[int, str]:
    handle.seek(at)
    header = handle.read(16)
    length, name = int.from_bytes(header[:4], "big"), header[4:8].decode("latin-1")
    if length == 1:
        length = int.from_bytes(header[8:16], "big")
    return (size_bytes - at if length == 0 and name == "mdat" else length), name
