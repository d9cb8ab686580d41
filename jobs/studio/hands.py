"""One hand of a body: its palm, its skin, and fingers that close until the skin touches what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jobs.studio.grips import Grip
from jobs.studio.products import Product
from stages.body_models.anny import AnnyBody
from stages.body_models.rig import FINGERS, Roles, finger_dofs
from stages.kit.arrays import F32, F64, I64

Angles = dict[str, float]
_OPEN, _CLOSING_STEPS = -0.3, 72
"""Bend of the fingers of an open hand, radians, and how finely they close from there."""
_HEEL_M = -0.06
"""The palm begins here, along the hand from its centre."""
_THUMB_TRIES = 900


class Hand:
    """A hand of one body shape. Hand axes: along the fingers, out of the palm, and across; from the palm's centre."""

    def __init__(self, body: AnnyBody, shape: Tensor, roles: Roles, side: str) -> None:
        self._body, self._shape, self._roles, self.side = body, shape, roles, side
        self._rest = body.rest_joints(shape).numpy().astype(np.float64)
        marks = body.rest_landmarks(shape).numpy().astype(np.float64)
        named = dict(zip(body.tables.landmark_names, marks, strict=True))
        tips = {f: named[f"finger{f}.tip.{side}"] for f in FINGERS}
        self._dofs = finger_dofs(roles, self._rest, tips, side)
        self._skin = body.rest_vertices(shape).numpy().astype(np.float64)
        self._owner = body.tables.weights.argmax(1)
        self.wrist = roles.wrist[side]
        self.offset, self.axes = self._palm()

    def _palm(self) -> tuple[F64, F64]:
        """Palm centre relative to the wrist (3,), and the hand's axes (3,3) as columns, in body axes at rest."""
        wrist, fingers = self._rest[self.wrist], self._roles.fingers[self.side]
        along = self._rest[fingers[3][0]] - wrist
        centre = 0.75 * along
        along = along / np.linalg.norm(along)
        across = self._rest[fingers[2][0]] - self._rest[fingers[5][0]]
        out = np.cross(along, across)
        out /= np.linalg.norm(out)
        if self.side == "R":
            out = -out
        return centre, np.stack([along, out, np.cross(along, out)], 1)

    def flat_skin(self) -> F64:
        """Points (N,3) of the inner side of an open hand, in hand axes: what a surface meets first."""
        fingers = self._roles.fingers[self.side]
        bones = [self.wrist, *(self._body.tables.parents[fingers[f][0]] for f in FINGERS)]
        chosen = np.flatnonzero(np.isin(self._owner, bones))
        palm = (self._skin[chosen] - self._rest[self.wrist] - self.offset) @ self.axes
        is_palm = (palm[:, 0] > _HEEL_M) & (palm[:, 1] > 0)
        names = [f"finger{f}.{self.side}" for f in FINGERS[1:]]
        angles = {f"{n}.bend": _OPEN for n in names} | {f"{n}.curl": 0.0 for n in names}
        spread = [self._posed(f, [angles])[0] for f in FINGERS[1:]]
        return np.concatenate([palm[is_palm], *spread])

    def relaxed(self) -> Angles:
        """A hand at rest."""
        return {d.name: d.mean for d in self._dofs}

    def gesture(self, rng: np.random.Generator) -> Angles:
        """A hand that holds nothing: open, relaxed, curled, a fist or pointing."""
        curl = rng.choice([-0.1, 0.15, 0.5, 1.0, 1.4], p=[0.25, 0.25, 0.2, 0.15, 0.15])
        points = rng.random() < 0.2
        angles = self.relaxed()
        spread = rng.uniform(-0.3, 1.0)
        for finger, side in zip(FINGERS[1:], (-1, -0.3, 0.3, 1), strict=True):
            bend = 0.0 if points and finger == 2 else max(curl + rng.normal(0, 0.1), -0.2)
            name = f"finger{finger}.{self.side}"
            angles |= {
                f"{name}.bend": bend,
                f"{name}.curl": max(1.1 * bend, 0.05),
                f"{name}.spread": 0.15 * side * spread * max(1 - curl, 0),
            }
        for dof in self._dofs:
            if dof.name.startswith("finger1."):
                angles[dof.name] = dof.mean + rng.normal(0, 0.15) + 0.25 * max(curl, 0)
        return angles

    def closed(self, product: Product, grip: Grip) -> Angles:
        """Fingers closed on a product until their skin touches it."""
        angles = self.relaxed()
        for finger in FINGERS[1:]:
            bend, curl = f"finger{finger}.{self.side}.bend", f"finger{finger}.{self.side}.curl"
            bends = np.linspace(_OPEN, 1.5, _CLOSING_STEPS)
            steps = [{bend: b, curl: 1.05 * max(b, 0.0)} for b in bends]
            angles |= self._last_free(finger, steps, product, grip)
            # where a near joint touches first, the far ones go on
            curls = np.linspace(angles[curl], 1.7, _CLOSING_STEPS)
            steps = [{bend: angles[bend], curl: c} for c in curls]
            angles |= self._last_free(finger, steps, product, grip)
        return angles | self._thumb(product, grip)

    def _last_free(
        self, finger: int, steps: Sequence[Angles], product: Product, grip: Grip
    ) -> Angles:
        """The last setting before the finger would enter the product, or that in which it enters least."""
        depth = self._distances(finger, steps, product, grip).min(1)
        enters = np.flatnonzero(depth < product.touch_m)
        if len(enters) and enters[0] == 0:
            return steps[int(np.argmax(depth))]
        return steps[int(enters[0]) - 1 if len(enters) else -1]

    def _thumb(self, product: Product, grip: Grip) -> Angles:
        """The thumb's angles whose last joint touches the surface while no part of it enters."""
        rng = np.random.default_rng(7)
        names = [d.name for d in self._dofs if d.name.startswith("finger1.")]
        tries = rng.uniform(-0.75, 0.75, (_THUMB_TRIES, len(names)))
        tries[:, -2:] = rng.uniform(-0.1, 0.8, (_THUMB_TRIES, 2))
        steps = [dict(zip(names, row, strict=True)) for row in tries]
        distance = self._distances(1, steps, product, grip)
        is_last = self._owner[self._finger_skin(1)] == self._roles.fingers[self.side][1][2]
        nearest = distance[:, is_last].min(1)
        entered = np.maximum(product.touch_m - distance.min(1), 0)
        cost = np.abs(nearest - product.touch_m) + 10 * entered + 0.004 * np.abs(tries).mean(1)
        return steps[int(np.argmin(cost))]

    def _finger_skin(self, finger: int) -> I64:
        """Vertices of the two outer joints, and of the inner one where it is not the palm's."""
        joints = self._roles.fingers[self.side][finger]
        return np.flatnonzero(np.isin(self._owner, joints if finger != 1 else joints[1:]))

    def _distances(self, finger: int, steps: Sequence[Angles], product: Product, grip: Grip) -> F64:
        """Distance (N,P) of a finger's skin from the product, for N settings of its angles."""
        held = self._posed(finger, steps) @ grip.axes.T + grip.centre
        return np.asarray(product.distance(held.astype(np.float32)), np.float64)

    def _posed(self, finger: int, steps: Sequence[Angles]) -> F64:
        """A finger's skin (N,P,3) in hand axes, for N settings of its angles."""
        rotations = torch.stack([self.rotations(s) for s in steps])
        still = torch.zeros(len(steps), 3)
        world, joints = self._body.pose_joints(rotations, still, self._shape)
        chosen = self._finger_skin(finger)
        skin = _skinned(self._body, world.numpy(), joints.numpy(), self._rest, self._skin, chosen)
        local = skin - joints[:, self.wrist].numpy()[:, None] - self.offset
        return np.asarray(local @ self.axes, np.float64)

    def rotations(self, angles: Angles) -> Tensor:
        """Joint rotations (B,3) of the hand; what ``angles`` does not name is relaxed."""
        out = np.zeros((len(self._body.bone_names), 3))
        for dof in self._dofs:
            for joint, axis in dof.turns:
                out[joint] += axis * angles.get(dof.name, dof.mean)
        return torch.from_numpy(out).float()


def _skinned(body: AnnyBody, world: F32, joints: F32, rest: F64, skin: F64, chosen: I64) -> F64:
    """Linear blend skinning (T,P,3) of a few vertices: only the bones that move them are mixed."""
    weights = body.tables.weights[chosen]
    bones = np.flatnonzero(weights.max(0) > 0.01)
    share = weights[:, bones] / weights[:, bones].sum(1, keepdims=True)
    local = skin[chosen][:, None] - rest[bones]  # (P,b,3)
    moved = np.einsum("tbij,pbj->tpbi", world[:, bones], local) + joints[:, None, bones]
    return np.asarray(np.einsum("pb,tpbi->tpi", share, moved), np.float64)
