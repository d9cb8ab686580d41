"""How far forward trunk and head reach, pixel by pixel: what a hand and its product must not sink into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.body.solve import Pinhole, Posed, project
from stages.body_models.body_tables import BodyTables
from stages.body_models.rig import SIDES, Roles, ancestors
from stages.kit.arrays import F32, F64

_SPACING_M = 0.02
"""Of the vertices that are looked at: finer than a cell, so that a cell that the body covers has one."""
_CELL_HEAD = 0.15
"""Side of a cell in head heights, 3.5 cm: what a hand covers."""


@dataclass(frozen=True, slots=True)
class Front:
    """Depth of the foremost surface on a coarse grid over the picture."""

    z_m: F64
    """(T,R,C) along +z, towards the camera; -inf where neither trunk nor head is."""
    cell_px: float

    def at(self, points_px: F64) -> F64:
        """Depth (T,N) at pixels (T,N,2); -inf outside the picture."""
        cell = np.floor(np.nan_to_num(points_px, nan=-1.0) / self.cell_px).astype(np.intp)
        rows, columns = self.z_m.shape[1:]
        x, y = cell[..., 0], cell[..., 1]
        is_in = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        frame = np.arange(len(cell))[:, None]
        found = self.z_m[frame, y.clip(0, rows - 1), x.clip(0, columns - 1)]
        return np.where(is_in, found, -np.inf)


def trunk_vertices(
    tables: BodyTables, roles: Roles, spacing_m: float = _SPACING_M
) -> NDArray[np.intp]:
    """Vertices of trunk and head, thinned out to one per cube; arms and legs move with other joints."""
    below = ancestors(tables.parents)
    limbs = [joint[side] for joint in (roles.shoulder, roles.hip) for side in SIDES]
    is_limb = np.asarray(below[limbs].any(axis=0))[tables.weights.argmax(axis=1)]
    index = np.flatnonzero(~is_limb)
    if not spacing_m:
        return index
    cells = np.round(tables.template_vertices[index] / spacing_m).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    return np.sort(index[first])


def front_of(
    tables: BodyTables,
    roles: Roles,
    shape: F64,
    body: Posed,
    camera: Pinhole,
    size_px: tuple[int, int],
    head_px: float,
) -> Front:
    """Look at a posed body: all its joints are in ``body``."""
    vertices = trunk_vertices(tables, roles)
    rest = tables.template_vertices[vertices] + np.einsum(
        "s,svd->vd", shape, tables.vertex_directions[:, vertices]
    )
    rest_joints = tables.template_joints + np.einsum("s,sbd->bd", shape, tables.joint_directions)
    weights = tables.weights[vertices]
    used = np.flatnonzero(weights.any(axis=0))
    placed = posed_vertices(
        rest, weights[:, used], rest_joints[used], body.rotations[:, used], body.joints[:, used]
    )
    cell_px = _CELL_HEAD * head_px
    columns, rows = (int(side // cell_px) + 1 for side in size_px)
    cell = np.floor(project(placed, camera) / cell_px).astype(np.intp)
    x, y = cell[..., 0], cell[..., 1]
    is_in = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    frame = np.broadcast_to(np.arange(len(placed))[:, None], x.shape)
    z_m = np.full((len(placed), rows, columns), -np.inf)
    np.maximum.at(z_m, (frame[is_in], y[is_in], x[is_in]), placed[..., 2][is_in])
    return Front(z_m, cell_px)


def posed_vertices(rest: F64, weights: F32, rest_joints: F64, rotations: F64, joints: F64) -> F64:
    """Linear blend skinning of vertices (V,3): (T,V,3). See ``stages.body_models.linear_body``."""
    moved = joints - (rotations @ rest_joints[..., None])[..., 0]
    affine = np.concatenate([rotations, moved[..., None]], -1).astype(np.float32)  # (T,B,3,4)
    points = np.concatenate([rest, np.ones((len(rest), 1))], -1).astype(np.float32)
    mixed = (weights[:, :, None] * points[:, None]).reshape(len(rest), -1)  # (V,4B)
    columns = affine.transpose(1, 3, 0, 2).reshape(mixed.shape[1], -1)  # (4B,3T)
    return np.asarray((mixed @ columns).reshape(len(rest), -1, 3).swapaxes(0, 1), np.float64)
