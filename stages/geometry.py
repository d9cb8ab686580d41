"""From a decoded frame to clip pixels: rotation, pixel aspect, bars, crop, scale.

Coordinates are continuous pixel edges: a picture of width W spans [0, W]. ``raw`` is the decoded
frame after rotation, ``display`` has square pixels (raw stretched by the sample aspect ratio).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a decoded frame becomes an upright one.

    Args:
        rotation_deg: Counter-clockwise quarter turns that make the picture upright: 0, 90, 180, 270.
        sample_aspect_ratio: Width over height of one upright pixel.
    """

    rotation_deg: int
    sample_aspect_ratio: float

    def upright(self, picture: Picture) -> Picture:
        """Turn a decoded picture (H,W,...) upright; a view, not a copy."""
        return np.rot90(picture, self.rotation_deg // 90)

    def upright_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after turning."""
        return (height_px, width_px) if self.rotation_deg % 180 else (width_px, height_px)

    def display_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after turning, with square pixels."""
        width, height = self.upright_size(width_px, height_px)
        return max(1, round(width * self.sample_aspect_ratio)), height


def orientation_of(frame: Any, stream_sample_aspect_ratio: Any) -> Orientation:
    """Read a PyAV frame's rotation and pixel aspect; angles off a quarter turn are rounded to one."""
    rotation = round(frame.rotation / 90) * 90 % 360
    ratio = float(stream_sample_aspect_ratio or 1) or 1.0
    return Orientation(rotation, 1 / ratio if rotation % 180 else ratio)
