"""Rotary coordinates of every modality, as one pure function, and the angles they give.

Coordinates are integers (time, row, column). Negative ones are turned by the negative angle, which
is what the published code does on the time axis by conjugating a row of its table.
Sources: Wan2.2 wan/modules/s2v/s2v_utils.py ``rope_precompute``, motioner.py; paper equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from schemas.errors import ConfigError

Modality: TypeAlias = Literal["rgb", "hoi", "person", "product", "motion"]
Grid: TypeAlias = tuple[int, int, int]


def sample_axis(start: int, extent: int, count: int) -> list[int]:
    """Spread ``count`` integer coordinates over ``extent`` places from ``start`` on, both ends met.

    Coordinates are truncated towards zero.

    >>> sample_axis(0, 4, 2), sample_axis(-19, 16, 4), sample_axis(0, 3, 3)
    ([0, 3], [-19, -14, -9, -4], [0, 1, 2])
    """
    if start < 0:
        return [-i for i in np.linspace(-start, -start - extent + 1, count).astype(int).tolist()]
    return [int(i) for i in np.linspace(start, start + extent - 1, count).astype(int)]


def cartesian(
    times: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> Int[Tensor, "n 3"]:
    """List (time, row, column) of every token, column fastest."""
    axes = [torch.tensor(list(axis), dtype=torch.int64) for axis in (times, rows, columns)]
    return torch.stack([a.flatten() for a in torch.meshgrid(*axes, indexing="ij")], dim=-1)


def positions(
    modality: Modality,
    grid: Grid,
    *,
    hoi_width: Literal["shift", "official_wrap"] = "shift",
    scale: float = 1.0,
    time_index: int = 30,
    buckets: tuple[int, int, int] = (1, 2, 16),
    kept_buckets: int = 3,
    table_rows: int = 1024,
) -> Int[Tensor, "n 3"]:
    """Coordinates of one modality's tokens.

    Args:
        modality: Which tokens.
        grid: Token grid (time, height, width) of the modality; for ``motion`` the height and width
            of the target's token grid (its time is ignored).
        hoi_width: ``shift`` puts HOI columns at -W..-1, ``official_wrap`` at table_rows-W..table_rows-1.
        scale: Product only: share of the frame that its coordinates span, in (0, 1].
        time_index: References only: their time coordinate.
        buckets: Motion only: latent frames of FramePack's near, 2x and 4x buckets.
        kept_buckets: Motion only: how many buckets are present, counted from the far one.
        table_rows: Rows of the rotary table.

    Returns:
        Coordinates in token order.

    Raises:
        ConfigError: A coordinate is outside the rotary table, or ``scale`` is outside (0, 1].
    """
    frames, height, width = grid
    columns = range(width)
    match modality:
        case "rgb":
            coordinates = cartesian(range(frames), range(height), columns)
        case "hoi":
            start = -width if hoi_width == "shift" else table_rows - width
            coordinates = cartesian(range(frames), range(height), range(start, start + width))
        case "person":
            coordinates = cartesian([time_index], range(height), columns)
        case "product":
            coordinates = _product_positions(time_index, height, width, scale)
        case "motion":
            coordinates = motion_positions(height, width, buckets, kept_buckets)
    check_table(coordinates, modality, table_rows)
    return coordinates


def _product_positions(
    time_index: int, height: int, width: int, scale: float
) -> Int[Tensor, "n 3"]:
    if not 0 < scale <= 1:
        raise ConfigError(f"product scale {scale} must lie in (0, 1]")
    rows = sample_axis(0, max(1, round(height * scale)), height)
    columns = sample_axis(0, max(1, round(width * scale)), width)
    return cartesian([time_index], rows, columns)


def motion_positions(
    height: int, width: int, buckets: tuple[int, int, int], kept: int = 3
) -> Int[Tensor, "n 3"]:
    """Coordinates of FramePack tokens in token order (near, 2x, 4x); each bucket spans the full frame."""
    parts, oldest = [], 0
    for bucket, reduction in zip(buckets, (1, 2, 4), strict=True):
        oldest -= bucket
        times = sample_axis(oldest, bucket, bucket // reduction)
        rows = sample_axis(0, height, height // reduction)
        columns = sample_axis(0, width, width // reduction)
        parts.append(cartesian(times, rows, columns))
    return torch.cat(parts[len(parts) - kept :])


def check_table(coordinates: Int[Tensor, "n 3"], name: str, table_rows: int) -> None:
    """Refuse coordinates past the rotary table.

    Raises:
        ConfigError: Names the modality, the axis, the coordinate and the table.
    """
    if not coordinates.numel():
        return
    furthest = coordinates.abs().amax(dim=0).tolist()
    for axis, value in zip(("time", "height", "width"), furthest, strict=True):
        if value >= table_rows:
            raise ConfigError(
                f"{name} needs rotary {axis} position {value}, but the table has {table_rows} rows"
                " (model.rope_rows): use a shorter or smaller clip"
            )


def rotary_angles(
    coordinates: Int[Tensor, "b n 3"], head_dim: int, theta: float = 10_000.0
) -> tuple[Float[Tensor, "b n e2"], Float[Tensor, "b n e2"]]:
    """Cosines and sines per token, for channel pairs split over time, height and width.

    With e2 = head_dim / 2, height and width take e2 // 3 pairs each and time the rest; an axis with
    D channels uses frequencies theta^(-2i/D). Angles are computed in float64.

    Returns:
        Two float32 tensors.
    """
    pairs = head_dim // 2
    split = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    parts = []
    for axis, num in enumerate(split):
        exponents = torch.arange(num, dtype=torch.float64, device=coordinates.device) / num
        parts.append(coordinates[..., axis, None].double() * torch.pow(theta, -exponents))
    angles = torch.cat(parts, dim=-1)
    return angles.cos().float(), angles.sin().float()
