"""Opening hostile files and reading their packets. Only for use inside a child process.

A source may be anything that somebody put into a bucket: a playlist that names other files, a bomb, half
a file. It is opened by address with protocols and containers allow-listed, and read in order, never by
seeking.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from schemas.errors import DecodeError
from stages.kit.media_errors import guarded
from stages.source.containers import mp4_layout
from stages.source.parts import Part

OPEN_OPTIONS = {
    "protocol_whitelist": "file,subfile",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv",
    "correct_ts_overflow": "0",  # it takes a clock that starts again for one that ran over
}


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """What a source may be, checked before and during decoding.

    Args:
        max_frame_pixels: Coded width times height.
        max_frames: Frames of the video stream.
        salvage: Read the whole groups of pictures of a damaged or unfinished file, rather than refuse it.
    """

    max_frame_pixels: int
    max_frames: int
    salvage: bool = False


class UnfinishedError(DecodeError):
    """Reading stopped before the end of the file; code ``truncated``."""


@contextmanager
def open_part(path: Path, part: Part, family: str) -> Iterator[InputContainer]:
    """Open one part of a source.

    Raises:
        DecodeError: ``container_truncated`` or ``container_damaged``.
    """
    try:
        with guarded("container_damaged", family):
            container = av.open(part.address(path), timeout=(30, 60), options=OPEN_OPTIONS)
    except DecodeError as error:
        if family == "mp4" and "moov" not in (layout := mp4_layout(path)).names:
            raise DecodeError(
                "container_truncated", f"no moov atom, {layout.missing_bytes} bytes missing"
            ) from error
        raise
    with container:
        yield container


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Yield the packets of some streams in the order of the file.

    Raises:
        UnfinishedError: Reading stopped before the end.
    """
    source = container.demux(*streams)
    while True:
        try:
            with guarded("truncated", "reading stopped"):
                packet = next(source, None)
        except DecodeError as error:
            if not isinstance(error.__cause__, IndexError):
                raise UnfinishedError(error.code, error.detail) from error
            source = container.demux(*streams)  # a packet of a stream that began late: passed over
            continue
        if packet is None:
            return
        if packet.size or packet.dts is not None:
            yield packet
