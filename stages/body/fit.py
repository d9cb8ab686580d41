"""Fits a linear body to a whole clip's landmarks: a good guess, then a few Gauss-Newton steps.

Order: torso and arms from the metric pose landmarks (closed form) -> body angles, translation and the
shared shape in turns -> fingers, each hand on its own with its wrist held. Joints only; nothing is skinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.errors import DataError
from stages.body.detections import Detections
from stages.body.first_guess import first_guess
from stages.body.shape import improve_shape
from stages.body.solve import (
    Chain,
    Pinhole,
    Problem,
    Targets,
    forward,
    log_rotation,
    project,
    solve,
)
from stages.body.targets import (
    RestModel,
    Tracked,
    body_points,
    body_targets,
    hand_points,
    hand_targets,
)
from stages.body_models.body_tables import BodyTables
from stages.body_models.rig import SIDES, Dof, Roles, ancestors, body_dofs, finger_dofs
from stages.kit.arrays import F32, F64, Flags


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
    num_shape: int = 9
    """Shape numbers that are fitted; the rest stay zero."""


@dataclass(frozen=True, slots=True)
class Posture:
    """How a body stands in every frame: (T,B,3) axis-angle, (T,3) metres, shape (S,)."""

    rotations: F64
    translation: F64
    shape: F64


@dataclass(frozen=True, slots=True)
class BodyFit:
    """The result, ready for the model's ``forward``."""

    rotations: F32
    """(T,B,3) axis-angle, rest axes."""
    translation: F32
    """(T,3) metres, camera axes."""
    shape: F32
    """(S,)."""
    camera: Pinhole
    is_valid: Flags
    joints_m: F64
    """(T,B,3)."""
    joints_px: F32
    """(T,B,2)."""
    body_error_head: F64
    """(T,K) distance of trusted landmarks in head heights, NaN where none."""
    hand_error_head: F64
    """(T,42) left then right, NaN where none."""


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
    shape = np.zeros(len(tables.vertex_directions))
    problem = body_problem(tables, roles, seen, shape)
    model = RestModel.of(tables, shape)
    q, translation = first_guess(model.joints, roles, problem.chain.dofs, seen, camera)
    for index in range(options.rounds):
        q, translation = solve(
            problem.chain, problem.targets, camera, q, translation, steps=options.steps
        )
        if index + 1 < options.rounds:
            posed = forward(problem.chain, q, translation)
            shape, move = improve_shape(tables, problem, camera, posed, shape, options.num_shape)
            translation = translation + move
            problem = body_problem(tables, roles, seen, shape)
    posed = forward(problem.chain, q, translation)
    rotations = np.zeros((len(q), len(tables.parents), 3))
    rotations[:, problem.kept] = posed.local
    body_error = _errors(problem, camera, posed.points, seen.head_px)
    posture = Posture(rotations, translation, shape)
    hand_errors = [
        _fit_fingers(tables, roles, seen, side, posture, camera, options.finger_steps)
        for side in SIDES
    ]
    full = full_chain(tables, shape)
    joints = forward(full, np.zeros((len(q), 0)), translation, rotations).joints
    return BodyFit(
        rotations.astype(np.float32),
        translation.astype(np.float32),
        shape.astype(np.float32),
        camera,
        seen.is_valid,
        joints,
        project(joints, camera).astype(np.float32),
        body_error,
        np.concatenate(hand_errors, 1),
    )


def body_problem(tables: BodyTables, roles: Roles, seen: Detections, shape: F64) -> Problem:
    """Everything but the fingers, for the present shape."""
    model = RestModel.of(tables, shape)
    tracked = body_points(model, roles)
    dofs = body_dofs(roles, model.joints)
    return cut(tables, model, tracked, dofs, body_targets(seen, tracked))


def cut(
    tables: BodyTables,
    model: RestModel,
    tracked: Tracked,
    dofs: Sequence[Dof],
    targets: Targets,
    root: int = 0,
) -> Problem:
    """Keep only the joints between ``root`` and the tracked points; ``root`` gets no parent."""
    above = ancestors(tables.parents)
    needed = [*tracked.owners, *(joint for dof in dofs for joint, _ in dof.turns)]
    kept = np.flatnonzero(above[:, needed].any(1) & above[root])
    new = {int(old): index for index, old in enumerate(kept)}
    parents = np.array([new.get(int(tables.parents[joint]), -1) for joint in kept])
    moved = tuple(replace(d, turns=tuple((new[j], axis) for j, axis in d.turns)) for d in dofs)
    owners = np.array([new[int(joint)] for joint in tracked.owners])
    chain = Chain(parents, model.joints[kept], owners, tracked.rest, moved)
    return Problem(kept, chain, targets, tracked.directions)


def _fit_fingers(
    tables: BodyTables,
    roles: Roles,
    seen: Detections,
    side: str,
    posture: Posture,
    camera: Pinhole,
    steps: int,
) -> F64:
    """Fit one hand's fingers with the wrist held; writes into the rotations, returns errors (T,21)."""
    rotations = posture.rotations
    model = RestModel.of(tables, posture.shape)
    wrist = roles.wrist[side]
    tracked = hand_points(model, roles, side)
    tips = {f: tracked.rest[4 * f] for f in range(1, 6)}
    dofs = finger_dofs(roles, model.joints, tips, side)
    problem = cut(tables, model, tracked, dofs, hand_targets(seen, side, tracked.names), wrist)
    wrist_turn, place = _wrist(tables, posture, wrist)
    base = np.zeros((len(rotations), len(problem.kept), 3))
    base[:, 0] = wrist_turn
    q = np.tile([d.mean for d in dofs], (len(rotations), 1))
    q, _ = solve(
        problem.chain, problem.targets, camera, q, place, steps=steps, base=base, move_root=False
    )
    posed = forward(problem.chain, q, place, base)
    rotations[:, problem.kept[1:]] = posed.local[:, 1:]
    return _errors(problem, camera, posed.points, seen.head_px)


def _wrist(tables: BodyTables, posture: Posture, wrist: int) -> tuple[F64, F64]:
    """A wrist's rotation in the world (T,3) as axis-angle, and its move from rest (T,3)."""
    chain = full_chain(tables, posture.shape)
    angles = np.zeros((len(posture.rotations), 0))
    arm = forward(chain, angles, posture.translation, posture.rotations)
    return log_rotation(arm.rotations[:, wrist]), arm.joints[:, wrist] - chain.rest[wrist]


def with_shape(
    tables: BodyTables, roles: Roles, seen: Detections, fit: BodyFit, shape: F32
) -> BodyFit:
    """The same angles with another shape (S,); joints and errors follow."""
    rotations, translation = fit.rotations.astype(np.float64), fit.translation.astype(np.float64)
    none, numbers = np.zeros((len(rotations), 0)), shape.astype(np.float64)
    problem = body_problem(tables, roles, seen, numbers)
    chain = replace(problem.chain, dofs=())
    posed = forward(chain, none, translation, rotations[:, problem.kept])
    errors = [_errors(problem, fit.camera, posed.points, seen.head_px)]
    model = RestModel.of(tables, numbers)
    for side in SIDES:
        wrist, tracked = roles.wrist[side], hand_points(model, roles, side)
        hand = cut(tables, model, tracked, (), hand_targets(seen, side, tracked.names), wrist)
        base = rotations[:, hand.kept]
        base[:, 0], place = _wrist(tables, Posture(rotations, translation, numbers), wrist)
        points = forward(hand.chain, none, place, base).points
        errors.append(_errors(hand, fit.camera, points, seen.head_px))
    joints = forward(full_chain(tables, numbers), none, translation, rotations).joints
    return replace(
        fit, shape=shape, joints_m=joints, joints_px=project(joints, fit.camera).astype(np.float32),
        body_error_head=errors[0], hand_error_head=np.concatenate(errors[1:], 1),
    )  # fmt: skip


def full_chain(tables: BodyTables, shape: F64) -> Chain:
    """All joints, no points, no angles."""
    rest = RestModel.of(tables, shape).joints
    return Chain(tables.parents, rest, np.zeros(0, np.int64), np.zeros((0, 3)), ())


def _errors(problem: Problem, camera: Pinhole, points: F64, head_px: float) -> F64:
    """(T,K) reprojection errors in head heights; NaN where nothing was seen."""
    gap = np.linalg.norm(project(points, camera) - problem.targets.points_px, axis=-1) / head_px
    return np.where(problem.targets.weights > 0, gap, np.nan)
