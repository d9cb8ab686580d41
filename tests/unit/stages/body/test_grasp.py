"""Fingers reach the product, on the right side of it; pixels, limits and everything else stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.body.detections import Detections, read_detections
from stages.body.fit import BodyFit, fit_body, full_chain
from stages.body.front import front_of
from stages.body.grasp import close_on_product, needed_push
from stages.body.held_grip import KNUCKLES, TIPS, grip_of, product_depth
from stages.body.held_surface import hull_of
from stages.body.solve import forward, project, rig_matrix
from stages.body.targets import RestModel, hand_points
from stages.body_models.anny import load_anny
from stages.body_models.rig import FINGERS, anny_roles, body_dofs, finger_dofs
from tests.support.landmarks import table
from tests.unit.stages.body_models.toy_body import observe

SIZE_PX, NUM_FRAMES, SIDE = (240, 416), 12, "L"
FINGER_TIPS = TIPS[1:]
FREE = {"shoulder.L.0": -0.32, "shoulder.L.2": -1.29, "elbow.L": 0.87, "wrist.L.flex": 1.0}
"""Angles of the left arm: the hand lies 38 cm before the chest, its fingers across it."""
CHEST = {
    "shoulder.L.0": 0.24, "shoulder.L.1": 0.38, "shoulder.L.2": -1.39, "elbow.L": 1.33,
    "wrist.L.flex": 1.2, "wrist.L.sweep": -0.26,
}  # fmt: skip
"""The same, 22 cm before the chest."""


@dataclass(frozen=True, repr=False)
class Scene:
    """A fitted body and what was seen of it."""

    body: object
    roles: object
    arrays: dict[str, np.ndarray]
    seen: Detections
    fit: BodyFit

    def close(self, masks: np.ndarray) -> BodyFit:
        return close_on_product(self.body.tables, self.roles, self.seen, self.fit, masks)

    def points(self, fit: BodyFit) -> np.ndarray:
        """(T,21,3) of the left hand."""
        tables, shape = self.body.tables, fit.shape.astype(float)
        tracked = hand_points(RestModel.of(tables, shape), self.roles, SIDE)
        chain = replace(full_chain(tables, shape), owners=tracked.owners, points=tracked.rest)
        none = np.zeros((len(fit.rotations), 0))
        return forward(
            chain, none, fit.translation.astype(float), fit.rotations.astype(float)
        ).points

    def grip(self, masks: np.ndarray):
        scale = -self.fit.joints_m[:, self.roles.wrist[SIDE], 2] / self.fit.camera.focal_px
        hulls = [hull_of(mask) for mask in masks]
        return grip_of(self.seen.hand_px[SIDE], masks, hulls, scale, self.seen.head_px)

    def sunk_m(self, fit: BodyFit, masks: np.ndarray) -> np.ndarray:
        """(T,) how far hand or product are inside the trunk."""
        tables, shape = self.body.tables, fit.shape.astype(float)
        none, place = np.zeros((len(fit.rotations), 0)), fit.translation.astype(float)
        posed = forward(full_chain(tables, shape), none, place, fit.rotations.astype(float))
        front = front_of(tables, self.roles, shape, posed, fit.camera, SIZE_PX, self.seen.head_px)
        return needed_push(self.grip(masks), self.points(fit), front, fit.camera)


def pose(body, roles, arm: dict[str, float]) -> np.ndarray:
    """(T,B,3) rotations: the arm above, swaying; fingers a little bent."""
    rest = RestModel.of(body.tables, np.zeros(body.num_shape))
    tracked = hand_points(rest, roles, SIDE)
    tips = {f: tracked.rest[4 * f] for f in FINGERS}
    values = arm | {f"finger{f}.L.bend": 0.5 for f in FINGERS[1:]}
    out = np.zeros((NUM_FRAMES, len(body.bone_names), 3))
    for dof in [*body_dofs(roles, rest.joints), *finger_dofs(roles, rest.joints, tips, SIDE)]:
        for joint, axis in dof.turns:
            out[:, joint] += axis * values.get(dof.name, 0.0)
    out[:, roles.shoulder["R"], 2] = 1.0
    out[:, roles.shoulder[SIDE], 0] += 0.05 * np.sin(np.arange(NUM_FRAMES) / 4)
    return out


def scene_of(arrays: dict[str, np.ndarray]) -> Scene:
    body = load_anny()
    roles = replace(anny_roles(body.bone_names), seen_at={})
    seen = read_detections(table(arrays), *SIZE_PX)
    return Scene(body, roles, arrays, seen, fit_body(body.tables, roles, seen))


def made(arm: dict[str, float]) -> dict[str, np.ndarray]:
    """What a detector gives that sees nothing of how deep fingers are."""
    body = load_anny()
    rotations = pose(body, anny_roles(body.bone_names), arm)
    place = np.tile([0.0, -0.5, -2.0], (NUM_FRAMES, 1))
    arrays = observe(
        body,
        anny_roles(body.bone_names),
        rotations,
        place,
        np.zeros(body.num_shape),
        1.2 * SIZE_PX[1],
        SIZE_PX,
    )
    arrays["left_hand_world_m"][..., 2] = 0.0
    return arrays


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_of(made(FREE))


def disc(scene: Scene, *, radius: int = 28, shift=(-7, -8), before: bool = False) -> np.ndarray:
    """(T,H,W) a disc over tips and thumb, beside the palm; fingers before it are cut out where asked."""
    masks = np.zeros((NUM_FRAMES, *SIZE_PX[::-1]), np.uint8)
    for mask, hand in zip(masks, scene.seen.hand_px[SIDE], strict=True):
        x, y = hand[TIPS].mean(0) + shift
        cv2.circle(mask, (round(x), round(y)), radius, 1, -1)
        if before:
            for f in FINGERS[1:]:
                cv2.polylines(
                    mask, [hand[4 * f - 3 : 4 * f + 1].round().astype(np.int32)], False, 0, 7
                )
    return masks.astype(bool)


def test_hidden_tips_lie_on_the_back_and_the_thumb_opposes_them(scene: Scene) -> None:
    masks = disc(scene)
    before, after = scene.points(scene.fit)[..., 2], scene.points(scene.close(masks))[..., 2]
    grip = scene.grip(masks)
    middle = product_depth(grip, before)[:, None]
    assert (grip.side[:, FINGER_TIPS] == -1).all()
    assert (grip.side[:, 4] == 1).all()
    gap = {
        n: (z - middle - grip.side * grip.height_m)[:, TIPS]
        for n, z in (("a", before), ("b", after))
    }
    assert np.median(np.abs(gap["b"])) < 0.005 < np.median(np.abs(gap["a"]))
    assert (after[:, FINGER_TIPS] < middle).all()
    assert (after[:, 4] > middle[:, 0]).all()


def test_seen_tips_lie_on_the_front(scene: Scene) -> None:
    masks = disc(scene, radius=34, before=True)
    grip = scene.grip(masks)
    before, after = scene.points(scene.fit)[..., 2], scene.points(scene.close(masks))[..., 2]
    middle = product_depth(grip, before)[:, None]
    assert (grip.side[:, FINGER_TIPS] == 1).mean() > 0.9
    on_front = grip.side[:, FINGER_TIPS] == 1
    assert (after[:, FINGER_TIPS] > middle)[on_front].mean() > 0.95
    wanted = middle + grip.height_m[:, FINGER_TIPS]
    assert np.median(np.abs(after[:, FINGER_TIPS] - wanted)[on_front]) < 0.006


def test_no_joint_of_a_finger_is_inside(scene: Scene) -> None:
    masks = disc(scene, radius=34)
    grip = scene.grip(masks)
    before, after = scene.points(scene.fit)[..., 2], scene.points(scene.close(masks))[..., 2]
    middle = product_depth(grip, before)[:, None]
    joints = [7, 11, 15, 19]
    room = (grip.side * (after - middle) - grip.height_m)[:, joints][grip.side[:, joints] != 0]
    assert room.size
    assert np.quantile(room, 0.1) > -0.008


@pytest.mark.parametrize("before", [False, True])
def test_pixels_stay(scene: Scene, before: bool) -> None:
    after = scene.close(disc(scene, before=before))
    worse = np.nanmean(after.hand_error_head - scene.fit.hand_error_head, axis=0)
    assert worse[:21].mean() < 0.02
    assert np.nanmax(after.hand_error_head[:, :21]) < 0.12
    assert np.allclose(after.body_error_head, scene.fit.body_error_head, atol=1e-5, equal_nan=True)


def test_without_a_product_the_fit_is_the_same_object(scene: Scene) -> None:
    assert scene.close(np.zeros((NUM_FRAMES, *SIZE_PX[::-1]), bool)) is scene.fit
    assert scene.close(disc(scene, shift=(80, -120))) is scene.fit
    short = disc(scene)
    short[4:] = False
    assert scene.close(short) is scene.fit


def test_a_hand_that_holds_nothing_and_the_trunk_stay(scene: Scene) -> None:
    after = scene.close(disc(scene))
    moved = np.abs(after.rotations - scene.fit.rotations).max(axis=(0, 2)) > 1e-6
    names = {scene.body.bone_names[joint] for joint in np.flatnonzero(moved)}
    assert names
    assert all(name.startswith("finger") and name.endswith(".L") for name in names)
    assert np.array_equal(after.translation, scene.fit.translation)


def test_a_sunk_hand_comes_out_of_the_trunk(scene: Scene) -> None:
    arrays = made(CHEST)
    arrays["pose_world_m"][:, 13, 2] += 0.10
    arrays["pose_world_m"][:, 15, 2] += 0.25
    sunk = scene_of(arrays)
    masks = disc(sunk)
    after = sunk.close(masks)
    assert np.median(sunk.sunk_m(sunk.fit, masks)) > 0.03
    assert np.median(sunk.sunk_m(after, masks)) < 0.01
    assert_within_limits(sunk, after, "finger", "elbow", "twist", "wrist")
    assert np.nanmean(after.hand_error_head) < np.nanmean(sunk.fit.hand_error_head) + 0.02
    assert np.nanmean(after.body_error_head) < np.nanmean(sunk.fit.body_error_head) + 0.02


def test_a_frame_alone_is_no_hold_but_a_clip_that_is_one_run_is(scene: Scene) -> None:
    masks = disc(scene)
    assert scene.grip(masks).is_held.all()
    gap = masks.copy()
    gap[5] = False
    assert np.flatnonzero(~scene.grip(gap).is_held).tolist() == [5]


@settings(max_examples=15)
@given(
    st.integers(6, 45), st.integers(-30, 30), st.integers(-30, 30), st.booleans(), st.integers(0, 9)
)
def test_angles_stay_within_limits_whatever_is_held(
    scene: Scene, radius: int, x: int, y: int, before: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    noisy = replace(
        scene.seen,
        hand_px={s: p + rng.normal(0, 4.0, p.shape) for s, p in scene.seen.hand_px.items()},
    )
    shaken = replace(scene, seen=noisy)
    after = shaken.close(disc(shaken, radius=radius, shift=(x, y), before=before))
    if after is scene.fit:
        return
    assert_within_limits(scene, after, "finger")


def assert_within_limits(scene: Scene, fit: BodyFit, *names: str) -> None:
    """Angles of the left side with such names."""
    model = RestModel.of(scene.body.tables, fit.shape.astype(float))
    tracked = hand_points(model, scene.roles, SIDE)
    tips = {f: tracked.rest[4 * f] for f in FINGERS}
    dofs = [d for d in body_dofs(scene.roles, model.joints) if d.name.split(".")[1] == SIDE]
    dofs += finger_dofs(scene.roles, model.joints, tips, SIDE)
    table = rig_matrix(dofs, len(scene.body.bone_names)).reshape(-1, len(dofs))
    q = fit.rotations.reshape(len(fit.rotations), -1) @ np.linalg.pinv(table).T
    asked = [d.name.startswith(names) for d in dofs]
    low, high = np.array([(d.low, d.high) for d in dofs])[asked].T
    assert (q[:, asked] >= low - 1e-4).all()
    assert (q[:, asked] <= high + 1e-4).all()


def test_knuckles_follow_the_wrist(scene: Scene) -> None:
    masks = disc(scene)
    before, after = scene.points(scene.fit), scene.points(scene.close(masks))
    assert np.allclose(before[:, [0, *KNUCKLES]], after[:, [0, *KNUCKLES]], atol=1e-5)
    shift = project(after, scene.fit.camera) - project(before, scene.fit.camera)
    assert np.linalg.norm(shift, axis=-1).mean() < 0.05 * scene.seen.head_px
