"""The first guess of a body: bone directions of the metric pose landmarks turned into rotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.body.detections import HEAD_M, Detections
from stages.body.solve import Pinhole, log_rotation
from stages.body_models.rig import SIDES, Dof, Roles, elbow_axis
from stages.kit.arrays import F64, Flags


def first_guess(
    rest: F64, roles: Roles, dofs: Sequence[Dof], seen: Detections, camera: Pinhole
) -> tuple[F64, F64]:
    """Angles (T,D) and translation (T,3): torso and arms from metric landmarks, depth by the head."""
    at = {d.name: i for i, d in enumerate(dofs)}
    pose_m = fill_gaps(seen.pose_m, seen.is_valid)
    pose_px = fill_gaps(seen.pose_px, seen.is_valid)
    torso = torso_rotation(pose_m)
    q = np.zeros((len(pose_m), len(dofs)))
    q[:] = [d.mean for d in dofs]
    q[:, at["root.0"] : at["root.0"] + 3] = unwrap(log_rotation(torso))
    for side in SIDES:
        shoulder, elbow = arm_rotation(rest, roles, pose_m, torso, side)
        start = at[f"shoulder.{side}.0"]
        q[:, start : start + 3] = unwrap(shoulder)
        q[:, at[f"elbow.{side}"]] = elbow
    depth = camera.focal_px * HEAD_M / seen.head_px
    middle = pose_px[:, 11:13].mean(1)
    target = np.stack(
        [
            (middle[:, 0] - camera.principal_px[0]) * depth / camera.focal_px,
            -(middle[:, 1] - camera.principal_px[1]) * depth / camera.focal_px,
            np.full(len(middle), -depth),
        ],
        1,
    )
    neck = rest[[roles.shoulder[s] for s in SIDES]].mean(0)
    above = neck - rest[roles.root]
    translation = target - rest[roles.root] - (torso @ above)
    return q, translation


def fill_gaps(values: F64, is_valid: Flags) -> F64:
    """Replace frames that are not valid by linear interpolation between valid ones; (T,...)."""
    where = np.flatnonzero(is_valid)
    frames = np.arange(len(values))
    flat = values.reshape(len(values), -1)
    filled = np.stack([np.interp(frames, where, column[where]) for column in flat.T], 1)
    return np.asarray(filled.reshape(values.shape))


def torso_rotation(pose_m: F64) -> F64:
    """(T,3,3) turning the rest body (facing +z) into the torso of pose landmarks (T,33,3)."""
    across = (pose_m[:, 11] - pose_m[:, 12]) + (pose_m[:, 23] - pose_m[:, 24])
    up = pose_m[:, 11:13].mean(1) - pose_m[:, 23:25].mean(1)
    x = across / np.linalg.norm(across, axis=-1, keepdims=True).clip(1e-6)
    z = np.cross(x, up)
    z /= np.linalg.norm(z, axis=-1, keepdims=True).clip(1e-6)
    return np.stack([x, np.cross(z, x), z], -1)


def arm_rotation(rest: F64, roles: Roles, pose_m: F64, torso: F64, side: str) -> tuple[F64, F64]:
    """Shoulder rotation (T,3) relative to the torso and elbow angle (T,) that give an arm's bones."""
    first = 11 + (side == "R")
    upper, lower = (
        pose_m[:, first + 2] - pose_m[:, first],
        pose_m[:, first + 4] - pose_m[:, first + 2],
    )
    upper = upper / np.linalg.norm(upper, axis=-1, keepdims=True).clip(1e-6)
    lower = lower / np.linalg.norm(lower, axis=-1, keepdims=True).clip(1e-6)
    axis, bent = elbow_axis(roles, rest, side)
    rest_upper = rest[roles.elbow[side]] - rest[roles.shoulder[side]]
    rest_upper /= np.linalg.norm(rest_upper)
    # A nearly straight arm has no plane of its own: the rest pose's hinge, carried along, helps out.
    hinge = np.cross(upper, lower) + 0.2 * (torso @ axis)
    wanted = _frame(upper, hinge)
    own = _frame(rest_upper[None], axis[None])
    rotation = np.swapaxes(torso, 1, 2) @ wanted @ np.swapaxes(own, 1, 2)
    angle = np.arccos(np.clip((upper * lower).sum(-1), -1, 1)) - bent
    return log_rotation(rotation), angle


def _frame(first: F64, second: F64) -> F64:
    """(T,3,3) orthonormal columns: first, second made perpendicular to it, their cross product."""
    b = second - first * (first * second).sum(-1, keepdims=True)
    b /= np.linalg.norm(b, axis=-1, keepdims=True).clip(1e-6)
    return np.stack([first, b, np.cross(first, b)], -1)


def unwrap(vectors: F64) -> F64:
    """Choose among equivalent axis-angles (T,3) those that follow one another smoothly."""
    out = vectors.copy()
    for t in range(1, len(out)):
        angle = np.linalg.norm(out[t])
        if angle > 1e-6:
            other = out[t] * (1 - 2 * np.pi / angle)
            if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
                out[t] = other
    return out
