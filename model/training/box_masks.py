"""Head and hand boxes to masks over target tokens.

Arithmetic is that of the published trainer (CoInteract diffsynth/utils/bbox_utils.py): scale to cover
the target, subtract the centre crop, clip, divide by codec and patch, truncate, inclusive ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from model.network.config import Mode
from schemas.clock import FRAMES_PER_LATENT, PX_PER_LATENT
from schemas.errors import DataError

Box: TypeAlias = Sequence[float]
"""(x1, y1, x2, y2) in pixels."""
Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class BoxRule:
    """How frames map to latents and what happens to unusable boxes.

    Attributes:
        first_frame: Frame j belongs to latent (j - first_frame) // 4. The published code has 2, hence
            frames 0 and 1 are lost; 0 puts frames 4k .. 4k+3 on latent k.
        unusable: ``skip`` passes over boxes outside the frame, malformed keys and values as the
            published code does; ``error`` raises.
    """

    first_frame: int = 0
    unusable: Literal["skip", "error"] = "error"

    @classmethod
    def for_mode(cls, mode: Mode) -> BoxRule:
        """``official`` is the published behaviour."""
        return cls(2, "skip") if mode == "official" else cls()


@dataclass(frozen=True, slots=True)
class BoxGrid:
    """Where boxes land.

    Attributes:
        frames: Target latents.
        height: Token rows.
        width: Token columns.
        original: Size of the box space; None when boxes are already in target pixels.
        target: Training size; None with ``original``.
        pixels_per_latent: Codec's spatial factor.
        patch: Patch (height, width) in latents.
    """

    frames: int
    height: int
    width: int
    original: Size | None = None
    target: Size | None = None
    pixels_per_latent: int = PX_PER_LATENT
    patch: tuple[int, int] = (2, 2)


def boxes_to_mask(
    boxes: Mapping[int, Sequence[Box]], grid: BoxGrid, rule: BoxRule
) -> Bool[Tensor, " n"]:
    """Mark the target tokens that any box of their latent touches.

    Args:
        boxes: Frame index -> boxes.
        grid: Token grid and sizes.
        rule: Frame mapping and strictness.

    Returns:
        One flag per token; index = (latent * height + row) * width + column.

    Raises:
        DataError: ``box_outside_frame`` or ``box_malformed``, under ``unusable="error"``.
    """
    mask = torch.zeros(grid.frames, grid.height, grid.width, dtype=torch.bool)
    for frame, frame_boxes in boxes.items():
        latent = (frame - rule.first_frame) // FRAMES_PER_LATENT
        if not 0 <= latent < grid.frames:
            if rule.unusable == "error":
                raise DataError(
                    "box_outside_clip", f"frame {frame} is latent {latent} of {grid.frames}"
                )
            continue
        for box in frame_boxes:
            cells = _cells(box, grid, rule)
            if cells is not None:
                mask[latent][cells] = True
    return mask.flatten()


def _cells(box: Box, grid: BoxGrid, rule: BoxRule) -> tuple[slice, slice] | None:
    """Token rows and columns that a box covers, or None when it is to be passed over."""
    strict = rule.unusable == "error"
    x1, y1, x2, y2 = (float(v) for v in box)
    if strict and (not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1):
        raise DataError("box_malformed", f"box {list(box)} is not x1 <= x2, y1 <= y2 in pixels")
    (x1, y1, x2, y2), (height, width) = _to_target((x1, y1, x2, y2), grid)
    if x2 < 0 or y2 < 0 or x1 > width or y1 > height:
        if strict:
            raise DataError(
                "box_outside_frame",
                f"box {list(box)} is ({x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}) in a frame of"
                f" {width}x{height} pixels",
            )
        return None
    columns = [_cell(x, width, grid.pixels_per_latent, grid.patch[1], grid.width) for x in (x1, x2)]
    rows = [_cell(y, height, grid.pixels_per_latent, grid.patch[0], grid.height) for y in (y1, y2)]
    return slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)


def _to_target(
    box: tuple[float, float, float, float], grid: BoxGrid
) -> tuple[tuple[float, float, float, float], Size]:
    """Box in target pixels, and the target's size."""
    step_y, step_x = (grid.pixels_per_latent * p for p in grid.patch)
    if grid.original is None or grid.target is None:
        return box, (grid.height * step_y, grid.width * step_x)
    (oh, ow), (th, tw) = grid.original, grid.target
    scale = max(tw / ow, th / oh)
    dx, dy = (round(ow * scale) - tw) / 2, (round(oh * scale) - th) / 2
    x1, y1, x2, y2 = (v * scale for v in box)
    return (x1 - dx, y1 - dy, x2 - dx, y2 - dy), (th, tw)


def _cell(pixel: float, size: int, pixels_per_latent: int, patch: int, cells: int) -> int:
    clipped = min(max(pixel, 0), size)
    return min(max(int(clipped / pixels_per_latent / patch), 0), cells - 1)


def parse_boxes(text: str, rule: BoxRule) -> dict[int, list[Box]]:
    """Read a ``face`` or ``hand_object`` cell of the published table: JSON by ``frame_<j>``.

    A frame holds four numbers, or an object of which ``l_h`` and ``r_h`` count.

    Raises:
        DataError: ``box_malformed``, under ``unusable="error"``.
    """
    try:
        cell = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        if rule.unusable == "error":
            raise DataError("box_malformed", f"not JSON: {error}") from error
        cell = {}
    boxes: dict[int, list[Box]] = {}
    for key, value in (cell if isinstance(cell, dict) else {}).items():
        head, _, number = key.rpartition("_")
        if head != "frame" or not number.isdigit():
            if rule.unusable == "error":
                raise DataError("box_malformed", f"frame key {key!r} is not frame_<number>")
            continue
        boxes.setdefault(int(number), []).extend(_frame_boxes(value, rule))
    return boxes


def _frame_boxes(value: Any, rule: BoxRule) -> Iterator[Box]:
    candidates = [value.get("l_h"), value.get("r_h")] if isinstance(value, dict) else [value]
    for candidate in candidates:
        if isinstance(candidate, list) and len(candidate) == 4:
            yield candidate
        elif candidate and rule.unusable == "error":
            raise DataError("box_malformed", f"{candidate!r} is not four numbers")
