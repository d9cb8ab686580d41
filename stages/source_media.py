"""What the child processes of ``probe`` and ``segment`` read from a source: facts, frames, sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from schemas.errors import DecodeError
from stages.media import SAMPLE_RATE_HZ
from stages.source_reader import OPEN_OPTIONS, ReadBudget, VideoReader

Frame = NDArray[np.uint8]


def probe(payload: dict[str, Any]) -> dict[str, Any]:
    """Decode a file to its end once: the fields of ProbeFacet.

    Args:
        payload: ``path``, ``max_pixels``, ``max_frames``.

    Raises:
        DecodeError: See ``stages.source_reader.READER_REASONS``.
    """
    budget = ReadBudget(payload["max_pixels"], payload["max_frames"])
    reader = VideoReader(Path(payload["path"]), budget)
    times: list[float] = []
    size, rotation, aspect = (0, 0), 0, 1.0
    for time_s, frame in reader.frames():
        if not times:
            size, rotation = (frame.width, frame.height), round(frame.rotation) % 360
        times.append(time_s)
    aspect = _pixel_aspect(payload["path"])
    width, height = round(size[0] * aspect), size[1]
    if rotation in {90, 270}:
        width, height = height, width
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else 0.04
    return {
        "container": reader.info["container"], "video_codec": reader.info["video_codec"],
        "pixel_format": reader.info["pixel_format"], "width_px": width, "height_px": height,
        "rotation_deg": rotation, "sample_aspect_ratio": aspect, "num_frames": len(times),
        "duration_s": times[-1] + step, "average_fps": len(times) / (times[-1] + step),
        "is_vfr": bool(len(steps) and (np.abs(steps - step) > 0.25 * step + 0.002).any()),
        **_probe_audio(payload["path"]),
    }  # fmt: skip


def _open(path: str) -> Any:
    return av.open(f"file:{path}", options=dict(OPEN_OPTIONS), timeout=20)


def _pixel_aspect(path: str) -> float:
    with _open(path) as container:
        return float(container.streams.video[0].sample_aspect_ratio or 1) or 1.0


def _probe_audio(path: str) -> dict[str, Any]:
    with _open(path) as container:
        if not container.streams.audio:
            return {"has_audio": False, "audio_sample_rate_hz": 0, "audio_duration_s": 0.0}
        stream = container.streams.audio[0]
        duration = float(stream.duration * stream.time_base) if stream.duration else 0.0
        return {
            "has_audio": True, "audio_sample_rate_hz": int(stream.sample_rate or 0),
            "audio_duration_s": max(duration, 0.0),
        }  # fmt: skip


def frames(path: str, budget: ReadBudget) -> Iterator[tuple[float, Frame]]:
    """Upright RGB frames (H,W,3) u8 with their times in seconds from the first one."""
    for time_s, frame in VideoReader(Path(path), budget).frames():
        image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        turns = round(frame.rotation / 90) % 4
        yield time_s, np.rot90(image, turns) if turns else image


def sound(path: str, budget: ReadBudget) -> NDArray[np.float32] | None:
    """The first audio stream, 16 kHz mono f32, sample 0 at the first video frame; None without one.

    Raises:
        DecodeError: ``audio_damaged``.
    """
    with _open(path) as container:
        if not container.streams.audio:
            return None
    reader = VideoReader(Path(path), budget)
    next(reader.frames())
    with _open(path) as container:
        samples, first_s = _decode_sound(container)
    if samples is None:
        return None
    shift = round((first_s - reader.first_time_s) * SAMPLE_RATE_HZ)
    return np.pad(samples, (shift, 0)) if shift > 0 else samples[-shift:]


def _decode_sound(container: Any) -> tuple[NDArray[np.float32] | None, float]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE_HZ)
    pieces: list[NDArray[np.float32]] = []
    first_s: float | None = None
    try:
        for packet in container.decode(container.streams.audio[0]):
            if first_s is None and packet.time is not None:
                first_s = packet.time
            pieces += [f.to_ndarray()[0] for f in resampler.resample(packet)]
        pieces += [f.to_ndarray()[0] for f in resampler.resample(None)]
    except av.FFmpegError as error:
        raise DecodeError("audio_damaged", str(error)) from error
    if not pieces:
        return None, 0.0
    return np.concatenate(pieces).astype(np.float32), first_s or 0.0
