"""Windows: which 25 fps ticks become clips, and which source frame each tick shows.

Tick k of a source stands for time k/25 s after its first frame and shows the frame that a player shows then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.clock import FPS, FRAMES_PER_LATENT
from stages.kit.arrays import F64, I64
from stages.kit.spans import Span


@dataclass(frozen=True, slots=True)
class Window:
    """One clip to be: ticks ``[motion_start, stop)``, of which ``[start, stop)`` is the target."""

    shot_index: int
    motion_start: int
    start: int
    stop: int

    @property
    def num_frames(self) -> int:
        """Frames of the clip file, context included."""
        return self.stop - self.motion_start

    @property
    def num_motion_frames(self) -> int:
        """Context frames: 0, 5, 9, 13 ..."""
        return self.start - self.motion_start


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How shots are cut into windows.

    Args:
        num_frames: Target frames per window, 1 + 4k.
        max_motion_frames: Context frames at most.
        stride_frames: Step from one target to the next.
        max_windows: Keep an even spread of this many per source; None keeps all.
    """

    num_frames: int
    max_motion_frames: int
    stride_frames: int
    max_windows: int | None


def shown_frames(times_s: F64, fps: int = FPS) -> I64:
    """Index of the frame that each tick shows, from tick 0 to the last frame's.

    A frame is shown from its own time on until the next one, as players do. Time is rounded to ticks:
    a frame begins at most half a tick early, nor earlier than half way from the frame before, which
    keeps cameras of every rate without a lead or lag. Ties take the earlier frame.

    >>> shown_frames(np.array([0.0, 0.1, 0.2])).tolist()
    [0, 0, 0, 1, 1, 2]
    >>> shown_frames(np.array([0.0, 0.2, 0.24])).tolist()
    [0, 0, 0, 0, 0, 1, 2]
    """
    ticks = np.arange(round(float(times_s[-1]) * fps) + 1) / fps
    early = np.minimum(np.diff(times_s), 1 / fps) / 2
    begins = times_s[1:] - early
    return np.searchsorted(begins, ticks - 1e-9).astype(np.int64)


def tick_span(shot: Span, frame_of_tick: I64, times_s: F64, fps: int = FPS) -> Span:
    """Ticks that show a frame of the shot and lie within half a tick of its first and last frame.

    >>> times = np.array([0.0, 0.04, 0.08, 1.0, 1.04])
    >>> tick_span(Span(0, 3), shown_frames(times), times)
    Span(start=0, stop=3)
    """
    start, stop = np.searchsorted(frame_of_tick, [shot.start, shot.stop])
    first = int(np.ceil(times_s[shot.start] * fps - 0.5 - 1e-6))
    last = int(np.floor(times_s[shot.stop - 1] * fps + 0.5 + 1e-6))
    return Span(max(int(start), first), min(int(stop), last + 1))


def floor_motion(available: int, limit: int) -> int:
    """Largest usable context length: 0 or 1 + 4m with m >= 1, which fills whole latents.

    One frame alone counts as none: without context the first target frame stands in for it.

    >>> [floor_motion(n, 73) for n in (0, 4, 5, 72, 73, 200)]
    [0, 0, 5, 69, 73, 73]
    """
    usable = min(available, limit)
    return 0 if usable < 5 else 1 + (usable - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT


def windows(shot_ticks: Sequence[Span], plan: WindowPlan) -> list[Window]:
    """Cut each shot into as many targets as fit, one stride apart; what is left over is context.

    The surplus of a shot goes before its first target, so that no target is lost for context.

    >>> plan = WindowPlan(81, 73, 81, None)
    >>> [(w.motion_start, w.start, w.stop) for w in windows([Span(0, 193)], plan)]
    [(0, 29, 110), (37, 110, 191)]
    """
    found = []
    for index, shot in enumerate(shot_ticks):
        slack = len(shot) - plan.num_frames
        if slack < 0:
            continue
        first = shot.start + floor_motion(slack % plan.stride_frames, plan.max_motion_frames)
        for start in range(first, shot.stop - plan.num_frames + 1, plan.stride_frames):
            motion = floor_motion(start - shot.start, plan.max_motion_frames)
            found.append(Window(index, start - motion, start, start + plan.num_frames))
    return _spread(found, plan.max_windows)


def _spread(found: list[Window], limit: int | None) -> list[Window]:
    if limit is None or len(found) <= limit:
        return found
    keep = np.floor((np.arange(limit) + 0.5) * len(found) / limit).astype(int)
    return [found[i] for i in keep]


def clip_id(content_sha256: str, window: Window, fingerprint: str) -> str:
    """Identity of a clip from what it shows: 16 hex digits."""
    ticks = [window.motion_start, window.start, window.stop]
    text = json.dumps([content_sha256, ticks, fingerprint])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
