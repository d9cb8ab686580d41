"""Dolby Vision told by the container alone: configuration records in mp4, Matroska and MPEG-TS headers.

FFmpeg reads them but its decoders hand them to nobody: a profile 5 stream then looks like untagged
video and comes out purple and green. Only headers are read, by their lengths, never a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.errors import DecodeError
from stages.source.mpegts import find_geometry

_RECORDS = frozenset({b"dvcC", b"dvvC", b"dvwC"})
_MP4_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_SAMPLE_TABLE_HEADER_BYTES, _SAMPLE_ENTRY_BYTES = 8, 78
"""What comes before the first entry, and before the first box of a visual entry."""
_MATROSKA_PATH = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x41\xe4")
"""Segment, Tracks, TrackEntry, BlockAdditionMapping."""
_MAPPING_TYPE = b"\x41\xe7"
_MPEGTS_HEAD_BYTES, _TS_PACKET_BYTES = 2_000_000, 188
_DOVI_DESCRIPTOR = 0xB0
_ONLY_ONCE = {b"moov", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"}

Part = tuple[bytes, int, int]
"""Name, first byte of the body, first byte after it."""
Reader = Callable[[BinaryIO, int, int], Iterator[Part]]


def refuse_dolby_vision_records(path: Path, family: str) -> None:
    """Refuse an mp4, Matroska or MPEG-TS file whose headers hold a Dolby Vision configuration record.

    Raises:
        DecodeError: ``unsupported_hdr``.
    """
    search = {"mp4": _mp4_records, "matroska": _matroska_records, "mpegts": _mpegts_records}.get(
        family
    )
    if search is None:
        return
    with path.open("rb") as handle:
        found = next(search(handle, path.stat().st_size), None)
    if found:
        raise DecodeError(
            "unsupported_hdr",
            f"Dolby Vision by the container's {found.decode()} record; convert to SDR first",
        )


def _mp4_records(handle: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    for start, stop in _bodies(handle, _boxes, _MP4_PATH, 0, size_bytes):
        for _, entry, entry_stop in _boxes(handle, start + _SAMPLE_TABLE_HEADER_BYTES, stop):
            for name, _, _ in _boxes(handle, entry + _SAMPLE_ENTRY_BYTES, entry_stop):
                if name in _RECORDS:
                    yield name


def _matroska_records(handle: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    for start, stop in _bodies(handle, _elements, _MATROSKA_PATH, 0, size_bytes):
        for name, body, end in _elements(handle, start, stop):
            if name == _MAPPING_TYPE and end - body <= 8:
                handle.seek(body)
                kind = handle.read(end - body)
                if kind in _RECORDS:
                    yield kind


def _mpegts_records(handle: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """Video descriptors named in the programme maps at the start of a stream."""
    head = handle.read(min(size_bytes, _MPEGTS_HEAD_BYTES))
    geometry = find_geometry(head)
    if geometry is None:
        return
    at = geometry.first + geometry.sync_offset
    for place in range(at, len(head) - _TS_PACKET_BYTES + 1, geometry.size_bytes):
        section = _programme_map(head[place : place + _TS_PACKET_BYTES])
        if section and _DOVI_DESCRIPTOR in _stream_descriptors(section):
            yield b"DOVI"


def _programme_map(packet: bytes) -> bytes:
    """The programme map that begins in a packet, as far as it lies in it; empty where there is none."""
    begins, has_payload, has_field = packet[1] & 0x40, packet[3] & 0x10, packet[3] & 0x20
    if packet[0] != 0x47 or not begins or not has_payload:
        return b""
    body = packet[5 + packet[4] if has_field else 4 :]
    section = body[1 + body[0] :] if body else b""
    return section if section[:1] == b"\x02" and len(section) >= 12 else b""


def _stream_descriptors(section: bytes) -> Iterator[int]:
    """Tags of the descriptors of all elementary streams of a programme map."""
    end = min(len(section), 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) - 4)
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while at + 5 <= end:
        stop = at + 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
        at += 5
        while at + 2 <= min(stop, end):
            yield section[at]
            at += 2 + section[at + 1]
        at = stop


def _bodies(
    handle: BinaryIO, read: Reader, path: Sequence[bytes], start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """Bodies of all parts that lie at ``path``, one name a level."""
    if not path:
        yield start, stop
        return
    for name, body, end in read(handle, start, stop):
        if name == path[0]:
            yield from _bodies(handle, read, path[1:], body, end)
            if name in _ONLY_ONCE:
                return


def _boxes(handle: BinaryIO, at: int, stop: int) -> Iterator[Part]:
    """Boxes of an mp4 between two offsets; ends where a length makes no sense."""
    while at + 8 <= stop:
        handle.seek(at)
        header = handle.read(16)
        length, head = int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(header[8:16], "big"), 16
        end = stop if length == 0 else at + length
        if end < at + head or end > stop:
            return
        yield header[4:8], at + head, end
        at = end


def _elements(handle: BinaryIO, at: int, stop: int) -> Iterator[Part]:
    """Elements of an EBML file between two offsets; one of unknown length reaches to the end."""
    while at + 2 <= stop:
        handle.seek(at)
        header = handle.read(12)
        name_bytes = _vint_bytes(header[:1])
        size_bytes = _vint_bytes(header[name_bytes : name_bytes + 1])
        if not name_bytes or not size_bytes:
            return
        body = at + name_bytes + size_bytes
        coded = int.from_bytes(header[name_bytes : name_bytes + size_bytes], "big")
        unknown = (1 << 7 * size_bytes) - 1
        length = coded & unknown
        end = stop if length == unknown else min(stop, body + length)
        yield header[:name_bytes], body, end
        at = end


def _vint_bytes(first: bytes) -> int:
    """Length of a variable-length number by its first byte; 0 where it is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0
