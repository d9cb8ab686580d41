"""Cuts one source into clip files. Runs in a child process (stages/isolate.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import DecodeError
from stages import source_media
from stages.clip_windows import FPS, Fit, Window, content_box, fit_frame, plan_windows
from stages.media import SAMPLES_PER_FRAME, write_video, write_wav
from stages.source_reader import ReadBudget

Frame = NDArray[np.uint8]
_BAR_SAMPLE_S = 0.5
_CLIP_CRF = 12


def cut(
    payload: dict[str, Any],
) -> dict[str, Any]:
    """Find shots, place windows, write one mp4 (and wav) per window.

    Args:
        payload: ``path``, ``out_dir``, ``pixel_aspect``, ``duration_s``, ``max_pixels``,
            ``max_frames`` and the fields of SegmentConfig that shape shots and windows.

    Returns:
        ``{"num_shots": n, "clips": [{video, audio, window, shot, fit}]}`` with paths in ``out_dir``.
    """
    path = payload["path"]
    budget = ReadBudget(payload["max_pixels"], payload["max_frames"])
    shots = find_shots(
        path, payload["duration_s"], payload["min_shot_s"], payload["cut_threshold"],
        payload["fade_luma"],
    )  # fmt: skip
    windows = plan_windows(
        shots, num_frames=payload["num_frames"],
        max_motion_frames=payload["max_motion_frames"], stride_frames=payload["stride_frames"],
        max_windows=payload["max_clips_per_source"],
    )  # fmt: skip
    if not windows:
        return {"num_shots": len(shots), "clips": []}
    boxes = measure_content(path, budget, [w.shot_index for w in windows], shots)
    sound = source_media.sound(path, budget)
    choices = tuple((b[0], b[1]) for b in payload["buckets"])
    clips = []
    for index, (window, frames, fit) in enumerate(
        read_windows(path, budget, windows, boxes, payload["pixel_aspect"], choices)
    ):
        base = Path(payload["out_dir"]) / f"clip-{index:05d}"
        video, audio = base.with_suffix(".mp4"), base.with_suffix(".wav")
        write_video(video, frames, fps=FPS, crf=_CLIP_CRF)
        if sound is not None:
            first = window.motion_start * SAMPLES_PER_FRAME
            write_wav(audio, window_of(sound, first, len(frames) * SAMPLES_PER_FRAME))
        clips.append({
            "video": str(video), "audio": str(audio) if sound is not None else None,
            "motion_start": window.motion_start, "start": window.start, "stop": window.stop,
            "shot_index": window.shot_index, "shot_s": shots[window.shot_index],
            "fit": [fit.x0, fit.y0, fit.x1, fit.y1, fit.width_px, fit.height_px],
        })  # fmt: skip
    if len(clips) != len(windows):
        raise DecodeError("truncated", f"{len(clips)} of {len(windows)} windows had their frames")
    return {"num_shots": len(shots), "clips": clips}


def find_shots(
    path: str, duration_s: float, min_shot_s: float, cut_threshold: float, fade_luma: float
) -> list[tuple[float, float]]:
    """Shots between hard cuts and fades, by PySceneDetect, in seconds from the first frame."""
    from scenedetect import ContentDetector, SceneManager, ThresholdDetector
    from scenedetect.backends.pyav import VideoStreamAv

    video = VideoStreamAv(path, threading_mode="AUTO")
    min_frames = max(1, round(min_shot_s * video.frame_rate))
    manager = SceneManager()
    manager.add_detector(ContentDetector(threshold=cut_threshold, min_scene_len=min_frames))
    manager.add_detector(ThresholdDetector(threshold=fade_luma, min_scene_len=min_frames))
    manager.detect_scenes(video)
    cuts = [float(begin.seconds) for begin, _ in manager.get_scene_list()[1:]]
    bounds = [0.0, *(c for c in cuts if 0 < c < duration_s), duration_s]
    return list(itertools.pairwise(bounds))


def measure_content(
    path: str, budget: ReadBudget, shot_indices: list[int], shots: list[tuple[float, float]]
) -> dict[int, tuple[int, int, int, int]]:
    """The picture inside black bars, per shot, from a frame every half second."""
    brightest: dict[int, Frame] = {}
    wanted, next_s, index = set(shot_indices), 0.0, 0
    for time, frame in source_media.frames(path, budget):
        while index + 1 < len(shots) and time >= shots[index][1]:
            index += 1
        if index not in wanted or (time < next_s and index in brightest):
            continue
        next_s = time + _BAR_SAMPLE_S
        luma = frame.max(axis=2)
        brightest[index] = np.maximum(brightest[index], luma) if index in brightest else luma
    return {i: content_box(b) for i, b in brightest.items()}


def read_windows(
    path: str, budget: ReadBudget, windows: list[Window], boxes: dict[int, tuple[int, int, int, int]],
    pixel_aspect: float, buckets: tuple[tuple[int, int], ...],
) -> Iterator[tuple[Window, Frame, Fit]]:  # fmt: skip
    """Decode once and hand out each window's frames, resampled to 25 fps by timestamp.

    Tick k shows the newest frame whose time is not after k/25 s. Holds one window in memory.
    """
    fits = {i: fit_frame(b, pixel_aspect, buckets) for i, b in boxes.items()}
    held: dict[int, Frame] = {}
    queue = list(windows)
    for tick, frame in _ticks(path, budget):
        while queue and tick >= queue[0].stop:
            window = queue.pop(0)
            yield window, _stack(held, window), fits[window.shot_index]
        if not queue:
            return
        for old in [t for t in held if t < queue[0].motion_start]:
            del held[old]
        owner = next((w for w in queue if w.motion_start <= tick < w.stop), None)
        if owner is not None:
            held[tick] = scale(frame, fits[owner.shot_index])
    while queue and queue[0].stop - 1 in held:
        window = queue.pop(0)
        yield window, _stack(held, window), fits[window.shot_index]


def _stack(held: dict[int, Frame], window: Window) -> Frame:
    try:
        return np.stack([held[t] for t in range(window.motion_start, window.stop)])
    except KeyError as error:
        raise DecodeError("truncated", f"no frame at {error.args[0] / FPS:.2f} s") from error


def _ticks(path: str, budget: ReadBudget) -> Iterator[tuple[int, Frame]]:
    """Frames on the 25 fps grid: (tick, frame), every tick once, until the last frame's end."""
    previous: Frame | None = None
    tick, last_time, step = 0, 0.0, 1.0 / FPS
    for time, frame in source_media.frames(path, budget):
        while previous is not None and tick / FPS < time - 1e-4:
            yield tick, previous
            tick += 1
        step, last_time, previous = max(time - last_time, 1e-3), time, frame
    while previous is not None and tick / FPS < last_time + min(step, 0.5) - 1e-4:
        yield tick, previous
        tick += 1


def scale(frame: Frame, fit: Fit) -> Frame:
    """Crop and scale one upright frame to its bucket."""
    crop = frame[fit.y0 : fit.y1, fit.x0 : fit.x1]
    shrinks = crop.shape[1] > fit.width_px
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(
        np.ascontiguousarray(crop), (fit.width_px, fit.height_px), interpolation=method
    )
    return np.asarray(resized, np.uint8)


def window_of(samples: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
    """Exactly ``count`` samples from ``first``; zeros where the sound has ended.

    >>> window_of(np.array([1, 2, 3], np.float32), 2, 3).tolist()
    [3.0, 0.0, 0.0]
    """
    part = samples[first : first + count]
    return np.pad(part, (0, count - len(part)))
