"""Fingers that close on the product they hold, and arms that bring hand and product before the trunk.

Comes after the landmarks' fit, for hands that are seen at the product for a while (``stages.body.held_grip``). The same
Gauss-Newton steps go on from its result. Pixels stay what they aim at; what pixels cannot say, depth, is taken from the
product: tips lie on its faces or at its outline, no part of a finger is inside it, and it lies before trunk and head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.body.detections import Detections
from stages.body.fit import BodyFit, cut, full_chain, with_shape
from stages.body.front import Front, front_of
from stages.body.held_grip import KNUCKLES, Grip, grip_of, product_depth, steady
from stages.body.held_surface import hull_of
from stages.body.solve import (
    Chain,
    Pinhole,
    Posed,
    Problem,
    Targets,
    forward,
    log_rotation,
    project,
    rig_matrix,
    robust_weight,
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
from stages.body_models.rig import FINGERS, SIDES, Roles, body_dofs, finger_dofs
from stages.kit.arrays import F64, Mask

_TOUCH_M, _EDGE_M, _PUSH_M = 0.006, 0.025, 0.01
"""Deviations of depths: on a face, at the outline, before the trunk."""
_ROBUST_M = 0.05
"""A point that the landmarks put farther than this from the product is not believed to touch it."""
_MIN_PUSH_M, _MAX_PUSH_M = 0.003, 0.3
"""Below, arms stay as they are; above, a trunk is not that thick."""
_STEPS = 3
_ARM = ("shoulder", "elbow", "twist", "wrist")
_JOINTS = [2, 3, 6, 7, 10, 11, 14, 15, 18, 19]
"""Landmarks between knuckles and tips."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """What the landmarks' fit gave, with what is needed to go on from it."""

    tables: BodyTables
    roles: Roles
    seen: Detections
    camera: Pinhole
    shape: F64
    """(S,)."""
    model: RestModel
    body: Posed
    """All joints."""


def close_on_product(
    tables: BodyTables, roles: Roles, seen: Detections, fit: BodyFit, masks: Mask
) -> BodyFit:
    """The fit with hands that hold what masks (T,H,W) show; the same object where none holds.

    The holding hands' arms and fingers end within the rig's limits.
    """
    grips, outlines = {}, [hull_of(mask) for mask in masks]
    for side in SIDES:
        scale = -fit.joints_m[:, roles.wrist[side], 2] / fit.camera.focal_px
        points = np.where(seen.is_valid[:, None, None], seen.hand_px[side], np.nan)
        grip = grip_of(points, masks, outlines, scale, seen.head_px)
        if grip is not None:
            grips[side] = grip
    if not grips:
        return fit
    rotations, shape = fit.rotations.astype(np.float64), fit.shape.astype(np.float64)
    none, place = np.zeros((len(rotations), 0)), fit.translation.astype(np.float64)
    body = forward(full_chain(tables, shape), none, place, rotations)
    model = RestModel.of(tables, shape)
    fitted = _Fitted(tables, roles, seen, fit.camera, shape, model, body)
    front = front_of(tables, roles, shape, body, fit.camera, seen.size_px, seen.head_px)
    for side, grip in grips.items():
        hand, wrist, move = _hand_problem(fitted, side)
        points = _points(hand, rotations, wrist, move)
        push = needed_push(grip, points, front, fit.camera)
        if push.max() >= _MIN_PUSH_M:
            wrist, move = _bring_forward(fitted, side, push, rotations)
        _close_fingers(fitted, hand, grip, wrist, move, rotations)
    closed = replace(fit, rotations=rotations.astype(np.float32))
    return with_shape(tables, roles, seen, closed, fit.shape)


def needed_push(grip: Grip, points_m: F64, front: Front, camera: Pinhole) -> F64:
    """How far (T,) hand and product must come towards the camera to be before trunk and head, metres.

    Args:
        grip: The hold.
        points_m: (T,21,3) the hand.
        front: Of trunk and head.
        camera: That looks at both.
    """
    floor = front.at(project(points_m, camera)) + grip.flesh_m
    hand = (floor - points_m[..., 2]).max(axis=1)
    back = product_depth(grip, points_m[..., 2]) - grip.half_m
    product = front.at(grip.spots_px).max(axis=1) - back
    push = np.clip(np.maximum(hand, product), 0, _MAX_PUSH_M)
    return steady(push[:, None], grip.is_held)[:, 0] * grip.is_held


def contact_targets(plain: Targets, grip: Grip, middle_m: F64, z_m: F64) -> Targets:
    """The landmarks' targets of a hand at depths (T,21) with those of a product at depths (T,) where they touch it.

    Tips aim at their face or at the outline. Other points of the fingers have only to be outside.
    """
    wanted = middle_m[:, None] + grip.side * grip.height_m
    inside = (wanted - z_m) * grip.side > 0
    is_active = (grip.side != 0) & grip.is_held[:, None]
    is_active[:, _JOINTS] &= inside[:, _JOINTS]
    is_active[:, [0, *KNUCKLES, 1]] = False
    weight = np.where(is_active, 1 / _TOUCH_M**2, grip.is_edge / _EDGE_M**2)
    weight *= robust_weight((wanted - z_m) ** 2, _ROBUST_M)
    # The pairs of a hand are each point and the wrist, in order.
    is_used, depths, weights = weight[:, 1:] > 0, plain.depths_m, plain.depth_weights
    return replace(
        plain,
        points_px=np.where(
            plain.weights[..., None] > 0, np.nan_to_num(grip.aim_px), plain.points_px
        ),
        depths_m=np.where(is_used, (wanted - z_m[:, :1])[:, 1:], depths),
        depth_weights=np.where(is_used, weight[:, 1:], weights),
    )


def _hand_problem(fitted: _Fitted, side: str) -> tuple[Problem, F64, F64]:
    """One hand below its wrist, the wrist's rotation in the world (T,3) and its move from rest (T,3)."""
    tables, roles, model = fitted.tables, fitted.roles, fitted.model
    tracked = hand_points(model, roles, side)
    tips = {f: tracked.rest[4 * f] for f in FINGERS}
    dofs = finger_dofs(roles, model.joints, tips, side)
    targets = hand_targets(fitted.seen, side, tracked.names)
    problem = cut(tables, model, tracked, dofs, targets, roles.wrist[side])
    return problem, *_root(problem, fitted.body)


def _arm_problem(fitted: _Fitted, side: str) -> Problem:
    """One arm below its clavicle: the whole body's problem, cut down to the arm's points and angles."""
    tables, roles, model = fitted.tables, fitted.roles, fitted.model
    tracked = body_points(model, roles)
    names = ("shoulder", "elbow", "wrist", *(f"knuckle{f}" for f in FINGERS))
    rows = [tracked.names.index(f"{name}.{side}") for name in names]
    targets = body_targets(fitted.seen, tracked)
    pairs = np.isin(targets.pairs, rows).all(axis=1)
    at = {row: index for index, row in enumerate(rows)}
    arm = Targets(
        targets.points_px[:, rows],
        targets.weights[:, rows],
        np.array([[at[point] for point in pair] for pair in targets.pairs[pairs]]),
        targets.depths_m[:, pairs],
        targets.depth_weights[:, pairs],
        targets.robust_px,
    )
    points = Tracked(
        tuple(tracked.names[row] for row in rows),
        tracked.owners[rows],
        tracked.rest[rows],
        tracked.directions[:, rows],
    )
    dofs = [
        d
        for d in body_dofs(roles, model.joints)
        if d.name.split(".")[0] in _ARM and d.name.split(".")[1] == side
    ]
    root = int(tables.parents[roles.shoulder[side]])
    return cut(tables, model, points, dofs, arm, root)


def _bring_forward(fitted: _Fitted, side: str, push_m: F64, rotations: F64) -> tuple[F64, F64]:
    """Push a hand by (T,) metres towards the camera where it is not zero; writes the arm into ``rotations``.

    Returns the wrist's new rotation in the world (T,3) and its move from rest (T,3).
    """
    arm = _arm_problem(fitted, side)
    turn, move = _root(arm, fitted.body)
    q, base = _resume(arm, rotations, turn)
    z = forward(arm.chain, q, move, base).points[..., 2]
    shoulder, wrist = 0, 2
    targets = replace(
        arm.targets,
        pairs=np.concatenate([arm.targets.pairs, [[wrist, shoulder]]]),
        depths_m=np.column_stack([arm.targets.depths_m, z[:, wrist] + push_m - z[:, shoulder]]),
        depth_weights=np.column_stack([arm.targets.depth_weights, (push_m > 0) / _PUSH_M**2]),
    )
    q, _ = solve(
        arm.chain, targets, fitted.camera, q, move, steps=_STEPS, base=base, move_root=False
    )
    posed = forward(arm.chain, limited(q, arm.chain), move, base)
    rotations[:, arm.kept[1:]] = posed.local[:, 1:]
    at = int(np.flatnonzero(arm.kept == fitted.roles.wrist[side])[0])
    return log_rotation(posed.rotations[:, at]), posed.joints[:, at] - arm.chain.rest[at]


def _close_fingers(
    fitted: _Fitted, hand: Problem, grip: Grip, wrist: F64, move: F64, rotations: F64
) -> None:
    """Fit the fingers to landmarks and product; writes into ``rotations``."""
    q, base = _resume(hand, rotations, wrist)
    z = forward(hand.chain, q, move, base).points[..., 2]
    middle = product_depth(grip, z)
    for _ in range(_STEPS):
        targets = contact_targets(hand.targets, grip, middle, z)
        q, _ = solve(
            hand.chain, targets, fitted.camera, q, move, steps=1, base=base, move_root=False
        )
        z = forward(hand.chain, q, move, base).points[..., 2]
    posed = forward(hand.chain, limited(q, hand.chain), move, base)
    rotations[:, hand.kept[1:]] = posed.local[:, 1:]


def limited(q: F64, chain: Chain) -> F64:
    """Angles (T,D) within the rig's limits."""
    return np.clip(q, [d.low for d in chain.dofs], [d.high for d in chain.dofs])


def _points(hand: Problem, rotations: F64, wrist: F64, move: F64) -> F64:
    q, base = _resume(hand, rotations, wrist)
    return forward(hand.chain, q, move, base).points


def _root(problem: Problem, body: Posed) -> tuple[F64, F64]:
    """The chain's first joint in a posed body: rotation in the world (T,3), move from rest (T,3)."""
    joint = int(problem.kept[0])
    return log_rotation(body.rotations[:, joint]), body.joints[:, joint] - problem.chain.rest[0]


def _resume(problem: Problem, rotations: F64, root: F64) -> tuple[F64, F64]:
    """Angles (T,D) and fixed rest (T,B,3) that give a chain's joints the body's ``rotations``, the first one ``root``."""
    local = rotations[:, problem.kept]
    local[:, 0] = root
    table = rig_matrix(problem.chain.dofs, len(problem.kept))
    q = local.reshape(len(local), -1) @ np.linalg.pinv(table.reshape(-1, table.shape[-1])).T
    return q, local - np.einsum("bcd,td->tbc", table, q)
