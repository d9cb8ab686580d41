"""By how much is the sound late? Lips and sound are embedded window by window and compared at every shift.

Chung and Zisserman 2016, "Out of time: automated lip sync in the wild": the shift with the least mean distance is the
offset; how far that lies below the median over all shifts is the confidence.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import cv2
import numpy as np

from stages.kit.arrays import F32, Flags, Frames
from stages.screening.mfcc import mfcc

REACH_FRAMES = 15
WINDOW_FRAMES, WINDOW_STEPS, STEPS_PER_FRAME = 5, 20, 4
"""Five frames of 40 ms and 20 steps of 10 ms: 0.2 s."""
CROP_PX = 224
_MIN_PAIRS = 12
"""Fewer windows at a shift say nothing of it."""
_CROP_SCALE = 0.4
_SMOOTHED_FRAMES = 13
_GREY = 110


class Sync(NamedTuple):
    """How sound lies to lips."""

    offset_frames: int
    """The sound is late by so many frames; negative: early."""
    confidence: float
    """Median minus least mean distance over the shifts: about 0 where no shift is better than others."""


class Embedder(Protocol):
    """What embeds windows: see ``stages.screening.syncnet.SyncNetBackend``."""

    def embed(self, lips: Frames, sound: F32) -> tuple[F32, F32]:
        """Embeddings (N,E) of crops (T,224,224,3) and coefficients (S,13), N windows of five frames each."""


def measure_sync(
    frames: Frames, faces_xyxy_px: F32, samples: F32, embedder: Embedder
) -> Sync | None:
    """Compare lips and sound over a clip; None where there is too little of a face.

    Args:
        frames: (T,H,W,3) RGB at 25 fps.
        faces_xyxy_px: (T,4); NaN without a face.
        samples: (640 T,) at 16 kHz.
        embedder: The network.
    """
    seen = np.isfinite(faces_xyxy_px).all(axis=1)
    num_windows = len(frames) - WINDOW_FRAMES + 1
    if num_windows < 1 or not seen.any():
        return None
    windows = np.lib.stride_tricks.sliding_window_view(seen, WINDOW_FRAMES)
    whole = np.asarray(windows.all(axis=1))
    if whole.sum() < _MIN_PAIRS:
        return None
    sound = windows_of_sound(mfcc(samples), num_windows)
    lips, heard = embedder.embed(mouth_crops(frames, faces_xyxy_px), sound)
    return find_offset(lips, heard, whole)


def windows_of_sound(coefficients: F32, num_windows: int) -> F32:
    """Coefficients (S,13) as (N,20,13): the 0.2 s that begin with each frame; the end is repeated where steps are missing."""
    needed = STEPS_PER_FRAME * (num_windows - 1) + WINDOW_STEPS
    padded = np.pad(coefficients, ((0, max(0, needed - len(coefficients))), (0, 0)), mode="edge")
    starts = STEPS_PER_FRAME * np.arange(num_windows)
    return np.asarray(padded[starts[:, None] + np.arange(WINDOW_STEPS)], np.float32)


def find_offset(
    lips: F32, sound: F32, seen: Flags | None = None, reach: int = REACH_FRAMES
) -> Sync | None:
    """The shift at which sound fits lips best; None where fewer than three shifts can be compared.

    Only windows that exist on both sides are compared: nothing is filled up at the ends.

    Args:
        lips: (N,E) embeddings.
        sound: (N,E).
        seen: (N,) windows whose lips are to be trusted; all where None.
        reach: Shifts from ``-reach`` to ``reach`` are tried.
    """
    trusted = np.ones(len(lips), bool) if seen is None else seen
    shifts, means = [], []
    for shift in range(-reach, reach + 1):
        first, last = max(0, -shift), min(len(lips), len(sound) - shift)
        rows = np.flatnonzero(trusted[first:last]) + first if last > first else np.zeros(0, int)
        if len(rows) < _MIN_PAIRS:
            continue
        apart = lips[rows].astype(np.float64) - sound[rows + shift]
        shifts.append(shift)
        means.append(float(np.linalg.norm(apart, axis=1).mean()))
    if len(shifts) < 3:
        return None
    best = min(range(len(shifts)), key=lambda n: (means[n], abs(shifts[n])))
    return Sync(shifts[best], float(np.median(means)) - means[best])


def mouth_crops(frames: Frames, faces_xyxy_px: F32) -> Frames:
    """Lower faces (T,224,224,3) in RGB: squares of 1.4 face sizes around a point somewhat below the face's middle.

    Boxes are smoothed over half a second, gaps take the nearest; beyond the picture is grey. As the published weights were
    trained.
    """
    boxes = _smooth(_filled(faces_xyxy_px))
    out = np.empty((len(frames), CROP_PX, CROP_PX, 3), np.uint8)
    for t, (x0, y0, x1, y1) in enumerate(boxes):
        half = max(x1 - x0, y1 - y0, 2.0) / 2
        side = 2 * half * (1 + _CROP_SCALE)
        scale = CROP_PX / side
        left, top = (x0 + x1) / 2 - side / 2, (y0 + y1) / 2 - half
        matrix = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]], np.float32)
        out[t] = cv2.warpAffine(
            frames[t], matrix, (CROP_PX, CROP_PX), borderValue=(_GREY, _GREY, _GREY)
        )
    return out


def _filled(boxes: F32) -> F32:
    """Each missing box is the nearest one in time; one at least is there."""
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    nearest = np.abs(np.arange(len(boxes))[:, None] - known[None]).argmin(axis=1)
    return boxes[known[nearest]]


def _smooth(boxes: F32) -> F32:
    padded = np.pad(boxes, ((_SMOOTHED_FRAMES // 2,) * 2, (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED_FRAMES, axis=0)
    return np.asarray(np.median(windows, axis=-1), np.float32)
