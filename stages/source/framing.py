"""From a decoded frame to clip pixels: mirroring, rotation, pixel aspect, bars, crop, scale.

Coordinates are continuous pixel edges: a picture of width W spans [0, W]. ``raw`` is the decoded
frame after mirroring and rotation, ``display`` has square pixels (raw stretched by the sample aspect ratio).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from schemas.errors import DecodeError
from stages.kit.arrays import Image
from stages.kit.boxes import Box
from stages.source.frame_marks import side_data

if TYPE_CHECKING:  # the rows' schemas would be two fifths of a decoding child's start
    from schemas.facets import ClipTransform

_MAX_OFF_DEG = 1.0


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a decoded frame becomes an upright one.

    Args:
        rotation_deg: Counter-clockwise quarter turns that make the picture upright: 0, 90, 180, 270.
        sample_aspect_ratio: Width over height of one upright pixel.
        is_mirrored: Left and right change places before the turn.
    """

    rotation_deg: int
    sample_aspect_ratio: float
    is_mirrored: bool = False

    def upright(self, picture: Image) -> Image:
        """Mirror and turn a decoded picture (H,W,...) upright; a view, not a copy."""
        facing = np.fliplr(picture) if self.is_mirrored else picture
        return np.rot90(facing, self.rotation_deg // 90)

    def upright_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after turning."""
        return (height_px, width_px) if self.rotation_deg % 180 else (width_px, height_px)

    def display_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height after turning, with square pixels."""
        width, height = self.upright_size(width_px, height_px)
        return max(1, round(width * self.sample_aspect_ratio)), height


def orientation_of(frame: VideoFrame, stream_sample_aspect_ratio: Any) -> Orientation:
    """Read a frame's display matrix and pixel aspect, as players and ffmpeg's autorotate do.

    Raises:
        DecodeError: ``skewed_display``, see ``read_display_matrix``.
    """
    data = side_data(frame).get(SideDataType.DISPLAYMATRIX)
    rotation, is_mirrored = read_display_matrix(bytes(data)) if data is not None else (0, False)
    ratio = float(stream_sample_aspect_ratio or 1) or 1.0
    return Orientation(rotation, 1 / ratio if rotation % 180 else ratio, is_mirrored)


def read_display_matrix(data: bytes) -> tuple[int, bool]:
    """Counter-clockwise turn in degrees and mirroring before it, of nine native i32 in row order.

    The columns of the upper left 2x2 say where a step right and a step down in the decoded picture
    go on the screen, y down. A matrix that flattens the picture is no orientation: players ignore it.

    Raises:
        DecodeError: ``skewed_display`` where the picture would stand at an angle.
    """
    right_x, right_y, _, down_x, down_y = struct.unpack_from("=5i", data)
    area = right_x * down_y - right_y * down_x
    if area == 0:
        return 0, False
    is_mirrored = area < 0
    sign = -1 if is_mirrored else 1
    turns = [
        -math.degrees(math.atan2(sign * right_y, sign * right_x)),
        math.degrees(math.atan2(down_x, down_y)),
    ]
    quarters = [round(turn / 90) % 4 for turn in turns]
    off_deg = max(abs(turn - 90 * round(turn / 90)) for turn in turns)
    if off_deg > _MAX_OFF_DEG or quarters[0] != quarters[1]:
        raise DecodeError(
            "skewed_display",
            f"the picture is shown at an angle, {off_deg:.0f} degrees off a quarter turn; "
            "turn it upright first",
        )
    return quarters[0] * 90, is_mirrored


@dataclass(frozen=True, slots=True)
class Framing:
    """What part of an upright raw frame becomes the clip, and at which size."""

    crop: Box
    width_px: int
    height_px: int
    sample_aspect_ratio: float

    @property
    def upscale(self) -> float:
        """Linear enlargement of the more enlarged axis, display pixels to clip pixels."""
        return max(self.transform.scale_x, self.transform.scale_y)

    @property
    def transform(self) -> ClipTransform:
        """Map from display pixels of the source to clip pixels."""
        from schemas.facets import ClipTransform

        scale_raw_x = self.width_px / self.crop.width
        scale_y = self.height_px / self.crop.height
        return ClipTransform(
            scale_x=scale_raw_x / self.sample_aspect_ratio,
            scale_y=scale_y,
            offset_x_px=-self.crop.left * scale_raw_x,
            offset_y_px=-self.crop.top * scale_y,
        )


def choose_bucket(
    width: float, height: float, buckets: tuple[tuple[int, int], ...], max_upscale: float
) -> tuple[int, int]:
    """Pick the (width, height) bucket for a picture of some display size.

    Aspects within 5 % of the nearest count as equal. Among those, the largest bucket that enlarges
    by at most ``max_upscale``; if all enlarge more, the nearest aspect, then the smallest.

    >>> choose_bucket(720, 1280, ((480, 832), (832, 480), (720, 1280)), 1.0)
    (720, 1280)
    >>> choose_bucket(640, 480, ((480, 832), (832, 480), (624, 624)), 1.0)
    (832, 480)
    """
    distance = {b: abs(math.log(width / height) - math.log(b[0] / b[1])) for b in buckets}
    near = [b for b in buckets if distance[b] <= min(distance.values()) + 0.05]
    fitting = [b for b in near if max(b[0] / width, b[1] / height) <= max_upscale + 1e-9]
    if fitting:
        return max(fitting, key=lambda b: b[0] * b[1])
    return min(near, key=lambda b: (round(distance[b], 6), b[0] * b[1]))


def frame_in_bucket(inner: Box, sample_aspect_ratio: float, bucket: tuple[int, int]) -> Framing:
    """Crop the middle of ``inner`` to the bucket's aspect; portrait crops keep more of the top.

    The surplus is split evenly, except that heights lose one third above and two thirds below:
    heads are near the top of product videos.
    """
    bucket_width, bucket_height = bucket
    raw_aspect = bucket_width / bucket_height / sample_aspect_ratio
    width = min(inner.width, round(inner.height * raw_aspect))
    height = min(inner.height, round(inner.width / raw_aspect))
    left = inner.left + (inner.width - width) // 2
    top = inner.top + (inner.height - height) // 3
    crop = Box(left, top, left + max(1, width), top + max(1, height))
    return Framing(crop, bucket_width, bucket_height, sample_aspect_ratio)
