"""Poses: arms that bring a product along its path, fingers that close until they touch it.

The path of the product gives, through the grip, where a palm should be. A few angles per frame (the rig of
``stages.body_rig``) are solved for all key poses at once; the product then follows the real palm rigidly, so
that what is held never slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from jobs.studio.products import Product
from jobs.studio.scripts import Take
from stages.backends.anny_body import AnnyBody
from stages.backends.linear_body import rotation_matrices
from stages.body_rig import (
    FINGERS,
    SIDES,
    Dof,
    anny_roles,
    body_dofs,
    finger_dofs,
)

Float = NDArray[np.float32]
Double = NDArray[np.float64]
_KEY_EVERY = 5
_CLEARANCE_M = 0.026
"""Palm surface before the plane of the hand's joints."""
_JOINT_RADIUS_M = 0.0085


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
        marks = body.rest_landmarks(shape).numpy().astype(np.float64)
        self._marks = dict(zip(body.tables.landmark_names, marks, strict=True))
        self._dofs = [d for d in body_dofs(self.roles, self.rest) if _moves(d.name)]
        self._table = torch.from_numpy(self._axes(self._dofs)).float()  # (Q,B,3)
        self.chest = self.rest[self.roles.spine[-1]]

    def act(self, take: Take, product: Product, seed: int) -> Acted:
        """Solve a whole take."""
        sides = ("L", "R") if take.grip == "both" else ("R" if take.grip == "right" else "L",)
        frames = np.arange(0, take.num_frames + _KEY_EVERY, _KEY_EVERY)
        turn, place = self._path(take, frames)
        releases = take.put_down_frame is not None
        angles = self._solve(frames, turn, place, sides, product, seed)
        spline = CubicSpline(frames, angles)
        q = torch.from_numpy(spline(np.arange(take.num_frames))).float()
        rotations = torch.einsum("tq,qbc->tbc", q, self._table)
        for side in SIDES:
            rotations += self._hand(side, product if side in sides else None)
        world, joints = self.body.pose_joints(rotations, torch.zeros(len(q), 3), self.shape)
        turn_all, place_all = self._follow(world.numpy(), joints.numpy(), sides, product)
        holds = np.zeros((take.num_frames, 2), bool)
        holds[: take.put_down_frame, [SIDES.index(s) for s in sides]] = True
        if releases:
            assert take.put_down_frame is not None
            rest_turn = np.eye(3)
            blend = take.put_down_frame - 1
            turn_all[blend:] = rest_turn
            place_all[blend:] = place_all[blend]
            opened = rotations.clone()
            for side in sides:
                opened += self._hand(side, None) - self._hand(side, product)
            weight = torch.linspace(0, 1, 6)[:, None, None]
            stop = min(take.put_down_frame + 6, take.num_frames)
            span = slice(take.put_down_frame, stop)
            w = weight[: stop - take.put_down_frame]
            rotations[span] = rotations[span] * (1 - w) + opened[span] * w
            rotations[stop:] = opened[stop:]
        return Acted(rotations.numpy(), turn_all, place_all, holds)

    def _axes(self, dofs: list[Dof]) -> Double:
        table = np.zeros((len(dofs), len(self.body.bone_names), 3))
        for row, dof in zip(table, dofs, strict=True):
            for joint, axis in dof.turns:
                row[joint] += axis
        return table

    def _path(self, take: Take, frames: NDArray[np.int64]) -> tuple[Double, Double]:
        """Wanted turn (K,3,3) and place (K,3) of the product at the key frames."""
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
        return rotation_matrices(axis_angle).numpy(), self.chest + values[:, :3]

    def _grip(self, side: str, product: Product) -> tuple[Double, Double, Double]:
        """Palm centre (3,), direction of the fingers (3,) and out of the palm (3,), in the product's axes."""
        sign = 1.0 if side == "L" else -1.0
        along = np.array([-0.25 * sign, 0.38, 1.0])
        out = np.array([-sign, 0.0, -0.25])
        along /= np.linalg.norm(along)
        out -= along * float(out @ along)
        out /= np.linalg.norm(out)
        centre = np.array([sign * product.half_m[0], -0.1 * product.half_m[1], -0.012])
        return centre - out * _CLEARANCE_M, along, out

    def _palm(self, side: str) -> tuple[Double, Double, Double]:
        """Rest palm centre relative to the wrist, fingers' direction, out of the palm; body axes."""
        wrist = self.rest[self.roles.wrist[side]]
        fingers = self.roles.fingers[side]
        along = self.rest[fingers[3][0]] - wrist
        centre = 0.75 * along
        along = along / np.linalg.norm(along)
        across = self.rest[fingers[2][0]] - self.rest[fingers[5][0]]
        out = np.cross(along, across)
        out /= np.linalg.norm(out)
        if side == "R":
            out = -out
        return centre, along, out

    def _solve(
        self, frames: NDArray[np.int64], turn: Double, place: Double, sides: tuple[str, ...],
        product: Product, seed: int,
    ) -> Double:  # fmt: skip
        """Angles (K,Q) that bring the palms to the product, close to a relaxed pose and smooth in time."""
        rng = np.random.default_rng(seed)
        mean = torch.tensor([d.mean for d in self._dofs])
        spread = torch.tensor([_stiffness(d.name, sides) * d.deviation for d in self._dofs])
        low = torch.tensor([d.low for d in self._dofs]).clamp(min=-10.0)
        high = torch.tensor([d.high for d in self._dofs]).clamp(max=10.0)
        sway = torch.from_numpy(_sway(self._dofs, frames, rng)).float()
        q = (mean + sway).clone().requires_grad_(True)
        targets = [self._target(side, turn, place, sides, product, frames, rng) for side in SIDES]
        optimiser = torch.optim.Adam([q], lr=0.06)
        zero = torch.zeros(len(frames), 3)
        for step in range(220):
            if step == 160:
                optimiser.param_groups[0]["lr"] = 0.02
            limited = torch.maximum(torch.minimum(q, high), low)
            rotations = torch.einsum("tq,qbc->tbc", limited, self._table)
            world, joints = self.body.pose_joints(rotations, zero, self.shape)
            loss = 0.02 * (((limited - mean - sway) / spread) ** 2).sum(1).mean()
            loss = loss + 40.0 * (limited[2:] - 2 * limited[1:-1] + limited[:-2]).pow(2).mean()
            loss = loss + 5.0 * (q - limited).pow(2).mean()
            for side, (centre, along, out) in zip(SIDES, targets, strict=True):
                near, turned = self._misses(side, world, joints, centre, along, out)
                # A free hand is near its place; how it turns is left to the wrist, which stays nearly straight.
                loss = loss + (near + turned if side in sides else 0.6 * near + 0.02 * turned)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        final = torch.maximum(torch.minimum(q, high), low).detach().numpy()
        return np.asarray(final, np.float64)

    def _target(
        self, side: str, turn: Double, place: Double, sides: tuple[str, ...], product: Product,
        frames: NDArray[np.int64], rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Palm centre, direction and normal per key frame."""
        if side in sides:
            grip = self._grip(side, product)
            centre = place + np.einsum("tij,j->ti", turn, grip[0])
            along, out = (np.einsum("tij,j->ti", turn, g) for g in grip[1:])
            return _floats(centre), _floats(along), _floats(out)
        sign = 1.0 if side == "L" else -1.0
        phase = rng.uniform(0, 2 * np.pi, 3)
        wave = np.sin(frames[:, None] / 25 * np.array([2.1, 3.3, 1.7]) + phase)
        centre = (
            self.chest + np.array([sign * 0.17, -0.19, 0.24]) + wave * np.array([0.03, 0.07, 0.03])
        )
        along = np.tile(np.array([-0.35 * sign, 0.75, 0.55]), (len(frames), 1))
        out = np.tile(np.array([-0.75 * sign, -0.1, 0.3]), (len(frames), 1))
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        out -= along * (out * along).sum(1, keepdims=True)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return _floats(centre), _floats(along), _floats(out)

    def _misses(
        self, side: str, world: Tensor, joints: Tensor, centre: Tensor, along: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squared misses of the palm's place (in units of 1.5 cm) and of its directions (of 0.25)."""
        index = self.roles.wrist[side]
        offset, a, o = (torch.from_numpy(v).float() for v in self._palm(side))
        at = joints[:, index] + world[:, index] @ offset
        place = ((at - centre) / 0.015).pow(2).sum(1).mean()
        turn = ((world[:, index] @ a - along) / 0.25).pow(2).sum(1)
        return place, (turn + ((world[:, index] @ o - out) / 0.25).pow(2).sum(1)).mean()

    def _follow(
        self, world: Float, joints: Float, sides: tuple[str, ...], product: Product
    ) -> tuple[Float, Float]:
        """The product's turn and place from the first holding palm."""
        side = sides[-1]
        index = self.roles.wrist[side]
        offset, a, o = self._palm(side)
        centre, along, out = self._grip(side, product)
        hand = np.stack([a, o, np.cross(a, o)], 1)
        wanted = np.stack([along, out, np.cross(along, out)], 1)
        turn = world[:, index] @ (hand @ wanted.T)
        palm = joints[:, index] + world[:, index] @ offset
        return turn.astype(np.float32), (palm - turn @ centre).astype(np.float32)

    def _hand(self, side: str, product: Product | None) -> Tensor:
        """Finger rotations (B,3): relaxed, or closed on the product."""
        tips = {f: self._marks[f"finger{f}.tip.{side}"] for f in FINGERS}
        dofs = finger_dofs(self.roles, self.rest, tips, side)
        relaxed = {d.name: d.mean for d in dofs}
        if product is None:
            return self._hand_rotations(dofs, relaxed)
        closed = dict(relaxed)
        for finger in FINGERS[1:]:
            bend = np.linspace(-0.1, 1.45, 32)
            settings = [
                {f"finger{finger}.{side}.bend": b, f"finger{finger}.{side}.curl": max(b, 0) * 1.05}
                for b in bend
            ]
            free = self._free(side, finger, dofs, settings, product)
            touching = int(np.argmin(free)) if not free.all() else len(free)
            closed |= settings[max(touching - 1, 0)]
        closed |= self._thumb(side, dofs, product)
        return self._hand_rotations(dofs, closed)

    def _thumb(self, side: str, dofs: list[Dof], product: Product) -> dict[str, float]:
        """The thumb's angles whose tip comes nearest to the surface without entering it."""
        rng = np.random.default_rng(7)
        names = [d.name for d in dofs if d.name.startswith("finger1.")]
        samples = rng.uniform(-0.75, 0.75, (600, len(names)))
        samples[:, -2:] = rng.uniform(-0.1, 0.8, (600, 2))
        settings = [dict(zip(names, row, strict=True)) for row in samples]
        distance = self._distances(side, 1, dofs, settings, product)
        score = np.abs(distance[:, -1] - 0.006) + 10 * np.maximum(0.009 - distance.min(1), 0)
        return settings[int(np.argmin(score + 0.004 * np.abs(samples).mean(1)))]

    def _free(
        self,
        side: str,
        finger: int,
        dofs: list[Dof],
        settings: list[dict[str, float]],
        product: Product,
    ) -> NDArray[np.bool_]:
        distance = self._distances(side, finger, dofs, settings, product)
        return np.asarray((distance > _JOINT_RADIUS_M).all(1))

    def _distances(
        self,
        side: str,
        finger: int,
        dofs: list[Dof],
        settings: list[dict[str, float]],
        product: Product,
    ) -> Double:
        """Distance (N,P) of points along a finger from the product, for N settings of its angles."""
        rotations = torch.stack([self._hand_rotations(dofs, s) for s in settings])
        world, joints = self.body.pose_joints(rotations, torch.zeros(len(settings), 3), self.shape)
        middle, end = self.roles.fingers[side][finger][1:]
        tip_rest = self._marks[f"finger{finger}.tip.{side}"] - self.rest[end]
        tip = joints[:, end] + world[:, end] @ torch.from_numpy(tip_rest).float()
        chain = [joints[:, middle], joints[:, end], tip]
        points = [a + (b - a) * t for a, b in pairwise(chain) for t in (0.5, 1.0)]
        wrist = self.roles.wrist[side]
        offset, a, o = self._palm(side)
        centre, along, out = self._grip(side, product)
        hand = np.stack([a, o, np.cross(a, o)], 1)
        wanted = np.stack([along, out, np.cross(along, out)], 1)
        stacked = torch.stack([joints[:, middle], *points], 1).numpy()
        local = stacked - joints[:, wrist].numpy()[:, None] - offset
        in_product = local @ (wanted @ hand.T).T + centre
        return np.asarray(product.distance(in_product.astype(np.float32)), np.float64)

    def _hand_rotations(self, dofs: list[Dof], values: dict[str, float]) -> Tensor:
        out = np.zeros((len(self.body.bone_names), 3))
        for dof in dofs:
            for joint, axis in dof.turns:
                out[joint] += axis * values.get(dof.name, dof.mean)
        return torch.from_numpy(out).float()


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
