"""Poses: arms that bring a product along its path, fingers that close until they touch it.

The path of the product gives, through the grip, where a palm should be. A few angles per frame (the rig of
``stages.body_models.rig``) are solved for all key poses at once; the product then follows the real palm rigidly, so
that what is held never slides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from jobs.studio.arms import Arms, Reach, Target, floats, held
from jobs.studio.grips import Grip, choose_grips, directions, sign_of
from jobs.studio.hands import Hand
from jobs.studio.products import Product
from jobs.studio.scripts import Take
from schemas.clock import FPS
from stages.body_models.anny import AnnyBody
from stages.body_models.linear_body import rotation_matrices
from stages.body_models.rig import SIDES, anny_roles
from stages.kit.arrays import F32, F64, I64, Flags

_KEY_EVERY = 5
_POINTS, _REACH_M = 0.35, 0.13
"""Share of takes in which the free hand is at the product, and how far from its palm fingers reach."""
_SHALLOW_M = 0.06
_OUT_OF_SIGHT = np.array([0.0, -50.0, -50.0], np.float32)
"""Where there is no product."""


@dataclass(frozen=True, slots=True)
class Acted:
    """A take's motion: ``rotations`` (T,B,3), and the product's ``turn`` (T,3,3) and ``place`` (T,3) in body axes.

    ``holds`` (T,2) bool: the left, right hand holds the product. Body axes: origin at the rest root.
    """

    rotations: F32
    turn: F32
    place: F32
    holds: Flags


class Actor:
    """Solves takes for one body shape."""

    def __init__(self, body: AnnyBody, shape: Tensor) -> None:
        self.body, self.shape = body, shape
        self.roles = anny_roles(body.bone_names)
        self.rest = body.rest_joints(shape).numpy().astype(np.float64)
        self.hands = {side: Hand(body, shape, self.roles, side) for side in SIDES}
        self._arms = Arms(body, shape, self.roles, self.rest, self.hands)
        self.chest = self.rest[self.roles.spine[-1]]

    def act(self, take: Take, product: Product | None, seed: int) -> Acted:
        """Solve a whole take; without a product both hands talk."""
        frames = np.arange(0, take.num_frames + _KEY_EVERY, _KEY_EVERY)
        grips = self._grips(take, product, seed)
        angles = self._solve(frames, take, product, grips, seed, is_course=True)
        every = CubicSpline(frames, angles)(np.arange(take.num_frames))
        acted = self._acted(every, take, product, grips, seed)
        if take.put_down_frame is not None and product is not None:
            self._put_down(acted, take.put_down_frame, product, grips)
        return acted

    def poses(self, take: Take, product: Product | None, seed: int, frames: I64) -> Acted:
        """Single frames of a take, each solved by itself: as many rows as ``frames`` (K,)."""
        grips = self._grips(take, product, seed)
        angles = self._solve(frames, take, product, grips, seed, is_course=False)
        return self._acted(angles, take, product, grips, seed)

    def _grips(self, take: Take, product: Product | None, seed: int) -> dict[str, Grip]:
        if product is None or not take.sides:
            return {}
        palms = {side: hand.flat_skin() for side, hand in self.hands.items()}
        return choose_grips(product, palms, take.sides, np.random.default_rng(seed))

    def _acted(
        self, angles: F64, take: Take, product: Product | None, grips: Mapping[str, Grip], seed: int
    ) -> Acted:
        """Arms from their angles (T,Q), hands closed or free, and the product where the palm carries it."""
        rotations = self._arms.rotations(floats(angles))
        rng = np.random.default_rng([seed, 5])
        for side, hand in self.hands.items():
            if product is not None and side in grips:
                rotations += hand.rotations(hand.closed(product, grips[side]))
            else:
                rotations += self._free_hand(hand, len(angles), take, rng)
        turn = np.tile(np.eye(3, dtype=np.float32), (len(angles), 1, 1))
        place = np.tile(_OUT_OF_SIGHT, (len(angles), 1))
        if grips:
            still = torch.zeros(len(angles), 3)
            world, joints = self.body.pose_joints(rotations, still, self.shape)
            turn, place = (v.numpy() for v in self._arms.follow(world, joints, grips))
        holds = np.zeros((len(angles), 2), bool)
        holds[:, [SIDES.index(s) for s in grips]] = True
        return Acted(rotations.numpy(), turn, place, holds)

    def _free_hand(self, hand: Hand, count: int, take: Take, rng: np.random.Generator) -> Tensor:
        """Rotations (T,B,3) of a hand that holds nothing: it changes with what is said, where the take gestures."""
        if not take.gestures:
            return hand.rotations(hand.relaxed())
        keys = torch.stack(
            [hand.rotations(hand.gesture(rng)) for _ in range(max(count // 20, 1) + 2)]
        )
        at = torch.linspace(0, len(keys) - 1.001, count)
        before = at.floor().long()
        share = ((at - before)[:, None, None] * 2 - 0.5).clamp(0, 1)
        return keys[before] * (1 - share) + keys[before + 1] * share

    def _put_down(
        self, acted: Acted, frame: int, product: Product, grips: Mapping[str, Grip]
    ) -> None:
        """From ``frame`` on the product stands, and the hands open within six frames."""
        acted.holds[frame:] = False
        acted.turn[frame - 1 :] = np.eye(3)
        acted.place[frame - 1 :] = acted.place[frame - 1]
        change = np.zeros_like(acted.rotations[0])
        for side, grip in grips.items():
            hand = self.hands[side]
            opened, closed = hand.relaxed(), hand.closed(product, grip)
            change += (hand.rotations(opened) - hand.rotations(closed)).numpy()
        weight = np.clip(np.arange(len(acted.rotations) - frame) / 5, 0, 1)
        acted.rotations[frame:] += weight[:, None, None] * change

    def _solve(
        self,
        frames: I64,
        take: Take,
        product: Product | None,
        grips: Mapping[str, Grip],
        seed: int,
        *,
        is_course: bool,
    ) -> F64:
        """Angles (K,Q) of trunk and arms at the given frames."""
        rng = np.random.default_rng(seed)
        sway = self._arms.sway(frames, rng)
        turn, place = self._path(take, product, frames)
        targets = {}
        for side in SIDES:
            if side in grips:
                targets[side] = held(grips[side], floats(turn), floats(place))
                continue
            targets[side] = self._free_target(side, take, frames, rng)
            if take.gestures and product is not None and rng.random() < _POINTS:
                targets[side] = _beside(side, product, place, rng)
        reach = Reach(sway, targets, grips, is_course, take.gestures)
        return self._arms.solve(reach)

    def _path(self, take: Take, product: Product | None, frames: I64) -> tuple[F64, F64]:
        """Wanted turn (K,3,3) and place (K,3) of the product at the key frames; what is deep stays off the chest."""
        keys = np.array(
            [(k.frame, k.x_m, k.y_m, k.z_m, k.yaw_deg, k.roll_deg, k.pitch_deg) for k in take.keys]
        )
        if take.put_down_frame is not None:  # down to the table, upright, then away
            keys = keys[keys[:, 0] < take.put_down_frame - 30]
            x = keys[-1, 1]
            low = (take.put_down_frame, x, -0.2, 0.3, 0, 0, 0)
            away = (take.put_down_frame + 25, x * 2.4, -0.24, 0.22, 0, 0, 0)
            later = (take.num_frames + 60, x * 2.4, -0.26, 0.22, 0, 0, 0)
            keys = np.concatenate([keys, np.array([low, away, later])])
        values = CubicSpline(keys[:, 0], keys[:, 1:], bc_type="clamped")(
            np.clip(frames, keys[0, 0], keys[-1, 0])
        )
        angle = np.deg2rad(values[:, 3:])
        axis_angle = torch.from_numpy(
            np.stack([angle[:, 2], angle[:, 0], angle[:, 1]], 1)
        )  # pitch about x, yaw about y, roll about z
        deep = 0.0 if product is None else max(product.half_m[2] - _SHALLOW_M, 0.0)
        return rotation_matrices(axis_angle).numpy(), self.chest + values[:, :3] + (0, 0, deep)

    def _free_target(self, side: str, take: Take, frames: I64, rng: np.random.Generator) -> Target:
        """Where a hand that holds nothing moves about."""
        sign = sign_of(side)
        phase = rng.uniform(0, 2 * np.pi, 3)
        wave = np.sin(frames[:, None] / FPS * np.array([2.1, 3.3, 1.7]) + phase)
        home, reach = np.array([sign * 0.17, -0.19, 0.24]), np.array([0.03, 0.07, 0.03])
        toward = np.array([-0.35 * sign, 0.75, 0.55])
        palm = np.array([-0.75 * sign, -0.1, 0.3])
        if take.gestures:
            home = home + rng.uniform(-1, 1, 3) * (0.07, 0.12, 0.05)
            reach = reach + rng.uniform(0, 1, 3) * (0.06, 0.08, 0.04)
            toward = toward + rng.normal(0, 0.3, 3)
            palm = palm + rng.normal(0, 0.7, 3)
        centre = self.chest + home + wave * reach
        along = np.tile(toward, (len(frames), 1))
        out = np.tile(palm, (len(frames), 1))
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        out -= along * (out * along).sum(1, keepdims=True)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return floats(centre), floats(along), floats(out)


def _beside(side: str, product: Product, place: F64, rng: np.random.Generator) -> Target:
    """An empty hand beside the product (K frames), its fingers towards it: it points and touches nothing."""
    sign = sign_of(side)
    aside = product.half_m[0] + _REACH_M + rng.uniform(0, 0.05)
    centre = place + np.array([sign * aside, rng.uniform(-0.5, 0.5) * product.half_m[1], 0.04])
    along, out = directions(
        (-sign, rng.uniform(-0.2, 0.4), rng.uniform(-0.3, 0.2)), tuple(rng.normal(0, 1, 3))
    )
    count = (len(place), 1)
    return floats(centre), floats(np.tile(along, count)), floats(np.tile(out, count))
