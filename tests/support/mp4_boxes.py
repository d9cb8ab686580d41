"""Boxes added to an mp4's sample entry, as cameras write them and no encoder here does."""

from __future__ import annotations

import struct
from pathlib import Path

_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def dolby_vision(name: bytes, profile: int = 5, compatibility: int = 0) -> bytes:
    """A configuration record: version 1.0, level 6, an RPU and a base layer."""
    flags = profile << 9 | 6 << 3 | 0b101
    return box(
        name, bytes([1, 0]) + struct.pack(">H", flags) + bytes([compatibility << 4]) + bytes(19)
    )


def mastering_display(peak_nits: int) -> bytes:
    primaries = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450)
    return box(b"mdcv", struct.pack(">8H2I", *primaries, peak_nits * 10_000, 50))


def content_light(peak_nits: int) -> bytes:
    return box(b"clli", struct.pack(">2H", peak_nits, peak_nits // 2))


def add_to_sample_entry(source: Path, target: Path, extra: bytes, tag: bytes | None = None) -> Path:
    """Copy an mp4 whose ``moov`` comes last, with ``extra`` boxes in its first sample entry."""
    data = bytearray(source.read_bytes())
    at, stop, grown = 0, len(data), []
    for name in _PATH:
        while data[at + 4 : at + 8] != name:
            at += struct.unpack_from(">I", data, at)[0]
            assert at < stop, name
        grown.append(at)
        at, stop = at + 8, at + struct.unpack_from(">I", data, at)[0]
    entry = at + 8
    grown.append(entry)
    end = entry + struct.unpack_from(">I", data, entry)[0]
    for place in grown:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(extra))
    if tag:
        data[entry + 4 : entry + 8] = tag
    data[end:end] = extra
    target.write_bytes(data)
    return target
