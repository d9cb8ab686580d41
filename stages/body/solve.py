"""Gauss-Newton over a whole clip: forward kinematics with exact derivatives, one banded solve a step.

Unknowns are the angles ``q`` (T,D) of a rig and the root's translation (T,3). Residuals are points in pixels
and depth differences between points; priors and limits act on angles; second differences over time couple
the frames, which makes the normal equations banded with half-width 2(D+3). A step costs
about 40 ms for 154 frames, where a thousand gradient steps would be needed instead of a dozen.

Derivative of a point p with respect to an angle that turns joint c, child of b, about axis a:
``(R_b J_l(r_c) a) x (p - x_c)``, with J_l the left Jacobian of SO(3)
(Solà et al. 2018, "A micro Lie theory", equation 145).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.body_models.rig import Dof, ancestors
from stages.kit.arrays import F64, I64

_ACCELERATION_M = 0.004
"""How much the body's place may change its pace in one frame, in the mean."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A posed model's fixed part: joints, points on them, and the rig's linear map."""

    parents: I64
    """(B,)."""
    rest: F64
    """(B,3) rest joints."""
    owners: I64
    """(K,) the joint that each tracked point moves with."""
    points: F64
    """(K,3) rest points."""
    dofs: tuple[Dof, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What the picture says. Weights are 1/deviation^2; zero where nothing was seen."""

    points_px: F64
    """(T,K,2)."""
    weights: F64
    """(T,K) per pixel^2."""
    pairs: I64
    """(P,2) point indices: depth of the first relative to the second."""
    depths_m: F64
    """(T,P) along +z, towards the camera."""
    depth_weights: F64
    """(T,P) per metre^2."""
    robust_px: float
    """Residuals well beyond this count as outliers."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A chain cut out of a model, what it aims at, and how its rest points depend on shape."""

    kept: I64
    """Joints of the model that the chain's joints are."""
    chain: Chain
    targets: Targets
    directions: F64
    """(S,K,3) of the chain's rest points."""


@dataclass(frozen=True, slots=True)
class Pinhole:
    """focal and principal point in pixels; looks along -z, +y up."""

    focal_px: float
    principal_px: tuple[float, float]


@dataclass(slots=True)
class Posed:
    """Forward kinematics of all frames."""

    rotations: F64
    """(T,B,3,3) in the world."""
    joints: F64
    """(T,B,3)."""
    points: F64
    """(T,K,3)."""
    local: F64
    """(T,B,3) axis-angle per joint."""


def skew(v: F64) -> F64:
    """(...,3) -> (...,3,3) cross-product matrices."""
    out = np.zeros((*v.shape, 3))
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return out - np.swapaxes(out, -1, -2)


def exp_and_jacobian(r: F64) -> tuple[F64, F64]:
    """Rotation matrices and left Jacobians of axis-angle vectors (...,3)."""
    angle = np.linalg.norm(r, axis=-1)[..., None, None]
    small = angle < 1e-4
    a = np.where(small, 1.0, angle)
    k = skew(r)
    kk = k @ k
    sine = np.where(small, 1 - angle**2 / 6, np.sin(a) / a)
    cosine = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(a)) / a**2)
    third = np.where(small, 1 / 6 - angle**2 / 120, (a - np.sin(a)) / a**3)
    return np.eye(3) + sine * k + cosine * kk, np.eye(3) + cosine * k + third * kk


def log_rotation(rotation: F64) -> F64:
    """Axis-angle (...,3) of rotation matrices (...,3,3), angle in [0, pi]."""
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_rotvec()
    return np.asarray(flat.reshape(rotation.shape[:-1]))


def rig_matrix(dofs: Sequence[Dof], num_joints: int) -> F64:
    """(B,3,D) so that joint axis-angles are ``A @ q``."""
    matrix = np.zeros((num_joints, 3, len(dofs)))
    for index, dof in enumerate(dofs):
        for joint, axis in dof.turns:
            matrix[joint, :, index] += axis
    return matrix


def forward(chain: Chain, q: F64, translation: F64, base: F64 | None = None) -> Posed:
    """Pose all frames: q (T,D), translation (T,3), ``base`` (T,B,3) fixed axis-angles added to A q."""
    num_joints = len(chain.parents)
    local = np.einsum("bcd,td->tbc", rig_matrix(chain.dofs, num_joints), q)
    if base is not None:
        local = local + base
    turn, _ = exp_and_jacobian(local)
    world = np.empty_like(turn)
    place = np.empty_like(local)
    for joint, parent in enumerate(chain.parents):
        if parent < 0:
            world[:, joint], place[:, joint] = turn[:, joint], chain.rest[joint] + translation
            continue
        offset = chain.rest[joint] - chain.rest[parent]
        world[:, joint] = world[:, parent] @ turn[:, joint]
        place[:, joint] = place[:, parent] + world[:, parent] @ offset
    offsets = chain.points - chain.rest[chain.owners]
    points = place[:, chain.owners] + (world[:, chain.owners] @ offsets[..., None])[..., 0]
    return Posed(world, place, points, local)


def point_jacobian(chain: Chain, posed: Posed) -> F64:
    """(T,K,3,D+3): how each point moves with each angle and with the translation."""
    num_frames, num_points = posed.points.shape[:2]
    below = ancestors(chain.parents)
    entries = [(j, d, a) for d, dof in enumerate(chain.dofs) for j, a in dof.turns]
    joints = np.array([e[0] for e in entries])
    owner = np.array([e[1] for e in entries])
    used, where = np.unique(joints, return_inverse=True)
    _, jacobian = exp_and_jacobian(posed.local[:, used])
    parents = chain.parents[used]
    above = posed.rotations[:, np.maximum(parents, 0)]
    above = np.where((parents >= 0)[None, :, None, None], above, np.eye(3))
    frame = above @ jacobian
    axes = (frame[:, where] @ np.stack([e[2] for e in entries])[..., None])[..., 0]
    entry, point = np.nonzero(below[joints][:, chain.owners])
    lever = posed.points[:, point] - posed.joints[:, joints[entry]]
    moves = np.cross(axes[:, entry], lever)
    out = np.zeros((num_frames, num_points, 3, len(chain.dofs) + 3))
    for index, dof in enumerate(
        owner
    ):  # one after the other: two joints that an angle turns may move the same point
        mine = slice(*np.searchsorted(entry, [index, index + 1]))
        out[:, point[mine], :, dof] += np.swapaxes(moves[:, mine], 0, 1)
    out[:, :, np.arange(3), len(chain.dofs) + np.arange(3)] = 1.0
    return out


def project(points: F64, camera: Pinhole) -> F64:
    """(...,3) metres -> (...,2) pixels; points behind the camera are held just in front of it."""
    depth = np.maximum(-points[..., 2], 0.05)
    u = camera.principal_px[0] + camera.focal_px * points[..., 0] / depth
    v = camera.principal_px[1] - camera.focal_px * points[..., 1] / depth
    return np.stack([u, v], -1)


def projection_jacobian(points: F64, camera: Pinhole) -> F64:
    """(...,2,3) derivative of ``project``."""
    depth = np.maximum(-points[..., 2], 0.05)
    out = np.zeros((*points.shape[:-1], 2, 3))
    out[..., 0, 0] = camera.focal_px / depth
    out[..., 0, 2] = camera.focal_px * points[..., 0] / depth**2
    out[..., 1, 1] = -camera.focal_px / depth
    out[..., 1, 2] = -camera.focal_px * points[..., 1] / depth**2
    return out


def robust_weight(squared: F64, scale: float) -> F64:
    """Geman-McClure weights in (0, 1] for squared residuals."""
    return np.asarray((scale**2 / (scale**2 + squared)) ** 2)


def solve(
    chain: Chain,
    targets: Targets,
    camera: Pinhole,
    q: F64,
    translation: F64,
    *,
    steps: int,
    base: F64 | None = None,
    move_root: bool = True,
) -> tuple[F64, F64]:
    """Improve q (T,D) and translation (T,3) by ``steps`` Gauss-Newton steps; returns new ones."""
    for _ in range(steps):
        posed = forward(chain, q, translation, base)
        hessian, gradient = _data_terms(chain, targets, camera, posed)
        x = np.concatenate([q, translation], 1)
        smooth = np.array([d.acceleration for d in chain.dofs] + [_ACCELERATION_M] * 3)
        _add_priors(chain.dofs, q, hessian, gradient)
        if not move_root:
            hessian[:, -3:, :], hessian[:, :, -3:], gradient[:, -3:] = 0.0, 0.0, 0.0
            hessian[:, [-3, -2, -1], [-3, -2, -1]] = 1.0
        step = solve_banded(hessian, gradient, x, smooth)
        if not move_root:
            step[:, -3:] = 0.0
        step = np.clip(step, -0.6, 0.6)
        q, translation = q + step[:, :-3], translation + step[:, -3:]
    return q, translation


def _data_terms(chain: Chain, targets: Targets, camera: Pinhole, posed: Posed) -> tuple[F64, F64]:
    """Hessian (T,D+3,D+3) and gradient (T,D+3) of the picture's terms."""
    moves = point_jacobian(chain, posed)
    error = project(posed.points, camera) - targets.points_px
    error = np.where(targets.weights[..., None] > 0, error, 0.0)
    weights = targets.weights * robust_weight((error**2).sum(-1), targets.robust_px)
    flat = projection_jacobian(posed.points, camera) @ moves
    root = np.sqrt(weights)[..., None]
    rows = [(flat * root[..., None]).reshape(len(error), -1, flat.shape[-1])]
    values = [(error * root).reshape(len(error), -1)]
    if len(targets.pairs):
        first, second = targets.pairs[:, 0], targets.pairs[:, 1]
        gap = posed.points[:, first, 2] - posed.points[:, second, 2] - targets.depths_m
        gap = np.where(targets.depth_weights > 0, gap, 0.0)
        root = np.sqrt(targets.depth_weights * robust_weight(gap**2, 0.15))
        rows.append((moves[:, first, 2] - moves[:, second, 2]) * root[..., None])
        values.append(gap * root)
    jacobian, value = np.concatenate(rows, 1), np.concatenate(values, 1)
    turned = np.swapaxes(jacobian, 1, 2)
    return turned @ jacobian, (turned @ value[..., None])[..., 0]


def _add_priors(dofs: Sequence[Dof], q: F64, hessian: F64, gradient: F64) -> None:
    """Pull angles towards their means and, harder, back inside their limits. In place."""
    mean, deviation, low, high = np.array(
        [(d.mean, d.deviation, d.low, d.high) for d in dofs], np.float64
    ).T
    weight = 1.0 / deviation**2
    outside = np.minimum(q - low, 0.0) + np.maximum(q - high, 0.0)
    limit = np.where(outside != 0.0, 1.0 / 0.05**2, 0.0)
    gradient[:, : len(dofs)] += weight * (q - mean) + limit * outside
    index = np.arange(len(dofs))
    hessian[:, index, index] += weight + limit + 1e-6


def solve_banded(hessian: F64, gradient: F64, x: F64, deviation: F64) -> F64:
    """Solve (H + S) step = -(g + S x), S penalising second differences of x (T,N) over time."""
    from scipy.linalg import solveh_banded

    num_frames, size = x.shape
    lags = _second_difference_bands(num_frames)
    weight = 1.0 / deviation**2
    band = np.zeros((min(2, num_frames - 1) * size + size, num_frames * size))
    rows, columns = np.tril_indices(size)
    flat = band.reshape(len(band), num_frames, size)
    flat[rows - columns, :, columns] = hessian[:, rows, columns].T
    pull = gradient.copy()
    for lag, diagonal in enumerate(lags):
        count = num_frames - lag
        flat[lag * size, :count] += diagonal[:, None] * weight
        pull[lag:] += diagonal[:, None] * weight * x[:count]
        if lag:
            pull[:count] += diagonal[:, None] * weight * x[lag:]
    step = solveh_banded(band, -pull.reshape(-1), lower=True, check_finite=False)
    return np.asarray(step.reshape(num_frames, size))


def _second_difference_bands(num_frames: int) -> list[F64]:
    """Main, first and second sub-diagonals of D'D for second differences D ((T-2),T)."""
    if num_frames < 3:
        return [np.zeros(num_frames)]
    difference = np.zeros((num_frames - 2, num_frames))
    index = np.arange(num_frames - 2)
    difference[index, index], difference[index, index + 1] = 1.0, -2.0
    difference[index, index + 2] = 1.0
    square = difference.T @ difference
    return [np.diagonal(square, -lag).copy() for lag in range(3)]
