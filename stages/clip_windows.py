"""Where clips begin and end, and how source pixels become clip pixels. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FPS = 25
BUCKETS_480P = ((480, 832), (832, 480), (624, 624))
"""(width, height)"""


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open frame ticks at 25 fps on the source's clock: context, then target."""

    motion_start: int
    start: int
    stop: int
    shot_index: int

    @property
    def num_motion_frames(self) -> int:
        """Length of the context."""
        return self.start - self.motion_start


def plan_windows(
    shots_s: list[tuple[float, float]], *, num_frames: int, max_motion_frames: int,
    stride_frames: int, max_windows: int,
) -> list[Window]:  # fmt: skip
    """Place windows of ``num_frames`` inside shots, each with as much context as there is.

    Context is 0 or 1 + 4m frames, so that it fills whole latents. No window crosses a cut.

    >>> plan_windows([(0, 8)], num_frames=81, max_motion_frames=73, stride_frames=81, max_windows=9)
    [Window(motion_start=0, start=73, stop=154, shot_index=0)]
    """
    windows: list[Window] = []
    for index, (begin_s, end_s) in enumerate(shots_s):
        first = int(np.ceil(begin_s * FPS - 1e-6))
        last = int(np.floor(end_s * FPS + 1e-6))
        lead = whole_latents(min(max_motion_frames, last - first - num_frames))
        start = first + lead
        while start + num_frames <= last and len(windows) < max_windows:
            motion = whole_latents(min(max_motion_frames, start - first))
            windows.append(Window(start - motion, start, start + num_frames, index))
            start += stride_frames
    return windows


def whole_latents(num_frames: int) -> int:
    """The largest of 0, 1, 5, 9, ... that is not above ``num_frames``; 1 counts as none.

    >>> [whole_latents(n) for n in (-3, 0, 1, 4, 5, 54, 73)]
    [0, 0, 0, 0, 5, 53, 73]
    """
    return 0 if num_frames < 5 else (num_frames - 1) // 4 * 4 + 1


@dataclass(frozen=True, slots=True)
class Fit:
    """Crop of the upright raw frame, in raw pixels, and the size that it is scaled to."""

    x0: int
    y0: int
    x1: int
    y1: int
    width_px: int
    height_px: int


def fit_frame(
    content_xyxy: tuple[int, int, int, int], pixel_aspect: float,
    buckets: tuple[tuple[int, int], ...],
) -> Fit:  # fmt: skip
    """Choose the bucket nearest in aspect and the centre crop that fills it.

    Args:
        content_xyxy: The picture without black bars, raw pixels.
        pixel_aspect: Display width of one raw pixel over its height.
        buckets: (width, height) choices.

    >>> fit_frame((0, 0, 720, 1280), 1.0, BUCKETS_480P)
    Fit(x0=0, y0=16, x1=720, y1=1264, width_px=480, height_px=832)
    """
    x0, y0, x1, y1 = content_xyxy
    aspect = (x1 - x0) * pixel_aspect / (y1 - y0)
    width, height = min(buckets, key=lambda b: abs(np.log(b[0] / b[1] / aspect)))
    wanted = width / height
    if aspect > wanted:  # too wide: crop left and right
        keep = round((y1 - y0) * wanted / pixel_aspect)
        x0 += (x1 - x0 - keep) // 2
        x1 = x0 + keep
    else:
        keep = round((x1 - x0) * pixel_aspect / wanted)
        y0 += (y1 - y0 - keep) // 2
        y1 = y0 + keep
    return Fit(x0, y0, x1, y1, width, height)


def content_box(brightest: NDArray[np.uint8], max_bar_luma: int = 24) -> tuple[int, int, int, int]:
    """The picture inside constant black bars, from each pixel's brightest value (H,W) over time.

    Bars narrower than 2 % of the side are left alone; an all-black picture is left whole.
    """
    height, width = brightest.shape
    bright = brightest > max_bar_luma
    cols = np.flatnonzero(bright.mean(axis=0) > 0.02)
    rows = np.flatnonzero(bright.mean(axis=1) > 0.02)
    if not len(cols) or not len(rows):
        return 0, 0, width, height
    x0, x1, y0, y1 = int(cols[0]), int(cols[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    if x0 + (width - x1) < 0.04 * width:
        x0, x1 = 0, width
    if y0 + (height - y1) < 0.04 * height:
        y0, y1 = 0, height
    return x0, y0, x1, y1
