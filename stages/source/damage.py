"""Which decoded pictures can be trusted after a damaged packet.

What is predicted from a damaged picture looks damaged, and no decoder says so. A picture counts as hurt from
the damaged packet on, in the order of decoding, to the end of its group of pictures (GOP); pictures of the
next group that are shown before its key frame look back into the damaged one and count as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame

_MAX_PLACES = 4096
_DELAY = 4


@dataclass(frozen=True, slots=True)
class _Place:
    ordinal: int
    group: int


@dataclass
class Damage:
    """Follows packets into a decoder and frames out of it."""

    ordinal: int = 0
    pts: int | None = None
    """Of the packet fed last."""
    is_cut: bool = False
    """Another recording cut this one off in its last pictures: they are lost, but no sign of damage."""
    _places: dict[int, _Place] = field(default_factory=dict)
    """By presentation time in ticks: the packet that a frame came from."""
    _group: int = 0
    _key_times: dict[int, int] = field(default_factory=dict)
    _hurt_from: dict[int, int] = field(default_factory=dict)
    """Group: its first damaged packet."""
    _last_hurt: int = -1
    _waits: bool = False

    def feed(self, packet: Packet[Any], ordinal: int) -> None:
        """Note a packet before it is decoded."""
        self.ordinal, self.pts = ordinal, packet.pts
        if packet.is_keyframe:
            self._group += 1
            if packet.pts is not None:
                self._key_times[self._group] = packet.pts
        if packet.pts is not None:
            self._places[packet.pts] = _Place(ordinal, self._group)
        if len(self._places) > _MAX_PLACES:
            for old in list(self._places)[: _MAX_PLACES // 2]:
                del self._places[old]

    def hurt(self, delay: int = 0) -> None:
        """The packet fed last is damaged, or one of ``delay`` before it."""
        first = self.ordinal - delay
        group = self._group
        if any(p.group < group and p.ordinal >= first for p in self._places.values()):
            self._hurt(group - 1, first)
        self._hurt(group, first)

    def _hurt(self, group: int, ordinal: int) -> None:
        self._hurt_from[group] = min(ordinal, self._hurt_from.get(group, ordinal))
        self._last_hurt, self._waits = max(self._last_hurt, ordinal), True

    def ordinal_of(self, frame: VideoFrame) -> int | None:
        """The packet that a frame came from, where its time tells."""
        place = self._places.get(frame.pts) if frame.pts is not None else None
        return place.ordinal if place else None

    def begin_blind(self) -> None:
        """Packets before the first key frame were passed over: what looks back at them is hurt."""
        self._hurt_from[0] = -1

    def is_hurt(self, frame: VideoFrame) -> bool:
        """True where a frame cannot be trusted, as far as is known when it comes out."""
        place = self._places.get(frame.pts) if frame.pts is not None else None
        if place is None:
            return self._is_hurt_by_order(frame)
        if frame.is_corrupt:
            self._hurt(place.group, place.ordinal)
        return self.turned_out_hurt(frame)

    def turned_out_hurt(self, frame: VideoFrame) -> bool:
        """The same with what came out since: damage before it in the order of decoding."""
        place = self._places.get(frame.pts) if frame.pts is not None else None
        if place is None:
            return False
        begins = self._hurt_from.get(place.group)
        if begins is not None and place.ordinal >= begins:
            return True
        key_time = self._key_times.get(place.group)
        leads = key_time is not None and frame.pts is not None and frame.pts < key_time
        return leads and place.group - 1 in self._hurt_from

    def _is_hurt_by_order(self, frame: VideoFrame) -> bool:
        """Without times: nothing until a key frame well behind the damage has come out."""
        if frame.is_corrupt:
            self._last_hurt, self._waits = self.ordinal, True
        if frame.key_frame and self.ordinal > self._last_hurt + _DELAY:
            self._waits = False
        return self._waits
