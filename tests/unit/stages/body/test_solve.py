from __future__ import annotations

import numpy as np
import pytest

from stages.body.solve import (
    Chain,
    Pinhole,
    Targets,
    exp_and_jacobian,
    forward,
    log_rotation,
    point_jacobian,
    project,
    projection_jacobian,
    robust_weight,
    solve,
    solve_banded,
)
from stages.body_models.rig import Dof, ancestors

CAMERA = Pinhole(500.0, (100.0, 120.0))


@pytest.fixture
def chain() -> Chain:
    """Root, arm, forearm and a side branch; the last angle turns two joints."""
    rng = np.random.default_rng(0)
    axes = [rng.normal(size=3) for _ in range(6)]
    dofs = [Dof(f"root.{i}", ((0, np.eye(3)[i]),)) for i in range(3)]
    dofs += [Dof(f"arm.{i}", ((1, axes[i]),)) for i in range(3)]
    dofs += [Dof("fore", ((2, axes[3]),)), Dof("both", ((1, axes[4]), (3, axes[5])))]
    rest = np.array([[0, 0, 0], [0.1, 0.4, 0], [0.4, 0.4, 0.05], [-0.2, 0.3, 0]], float)
    points = np.array([[0.6, 0.4, 0], [0.1, 0.4, 0], [-0.4, 0.3, 0.1], [0, -0.2, 0.1]], float)
    owners = np.array([2, 1, 3, 0])
    return Chain(np.array([-1, 0, 1, 0]), rest, owners, points, tuple(dofs))


def random_pose(chain: Chain, num_frames: int, seed: int = 1):
    rng = np.random.default_rng(seed)
    q = 0.5 * rng.normal(size=(num_frames, len(chain.dofs)))
    return q, np.array([0, 0, -2.0]) + 0.1 * rng.normal(size=(num_frames, 3))


def test_exp_is_a_rotation_and_log_inverts_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    turn, _ = exp_and_jacobian(vectors)
    assert np.allclose(turn @ np.swapaxes(turn, -1, -2), np.eye(3))
    assert np.allclose(log_rotation(turn), vectors, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 3.0])
def test_left_jacobian_matches_finite_differences(scale: float) -> None:
    r = scale * np.array([0.3, -0.5, 0.8])
    turn, jacobian = exp_and_jacobian(r)
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        moved = exp_and_jacobian(r + step)[0] @ turn.T - exp_and_jacobian(r - step)[0] @ turn.T
        twist = np.array([moved[2, 1], moved[0, 2], moved[1, 0]]) / 2e-6
        assert np.allclose(twist, jacobian[:, i], atol=1e-6)


def test_point_jacobian_matches_finite_differences(chain: Chain) -> None:
    q, place = random_pose(chain, 3)
    jacobian = point_jacobian(chain, forward(chain, q, place))
    x = np.concatenate([q, place], 1)
    for index in range(x.shape[1]):
        step = np.zeros_like(x)
        step[:, index] = 1e-6
        high = forward(chain, (x + step)[:, :-3], (x + step)[:, -3:]).points
        low = forward(chain, (x - step)[:, :-3], (x - step)[:, -3:]).points
        assert np.allclose((high - low) / 2e-6, jacobian[..., index], atol=1e-6)


def test_projection_jacobian_matches_finite_differences() -> None:
    points = np.array([[0.1, 0.2, -1.5], [-0.3, 0.1, -2.0]])
    jacobian = projection_jacobian(points, CAMERA)
    for i in range(3):
        step = 1e-6 * np.eye(3)[i]
        slope = (project(points + step, CAMERA) - project(points - step, CAMERA)) / 2e-6
        assert np.allclose(slope, jacobian[..., i], atol=1e-3)


def test_up_in_the_world_is_up_in_the_picture() -> None:
    u, v = project(np.array([0.1, 0.1, -1.0]), CAMERA)
    assert (u, v) == (150.0, 70.0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
def test_banded_solve_equals_the_dense_one(num_frames: int) -> None:
    rng = np.random.default_rng(num_frames)
    size = 4
    root = rng.normal(size=(num_frames, 6, size))
    hessian = np.swapaxes(root, 1, 2) @ root + np.eye(size)
    gradient, x = rng.normal(size=(2, num_frames, size))
    deviation = rng.uniform(0.1, 1.0, size)
    difference = np.zeros((max(num_frames - 2, 0), num_frames))
    for row in range(len(difference)):
        difference[row, row : row + 3] = 1, -2, 1
    smooth = np.kron(difference.T @ difference, np.diag(1 / deviation**2))
    dense = smooth.copy()
    for t in range(num_frames):
        block = slice(t * size, (t + 1) * size)
        dense[block, block] += hessian[t]
    expected = np.linalg.solve(dense, -(gradient.reshape(-1) + smooth @ x.reshape(-1)))
    step = solve_banded(hessian, gradient, x, deviation)
    assert np.allclose(step.reshape(-1), expected)


def test_ancestors_know_the_whole_branch() -> None:
    table = ancestors(np.array([-1, 0, 1, 0]))
    assert table.astype(int).tolist() == [[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_solve_finds_a_pose_again_and_shrugs_off_an_outlier(chain: Chain) -> None:
    num_frames = 12
    time = np.linspace(0, 1, num_frames)[:, None]
    q = 0.3 * time * np.ones((1, len(chain.dofs)))
    place = np.tile([0.0, 0.0, -2.0], (num_frames, 1))
    seen = project(forward(chain, q, place).points, CAMERA)
    broken = seen.copy()
    broken[5, 0] += 300.0
    weights = np.ones((num_frames, len(chain.points)))
    none = np.zeros((0, 2), np.int64)
    targets = Targets(
        broken, weights, none, np.zeros((num_frames, 0)), np.zeros((num_frames, 0)), robust_px=20.0
    )
    start = np.zeros_like(q), place + np.array([0.05, 0.0, -0.1])
    found, where = solve(chain, targets, CAMERA, *start, steps=12)
    error = np.linalg.norm(project(forward(chain, found, where).points, CAMERA) - seen, axis=-1)
    assert np.median(error) < 1.0
    assert error[5, 0] < 6.0


def test_robust_weight_falls_with_the_residual() -> None:
    weights = robust_weight(np.array([0.0, 1.0, 100.0]), 1.0)
    assert weights[0] == 1.0
    assert weights[1] == pytest.approx(0.25)
    assert weights[2] < 1e-3
