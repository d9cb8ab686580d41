"""What the packets of a source say before anything is decoded: its clocks, and where they break.

A live recording that was connected again starts its clock anew, for pictures and sound at different
places of the file. Each such *epoch* has its own clock; epochs follow each other on the source's clock. Where
pictures and sound do not jump together nobody knows what belongs to what: the rest is not used.
"""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from schemas.clock import FPS
from schemas.errors import DecodeError
from stages.kit.arrays import F64, I64
from stages.kit.media_errors import guarded
from stages.source.opening import UnfinishedError, open_part, packets
from stages.source.parts import Part

_JUMPING = {"mpegts": 0.1, "mpegps": 0.1, "flv": 0.1, "matroska": 1.0}
"""Families whose clock may jump, and by how many seconds back it must (matroska has no decoding times)."""
_WRAPPING = {"mpegts": 1 << 33, "mpegps": 1 << 33}
_AHEAD_S = 2.0
_MAX_PAUSE_S = 3600.0
_SAME_S = 1.0
"""Pictures and sound of one recording end, and begin, within this."""
_MIN_LONE_S = 0.5
_NEAR_S = 10.0
_OUTLIER_REACH = 5
_REORDER_FRAMES = 48
_SHOWN_REACH = 8
"""Packets by which times of display jump about in the order of decoding."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One run of a clock: container second ``origin_s`` is second ``start_s`` of the source."""

    origin_s: float
    start_s: float
    stop_s: float
    first_frame: int


@dataclass(frozen=True)
class PartIndex:
    """Where epochs begin in a part, as ordinals of the packets of each stream.

    Args:
        video_starts, audio_starts: First packet of each epoch.
        video_stop, audio_stop: The first packet that is not used.
        video_clock_s: Clock of each video packet, in seconds, unwrapped.
        step_s: Usual time from picture to picture.
        wrap_ticks: The clock starts again at 0 after so many ticks; 0 where it does not.
        audio_stream: Index in the container; None without sound that can be decoded.
        has_keys: Some packets say that they are key frames.
        audio_id: The container's own number of it, a PID in MPEG streams.
        uses_dts: Presentation times are only decoding times: pictures are shown as they come out.
        stop_reason: Why the rest is not used.
    """

    video_starts: tuple[int, ...]
    audio_starts: tuple[int, ...]
    video_stop: int
    audio_stop: int
    video_clock_s: F64
    step_s: float
    wrap_ticks: int
    audio_stream: int | None
    audio_id: int | None
    uses_dts: bool
    has_keys: bool = True
    stop_reason: str = ""

    def clock_of(self, ordinal: int | None, epoch: int) -> float:
        """Container second of a packet; of the epoch's first one where it is not known."""
        return float(self.video_clock_s[self.video_starts[epoch] if ordinal is None else ordinal])

    def shown_s(self, pts: int | None, tick_s: float, ordinal: int | None, epoch: int) -> float:
        """Container second at which a packet is shown."""
        near_s = self.clock_of(ordinal, epoch)
        return near_s if pts is None else tick_s * nearest(pts, near_s / tick_s, self.wrap_ticks)

    def is_outlier(self, clock_s: float, ordinal: int | None) -> bool:
        """True for a time that the packets around it contradict."""
        if ordinal is None:
            return False
        first = max(0, ordinal - _OUTLIER_REACH)
        others = np.delete(self.video_clock_s[first : ordinal + _OUTLIER_REACH], ordinal - first)
        return len(others) > 0 and bool(np.abs(others - clock_s).min() > _NEAR_S)

    @property
    def seconds(self) -> float:
        """How much video the part has."""
        return len(self.video_clock_s) * self.step_s

    @property
    def unused_s(self) -> float:
        """Seconds of pictures behind ``video_stop``."""
        return (len(self.video_clock_s) - self.video_stop) * self.step_s


@dataclass
class PlannedPart:
    """A part that is read, and the epochs that the pictures turned out to have, by number."""

    part: Part
    index: PartIndex
    epochs: dict[int, Epoch] = field(default_factory=dict)


@dataclass
class _Track:
    """The packets of one stream: where they stand in the file and what their clock says."""

    orders: array[int] = field(default_factory=lambda: array("q"))
    ticks: array[float] = field(default_factory=lambda: array("d"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    """Ordinals of key packets."""
    tick_s: float = 1.0

    is_shown_in_order: bool = True
    """No packet is shown before one that stands in front of it."""
    _last_pts: int | None = None

    def add(self, order: int, packet: Packet[Any], *, by_pts: bool) -> None:
        pts, dts = packet.pts, packet.dts
        ticks = (dts, pts)[by_pts] if (dts, pts)[by_pts] is not None else (pts, dts)[by_pts]
        if packet.is_keyframe:
            self.keys.append(len(self.orders))
        if pts is not None and self._last_pts is not None and pts <= self._last_pts:
            self.is_shown_in_order = False
        self._last_pts = pts if pts is not None else self._last_pts
        self.orders.append(order)
        self.ticks.append(float("nan") if ticks is None else ticks)

    def clock(self, wrap_ticks: int, near_s: float | None) -> F64:
        """Seconds per packet: gaps filled, run over unwrapped, lone outliers smoothed out."""
        ticks = np.asarray(self.ticks, np.float64)
        known = np.flatnonzero(~np.isnan(ticks))
        if not len(known):
            return np.zeros(len(ticks))
        filled = ticks[
            known[np.clip(np.searchsorted(known, np.arange(len(ticks)), "right") - 1, 0, None)]
        ]
        if wrap_ticks:
            first = (
                filled[0]
                if near_s is None
                else nearest(filled[0], near_s / self.tick_s, wrap_ticks)
            )
            filled = first + np.concatenate([[0], np.cumsum(_wrapped(np.diff(filled), wrap_ticks))])
        return filled * self.tick_s


def nearest(ticks: float, near: float, wrap_ticks: int) -> float:
    """The reading of a clock that starts again every ``wrap_ticks`` which lies nearest to another.

    >>> nearest(5, 98, 100)
    105.0
    """
    return near + float(_wrapped(np.float64(ticks - near), wrap_ticks)) if wrap_ticks else ticks


def _wrapped(steps: F64 | np.float64, wrap_ticks: int) -> F64:
    return np.asarray((steps + wrap_ticks / 2) % wrap_ticks - wrap_ticks / 2)


def without_outliers(clock: F64, reach: int) -> F64:
    """Replace runs of at most ``reach`` readings that are off by seconds, by their neighbours' median.

    >>> without_outliers(np.array([0, 1, 90, 3, 4.0]), 2).tolist()
    [0.0, 1.0, 3.0, 3.0, 4.0]
    """
    if len(clock) < 2 * reach + 1:
        return clock
    views = np.lib.stride_tricks.sliding_window_view(clock, 2 * reach + 1)
    smooth = np.concatenate([clock[:reach], np.median(views, axis=1), clock[-reach:]])
    return np.where(np.abs(clock - smooth) > _AHEAD_S, smooth, clock)


def index_part(
    path: Path,
    part: Part,
    family: str,
    video_stream: int,
    max_packets: int,
    audio_id: int | None = None,
) -> PartIndex:
    """Read all packets of a part, without decoding; ``audio_id`` is the sound of the part before.

    Raises:
        DecodeError: ``too_many_frames``, ``audio_unsupported`` and what opening raises.
    """
    with open_part(path, part, family) as container:
        video = container.streams[video_stream]
        assert isinstance(video, VideoStream)
        audio = audio_stream(container, video, audio_id)
        audio_id = None if audio is None else container.streams[audio].id
        streams: list[Stream] = [video, *([] if audio is None else [container.streams[audio]])]
        tracks = _read_tracks(container, streams, family, max_packets)
        reorders = bool(getattr(video.codec_context, "has_b_frames", False))
    pictures, sound = tracks[0], tracks[1] if audio is not None else _Track()
    wrap = _WRAPPING.get(family, 0)
    v = pictures.clock(wrap, None)
    a = sound.clock(wrap, float(v[0]) if len(v) else None)
    steps = np.diff(v)
    breaks = _Breaks([], len(v), len(a))
    if family in _JUMPING:
        breaks = _part_breaks(pictures, v, sound, a, family)
    return PartIndex(
        video_starts=(0, *(i for i, _ in breaks.starts)),
        audio_starts=(0, *(j for _, j in breaks.starts)),
        video_stop=breaks.video_stop,
        audio_stop=breaks.audio_stop,
        video_clock_s=v,
        step_s=float(np.median(steps[steps > 0])) if (steps > 0).any() else 1 / FPS,
        wrap_ticks=wrap,
        audio_stream=audio,
        audio_id=audio_id,
        uses_dts=reorders
        and pictures.is_shown_in_order
        and shows_in_order_of_decoding(path, part, family, video_stream),
        has_keys=len(pictures.keys) > 0,
        stop_reason=breaks.reason,
    )


def _read_tracks(
    container: InputContainer, streams: list[Stream], family: str, max_packets: int
) -> list[_Track]:
    """Note every packet of some streams, the pictures' first."""
    tracks = {s.index: _Track(tick_s=float(s.time_base or 1)) for s in streams}
    num_pictures = 0
    with contextlib.suppress(UnfinishedError):  # decoding comes to the same place and judges it
        for order, packet in enumerate(packets(container, *streams)):
            tracks[packet.stream_index].add(order, packet, by_pts=family == "matroska")
            num_pictures += packet.stream_index == streams[0].index
            if num_pictures > max_packets:
                raise DecodeError("too_many_frames", f"more than {max_packets} packets")
    return [tracks[s.index] for s in streams]


def _part_breaks(pictures: _Track, v: F64, sound: _Track, a: F64, family: str) -> _Breaks:
    by_pts = family == "matroska"
    breaks = find_breaks(
        (without_outliers(v, _SHOWN_REACH if by_pts else 2), np.asarray(pictures.orders)),
        (without_outliers(a, 2), np.asarray(sound.orders)),
        _JUMPING[family],
    )
    if by_pts:
        breaks.starts = [(_snapped(i, pictures.keys), j) for i, j in breaks.starts]
    return breaks


def _snapped(at: int, keys: array[int]) -> int:
    """The key packet nearest to a jump: times of display say only roughly where it is."""
    key = min(keys, key=lambda k: abs(k - at), default=at)
    return key if abs(key - at) <= _SHOWN_REACH else at


def audio_stream(
    container: InputContainer, video: VideoStream, audio_id: int | None = None
) -> int | None:
    """Index of the sound that belongs to a video stream, ``audio_id`` first; None where there is none.

    Raises:
        DecodeError: ``audio_unsupported``: there is sound, but none that can be decoded.
    """
    streams = list(container.streams.audio)
    usable = [
        s for s in streams if s.codec_context is not None and s.codec_context.codec.is_decoder
    ]
    if not streams:
        return None
    if not usable:
        raise DecodeError("audio_unsupported", f"no decoder for {len(streams)} sound streams")
    same = [s for s in usable if audio_id is not None and s.id == audio_id]
    if same:
        return same[0].index
    best = container.streams.best("audio", related=video)
    return best.index if best in usable else usable[0].index


def shows_in_order_of_decoding(path: Path, part: Part, family: str, video_stream: int) -> bool:
    """True where the decoder puts pictures in another order than their times say, as in AVI."""
    last, num_back, num = None, 0, 0
    with open_part(path, part, family) as container:
        stream = container.streams[video_stream]
        assert isinstance(stream, VideoStream)
        stream.codec_context.thread_count = 1
        try:
            for packet in packets(container, stream):
                with guarded("corrupt_frames", "decoding"):
                    frames = packet.decode()
                for frame in frames:
                    num += 1
                    num_back += frame.pts is None or (last is not None and frame.pts <= last)
                    last = frame.pts if frame.pts is not None else last
                if num >= _REORDER_FRAMES:
                    break
        except DecodeError:
            pass  # the reader meets it again and counts it
    return num_back > 1


@dataclass
class _Breaks:
    """First packets of new epochs (video, audio), and where use ends."""

    starts: list[tuple[int, int]]
    video_stop: int
    audio_stop: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Jump:
    """A step of a clock: packet ``at`` stands ``delta_s`` from where it should."""

    at: int
    order: int
    before_s: float
    after_s: float

    @property
    def delta_s(self) -> float:
        return self.after_s - self.before_s


Stations = tuple[F64, I64]
"""Clock in seconds and place in the file, of each packet of a stream."""


def find_breaks(video: Stations, audio: Stations, back_s: float) -> _Breaks:
    """Find where a new epoch begins in both streams, and where they part ways.

    Args:
        video: Of the pictures.
        audio: Of the sound; empty without.
        back_s: A clock that goes back by less only jitters.
    """
    breaks = _Breaks([], len(video[0]), len(audio[0]))
    sound = _jumps(*audio, back_s)
    for jump in _jumps(*video, back_s):
        partner = _partner(jump, sound)
        if partner:
            sound.remove(partner)
        is_new = jump.delta_s < 0 or jump.delta_s > _MAX_PAUSE_S
        if partner or not _is_near(jump, audio):
            first = partner.at if partner else int(np.searchsorted(audio[1], jump.order))
            if is_new:
                breaks.starts.append((jump.at, first))
        elif not _is_harmless(jump, audio):
            _end(breaks, video[1], audio[1], jump.order)
    for jump in sound:
        if not _is_near(jump, video):
            breaks.audio_stop = min(breaks.audio_stop, jump.at)
        elif not _is_harmless(jump, video):
            _end(breaks, video[1], audio[1], jump.order)
    breaks.starts = [s for s in breaks.starts if s[0] < breaks.video_stop]
    return breaks


def _jumps(clock: F64, orders: I64, back_s: float) -> list[_Jump]:
    steps = np.diff(clock)
    found = np.flatnonzero((steps < -back_s) | (steps > _AHEAD_S)) + 1
    return [_Jump(int(i), int(orders[i]), float(clock[i - 1]), float(clock[i])) for i in found]


def _partner(jump: _Jump, others: list[_Jump]) -> _Jump | None:
    """The other stream's jump at about the same moment, of the same size or to the same new clock."""
    fitting = [
        o
        for o in others
        if abs(o.before_s - jump.before_s) <= _NEAR_S
        and min(abs(o.delta_s - jump.delta_s), abs(o.after_s - jump.after_s)) <= _SAME_S
    ]
    return min(fitting, key=lambda o: abs(o.order - jump.order), default=None)


def _is_near(jump: _Jump, other: Stations) -> bool:
    """True where the other stream has packets on both sides of the jump, within ten seconds."""
    clock, orders = other
    at = int(np.searchsorted(orders, jump.order))
    if at == 0 or at == len(orders):
        return False
    return abs(clock[at - 1] - jump.before_s) <= _NEAR_S or abs(clock[at] - jump.after_s) <= _NEAR_S


def _is_harmless(jump: _Jump, other: Stations) -> bool:
    """A lone jump after which both clocks agree: one stream had nothing to say for a while."""
    if -_MIN_LONE_S < jump.delta_s < 0:
        return True
    clock, orders = other
    after = clock[int(np.searchsorted(orders, jump.order))]
    return jump.delta_s > 0 and abs(after - jump.after_s) <= _AHEAD_S + _SAME_S


def _end(breaks: _Breaks, video: I64, audio: I64, order: int) -> None:
    breaks.reason = "clock_jump"
    breaks.video_stop = min(breaks.video_stop, int(np.searchsorted(video, order)))
    breaks.audio_stop = min(breaks.audio_stop, int(np.searchsorted(audio, order)))
