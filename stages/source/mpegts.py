"""MPEG transport streams by their packets: where they begin, and where their programme changes.

ffmpeg reads the pictures; it does not tell of streams that appear later under new numbers (PIDs), as
at an advertisement or when an encoder was started again. The tables in the stream say where that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.kit.arrays import U8

_SYNC = 0x47
_SIZES = ((188, 0), (192, 4), (204, 0))
"""(packet size, place of the sync byte): plain, with the time code of cameras, with error correction."""
_MIN_MARKS = 5
_CHUNK_BYTES = 1 << 24
_MEDIA_TYPES = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24, 0x33, 0x03, 0x04, 0x0F, 0x11, 0x81, 0x87})
"""Stream types of pictures and sound; private ones (0x06) are told by their descriptors."""
_PRIVATE_SOUND = frozenset({0x6A, 0x7A, 0x7B, 0x7C})


@dataclass(frozen=True, slots=True)
class Geometry:
    """How packets lie in a file."""

    size_bytes: int
    sync_offset: int
    """Of the sync byte in a packet."""
    first: int
    """Where the first whole packet begins."""


def find_geometry(head: bytes) -> Geometry | None:
    """Find packets in the first bytes of a file, which may begin within one; None if there are none.

    >>> find_geometry(bytes(50) + (b"G" + bytes(187)) * 5).first
    50
    """
    data = np.frombuffer(head, np.uint8)
    for size, offset in _SIZES:
        marks = data[offset::size][:4]
        if len(marks) >= 2 and (marks == _SYNC).all():
            return Geometry(size, offset, 0)
    for size, offset in _SIZES:
        count = len(data) - (_MIN_MARKS - 1) * size
        if count <= 0:
            continue
        hits = np.ones(count, np.bool_)
        for i in range(_MIN_MARKS):
            hits &= data[i * size : i * size + count] == _SYNC
        found = np.flatnonzero(hits[offset:])
        if len(found):
            return Geometry(size, offset, int(found[0]))
    return None


def programme_changes(path: Path, geometry: Geometry) -> list[tuple[int, int]]:
    """Where pictures or sound go on under other PIDs.

    Returns:
        (byte offset of the table that says so, offset of the list of programmes before it) each: what
        comes before the first belongs to the old streams, a reader of the new ones begins at the second.
    """
    tables = _Tables()
    found = []
    for base, packets in _packets(path, geometry):
        at = 0
        while at < len(packets):
            pids = ((packets[at:, 1] & 0x1F).astype(np.int32) << 8) | packets[at:, 2]
            rows = at + np.flatnonzero(np.isin(pids, [0, *tables.map_pids]))
            at = len(packets)
            for row in rows:
                offset = base + int(row) * geometry.size_bytes
                if tables.feed(packets[row].tobytes(), offset):
                    at = int(row) + 1
                    break
            if tables.take_break():
                found.append((base + (at - 1) * geometry.size_bytes, tables.list_offset))
    return found


def _packets(path: Path, geometry: Geometry) -> Iterator[tuple[int, U8]]:
    """Yield (offset of the first, packets from the sync byte on (N, size)); finds the beat again when lost."""
    size, skip = geometry.size_bytes, geometry.sync_offset
    at, rest = geometry.first, b""
    with path.open("rb") as handle:
        handle.seek(at)
        while data := handle.read(_CHUNK_BYTES):
            rest += data
            while len(rest) >= 2 * size:
                view = np.frombuffer(rest, np.uint8)
                rows = view[: len(view) // size * size].reshape(-1, size)
                bad = np.flatnonzero(rows[:, skip] != _SYNC)
                num = int(bad[0]) if len(bad) else len(rows)
                if num:
                    yield at, np.roll(rows[:num], -skip, axis=1) if skip else rows[:num]
                used = num * size
                if len(bad):
                    found = find_geometry(rest[used : used + (1 << 16)])
                    lost = found.first if found and found.size_bytes == size else 0
                    used = used + lost if lost else min(len(rest), used + (1 << 16))
                rest, at = rest[used:], at + used


@dataclass
class _Tables:
    """What the programme tables have said so far."""

    map_pids: dict[int, int] = field(default_factory=dict)
    """PID of a programme map: its programme."""
    carried: dict[int, frozenset[tuple[int, int]]] = field(default_factory=dict)
    """Programme: (PID, type) of its pictures and sound."""
    list_offset: int = 0
    """Where the list of programmes stood last."""
    _partial: dict[int, bytes] = field(default_factory=dict)
    _broke: bool = False

    def take_break(self) -> bool:
        """True once after streams that were carried went away or became something else."""
        broke, self._broke = self._broke, False
        return broke

    def feed(self, packet: bytes, offset: int) -> bool:
        """Take in one packet of a table; True where it changes what is known."""
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        if pid == 0 and packet[1] & 0x40:
            self.list_offset = offset
        section = self._section(pid, packet)
        if section is None:
            return False
        if pid == 0 and section[0] == 0:
            return self._association(section)
        if pid in self.map_pids and section[0] == 2:
            return self._map(self.map_pids[pid], section)
        return False

    def _section(self, pid: int, packet: bytes) -> bytes | None:
        if not packet[3] & 0x10:
            return None
        at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        payload = packet[at:188]
        if packet[1] & 0x40:
            payload = payload[1 + payload[0] :] if payload else b""
        elif pid in self._partial:
            payload = self._partial.pop(pid) + payload
        else:
            return None
        if len(payload) < 3:
            return None
        length = 3 + ((payload[1] & 0x0F) << 8 | payload[2])
        if len(payload) < length:
            self._partial[pid] = payload
            return None
        return payload[: length - 4]

    def _association(self, section: bytes) -> bool:
        found = {}
        for i in range(8, len(section) - 3, 4):
            programme = section[i] << 8 | section[i + 1]
            if programme:
                found[(section[i + 2] & 0x1F) << 8 | section[i + 3]] = programme
        if not found or found == self.map_pids:
            return False
        self.map_pids = found
        return True

    def _map(self, programme: int, section: bytes) -> bool:
        if len(section) < 12:
            return False
        at = 12 + ((section[10] & 0x0F) << 8 | section[11])
        streams = set()
        while at + 5 <= len(section):
            kind, pid = section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]
            length = (section[at + 3] & 0x0F) << 8 | section[at + 4]
            if kind in _MEDIA_TYPES or (
                kind == 0x06 and section[at + 5 : at + 6] and section[at + 5] in _PRIVATE_SOUND
            ):
                streams.add((pid, kind))
            at += 5 + length
        before, now = self.carried.get(programme), frozenset(streams)
        if not now or now == before:
            return False
        self.carried[programme] = now
        self._broke = self._broke or bool(before and before - now)
        return True
