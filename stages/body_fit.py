"""Fits a linear body to a whole clip's landmarks: a good guess, then a few Gauss-Newton steps.

Order: torso and arms from the metric pose landmarks (closed form) -> body angles, translation and the
shared shape in turns -> fingers, each hand on its own with its wrist held. Joints only; nothing is skinned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DataError
from stages.backends.linear_body import BodyTables
from stages.body_rig import (
    FINGERS,
    SIDES,
    Roles,
    body_dofs,
    elbow_axis,
    finger_dofs,
)
from stages.body_solve import (
    Chain,
    Float,
    Pinhole,
    Targets,
    ancestors,
    exp_and_jacobian,
    forward,
    log_rotation,
    project,
    projection_jacobian,
    robust_weight,
    solve,
)
from stages.body_targets import (
    HEAD_M,
    Detections,
    Tracked,
    body_points,
    body_targets,
    hand_points,
    hand_targets,
)


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How hard to try."""

    focal_ratio: float = 1.2
    """Focal length over the picture's longer side."""
    rounds: int = 4
    """Rounds of (angles, shape)."""
    steps: int = 3
    """Gauss-Newton steps of a round."""
    finger_steps: int = 6
    num_shape: int = 8
    """Shape numbers that are fitted; the rest stay zero."""


@dataclass(frozen=True, slots=True)
class BodyFit:
    """The result, ready for the model's ``forward``."""

    rotations: NDArray[np.float32]
    """(T,B,3) axis-angle, rest axes."""
    translation: NDArray[np.float32]
    """(T,3) metres, camera axes."""
    shape: NDArray[np.float32]
    """(S,)."""
    camera: Pinhole
    is_valid: NDArray[np.bool_]
    joints_m: Float
    """(T,B,3)."""
    joints_px: NDArray[np.float32]
    """(T,B,2)."""
    body_error_head: Float
    """(T,K) distance of trusted landmarks, NaN where none."""
    hand_error_head: Float
    """(T,42) left then right, NaN where none."""


@dataclass(slots=True)
class _State:
    """What the rounds improve."""

    q: Float
    translation: Float
    shape: Float


def fit_body(
    tables: BodyTables, roles: Roles, seen: Detections, options: FitOptions | None = None
) -> BodyFit:
    """Fit one clip.

    Raises:
        DataError: ``no_pose`` where no frame shows a usable pose.
    """
    options = options or FitOptions()
    if seen.head_px <= 0 or not seen.is_valid.any():
        raise DataError("no_pose", f"0 of {len(seen.pose_px)} frames show a torso")
    width, height = seen.size_px
    camera = Pinhole(options.focal_ratio * max(width, height), ((width - 1) / 2, (height - 1) / 2))
    state = _initial(tables, roles, seen, camera)
    tracked, chain, targets = _body_problem(tables, roles, seen, state.shape)
    for round_index in range(options.rounds):
        state.q, state.translation = solve(
            chain, targets, camera, state.q, state.translation, steps=options.steps
        )
        if round_index + 1 < options.rounds:
            state = _fit_shape(tables, tracked, chain, targets, camera, state, options.num_shape)
            tracked, chain, targets = _body_problem(tables, roles, seen, state.shape)
    local = forward(chain, state.q, state.translation).local
    rotations = np.zeros((len(local), len(tables.parents), 3))
    rotations[:, _kept(tables, roles, tracked.owners)] = local
    for side in SIDES:
        _fit_fingers(tables, roles, seen, state, rotations, camera, side, options.finger_steps)
    return _finish(tables, roles, seen, state, rotations, camera)


# --- the problem in terms of chains ------------------------------------------------------------------


def rest_of(tables: BodyTables, shape: Float) -> tuple[Float, Float]:
    """Rest joints (B,3) and landmarks (K,3) of a shape (S,)."""
    joints = tables.template_joints + np.einsum("s,sbd->bd", shape, tables.joint_directions)
    marks = tables.template_landmarks + np.einsum("s,skd->kd", shape, tables.landmark_directions)
    return joints.astype(np.float64), marks.astype(np.float64)


def _kept(tables: BodyTables, roles: Roles, owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joints that matter to some points: their ancestors and themselves, in order."""
    used = ancestors(tables.parents)[:, [*owners, *roles.spine, *roles.neck, roles.head]]
    return np.flatnonzero(used.any(1))


def _cut(
    tables: BodyTables, rest: Float, kept: NDArray[np.int64], tracked: Tracked,
    dofs: list[object] | tuple[object, ...],
) -> Chain:
    """A chain over some joints only; a joint whose parent is left out becomes a root."""
    new = {int(old): index for index, old in enumerate(kept)}
    parents = np.array([new.get(int(tables.parents[j]), -1) for j in kept])
    moved = tuple(
        replace(d, turns=tuple((new[j], axis) for j, axis in d.turns if j in new))  # type: ignore[type-var, attr-defined]
        for d in dofs
    )
    owners = np.array([new[int(j)] for j in tracked.owners])
    return Chain(parents, rest[kept], owners, tracked.rest, moved)  # type: ignore[arg-type]


def _body_problem(
    tables: BodyTables, roles: Roles, seen: Detections, shape: Float
) -> tuple[Tracked, Chain, Targets]:
    rest, marks = rest_of(tables, shape)
    tracked = body_points(tables, roles, rest, marks)
    kept = _kept(tables, roles, tracked.owners)
    chain = _cut(tables, rest, kept, tracked, body_dofs(roles, rest))
    return tracked, chain, body_targets(seen, tracked)


# --- the first guess ---------------------------------------------------------------------------------


def _initial(tables: BodyTables, roles: Roles, seen: Detections, camera: Pinhole) -> _State:
    """Torso and arms from the metric landmarks, depth from the head's size."""
    shape = np.zeros(len(tables.vertex_directions))
    rest, _ = rest_of(tables, shape)
    dofs = body_dofs(roles, rest)
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
    target = np.stack([
        (middle[:, 0] - camera.principal_px[0]) * depth / camera.focal_px,
        -(middle[:, 1] - camera.principal_px[1]) * depth / camera.focal_px,
        np.full(len(middle), -depth),
    ], 1)
    neck = rest[[roles.shoulder[s] for s in SIDES]].mean(0)
    above = neck - rest[roles.root]
    translation = target - rest[roles.root] - (torso @ above)
    return _State(q, translation, shape)


def fill_gaps(values: Float, is_valid: NDArray[np.bool_]) -> Float:
    """Replace frames that are not valid by linear interpolation between valid ones; (T,...)."""
    where = np.flatnonzero(is_valid)
    frames = np.arange(len(values))
    flat = values.reshape(len(values), -1)
    filled = np.stack([np.interp(frames, where, column[where]) for column in flat.T], 1)
    return np.asarray(filled.reshape(values.shape))


def torso_rotation(pose_m: Float) -> Float:
    """(T,3,3) turning the rest body (facing +z) into the torso of pose landmarks (T,33,3)."""
    across = (pose_m[:, 11] - pose_m[:, 12]) + (pose_m[:, 23] - pose_m[:, 24])
    up = pose_m[:, 11:13].mean(1) - pose_m[:, 23:25].mean(1)
    x = across / np.linalg.norm(across, axis=-1, keepdims=True).clip(1e-6)
    z = np.cross(x, up)
    z /= np.linalg.norm(z, axis=-1, keepdims=True).clip(1e-6)
    return np.stack([x, np.cross(z, x), z], -1)


def arm_rotation(
    rest: Float, roles: Roles, pose_m: Float, torso: Float, side: str
) -> tuple[Float, Float]:
    """Shoulder rotation (T,3) relative to the torso and elbow angle (T,) that give an arm's bones."""
    first = 11 + (side == "R")
    upper, lower = pose_m[:, first + 2] - pose_m[:, first], pose_m[:, first + 4] - pose_m[:, first + 2]
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


def _frame(first: Float, second: Float) -> Float:
    """(T,3,3) orthonormal columns: first, second made perpendicular to it, their cross product."""
    b = second - first * (first * second).sum(-1, keepdims=True)
    b /= np.linalg.norm(b, axis=-1, keepdims=True).clip(1e-6)
    return np.stack([first, b, np.cross(first, b)], -1)


def unwrap(vectors: Float) -> Float:
    """Choose among equivalent axis-angles (T,3) those that follow one another smoothly."""
    out = vectors.copy()
    for t in range(1, len(out)):
        angle = np.linalg.norm(out[t])
        if angle > 1e-6:
            other = out[t] * (1 - 2 * np.pi / angle)
            if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
                out[t] = other
    return out


# --- shape -------------------------------------------------------------------------------------------


def _fit_shape(
    tables: BodyTables, tracked: Tracked, chain: Chain, targets: Targets, camera: Pinhole,
    state: _State, count: int,
) -> _State:
    """One linear solve for the shared shape, with every frame's translation free, angles held."""
    posed = forward(chain, state.q, state.translation)
    moves = shape_moves(tables, tracked, chain, posed.rotations, count)
    error = project(posed.points, camera) - targets.points_px
    weights = targets.weights * robust_weight((error**2).sum(-1), targets.robust_px)
    root = np.sqrt(weights)[..., None]
    error = np.where(weights[..., None] > 0, error * root, 0.0).reshape(len(error), -1)
    lens = projection_jacobian(posed.points, camera) * root[..., None]
    on_shape = np.einsum("tkij,tksj->tkis", lens, moves).reshape(len(error), -1, count)
    on_place = lens.reshape(len(error), -1, 3)
    h_pp = np.swapaxes(on_place, 1, 2) @ on_place + 1e-3 * np.eye(3)
    h_ps = np.swapaxes(on_place, 1, 2) @ on_shape
    g_p = (np.swapaxes(on_place, 1, 2) @ error[..., None])[..., 0]
    solved_s, solved_g = np.linalg.solve(h_pp, h_ps), np.linalg.solve(h_pp, g_p[..., None])[..., 0]
    # Frames of one clip err alike, so a clip counts as about ten independent looks at the shape.
    looks = 10.0 / max(len(error), 10)
    h = (np.swapaxes(on_shape, 1, 2) @ on_shape - np.swapaxes(h_ps, 1, 2) @ solved_s).sum(0) * looks
    g = ((np.swapaxes(on_shape, 1, 2) @ error[..., None])[..., 0]
         - (np.swapaxes(h_ps, 1, 2) @ g_p[..., None] * 0)[..., 0]
         - np.einsum("tps,tp->ts", h_ps, solved_g)).sum(0) * looks
    step = np.linalg.solve(h + np.eye(count), -(g + state.shape[:count]))
    shape = state.shape.copy()
    shape[:count] = np.clip(shape[:count] + step, -2.5, 2.5)
    done = shape[:count] - state.shape[:count]
    return _State(state.q, state.translation - solved_g - solved_s @ done, shape)


def shape_moves(
    tables: BodyTables, tracked: Tracked, chain: Chain, rotations: Float, count: int
) -> Float:
    """(T,K,S,3): how each tracked point moves with each shape number, angles and root held."""
    owners_full = tracked.owners
    full = np.flatnonzero(np.isin(np.arange(len(tables.parents)), _chain_joints(tables, chain)))
    joints = tables.joint_directions[:count][:, full].astype(np.float64)
    place = np.zeros((len(rotations), len(full), count, 3))
    for joint, parent in enumerate(chain.parents):
        if parent < 0:
            place[:, joint] = joints[:, joint]
            continue
        offset = joints[:, joint] - joints[:, parent]
        place[:, joint] = place[:, parent] + np.einsum(
            "tij,sj->tsi", rotations[:, parent], offset
        )
    own = _point_directions(tables, tracked)[:count] - tables.joint_directions[:count][:, owners_full]
    return place[:, chain.owners] + np.einsum("tkij,skj->tksi", rotations[:, chain.owners], own)


def _chain_joints(tables: BodyTables, chain: Chain) -> NDArray[np.int64]:
    raise NotImplementedError


def _point_directions(tables: BodyTables, tracked: Tracked) -> Float:
    raise NotImplementedError
