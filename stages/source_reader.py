"""Opening and decoding hostile video files. Only for use inside a child process.

A source may be anything that somebody put into a bucket: a playlist that names other files, a bomb, half
a file. It is opened by path with a ``file:`` prefix, with protocols and containers allow-listed, and
read in order, never by seeking. Times are seconds on the source's clock: 0 is the first good frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from schemas.errors import DecodeError
from stages.containers import mp4_layout, sniff_file
from stages.dolby_vision import refuse_dolby_vision_records
from stages.frame_marks import refuse_hdr_frame, refuse_hdr_tag, refuse_tagged_hdr

OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts",
}
READER_REASONS = frozenset({
    "empty_file", "not_video", "container_truncated", "container_damaged", "no_video_stream",
    "codec_unsupported", "too_large", "too_many_frames", "truncated", "corrupt_frames",
    "no_frames", "bad_timestamps", "size_changes", "unsupported_hdr", "interlaced", "has_alpha",
    "skewed_display",
})  # fmt: skip
"""Every DecodeError code of this module, and of ``geometry.orientation_of`` on its frames."""

_UNTAGGED = {2, 3}  # unspecified, reserved
_HD_WIDTH_PX, _SD_HEIGHT_PX = 1280, 576
_MAX_BAD_SHARE = 0.01
_MIN_BAD_PACKETS = 3
_THREADS = 2


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """What a source may be, checked before and during decoding.

    Args:
        max_frame_pixels: Coded width times height.
        max_frames: Frames of the video stream.
    """

    max_frame_pixels: int
    max_frames: int


@contextmanager
def open_source(path: Path, budget: ReadBudget) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a source and pick its video stream, refusing what cannot be read truthfully.

    Raises:
        DecodeError: See ``READER_REASONS``.
    """
    family = sniff_file(path)
    try:
        container = av.open(f"file:{path}", timeout=(30, 60), options=OPEN_OPTIONS)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise _open_error(path, family, error) from error
    with container:
        refuse_dolby_vision_records(path, family)
        yield container, _video_stream(container, budget)


def _open_error(path: Path, family: str, error: Exception) -> DecodeError:
    if family == "mp4" and "moov" not in (layout := mp4_layout(path)).names:
        return DecodeError(
            "container_truncated", f"no moov atom, {layout.missing_bytes} bytes missing"
        )
    reason = getattr(error, "strerror", None) or type(error).__name__
    return DecodeError("container_damaged", f"{family}: {reason}")


def _video_stream(container: InputContainer, budget: ReadBudget) -> VideoStream:
    streams = [
        s
        for s in container.streams.video
        if "attached_pic" not in (s.disposition.name or "").lower()
    ]
    if not streams:
        raise DecodeError("no_video_stream", f"streams: {[s.type for s in container.streams][:16]}")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None or not context.codec.is_decoder or context.pix_fmt is None:
        raise DecodeError("codec_unsupported", f"no decoder or pixel format for {stream!r}")
    width = max(context.width, context.coded_width)
    height = max(context.height, context.coded_height)
    if width <= 0 or height <= 0:
        raise DecodeError("container_damaged", f"video size {width}x{height}")
    if width * height > budget.max_frame_pixels:
        raise DecodeError(
            "too_large", f"{width}x{height}, at most {budget.max_frame_pixels} pixels"
        )
    declared = declared_frames(stream)
    if declared > budget.max_frames:
        raise DecodeError("too_many_frames", f"{declared} declared, at most {budget.max_frames}")
    if has_alpha(stream):
        raise DecodeError("has_alpha", f"{context.pix_fmt}: the transparent part would be lost")
    refuse_tagged_hdr(int(context.color_trc or 0), int(context.color_primaries or 0))
    refuse_hdr_tag(context.codec_tag)
    context.thread_type = "AUTO"
    context.thread_count = _THREADS
    return stream


def declared_frames(stream: VideoStream) -> int:
    """Frame count that the container claims, 0 if it claims none."""
    if stream.frames:
        return int(stream.frames)
    rate, duration = stream.average_rate, stream.duration
    if not rate or not duration or stream.time_base is None:
        return 0
    return int(duration * stream.time_base * rate)


def has_alpha(stream: VideoStream) -> bool:
    """True where the picture has transparency; VP8/VP9 hide it in a side stream with a tag."""
    tagged = str(stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE", "0"))) == "1"
    pixels = stream.codec_context.format
    return tagged or (pixels is not None and any(c.is_alpha for c in pixels.components))


def to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Convert a frame to (H,W,3) u8 RGB by its own matrix; untagged ones by the usual rule of players."""
    rgb = frame.reformat(format="rgb24", src_colorspace=_matrix(frame), threads=1)
    return np.asarray(rgb.to_ndarray(), np.uint8)


def thumbnail(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """Convert a frame to (height,width,3) u8 RGB, not turned."""
    small = frame.reformat(
        width, height, "rgb24", src_colorspace=_matrix(frame), interpolation="AREA", threads=1
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def to_grey(frame: VideoFrame) -> NDArray[np.uint8]:
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
class VideoReader:
    """Iterates the good frames of a source in display order.

    A frame counts as good if it decoded without damage and its time is later than the one before.
    After a damaged packet or picture, frames are skipped up to the next key frame: a gap in time.

    Attributes:
        num_frames, num_bad_packets, num_bad_times, num_interlaced: Counted while reading.
    """

    path: Path
    budget: ReadBudget
    num_frames: int = 0
    num_bad_packets: int = 0
    num_bad_frames: int = 0
    num_bad_times: int = 0
    num_interlaced: int = 0
    first_time_s: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)

    def frames(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds since the first good frame, frame), in order.

        Raises:
            DecodeError: See ``READER_REASONS``.
        """
        with open_source(self.path, self.budget) as (container, stream):
            self.info = _describe(container, stream)
            yield from self._good_frames(container, stream)
        self._judge()

    def _good_frames(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[float, VideoFrame]]:
        size: tuple[int, int] | None = None
        last_s = float("-inf")
        waits_for_key = False
        for frame, is_after_damage in self._decode(container, stream):
            waits_for_key = (waits_for_key or is_after_damage) and not frame.key_frame
            if waits_for_key or frame.is_corrupt:
                waits_for_key = True  # what is predicted from a damaged picture looks damaged
                self.num_bad_frames += 1
                continue
            if frame.pts is None or frame.time_base is None:
                self.num_bad_times += 1
                continue
            time_s = float(frame.pts * frame.time_base)
            if time_s <= last_s:
                self.num_bad_times += 1
                continue
            self._check_frame(frame, size)
            if size is None:
                size, self.first_time_s = (frame.width, frame.height), time_s
            last_s = time_s
            self.num_frames += 1
            yield time_s - self.first_time_s, frame

    def _check_frame(self, frame: VideoFrame, size: tuple[int, int] | None) -> None:
        if frame.width * frame.height > self.budget.max_frame_pixels:
            raise DecodeError("too_large", f"{frame.width}x{frame.height} in mid-stream")
        if size not in {None, (frame.width, frame.height)}:
            raise DecodeError("size_changes", f"{size} to {(frame.width, frame.height)}")
        if self.num_frames >= self.budget.max_frames:
            raise DecodeError("too_many_frames", f"more than {self.budget.max_frames}")
        refuse_hdr_frame(frame)
        self.num_interlaced += bool(frame.interlaced_frame)

    def _decode(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[VideoFrame, bool]]:
        """Decode packet by packet; yields (frame, True for the first one after a bad packet)."""
        is_damaged = False
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise self._broken(f"reading stopped: {error.strerror}") from error
            if packet is None:
                return
            if packet.is_corrupt:  # the container says that bytes are missing
                self.num_bad_packets += 1
                is_damaged = True
                if not packet.is_keyframe:
                    continue
            try:
                frames = packet.decode()
            except av.error.MemoryError as error:
                raise MemoryError(str(error)) from error
            except av.FFmpegError:
                self.num_bad_packets += 1
                is_damaged = True
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                yield frame, is_damaged
                is_damaged = False

    def _broken(self, detail: str) -> DecodeError:
        expected = self.info.get("declared_frames", 0)
        return DecodeError("truncated", f"frames_ok={self.num_frames}, {expected=}; {detail}")

    def _judge(self) -> None:
        """Judge the whole file once it was read to the end."""
        bad = self.num_bad_packets + self.num_bad_frames
        missing = mp4_layout(self.path).missing_bytes if self.info["family"] == "mp4" else 0
        if missing:
            raise self._broken(f"the file ends {missing} bytes early")
        if self.num_frames == 0:
            raise DecodeError("no_frames", f"{bad} damaged, {self.num_bad_times} without a time")
        share = bad / (self.num_frames + bad)
        if bad >= _MIN_BAD_PACKETS and share > _MAX_BAD_SHARE:
            raise DecodeError("corrupt_frames", f"{bad} of {self.num_frames + bad} damaged")
        if self.num_bad_times > _MIN_BAD_PACKETS and self.num_bad_times > 0.1 * self.num_frames:
            raise DecodeError("bad_timestamps", f"{self.num_bad_times} repeated or missing times")
        if self.num_interlaced > 0.1 * self.num_frames:
            raise DecodeError(
                "interlaced",
                f"{self.num_interlaced} of {self.num_frames} frames; deinterlace first",
            )


def _describe(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    context = stream.codec_context
    return {
        "family": sniff_file(Path(container.name.removeprefix("file:"))),
        "container": container.format.name,
        "video_codec": context.name,
        "pixel_format": str(context.pix_fmt),
        "declared_frames": declared_frames(stream),
        "sample_aspect_ratio": float(stream.sample_aspect_ratio or 1),
    }
