"""Picture measures on decoded clips: sharpness, exposure, motion, freezes, borders, perceptual hash.

All take RGB u8 frames (T,H,W,3) or grey u8 frames (T,h,w); none loops over pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from schemas.clock import FPS
from stages.kit.arrays import F32, Flags, Frames, Grey
from stages.kit.borders import inner_box, profile
from stages.kit.boxes import Box
from stages.kit.spans import runs

SHARPNESS_SIDE_PX = 480
MOTION_SIDE_PX = 240
_DARK_LUMA, _BRIGHT_LUMA = 16, 239
_BLOCK = 8
_FREEZE_BLOCK_LUMA = 2.0
_HASH_FRAMES, _HASH_SIDE, _HASH_LOW = 4, 32, 8


def grey_frames(frames: Frames, short_side_px: int) -> Grey:
    """Scale to a short side and take luma: (T,h,w) u8. Smaller pictures are enlarged."""
    cv2.setNumThreads(1)
    _, height, width, _ = frames.shape
    scale = short_side_px / min(height, width)
    size = (max(_BLOCK, round(width * scale)), max(_BLOCK, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([cv2.resize(g, size, interpolation=method) for g in grey])


def sharpness(grey: Grey) -> float:
    """Median over frames of the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000)."""
    return float(np.median([cv2.Laplacian(g, cv2.CV_32F).var() for g in grey]))


@dataclass(frozen=True, slots=True)
class Exposure:
    """Luma over all frames, as shares of 255 or of pixels."""

    luma_mean: float
    dark_share: float
    bright_share: float


def exposure(grey: Grey) -> Exposure:
    """Mean luma, and shares of pixels at or below 16 and at or above 239 of 255."""
    return Exposure(
        luma_mean=float(grey.mean() / 255),
        dark_share=float((grey <= _DARK_LUMA).mean()),
        bright_share=float((grey >= _BRIGHT_LUMA).mean()),
    )


def motion_steps(grey: Grey) -> F32:
    """What moves in each step (T-1,4): means of flow magnitude, luma change, vertical and horizontal flow.

    Dense optical flow (DIS, Kroeger et al., 2016), in pixels of ``grey``.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    steps = np.zeros((max(0, len(grey) - 1), 4), np.float32)
    for step, (a, b) in zip(steps, pairwise(grey), strict=True):
        field = flow.calc(a, b, None)
        right, down = field.mean(axis=(0, 1))
        step[:] = np.linalg.norm(field, axis=2).mean(), cv2.absdiff(a, b).mean(), down, right
    return steps


def motion_px(steps: F32) -> float:
    """Mean flow magnitude of ``motion_steps`` (T-1,4); 0 for none."""
    return float(steps[:, 0].mean()) if len(steps) else 0.0


def frozen_steps(grey: Grey) -> Flags:
    """Steps (T-1,) in which no 8x8 block changed by more than coding noise (2 of 255 on average).

    The largest block decides: a talking mouth in a still picture is a change.
    """
    height, width = (n // _BLOCK * _BLOCK for n in grey.shape[1:])
    steps = []
    for before, after in pairwise(grey[:, :height, :width]):
        change = np.abs(after.astype(np.int16) - before)
        blocks = change.reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).mean((1, 3))
        steps.append(blocks.max() <= _FREEZE_BLOCK_LUMA)
    return np.array(steps, dtype=bool)


def longest_run_s(flags: Flags) -> float:
    """Length of the longest run of True steps, in seconds."""
    longest = max((len(run) for run in runs(flags)), default=0)
    return longest / FPS


def inner_picture(grey: Grey) -> Box:
    """The part of (T,h,w) inside bars: black, flat, shaded, or a blurred copy of the picture."""
    return inner_box([profile(g) for g in grey[:: max(1, FPS // 4)]])


def border_share(grey: Grey) -> float:
    """Share of the picture that bars cover, see ``inner_picture``."""
    inner = inner_picture(grey)
    return 1.0 - inner.width * inner.height / float(grey[0].size)


def without_bars(frames: Frames, grey: Grey) -> Grey:
    """Frames (T,H,W,3) cut to what is inside the bars of their grey copies (T,h,w).

    So that no other score suffers from bars.
    """
    inner = inner_picture(grey)
    down, across = frames.shape[1] / grey.shape[1], frames.shape[2] / grey.shape[2]
    top, bottom = math.ceil(inner.top * down), math.floor(inner.bottom * down)
    left, right = math.ceil(inner.left * across), math.floor(inner.right * across)
    return frames[:, top:bottom, left:right]


def perceptual_hash(grey: Grey) -> str:
    """Hash four evenly spread frames: 64 hex digits, 64 bits each, near for near pictures.

    Each frame is shrunk to 32x32; bits tell which of its 64 lowest DCT coefficients lie above their
    median (pHash). Compare with ``hash_distance``.
    """
    chosen = np.linspace(0, len(grey) - 1, _HASH_FRAMES).round().astype(int)
    bits = []
    for index in chosen:
        small = cv2.resize(grey[index], (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
        low = cv2.dct(small.astype(np.float32))[:_HASH_LOW, :_HASH_LOW].ravel()
        bits.append(low > np.median(low[1:]))
    return np.packbits(np.concatenate(bits)).tobytes().hex()


def hash_distance(a: str, b: str) -> int:
    """Number of differing bits of two hashes, 0 to 256.

    >>> hash_distance("0f" * 32, "0e" * 32)
    32
    """
    return (int(a, 16) ^ int(b, 16)).bit_count()
