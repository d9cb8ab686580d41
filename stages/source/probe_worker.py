"""The child's side of ``probe``: decode a source to the end once and say what it holds."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from schemas.errors import DecodeError
from stages.kit.isolate import clean_text
from stages.source.audio_reader import sound_of
from stages.source.framing import orientation_of
from stages.source.opening import ReadBudget
from stages.source.video_reader import VideoReader

_VFR_TOLERANCE = 0.2
_VFR_SHARE = 0.05
_PAUSE_S = 0.5
_PAUSE_STEPS = 5


def probe_file(payload: dict[str, Any]) -> dict[str, Any]:
    """Decode all of ``payload["path"]``; returns the fields of a ProbeFacet.

    Raises:
        DecodeError: See ``READER_REASONS`` and ``AUDIO_REASONS``.
    """
    path = Path(payload["path"])
    budget = ReadBudget(
        payload["max_frame_pixels"], payload["max_frames"], payload.get("salvage", False)
    )
    reader = VideoReader(path, budget)
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
    audio = sound_of(reader)
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
        **_books(reader, times),
        "has_audio": audio.has_stream,
        "audio_sample_rate_hz": audio.sample_rate_hz,
        "audio_duration_s": round(audio.duration_s, 6),
        "num_recordings": len(reader.epochs),
        "damaged_share": round(reader.damaged_share, 6),
        "salvage": budget.salvage,
    }


def _books(reader: VideoReader, times: list[float]) -> dict[str, Any]:
    """Timing, and every second that is not used with its reason."""
    facts = timing(times)
    left_out = defaultdict(float, reader.left_out_s)
    step = facts.pop("step_s")
    lost = sorted(reader.lost_s)
    for index in facts.pop("pauses"):
        is_lost = bisect(lost, times[index]) > bisect(lost, times[index - 1])
        reason = "damaged" if is_lost else "pause"
        left_out[reason] += times[index] - times[index - 1] - step
    facts["left_out"] = [
        {"reason": reason, "seconds": round(seconds, 6)}
        for reason, seconds in sorted(left_out.items())
    ]
    return facts


def timing(times: list[float]) -> dict[str, Any]:
    """Duration, average rate and whether the rate varies, from frame times alone.

    The last frame lasts one median step. Steps of more than half a second and five times the median are
    pauses, in which nothing was recorded: they count for nothing. More than 5 % of steps off the median by
    more than 20 % is a variable rate.

    Returns:
        ``duration_s``, ``average_fps``, ``is_vfr``, ``step_s`` (median) and ``pauses``: the frames behind them.

    >>> timing([0.0, 0.04, 0.08])["average_fps"]
    25.0
    """
    steps = [b - a for a, b in pairwise(times)]
    step = median(steps) if steps else 0.04
    pauses = [i for i, s in enumerate(steps, 1) if s > max(_PAUSE_S, _PAUSE_STEPS * step)]
    off = sum(abs(s - step) > _VFR_TOLERANCE * step for s in steps) - len(pauses)
    duration = times[-1] + step - sum(steps[i - 1] - step for i in pauses)
    return {
        "duration_s": round(duration, 6),
        "average_fps": round(len(times) / duration, 6),
        "is_vfr": off > _VFR_SHARE * max(1, len(steps)),
        "step_s": step,
        "pauses": pauses,
    }
