"""The child's side of ``segment``: two passes over a source.

``scan`` looks at every frame (thumbnails, times, margins) and lays the sound on a timeline;
``cut`` decodes again and writes the windows that the parent chose. Both hold a few frames at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from schemas.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from schemas.errors import DecodeError
from stages.kit.arrays import Frames
from stages.kit.borders import profile
from stages.source.audio_reader import Timeline, sound_of
from stages.source.framing import orientation_of
from stages.source.opening import ReadBudget
from stages.source.video_reader import VideoReader, thumbnail, to_grey, to_rgb

PROFILE_STEP_S = 0.5


def scan(payload: dict[str, Any]) -> dict[str, Any]:
    """Look at all frames of ``path``.

    Writes into ``folder``: ``thumbnails.u8`` (N,h,w,3), ``times.f64`` (N,), ``profiles.u8``
    (P, bytes of one ``borders.Profile``) of the upright picture, ``audio.i16``.

    Returns:
        ``num_frames``, ``upright_size``, ``sample_aspect_ratio``, ``profile_frames`` (P,),
        ``has_audio``, ``breaks``: frames that begin another recording.

    Raises:
        DecodeError: The source cannot be read truthfully.
    """
    folder, (width, height) = Path(payload["folder"]), payload["thumbnail_size"]
    reader = _reader(payload)
    times: list[float] = []
    profile_frames: list[int] = []
    next_profile_s = 0.0
    orientation, size = None, (0, 0)
    with (
        (folder / "thumbnails.u8").open("wb") as thumbs,
        (folder / "profiles.u8").open("wb") as sides,
    ):
        for time_s, frame in reader.frames():
            orientation = orientation or orientation_of(frame, reader.info["sample_aspect_ratio"])
            size = (frame.width, frame.height)
            thumbs.write(thumbnail(frame, width, height).tobytes())
            if time_s >= next_profile_s:
                found = profile(orientation.upright(to_grey(frame)))
                for part in (found.rows, found.columns, found.small):
                    sides.write(part.tobytes())
                profile_frames.append(len(times))
                next_profile_s = time_s + PROFILE_STEP_S
            times.append(time_s)
    assert orientation is not None
    np.asarray(times, np.float64).tofile(folder / "times.f64")
    audio = sound_of(reader)
    timeline = Timeline(folder / "audio.i16", int((times[-1] + 1) * SAMPLE_RATE_HZ))
    timeline.fill(audio)
    return {
        "num_frames": len(times),
        "upright_size": orientation.upright_size(*size),
        "sample_aspect_ratio": orientation.sample_aspect_ratio,
        "profile_frames": profile_frames,
        "has_audio": audio.has_stream,
        "breaks": reader.breaks,
    }


def cut(payload: dict[str, Any]) -> dict[str, Any]:
    """Write the chosen windows of ``path`` into ``folder``.

    Each of ``windows`` has ``name``, ``frames`` (source frame per clip frame), ``crop``
    [left, top, right, bottom] of the upright picture, ``size`` [width, height], ``first_tick``.
    Writes ``<name>.mp4`` and, with ``has_audio``, ``<name>.wav``.

    Raises:
        DecodeError: ``decode_unstable`` where this pass saw fewer frames than ``scan``.
    """
    from stages.kit import media

    folder = Path(payload["folder"])
    timeline = Timeline(folder / "audio.i16", 0)
    written = 0
    for window, frames in _window_frames(payload):
        media.write_video(folder / f"{window['name']}.mp4", frames, crf=payload["crf"])
        if payload["has_audio"]:
            start = window["first_tick"] * SAMPLES_PER_FRAME
            stop = start + len(frames) * SAMPLES_PER_FRAME
            media.write_wav(folder / f"{window['name']}.wav", timeline.window(start, stop))
        written += 1
    if written != len(payload["windows"]):
        raise DecodeError(
            "decode_unstable", f"{written} of {len(payload['windows'])} windows written"
        )
    return {"num_written": written}


def _window_frames(payload: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Frames]]:
    """Yield each window with its resized frames (T,H,W,3), in order of their ends.

    Windows overlap by their context: a frame is resized once and shared by the windows that need it.
    """
    pending = sorted(payload["windows"], key=lambda w: (w["frames"][-1], w["frames"][0]))
    needed: dict[int, list[dict[str, Any]]] = {}
    for window in pending:
        for index in set(window["frames"]):
            needed.setdefault(index, []).append(window)
    reader = _reader(payload)
    resized: dict[tuple[int, str], Frames] = {}
    for index, (_, frame) in enumerate(reader.frames()):
        for window in needed.pop(index, ()):
            key = (index, _look(window))
            if key not in resized:
                upright = orientation_of(frame, 1).upright(to_rgb(frame))
                resized[key] = _resize(upright, window["crop"], window["size"])
        while pending and pending[0]["frames"][-1] == index:
            window = pending.pop(0)
            yield window, np.stack([resized[i, _look(window)] for i in window["frames"]])
            first = min((w["frames"][0] for w in pending), default=index + 1)
            resized = {k: v for k, v in resized.items() if k[0] >= first}
        if not pending:
            return


def _look(window: dict[str, Any]) -> str:
    return f"{window['crop']}{window['size']}"


def _resize(picture: Frames, crop: list[int], size: list[int]) -> Frames:
    import cv2

    cv2.setNumThreads(1)
    left, top, right, bottom = crop
    inner = np.ascontiguousarray(picture[top:bottom, left:right])
    width, height = size
    shrinks = width <= right - left and height <= bottom - top
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(inner, (width, height), interpolation=method), np.uint8)


def _reader(payload: dict[str, Any]) -> VideoReader:
    budget = ReadBudget(
        payload["max_frame_pixels"], payload["max_frames"], payload.get("salvage", False)
    )
    return VideoReader(Path(payload["path"]), budget)
