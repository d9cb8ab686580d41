"""Dolby Vision told by the container alone: configuration records in mp4 and Matroska headers.

FFmpeg reads them but its decoders hand them to nobody: a profile 5 stream then looks like untagged
video and comes out purple and green. Only headers are read, by their lengths, never a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.errors import DecodeError

_RECORDS = frozenset({b"dvcC", b"dvvC", b"dvwC"})
_MP4_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_SAMPLE_TABLE_HEADER_BYTES, _SAMPLE_ENTRY_BYTES = 8, 78
"""What comes before the first entry, and before the first box of a visual entry."""
_MATROSKA_PATH = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x41\xe4")
"""Segment, Tracks, TrackEntry, BlockAdditionMapping."""
_MAPPING_TYPE = b"\x41\xe7"
_ONLY_ONCE = {b"moov", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"}

Part = tuple[bytes, int, int]
"""Name, first byte of the body, first byte after it."""
Reader = Callable[[BinaryIO, int, int], Iterator[Part]]


def refuse_dolby_vision_records(path: Path, family: str) -> None:
    """Refuse an mp4 or Matroska file whose headers hold a Dolby Vision configuration record.

    Raises:
        DecodeError: ``unsupported_hdr``.
    """
    search = {"mp4": _mp4_records, "matroska": _matroska_records}.get(family)
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
