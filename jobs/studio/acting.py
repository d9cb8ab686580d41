"""Poses: arms that bring a product along its path, fingers that close until they touch it.

The path of the product gives, through the grip, where a palm should be. A few angles per frame (the rig of
``stages.body_rig``) are solved for all key poses at once; the product then follows the real palm rigidly, so
that what is held never slides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from jobs.studio.grips import Grip, choose_grips, sign_of
from jobs.studio.hands import Hand
from jobs.studio.products import Product
from jobs.studio.scripts import Take
from stages.backends.anny_body import AnnyBody
from stages.backends.linear_body import rotation_matrices
from stages.body_rig import (
    SIDES,
    Dof,
    anny_roles,
    body_dofs,
)

Float = NDArray[np.float32]
Double = NDArray[np.float64]
_KEY_EVERY = 5
_JOINED = 12.0
"""Weight of the left palm's place once the right hand carries the product."""
_SHALLOW_M = 0.06
_OUT_OF_SIGHT = np.array([0.0, -50.0, -50.0], np.float32)
"""Where there is no product."""


@dataclass(frozen=True, slots=True)
class Acted:
    """A take's motion: ``rotations`` (T,B,3), and the product's ``turn`` (T,3,3) and ``place`` (T,3) in body axes.

    ``holds`` (T,2) bool: the left, right hand holds the product. Body axes: origin at the rest root.
    """

    rotations: Float
    turn: Float
    place: Float
    holds: NDArray[np.bool_]


class Actor:
    """Solves takes for one body shape."""

    def __init__(self, body: AnnyBody, shape: Tensor) -> None:
        self.body, self.shape = body, shape
        self.roles = anny_roles(body.bone_names)
        self.rest = body.rest_joints(shape).numpy().astype(np.float64)
        self._dofs = [d for d in body_dofs(self.roles, self.rest) if _moves(d.name)]
        self._table = torch.from_numpy(self._axes(self._dofs)).float()  # (Q,B,3)
        self.hands = {side: Hand(body, shape, self.roles, side) for side in SIDES}
        self.chest = self.rest[self.roles.spine[-1]]

    def act(self, take: Take, product: Product | None, seed: int) -> Acted:
        """Solve a whole take; without a product both hands talk."""
        frames = np.arange(0, take.num_frames + _KEY_EVERY, _KEY_EVERY)
        grips = self._grips(take, product, seed)
        path = self._path(take, product, frames)
        angles = self._solve(frames, path, take, grips, seed, smoothness=40.0)
        every = CubicSpline(frames, angles)(np.arange(take.num_frames))
        acted = self._acted(every, take, product, grips, seed)
        if take.put_down_frame is not None and product is not None:
            self._put_down(acted, take.put_down_frame, product, grips)
        return acted

    def poses(
        self, take: Take, product: Product | None, seed: int, frames: NDArray[np.int64]
    ) -> Acted:
        """Single frames of a take, each solved by itself: as many rows as ``frames`` (K,)."""
        grips = self._grips(take, product, seed)
        path = self._path(take, product, frames)
        angles = self._solve(frames, path, take, grips, seed, smoothness=0.0)
        return self._acted(angles, take, product, grips, seed)

    def _grips(self, take: Take, product: Product | None, seed: int) -> dict[str, Grip]:
        if product is None or not take.sides:
            return {}
        palms = {side: hand.flat_skin() for side, hand in self.hands.items()}
        return choose_grips(product, palms, take.sides, np.random.default_rng(seed))

    def _acted(
        self, angles: Double, take: Take, product: Product | None, grips: Mapping[str, Grip], seed: int
    ) -> Acted:  # fmt: skip
        """Arms from their angles (T,Q), hands closed or free, and the product where the palm carries it."""
        rotations = torch.einsum("tq,qbc->tbc", torch.from_numpy(angles).float(), self._table)
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
            turn, place = (v.numpy() for v in self._follow(world, joints, grips))
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

    def _axes(self, dofs: list[Dof]) -> Double:
        table = np.zeros((len(dofs), len(self.body.bone_names), 3))
        for row, dof in zip(table, dofs, strict=True):
            for joint, axis in dof.turns:
                row[joint] += axis
        return table

    def _path(
        self, take: Take, product: Product | None, frames: NDArray[np.int64]
    ) -> tuple[Double, Double]:
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
        away = 0.0 if product is None else max(product.half_m[2] - _SHALLOW_M, 0.0)
        return rotation_matrices(axis_angle).numpy(), self.chest + values[:, :3] + (0, 0, away)

    def _solve(
        self, frames: NDArray[np.int64], path: tuple[Double, Double], take: Take,
        grips: Mapping[str, Grip], seed: int, smoothness: float,
    ) -> Double:  # fmt: skip
        """Angles (K,Q) that bring the palms to the product, close to a relaxed pose and smooth in time."""
        rng = np.random.default_rng(seed)
        mean = torch.tensor([d.mean for d in self._dofs])
        spread = torch.tensor([_stiffness(d.name, tuple(grips)) * d.deviation for d in self._dofs])
        low = torch.tensor([d.low for d in self._dofs]).clamp(min=-10.0)
        high = torch.tensor([d.high for d in self._dofs]).clamp(max=10.0)
        sway = torch.from_numpy(_sway(self._dofs, frames, rng)).float()
        q = (mean + sway).clone().requires_grad_(True)
        targets = {s: self._target(s, *path, grips.get(s), take, frames, rng) for s in SIDES}
        optimiser = torch.optim.Adam([q], lr=0.06)
        zero = torch.zeros(len(frames), 3)
        both = len(grips) == 2
        settle = 160 if smoothness else 90  # poses of their own are found sooner
        for step in range(settle + 60 + 40 * both):
            if step == settle:
                optimiser.param_groups[0]["lr"] = 0.02
            limited = torch.maximum(torch.minimum(q, high), low)
            rotations = torch.einsum("tq,qbc->tbc", limited, self._table)
            world, joints = self.body.pose_joints(rotations, zero, self.shape)
            loss = 0.02 * (((limited - mean - sway) / spread) ** 2).sum(1).mean()
            if smoothness:
                bends = limited[2:] - 2 * limited[1:-1] + limited[:-2]
                loss = loss + smoothness * bends.pow(2).mean()
            loss = loss + 5.0 * (q - limited).pow(2).mean()
            if (
                both and step >= settle
            ):  # the left hand goes where the right hand has brought the product
                targets["L"] = _held(grips["L"], *self._follow(world, joints, grips))
            for side, target in targets.items():
                near, turned = self._misses(side, world, joints, *target)
                # A free hand is near its place; how it turns is left to the wrist, which stays nearly straight.
                freely = 0.6 * near + (0.1 if take.gestures else 0.02) * turned
                weight = _JOINED if both and step >= settle and side == "L" else 1.0
                loss = loss + (weight * near + turned if side in grips else freely)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        final = torch.maximum(torch.minimum(q, high), low).detach().numpy()
        return np.asarray(final, np.float64)

    def _target(
        self, side: str, turn: Double, place: Double, grip: Grip | None, take: Take,
        frames: NDArray[np.int64], rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Palm centre, direction and normal per key frame."""
        if grip is not None:
            return _held(grip, _floats(turn), _floats(place))
        sign = sign_of(side)
        phase = rng.uniform(0, 2 * np.pi, 3)
        wave = np.sin(frames[:, None] / 25 * np.array([2.1, 3.3, 1.7]) + phase)
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
        return _floats(centre), _floats(along), _floats(out)

    def _misses(
        self, side: str, world: Tensor, joints: Tensor, centre: Tensor, along: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squared misses of the palm's place (in units of 1.5 cm) and of its directions (of 0.25)."""
        hand = self.hands[side]
        offset, axes = _floats(hand.offset), _floats(hand.axes)
        at = joints[:, hand.wrist] + world[:, hand.wrist] @ offset
        place = ((at - centre) / 0.015).pow(2).sum(1).mean()
        turn = ((world[:, hand.wrist] @ axes[:, 0] - along) / 0.25).pow(2).sum(1)
        return place, (
            turn + ((world[:, hand.wrist] @ axes[:, 1] - out) / 0.25).pow(2).sum(1)
        ).mean()

    def _follow(
        self, world: Tensor, joints: Tensor, grips: Mapping[str, Grip]
    ) -> tuple[Tensor, Tensor]:
        """The product's turn (T,3,3) and place (T,3) from the palm that carries it: the right one, where both hold."""
        side, grip = list(grips.items())[-1]
        hand = self.hands[side]
        turn = world[:, hand.wrist] @ _floats(hand.axes @ grip.axes.T)
        palm = joints[:, hand.wrist] + world[:, hand.wrist] @ _floats(hand.offset)
        return turn, palm - turn @ _floats(grip.centre)


def _held(grip: Grip, turn: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Palm centre, direction and normal (T,3) of a hand that holds a product at its turn and place."""
    centre, along, out = (_floats(v) for v in (grip.centre, grip.along, grip.out))
    return place + turn @ centre, turn @ along, turn @ out


def _floats(array: Double) -> Tensor:
    return torch.from_numpy(array).float()


def _moves(name: str) -> bool:
    """Degrees of freedom that an actor uses: the trunk's and the arms', not the root's or the legs'."""
    return name.startswith(
        ("spine", "neck", "head", "clavicle", "shoulder", "elbow", "twist", "wrist")
    )


def _stiffness(name: str, holding: tuple[str, ...]) -> float:
    """Share of the rig's deviation: less than a fit to pictures would allow.

    The trunk does not lean to reach, and the wrist of a free hand is nearly straight.
    """
    if name.startswith(("spine", "neck", "head")):
        return 0.06
    if name.startswith("wrist") and name.split(".")[1] not in holding:
        return 0.25
    return 0.35 if name.startswith("clavicle") else 1.0


def _sway(dofs: list[Dof], frames: NDArray[np.int64], rng: np.random.Generator) -> Double:
    """Slow small movements (K,Q) of trunk and head, as of somebody who talks."""
    size = {"spine": 0.05, "neck": 0.04, "head": 0.06}
    amount = np.array([size.get(d.name.split(".")[0], 0.0) for d in dofs])
    rate = rng.uniform(0.25, 0.7, (2, len(dofs)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(dofs)))
    seconds = frames[:, None] / 25
    waves = np.sin(2 * np.pi * rate[0] * seconds + phase[0]) + 0.5 * np.sin(
        2 * np.pi * 2.3 * rate[1] * seconds + phase[1]
    )
    return np.asarray(amount * waves)
