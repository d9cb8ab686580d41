"""The child's side of ``probe``: decode a source to the end once and say what it holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from schemas.errors import DecodeError
from stages.audio_reader import AudioReader
from stages.geometry import orientation_of
from stages.isolate import clean_text
from stages.source_reader import ReadBudget, VideoReader

_VFR_TOLERANCE = 0.2
_VFR_SHARE = 0.05


def probe_file(payload: dict[str, Any]) -> dict[str, Any]:
    """Decode all of ``payload["path"]``; returns the fields of a ProbeFacet.

    Raises:
        DecodeError: See ``READER_REASONS`` and ``AUDIO_REASONS``.
    """
    path = Path(payload["path"])
    reader = VideoReader(path, ReadBudget(payload["max_frame_pixels"], payload["max_frames"]))
    times: list[float] = []
    orientations = set()
    size = (0, 0)
    for time_s, frame in reader.frames():
        times.append(time_s)
        orientations.add(orientation_of(frame, reader.info["sample_aspect_ratio"]))
        size = (frame.width, frame.height)
    if len(orientations) > 1:
        raise DecodeError("size_changes", f"the picture turns in mid-stream: {orientations}")
    orientation = orientations.pop()
    audio = AudioReader(path)
    for _ in audio.frames():
        pass
    width, height = orientation.display_size(*size)
    return {
        "container": clean_text(reader.info["container"]),
        "video_codec": clean_text(reader.info["video_codec"]),
        "pixel_format": reader.info["pixel_format"],
        "width_px": width,
        "height_px": height,
        "rotation_deg": orientation.rotation_deg,
        "is_mirrored": orientation.is_mirrored,
        "sample_aspect_ratio": orientation.sample_aspect_ratio,
        "num_frames": len(times),
        **timing(times),
        "has_audio": audio.has_stream,
        "audio_sample_rate_hz": audio.sample_rate_hz,
        "audio_duration_s": round(audio.duration_s, 6),
    }


def timing(times: list[float]) -> dict[str, Any]:
    """Duration, average rate and whether the rate varies, from frame times alone.

    The last frame lasts one median step. More than 5 % of steps off the median by more than 20 %
    is a variable rate.

    >>> timing([0.0, 0.04, 0.08])["average_fps"]
    25.0
    """
    steps = [b - a for a, b in pairwise(times)]
    step = median(steps) if steps else 0.04
    off = sum(abs(s - step) > _VFR_TOLERANCE * step for s in steps)
    duration = times[-1] + step
    return {
        "duration_s": round(duration, 6),
        "average_fps": round(len(times) / duration, 6),
        "is_vfr": off > _VFR_SHARE * max(1, len(steps)),
    }
