from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.errors import DataError
from stages.body.detections import HEAD_M, Detections, read_detections
from stages.body.first_guess import fill_gaps, torso_rotation, unwrap
from stages.body.fit import FitOptions, fit_body
from stages.body.solve import project
from stages.body_models.rig import Roles
from tests.support.landmarks import table
from tests.unit.stages.conftest import SIZE_PX, Truth


def true_pixels(truth: Truth, camera) -> np.ndarray:
    _, joints = truth.body.pose_joints(
        *[
            torch.from_numpy(np.asarray(a, np.float32))
            for a in (truth.rotations, truth.translation, truth.shape)
        ]
    )
    return project(joints.numpy().astype(float), camera)


def error_heads(truth: Truth, seen: Detections, roles: Roles | None = None) -> np.ndarray:
    fit = fit_body(truth.body.tables, roles or truth.roles, seen)
    gap = np.linalg.norm(fit.joints_px - true_pixels(truth, fit.camera), axis=-1)
    return gap / seen.head_px


def test_a_posed_body_is_found_again(truth: Truth) -> None:
    seen = read_detections(table(truth.arrays), *SIZE_PX)
    error = error_heads(truth, seen)
    assert np.median(error) < 0.01
    assert (error < 0.1).mean() > 0.98  # PCK at a tenth of a head


def test_noise_of_a_few_pixels_is_smoothed(truth: Truth) -> None:
    noisy = dict(truth.arrays)
    rng = np.random.default_rng(0)
    for key in truth.arrays:
        if key.endswith("_px"):
            value = truth.arrays[key]
            noisy[key] = value + rng.normal(0, 2.0, value.shape).astype(np.float32)
    noisy["pose_landmarks_px"][..., 3] = truth.arrays["pose_landmarks_px"][..., 3]
    seen = read_detections(table(noisy), *SIZE_PX)
    body = [truth.roles.wrist["L"], truth.roles.elbow["R"], truth.roles.head]
    assert np.median(error_heads(truth, seen)[:, body]) < 2.0 / seen.head_px


def test_half_a_body_is_enough(truth: Truth) -> None:
    half = {k: v.copy() for k, v in truth.arrays.items()}
    half["pose_landmarks_px"][:, 23:, 3] = 0.0
    seen = read_detections(table(half), *SIZE_PX)
    upper = [*truth.roles.shoulder.values(), *truth.roles.elbow.values(), truth.roles.head]
    assert np.median(error_heads(truth, seen)[:, upper]) < 0.03


def test_a_landmark_beside_its_joint_is_accounted_for(truth: Truth) -> None:
    """Shoulders seen 2 cm further in and 3 cm higher than the joints."""
    shifted = dict(truth.arrays)
    px_per_m = read_detections(table(shifted), *SIZE_PX).head_px / HEAD_M
    pose = shifted["pose_landmarks_px"] = truth.arrays["pose_landmarks_px"].copy()
    inward = np.sign(pose[:, 12, 0] - pose[:, 11, 0])
    pose[:, 11, 0] += 0.02 * px_per_m * inward
    pose[:, 12, 0] -= 0.02 * px_per_m * inward
    pose[:, 11:13, 1] -= 0.03 * px_per_m
    seen = read_detections(table(shifted), *SIZE_PX)
    shoulders = list(truth.roles.shoulder.values())
    told = replace(truth.roles, seen_at={"shoulder": (0.02, 0.03)})
    naive = np.median(error_heads(truth, seen)[:, shoulders])
    assert np.median(error_heads(truth, seen, told)[:, shoulders]) < naive / 2


def test_gaps_are_bridged_and_marked(truth: Truth) -> None:
    gappy = {k: v.copy() for k, v in truth.arrays.items()}
    for values in gappy.values():
        values[6:9] = np.nan
    fit = fit_body(truth.body.tables, truth.roles, read_detections(table(gappy), *SIZE_PX))
    assert fit.is_valid.tolist() == [t not in (6, 7, 8) for t in range(len(fit.is_valid))]
    assert np.isnan(fit.body_error_head[7]).all()
    steps = np.abs(np.diff(fit.translation, axis=0)).max()
    assert steps < 0.05


def test_a_missing_hand_leaves_the_arm_and_gives_no_error(truth: Truth) -> None:
    one_handed = {k: v.copy() for k, v in truth.arrays.items()}
    one_handed["left_hand_landmarks_px"][:] = np.nan
    one_handed["left_hand_world_m"][:] = np.nan
    seen = read_detections(table(one_handed), *SIZE_PX)
    fit = fit_body(truth.body.tables, truth.roles, seen)
    assert np.isnan(fit.hand_error_head[:, :21]).all()
    assert np.isfinite(fit.hand_error_head[:, 21:]).all()
    assert np.isfinite(fit.rotations).all()


def test_the_same_input_gives_the_same_numbers(truth: Truth) -> None:
    seen = read_detections(table(truth.arrays), *SIZE_PX)
    first = fit_body(truth.body.tables, truth.roles, seen, FitOptions(rounds=2, finger_steps=2))
    second = fit_body(truth.body.tables, truth.roles, seen, FitOptions(rounds=2, finger_steps=2))
    assert np.array_equal(first.rotations, second.rotations)
    assert np.array_equal(first.translation, second.translation)


def test_nobody_is_a_reason(truth: Truth) -> None:
    empty = {k: np.full_like(v, np.nan) for k, v in truth.arrays.items()}
    with pytest.raises(DataError) as caught:
        fit_body(truth.body.tables, truth.roles, read_detections(table(empty), *SIZE_PX))
    assert caught.value.code == "no_pose"


def test_one_frame_is_enough(truth: Truth) -> None:
    single = {k: v[:1] for k, v in truth.arrays.items()}
    fit = fit_body(truth.body.tables, truth.roles, read_detections(table(single), *SIZE_PX))
    assert np.nanmedian(fit.body_error_head) < 0.03


def test_torso_rotation_of_a_body_that_faces_the_camera_is_none() -> None:
    pose = np.zeros((1, 33, 3))
    pose[0, 11], pose[0, 12] = (0.2, 0.5, 0), (-0.2, 0.5, 0)
    pose[0, 23], pose[0, 24] = (0.1, 0, 0), (-0.1, 0, 0)
    assert np.allclose(torso_rotation(pose)[0], np.eye(3))


def test_unwrap_follows_a_turn_past_half_a_circle() -> None:
    angles = np.linspace(2.8, 3.6, 9)
    wrapped = np.where(angles > np.pi, angles - 2 * np.pi, angles)
    vectors = np.zeros((9, 3))
    vectors[:, 1] = wrapped
    assert np.allclose(unwrap(vectors)[:, 1], angles)


def test_fill_gaps_is_linear_inside_and_constant_outside() -> None:
    values = np.array([[9.0], [1.0], [9.0], [3.0], [9.0]])
    valid = np.array([False, True, False, True, False])
    assert fill_gaps(values, valid)[:, 0].tolist() == [1, 1, 2, 3, 3]
