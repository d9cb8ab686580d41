"""The shape that all frames share: one linear least-squares solve, angles held, translations free."""

from __future__ import annotations

import numpy as np

from stages.body.solve import Pinhole, Posed, Problem, project, projection_jacobian, robust_weight
from stages.body_models.body_tables import BodyTables
from stages.kit.arrays import F64

LOOKS = 10.0
"""Frames of one clip err alike: a clip counts as this many independent looks at the shape."""
LIMIT = 2.5
"""Shape numbers stay within this many standard deviations."""


def improve_shape(
    tables: BodyTables, problem: Problem, camera: Pinhole, posed: Posed, shape: F64, count: int
) -> tuple[F64, F64]:
    """Return a better shape (S,) and the move of the translation (T,3) that goes with it.

    The translations are eliminated frame by frame (Schur complement), so a bigger body may step back.
    """
    targets = problem.targets
    error = project(posed.points, camera) - targets.points_px
    weights = targets.weights * robust_weight((error**2).sum(-1), targets.robust_px)
    root = np.sqrt(weights)[..., None]
    value = np.where(root > 0, error * root, 0.0).reshape(len(error), -1, 1)
    on_place = projection_jacobian(posed.points, camera) * root[..., None]
    moves = shape_moves(tables, problem, posed.rotations, count)
    on_shape = (on_place @ np.swapaxes(moves, 2, 3)).reshape(len(error), -1, count)
    on_place = on_place.reshape(len(error), -1, 3)
    turned_shape, turned_place = np.swapaxes(on_shape, 1, 2), np.swapaxes(on_place, 1, 2)
    cross = turned_place @ on_shape
    inverse = np.linalg.inv(turned_place @ on_place + 1e-3 * np.eye(3))
    by_shape, by_value = inverse @ cross, inverse @ (turned_place @ value)
    looks = LOOKS / max(len(error), LOOKS)
    hessian = (turned_shape @ on_shape - np.swapaxes(cross, 1, 2) @ by_shape).sum(0) * looks
    gradient = (turned_shape @ value - np.swapaxes(cross, 1, 2) @ by_value).sum(0)[:, 0] * looks
    step = np.linalg.solve(hessian + np.eye(count), -(gradient + shape[:count]))
    better = shape.copy()
    better[:count] = np.clip(shape[:count] + step, -LIMIT, LIMIT)
    done = (better - shape)[:count]
    return better, -(by_value[..., 0] + by_shape @ done)


def shape_moves(tables: BodyTables, problem: Problem, rotations: F64, count: int) -> F64:
    """(T,K,S,3): how each point moves with each shape number, angles and translation held.

    Forward kinematics is linear in the rest positions, so it is run on their directions.
    """
    chain = problem.chain
    joints = tables.joint_directions[:count, problem.kept].astype(np.float64)
    place = np.zeros((len(rotations), len(chain.parents), count, 3))
    for joint, parent in enumerate(chain.parents):
        if parent < 0:
            place[:, joint] = joints[:, joint]
            continue
        offset = joints[:, joint] - joints[:, parent]
        place[:, joint] = place[:, parent] + offset @ np.swapaxes(rotations[:, parent], 1, 2)
    own = np.swapaxes(problem.directions[:count] - joints[:, chain.owners], 0, 1)  # (K,S,3)
    turned = own[None] @ np.swapaxes(rotations[:, chain.owners], 2, 3)
    return np.asarray(place[:, chain.owners] + turned)
