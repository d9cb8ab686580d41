"""The recordings that lie one behind the other in one file.

Each part is opened for itself, as if it were a file: its streams, clock and sizes are its own.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.source.containers import mp4_layout
from stages.source.mpegts import find_geometry, programme_changes

MAX_PARTS = 1000
_HEADERS = {
    "flv": re.compile(rb"FLV\x01[\x00-\x05]\x00\x00\x00\x09\x00\x00\x00\x00"),
    "avi": re.compile(rb"RIFF.{4}AVI LIST", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3.{1,60}(?:matroska|webm)", re.DOTALL),
}
_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``[start, stop)`` of a file; None is the file's end."""

    start: int = 0
    stop: int | None = None

    def address(self, path: Path) -> str:
        """What ffmpeg opens; never anything but this file."""
        if self == Part():
            return f"file:{path}"
        stop = path.stat().st_size if self.stop is None else self.stop
        return f"subfile,,start,{self.start},end,{stop},,:file:{path}"


def parts_of(path: Path, family: str) -> list[Part]:
    """Split a file where another recording begins; one part, the whole file, for nearly all.

    Args:
        path: A local file.
        family: Of ``containers.sniff_file``.
    """
    if family == "mpegts":
        return _programme_parts(path)
    if family == "mp4":
        starts = list(mp4_layout(path).starts)
    elif family in _HEADERS and path.stat().st_size:
        starts = list(_header_starts(path, family))
    else:
        starts = [0]
    return _between(starts)


def missing_bytes(path: Path, family: str) -> int:
    """How much of the last recording is missing by its own header; 0 where the header does not say."""
    if family == "mp4":
        return mp4_layout(path).missing_bytes
    if family not in {"matroska", "avi"}:
        return 0
    size_bytes = path.stat().st_size
    start = parts_of(path, family)[-1].start
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if family == "avi":
            end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        else:
            end = _body_end(data, start, family)
    return max(0, end - size_bytes)


def _between(starts: list[int]) -> list[Part]:
    starts = starts[: MAX_PARTS + 1]
    stops = [*starts[1:], None]
    return [Part(a, b) for a, b in zip(starts, stops, strict=True)][:MAX_PARTS]


def _programme_parts(path: Path) -> list[Part]:
    with path.open("rb") as handle:
        geometry = find_geometry(handle.read(1 << 16))
    if geometry is None:
        return [Part()]
    changes = programme_changes(path, geometry)[:MAX_PARTS]
    starts = [0, *(begin for _, begin in changes)]
    stops = [*(table for table, _ in changes), None]
    return [Part(a, b) for a, b in zip(starts, stops, strict=True)]


def _header_starts(path: Path, family: str) -> Iterator[int]:
    """Offsets of a family's file headers; those within a body of known length are its own matter."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield 0
        at = _body_end(data, 0, family)
        while found := _HEADERS[family].search(data, at):
            yield found.start()
            at = _body_end(data, found.start(), family)


def _body_end(data: mmap.mmap, start: int, family: str) -> int:
    """First byte that may belong to another recording."""
    if family == "avi":
        return start + 12  # its length is often wrong: recorders that died leave 0
    if family != "matroska":
        return start + 13
    body = data.find(_SEGMENT, start, start + 4096)
    if body < 0:
        return start + 4
    first = data[body + 4]
    width = 9 - first.bit_length() if first else 0
    size = int.from_bytes(data[body + 4 : body + 4 + width], "big") & ((1 << 7 * width) - 1)
    is_unknown = not width or size == (1 << 7 * width) - 1
    return body + 4 + width + (0 if is_unknown else size)
