"""Decoding hostile video files. Only for use inside a child process.

Times are seconds on the source's clock: 0 is the first good frame, and epochs (stages/source/packet_index.py)
follow each other without a gap.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from schemas.errors import DecodeError
from stages.kit.arrays import Grey, Image
from stages.kit.media_errors import guarded
from stages.source.containers import sniff_file
from stages.source.damage import Damage
from stages.source.dolby_vision import refuse_dolby_vision_records
from stages.source.frame_marks import refuse_hdr_frame
from stages.source.opening import ReadBudget, open_part, packets
from stages.source.packet_index import Epoch, PartIndex, PlannedPart, index_part
from stages.source.parts import Part, missing_bytes, parts_of
from stages.source.video_stream import DECODER_THREADS, describe, video_stream

__all__ = ["READER_REASONS", "ReadBudget", "VideoReader", "thumbnail", "to_grey", "to_rgb"]

READER_REASONS = frozenset({
    "empty_file", "not_video", "container_unsupported", "container_truncated", "container_damaged",
    "no_video_stream", "codec_unsupported", "audio_unsupported", "too_large", "too_many_frames",
    "truncated", "corrupt_frames", "no_frames", "bad_timestamps", "size_changes", "unsupported_hdr",
    "interlaced", "has_alpha", "skewed_display",
})  # fmt: skip
"""Every DecodeError code of this module, and of ``geometry.orientation_of`` on its frames."""

_UNTAGGED = {2, 3}  # unspecified, reserved
_HD_WIDTH_PX, _SD_HEIGHT_PX = 1280, 576
_MAX_BAD_SHARE = 0.01
_MIN_BAD_PACKETS = 3
_HOLD_FRAMES = 4
"""Frames are given out so much later: damage of a picture may show only after those predicted from it."""
_FATAL = frozenset({"too_many_frames", "size_changes"})
"""Codes that refuse the source wherever in it they appear; others cost one part of several."""


def to_rgb(frame: VideoFrame) -> Image:
    """Convert a frame to (H,W,3) u8 RGB by its own matrix; untagged ones by the usual rule of players."""
    rgb = frame.reformat(format="rgb24", src_colorspace=_matrix(frame), threads=1)
    return np.asarray(rgb.to_ndarray(), np.uint8)


def thumbnail(frame: VideoFrame, width: int, height: int) -> Image:
    """Convert a frame to (height,width,3) u8 RGB, not turned."""
    small = frame.reformat(
        width, height, "rgb24", src_colorspace=_matrix(frame), interpolation="AREA", threads=1
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def to_grey(frame: VideoFrame) -> Grey:
    """Luma (H,W) u8 in full range."""
    return np.asarray(frame.reformat(format="gray", threads=1).to_ndarray(), np.uint8)


def _matrix(frame: VideoFrame) -> int | None:
    """None where the frame says it itself; else what its stored size says, before any turn."""
    if int(frame.colorspace) not in _UNTAGGED:
        return None
    return int(guess_matrix(frame.width, frame.height))


def guess_matrix(width_px: int, height_px: int) -> Colorspace:
    """Matrix of untagged video as players guess it: SD is at most 576 high and less than 1280 wide.

    >>> guess_matrix(720, 576).name, guess_matrix(480, 832).name
    ('ITU601', 'ITU709')
    """
    is_hd = width_px >= _HD_WIDTH_PX or height_px > _SD_HEIGHT_PX
    return Colorspace.ITU709 if is_hd else Colorspace.ITU601


@dataclass
class _Epoch:
    """Where decoding is."""

    number: int
    has_key: bool
    damage: Damage = field(default_factory=Damage)
    slots_s: list[float] = field(default_factory=list)
    """Heap of the decoding times that no picture has taken yet."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A frame as it comes out of the decoder; ``slot_s`` counts where it has no time of its own."""

    epoch: int
    damage: Damage
    frame: VideoFrame
    slot_s: float | None


@dataclass
class VideoReader:
    """Iterates the good frames of a source in display order.

    A frame counts as good if nothing that it was predicted from is damaged and its time is later than
    the one before. Around damage, and up to the first key frame, there is a gap in time.

    Attributes:
        num_frames, num_bad_packets, num_bad_frames, num_bad_times, num_interlaced: Counted while reading.
        parts: What was read, with the epochs that were found: the sound is laid out by them.
        epochs: All epochs that have frames.
        left_out_s: Seconds of the source that are not given out, by reason.
        lost_s: When damaged pictures would have been shown, on the source's clock.
    """

    path: Path
    budget: ReadBudget
    num_frames: int = 0
    num_bad_packets: int = 0
    num_bad_frames: int = 0
    num_bad_times: int = 0
    num_interlaced: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    parts: list[PlannedPart] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    left_out_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    lost_s: list[float] = field(default_factory=list)
    _size: tuple[int, int] | None = None
    _lost: list[tuple[int, float]] = field(default_factory=list)
    """Epoch and container second of damaged pictures of the part that is read."""
    _tick_s: float = 1.0
    _is_unfinished: bool = False

    @property
    def breaks(self) -> list[int]:
        """Indices of frames that begin another recording: nothing goes on across them."""
        return [e.first_frame for e in self.epochs[1:]]

    @property
    def damaged_share(self) -> float:
        """Share of the pictures that could not be used; of an unfinished file, of those that it promises."""
        known = self.num_frames + self.num_bad_packets + self.num_bad_frames
        if self._is_unfinished:
            known = max(known, self.info["declared_frames"])
        return 1 - self.num_frames / max(known, 1)

    def frames(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds on the source's clock, frame), in order.

        Raises:
            DecodeError: See ``READER_REASONS``.
        """
        family = sniff_file(self.path)
        failure: DecodeError | None = None
        parts = parts_of(self.path, family)
        for part in parts:
            try:
                yield from self._part(part, family)
            except DecodeError as error:
                if len(parts) == 1 or error.code in _FATAL:
                    raise
                failure = failure or error
                self.left_out_s.setdefault(error.code, 0.0)
        if not self.num_frames and failure:
            raise failure
        self._judge()

    def _part(self, part: Part, family: str) -> Iterator[tuple[float, VideoFrame]]:
        with open_part(self.path, part, family) as container:
            refuse_dolby_vision_records(self.path, family)
            with guarded("codec_unsupported", "opening the video stream"):
                stream = video_stream(container, self.budget)
                info = describe(container, stream, family)
                stream.codec_context.open(strict=False)
            audio_id = self.parts[-1].index.audio_id if self.parts else None
            index = index_part(
                self.path, part, family, stream.index, 2 * self.budget.max_frames, audio_id
            )
            self.info = self.info or info
            if info["shape"] != self.info["shape"]:
                self.left_out_s["size_changes"] += index.seconds
                return
            planned, self._tick_s = PlannedPart(part, index), float(stream.time_base or 1)
            self.parts.append(planned)
            yield from self._good_frames(container, stream, planned)
            self._settle_lost(planned)
            if index.stop_reason:
                self.left_out_s[index.stop_reason] += index.unused_s

    def _good_frames(
        self, container: InputContainer, stream: VideoStream, planned: PlannedPart
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Give each epoch of a part its place on the source's clock."""
        index, number, origin_s, time_s = planned.index, -1, 0.0, 0.0
        start_s = self.epochs[-1].stop_s if self.epochs else 0.0
        first, last_s = 0, float("-inf")
        try:
            for epoch, clock_s, frame in self._timed(container, stream, index):
                if epoch != number:
                    if number >= 0:
                        end_s = time_s + index.step_s
                        self._close(planned, number, Epoch(origin_s, start_s, end_s, first))
                        start_s = end_s
                    number, origin_s, last_s, first = epoch, clock_s, float("-inf"), self.num_frames
                if clock_s <= last_s:
                    self.num_bad_times += 1
                    continue
                self._check_frame(frame)
                last_s = clock_s
                self.num_frames += 1
                time_s = start_s + clock_s - origin_s
                yield time_s, frame
        finally:
            if number >= 0:
                self._close(planned, number, Epoch(origin_s, start_s, time_s + index.step_s, first))

    def _close(self, planned: PlannedPart, number: int, epoch: Epoch) -> None:
        if epoch.first_frame < self.num_frames:
            planned.epochs[number] = epoch
            self.epochs.append(epoch)

    def _settle_lost(self, planned: PlannedPart) -> None:
        """Count damaged pictures that leave no gap: before, behind or without a good one of their epoch."""
        for number, clock_s in self._lost:
            epoch = planned.epochs.get(number)
            time_s = clock_s - epoch.origin_s + epoch.start_s if epoch else 0.0
            if epoch and epoch.start_s <= time_s < epoch.stop_s:
                self.lost_s.append(time_s)
            else:
                self.left_out_s["damaged"] += planned.index.step_s
        self._lost = []

    def _timed(
        self, container: InputContainer, stream: VideoStream, index: PartIndex
    ) -> Iterator[tuple[int, float, VideoFrame]]:
        """Yield (epoch, seconds on the container's clock, frame) of the frames that can be trusted."""
        for item in self._trusted(container, stream, index):
            epoch, frame = item.epoch, item.frame
            ordinal = item.damage.ordinal_of(frame)
            clock_s = index.shown_s(frame.pts, self._tick_s, ordinal, epoch)
            if index.uses_dts:
                is_good = item.slot_s is not None
                clock_s = item.slot_s or 0.0
            else:
                is_good = frame.pts is not None and not index.is_outlier(clock_s, ordinal)
            if is_good:
                yield epoch, clock_s, frame
            else:
                self.num_bad_times += 1

    def _trusted(
        self, container: InputContainer, stream: VideoStream, index: PartIndex
    ) -> Iterator[_Decoded]:
        """Hold frames back until what they were predicted from is known, then drop the hurt ones."""
        held: deque[_Decoded] = deque()
        for item in self._decode(container, stream, index):
            if item is not None and item.damage.is_hurt(item.frame):
                self._lose_frame(item, index)
            elif item is not None:
                held.append(item)
            while held and (item is None or len(held) > _HOLD_FRAMES):
                oldest = held.popleft()
                if oldest.damage.turned_out_hurt(oldest.frame):
                    self._lose_frame(oldest, index)
                else:
                    yield oldest

    def _decode(
        self, container: InputContainer, stream: VideoStream, index: PartIndex
    ) -> Iterator[_Decoded | None]:
        """Decode packet by packet; None where an epoch's frames are complete."""
        state = _Epoch(0, not index.has_keys)
        for ordinal, packet in enumerate(self._until_broken(packets(container, stream))):
            if ordinal >= index.video_stop:
                break
            if ordinal in index.video_starts[1:]:
                yield from self._feed(stream, None, state, index)
                yield None
                stream.codec_context.flush_buffers()
                state = _Epoch(state.number + 1, not index.has_keys)
            state.has_key = state.has_key or packet.is_keyframe
            if (
                not state.has_key
            ):  # a live recording begins anywhere; pictures begin with a key frame
                self.left_out_s["before_key_frame"] += index.step_s
                state.damage.begin_blind()
                continue
            state.damage.feed(packet, ordinal)
            if packet.is_corrupt:  # the container says that bytes are missing
                state.damage.is_cut = bool({ordinal + 1, ordinal + 2} & set(index.video_starts))
                self._lose_packet(state, index)
                if not packet.is_keyframe:
                    continue
            if index.uses_dts and packet.size:
                heappush(state.slots_s, index.clock_of(ordinal, state.number))
            yield from self._feed(stream, packet, state, index)
        yield from self._feed(stream, None, state, index)
        yield None

    def _until_broken(self, source: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        try:
            yield from source
        except DecodeError as error:
            if not self.budget.salvage:
                raise self._broken(error.detail) from error
            self._is_unfinished = True

    def _lose_frame(self, item: _Decoded, index: PartIndex) -> None:
        self.num_bad_frames += not item.damage.is_cut
        ordinal = item.damage.ordinal_of(item.frame)
        at_s = index.shown_s(item.frame.pts, self._tick_s, ordinal, item.epoch)
        self._lost.append((item.epoch, at_s))

    def _lose_packet(self, state: _Epoch, index: PartIndex, delay: int = 0) -> None:
        damage = state.damage
        self.num_bad_packets += not damage.is_cut
        at_s = index.shown_s(damage.pts, self._tick_s, damage.ordinal, state.number)
        self._lost.append((state.number, at_s))
        damage.hurt(delay)

    def _feed(
        self, stream: VideoStream, packet: Packet[Any] | None, state: _Epoch, index: PartIndex
    ) -> Iterator[_Decoded]:
        """Decode one packet, or with None what the decoder still holds."""
        try:
            with guarded("corrupt_frames", "decoding"):
                frames = stream.codec_context.decode(packet)
        except DecodeError:
            if state.slots_s:
                state.slots_s.remove(max(state.slots_s))
                heapify(state.slots_s)
            self._lose_packet(state, index, DECODER_THREADS)
            return
        for frame in frames:
            if isinstance(frame, VideoFrame):
                slot_s = heappop(state.slots_s) if state.slots_s else None
                yield _Decoded(state.number, state.damage, frame, slot_s)

    def _check_frame(self, frame: VideoFrame) -> None:
        if frame.width * frame.height > self.budget.max_frame_pixels:
            raise DecodeError("too_large", f"{frame.width}x{frame.height} in mid-stream")
        size = frame.width, frame.height
        if self._size not in {None, size}:
            raise DecodeError("size_changes", f"{self._size} to {size}")
        self._size = size
        if self.num_frames >= self.budget.max_frames:
            raise DecodeError("too_many_frames", f"more than {self.budget.max_frames}")
        refuse_hdr_frame(frame)
        self.num_interlaced += bool(frame.interlaced_frame)

    def _broken(self, detail: str) -> DecodeError:
        expected = self.info.get("declared_frames", 0)
        return DecodeError("truncated", f"frames_ok={self.num_frames}, {expected=}; {detail}")

    def _judge(self) -> None:
        """Judge the whole file once it was read to the end."""
        bad = self.num_bad_packets + self.num_bad_frames
        family = self.info["family"]
        missing = missing_bytes(self.path, family)
        if missing and family == "mp4" and not self.budget.salvage:
            raise self._broken(f"the file ends {missing} bytes early")
        if missing and self.epochs:  # nobody knows better: as many seconds as bytes
            share = missing / self.path.stat().st_size
            self.left_out_s["truncated"] += share * self.epochs[-1].stop_s
        self._is_unfinished = self._is_unfinished or missing > 0
        if self.num_frames == 0:
            raise DecodeError("no_frames", f"{bad} damaged, {self.num_bad_times} without a time")
        share = bad / (self.num_frames + bad)
        if bad >= _MIN_BAD_PACKETS and share > _MAX_BAD_SHARE and not self.budget.salvage:
            raise DecodeError("corrupt_frames", f"{bad} of {self.num_frames + bad} damaged")
        if self.num_bad_times > _MIN_BAD_PACKETS and self.num_bad_times > 0.1 * self.num_frames:
            raise DecodeError("bad_timestamps", f"{self.num_bad_times} repeated or missing times")
        if self.num_interlaced > 0.1 * self.num_frames:
            raise DecodeError(
                "interlaced",
                f"{self.num_interlaced} of {self.num_frames} frames; deinterlace first",
            )
