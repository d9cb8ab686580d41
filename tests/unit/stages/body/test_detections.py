from __future__ import annotations

import numpy as np
import pytest

from stages.body.detections import FACE_TO_HEAD, HEAD_M, head_height_px, own_hands, read_detections
from tests.support.landmarks import table

PAIRS = (("L", "left"), ("R", "right"))


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    face = np.zeros((2, 468, 3), np.float32)
    face[:, 152, 1] = 100
    pose = rng.uniform(0, 100, (2, 33, 4)).astype(np.float32)
    made = {"face_landmarks_px": face, "pose_landmarks_px": pose}
    made["pose_world_m"] = rng.normal(size=(2, 33, 3)).astype(np.float32)
    for (_, name), wrist in zip(PAIRS, (15, 16), strict=True):
        hand = rng.uniform(0, 30, (2, 21, 3)).astype(np.float32)
        hand[:, 0, :2] = pose[:, wrist, :2] = (20, 0) if name == "left" else (400, 0)
        hand[:, 1:, 0] += hand[0, 0, 0]
        pose[:, wrist, 3] = 1
        made[f"{name}_hand_landmarks_px"] = hand
        made[f"{name}_hand_world_m"] = rng.normal(size=(2, 21, 3)).astype(np.float32)
    return made


def test_image_axes_become_camera_axes_side_by_side(arrays: dict[str, np.ndarray]) -> None:
    seen = read_detections(table(arrays), 480, 832)
    flip = np.array([1, -1, -1])
    assert seen.size_px == (480, 832)
    assert seen.head_px == pytest.approx(100 * FACE_TO_HEAD)
    assert np.array_equal(seen.pose_m, arrays["pose_world_m"] * flip)
    for side, name in PAIRS:
        assert np.array_equal(seen.hand_px[side], arrays[f"{name}_hand_landmarks_px"][..., :2])
        assert np.array_equal(seen.hand_m[side], arrays[f"{name}_hand_world_m"] * flip)


def test_without_a_face_the_torso_says_how_high_a_head_is() -> None:
    pose_m = np.zeros((1, 33, 3))
    pose_m[:, [11, 12], 1] = 0.5
    pose_px, visibility = 400 * pose_m[..., :2], np.ones((1, 33))
    no_face = np.full((1, 468, 3), np.nan)
    assert head_height_px(pose_px, visibility, pose_m, no_face) == pytest.approx(400 * HEAD_M)
    assert head_height_px(pose_px, 0 * visibility, pose_m, no_face) == 0.0


def test_a_hand_that_both_sides_claim_stays_with_its_own_wrist() -> None:
    hand = np.tile(np.linspace(0, 40, 21)[:, None], (1, 2))[None].repeat(2, 0) + 100.0
    wrists = {"L": np.full((2, 2), 160.0), "R": np.full((2, 2), 101.0)}
    kept = own_hands({"L": hand, "R": hand.copy()}, wrists, head_px=100.0)
    assert np.isnan(kept["L"]).all()
    assert np.isfinite(kept["R"]).all()


def test_a_hand_far_from_its_wrist_goes() -> None:
    hand = np.zeros((1, 21, 2))
    other = np.full((1, 21, 2), 400.0)
    wrists = {"L": np.full((1, 2), 300.0), "R": np.full((1, 2), 400.0)}
    kept = own_hands({"L": hand, "R": other}, wrists, head_px=100.0)
    assert np.isnan(kept["L"]).all()
    assert np.isfinite(kept["R"]).all()
