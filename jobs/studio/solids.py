"""How far points are from a solid of any form: distances on a grid, looked up between its nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stages.kit.arrays import F32, I64

_PITCH_M = (0.0018, 0.004)
_LONGEST_CELLS = 90
_MARGIN_CELLS = 8


@dataclass(frozen=True, slots=True)
class DistanceGrid:
    """Signed distances, metres, negative inside: ``values`` (X,Y,Z) at ``origin`` + index * ``pitch_m``."""

    values: F32
    origin: F32
    pitch_m: float

    def at(self, points: F32) -> F32:
        """Signed distance (...,) of points (...,3), metres.

        Beyond the grid, the way to the grid is added: a bound from above, and right to a tenth.
        """
        cells = (points - self.origin) / self.pitch_m
        inside = np.clip(cells, 0, np.array(self.values.shape) - 1)
        flat = inside.reshape(-1, 3).T
        near = ndimage.map_coordinates(self.values, flat, order=1).reshape(points.shape[:-1])
        beyond = np.linalg.norm(cells - inside, axis=-1) * self.pitch_m
        return np.asarray(near + beyond, np.float32)


def solid_of(vertices: F32, faces: I64) -> DistanceGrid:
    """Distances from a mesh that need not be closed.

    The surface is marked on a grid and what it encloses is filled; an open shell (a cup) stays hollow. Distances
    are Euclidean ones between cells (Felzenszwalb and Huttenlocher 2012, as scipy has them), so they are right to
    half a cell: 1 to 2 mm.

    Args:
        vertices: (N,3) metres.
        faces: (F,3); only triangles shorter than a cell mark it without gaps, so larger ones are sampled.
    """
    low, high = vertices.min(0), vertices.max(0)
    pitch = float(np.clip((high - low).max() / _LONGEST_CELLS, *_PITCH_M))
    origin = low - _MARGIN_CELLS * pitch
    shape = np.ceil((high - low) / pitch).astype(int) + 2 * _MARGIN_CELLS + 1
    marked = np.zeros(shape, bool)
    for points in _samples(vertices, faces, pitch):
        marked[tuple(np.rint((points - origin) / pitch).astype(int).T)] = True
    solid = ndimage.binary_fill_holes(marked)
    outward = ndimage.distance_transform_edt(~solid)
    # the surface runs through the middle of the outermost solid cells: they lie at 0
    inward = np.maximum(ndimage.distance_transform_edt(solid) - 1, 0)
    values = ((outward - inward) * pitch).astype(np.float32)
    return DistanceGrid(values, origin.astype(np.float32), pitch)


def _samples(vertices: F32, faces: I64, pitch: float) -> list[F32]:
    """Points on every triangle, no further apart than a cell, in groups of triangles of like size."""
    corners = vertices[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
    steps = np.ceil(longest / (0.9 * pitch)).astype(int).clip(1)
    steps = 2 ** np.ceil(np.log2(steps)).astype(int)
    out = []
    for count in np.unique(steps):
        i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        keep = i + j <= count
        weights = np.stack([i[keep], j[keep], count - i[keep] - j[keep]], 1) / count
        out.append(np.einsum("wc,fcd->fwd", weights, corners[steps == count]).reshape(-1, 3))
    return out
