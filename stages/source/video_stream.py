"""Which stream of a source is its picture, and whether it can be read truthfully."""

from __future__ import annotations

from typing import Any

from av.container import InputContainer
from av.video.stream import VideoStream

from schemas.errors import DecodeError
from stages.source.frame_marks import refuse_hdr_tag, refuse_tagged_hdr
from stages.source.opening import ReadBudget

DECODER_THREADS = 2


def video_stream(container: InputContainer, budget: ReadBudget) -> VideoStream:
    """Pick the video stream, refusing what cannot be read truthfully.

    Raises:
        DecodeError: What is wrong with it, by the header alone.
    """
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
    context.thread_count = DECODER_THREADS
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


def describe(container: InputContainer, stream: VideoStream, family: str) -> dict[str, Any]:
    """Facts of the header."""
    context = stream.codec_context
    ratio = float(stream.sample_aspect_ratio or 1)
    return {
        "family": family,
        "container": container.format.name,
        "video_codec": context.name,
        "pixel_format": str(context.pix_fmt),
        "declared_frames": declared_frames(stream),
        "sample_aspect_ratio": ratio,
        "shape": (context.width, context.height, ratio),
    }
