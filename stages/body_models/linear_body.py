"""A body as linear tables: rest shape, joints, skinning weights, named landmarks.

Axes: metres, right-handed, +y up, the rest body faces +z, its left hand lies at +x. Seen by a camera
that looks along -z (OpenGL), an unrotated body at negative z faces the camera.

Pose: one rotation per joint, relative to its parent, given in the axes of the rest body (not in bone
frames). With all rotations at zero the body is in its rest pose. For joint ``c`` with parent ``p``:

    R_c = R_p exp(r_c),    x_c = x_p + R_p (J_c - J_p),    x_0 = J_0 + translation
    v   = sum_c w_vc (R_c (v_rest - J_c) + x_c)

Source: linear blend skinning as in SMPL, Loper et al. 2015, equations 2 to 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.body_models.body_tables import BodyTables
from stages.kit.arrays import I32, I64, U8

_FRAMES_AT_ONCE = 16


def rotation_matrices(axis_angle: Tensor) -> Tensor:
    """Rodrigues: (...,3) axis-angle in radians -> (...,3,3); differentiable at zero.

    >>> rotation_matrices(torch.zeros(3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    is_small = squared < 1e-8
    safe = torch.where(is_small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(is_small, 1 - squared / 6, torch.sin(angle) / angle)
    b = torch.where(is_small, 0.5 - squared / 24, (1 - torch.cos(angle)) / safe)
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*x.shape, 3, 3)
    eye = torch.eye(3, dtype=k.dtype, device=k.device)
    rotation: Tensor = eye + a * k + b * (k @ k)
    return rotation


class LinearBody:
    """Poses ``BodyTables`` in torch, batched over frames and differentiable.

    Args:
        tables: The model.
    """

    def __init__(self, tables: BodyTables) -> None:
        self.tables = tables
        self._levels = _levels(tables.parents)
        self._vertices = torch.from_numpy(tables.template_vertices)
        self._vertex_directions = torch.from_numpy(tables.vertex_directions)
        self._joints = torch.from_numpy(tables.template_joints)
        self._joint_directions = torch.from_numpy(tables.joint_directions)
        self._weights = torch.from_numpy(tables.weights)
        self._landmarks = torch.from_numpy(tables.template_landmarks)
        self._landmark_directions = torch.from_numpy(tables.landmark_directions)

    @property
    def faces(self) -> I32:
        """(F,3) triangles."""
        return self.tables.faces

    @property
    def num_vertices(self) -> int:
        """V."""
        return len(self.tables.template_vertices)

    @property
    def num_shape(self) -> int:
        """S."""
        return len(self.tables.vertex_directions)

    @property
    def bone_names(self) -> tuple[str, ...]:
        """Names of the B joints, parents first."""
        return self.tables.bone_names

    @property
    def part_labels(self) -> U8:
        """(V,) 0 body, 1 left hand, 2 right hand, 3 head."""
        return self.tables.part_labels

    def rest_vertices(self, shape: Tensor | None = None) -> Tensor:
        """(V,3) rest vertices of a shape (S,), metres."""
        return _shaped(self._vertices, self._vertex_directions, shape)

    def rest_joints(self, shape: Tensor | None = None) -> Tensor:
        """(B,3) rest joints of a shape (S,), metres."""
        return _shaped(self._joints, self._joint_directions, shape)

    def rest_landmarks(self, shape: Tensor | None = None) -> Tensor:
        """(K,3) rest landmarks of a shape (S,), metres."""
        return _shaped(self._landmarks, self._landmark_directions, shape)

    def pose_joints(
        self, rotations: Tensor, translation: Tensor, shape: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Forward kinematics on joints only.

        Args:
            rotations: (T,B,3) axis-angle, radians, relative to the parent, in rest axes.
            translation: (T,3) metres, added to the root.
            shape: (S,) or None for the mean shape.

        Returns:
            Joint rotations in the world (T,B,3,3) and joint positions (T,B,3).
        """
        rest = self.rest_joints(shape)
        local = rotation_matrices(rotations)
        parents = torch.from_numpy(self.tables.parents)
        world: list[Tensor] = [local[:, 0]] * len(parents)
        place: list[Tensor] = [rest[0] + translation] * len(parents)
        for level in self._levels[1:]:
            above = parents[level]
            r_parent = torch.stack([world[p] for p in above], 1)
            x_parent = torch.stack([place[p] for p in above], 1)
            offset = (rest[level] - rest[above])[None, :, :, None]
            r_here = r_parent @ local[:, level]
            x_here = x_parent + (r_parent @ offset)[..., 0]
            for index, joint in enumerate(level):
                world[joint], place[joint] = r_here[:, index], x_here[:, index]
        return torch.stack(world, 1), torch.stack(place, 1)

    def forward(
        self,
        rotations: Tensor,
        translation: Tensor,
        shape: Tensor | None = None,
        only: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Pose the skin: vertices (T,V,3) and joints (T,B,3), metres.

        Other arguments as in ``pose_joints``.

        Args:
            rotations: (T,B,3).
            translation: (T,3).
            shape: (S,).
            only: (N,) the vertices that are wanted, in place of all V.
        """
        world, place = self.pose_joints(rotations, translation, shape)
        rest_joints = self.rest_joints(shape)
        at = slice(None) if only is None else only
        rest = _shaped(self._vertices[at], self._vertex_directions[:, at], shape)
        moved = place - (world @ rest_joints[None, :, :, None])[..., 0]
        homogeneous = torch.cat([rest, torch.ones_like(rest[:, :1])], 1)
        mixed = (self._weights[at, :, None] * homogeneous[:, None, :]).flatten(1)  # (V, 4B)
        columns = torch.cat([world, moved[..., None]], -1).permute(1, 3, 0, 2).flatten(0, 1)
        parts = [
            (mixed @ columns[:, start : start + _FRAMES_AT_ONCE].flatten(1)).reshape(
                len(rest), -1, 3
            )
            for start in range(0, columns.shape[1], _FRAMES_AT_ONCE)
        ]
        return torch.cat(parts, 1).transpose(0, 1).contiguous(), place

    def landmarks(
        self, rotations: Tensor, translation: Tensor, shape: Tensor | None = None
    ) -> Tensor:
        """Pose the named landmarks without skinning: (T,K,3), metres."""
        world, place = self.pose_joints(rotations, translation, shape)
        bones = torch.from_numpy(self.tables.landmark_bones)
        offset = self.rest_landmarks(shape) - self.rest_joints(shape)[bones]
        return place[:, bones] + (world[:, bones] @ offset[None, :, :, None])[..., 0]


def _shaped(template: Tensor, directions: Tensor, shape: Tensor | None) -> Tensor:
    if shape is None:
        return template
    return template + torch.einsum("s,spd->pd", shape.to(template.dtype), directions)


def _levels(parents: I64) -> list[list[int]]:
    """Joints by depth, the root first."""
    depth: list[int] = []
    for joint, parent in enumerate(parents):
        if parent >= joint:
            raise ValueError(f"joint {joint} comes before its parent {parent}")
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
