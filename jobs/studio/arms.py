"""Arms that reach: a few angles per frame, solved so that palms come where grips want them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.studio.grips import Grip
from jobs.studio.hands import Hand
from schemas.clock import FPS
from stages.body_models.anny import AnnyBody
from stages.body_models.rig import Dof, Roles, body_dofs
from stages.kit.arrays import F64, I64

Target = tuple[Tensor, Tensor, Tensor]
"""Palm centre, direction of the fingers and normal out of the palm, each (K,3)."""
_SMOOTHNESS = 40.0
_SETTLED = {True: 160, False: 90}
"""Steps until the step size falls; poses of their own are found sooner than a smooth course."""
_JOINED = 12.0
"""Weight of the left palm's place once the right hand carries the product."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What to solve for.

    Attributes:
        sway: (K,Q) what trunk and head do beside, as of somebody who talks.
        targets: Per side.
        grips: Of the hands that hold.
        is_course: Neighbouring frames follow each other; otherwise each is a pose of its own.
        gestures: Free hands turn as their target says, and not only as far as the wrist likes.
    """

    sway: F64
    targets: Mapping[str, Target]
    grips: Mapping[str, Grip]
    is_course: bool
    gestures: bool


class Arms:
    """Trunk and arms of one body shape."""

    def __init__(
        self, body: AnnyBody, shape: Tensor, roles: Roles, rest: F64, hands: Mapping[str, Hand]
    ) -> None:
        self._body, self._shape, self._hands = body, shape, hands
        self._dofs = [d for d in body_dofs(roles, rest) if _moves(d.name)]
        self._low = torch.tensor([d.low for d in self._dofs]).clamp(min=-10.0)
        self._high = torch.tensor([d.high for d in self._dofs]).clamp(max=10.0)
        self._table = floats(self._axes())  # (Q,B,3)

    def rotations(self, angles: Tensor) -> Tensor:
        """Joint rotations (K,B,3) from angles (K,Q)."""
        return torch.einsum("tq,qbc->tbc", angles, self._table)

    def sway(self, frames: I64, rng: np.random.Generator) -> F64:
        """Slow small movements (K,Q) of trunk and head at the given frames."""
        return _sway(self._dofs, frames, rng)

    def solve(self, reach: Reach) -> F64:
        """Angles (K,Q) that bring the palms to their targets, close to a relaxed pose and smooth in time."""
        sides = tuple(reach.grips)
        centre = torch.tensor([d.mean for d in self._dofs]) + floats(reach.sway)
        spread = torch.tensor([_stiffness(d.name, sides) * d.deviation for d in self._dofs])
        q = centre.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([q], lr=0.06)
        settled = _SETTLED[reach.is_course]
        for step in range(settled + 60 + (40 if len(sides) == 2 else 0)):
            if step == settled:
                optimiser.param_groups[0]["lr"] = 0.02
            limited = self._limited(q)
            loss = 0.02 * (((limited - centre) / spread) ** 2).sum(1).mean()
            loss = loss + 5.0 * (q - limited).pow(2).mean()
            if reach.is_course:
                bends = limited[2:] - 2 * limited[1:-1] + limited[:-2]
                loss = loss + _SMOOTHNESS * bends.pow(2).mean()
            loss = loss + self._misses(limited, reach, is_joined=step >= settled)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return np.asarray(self._limited(q).detach().numpy(), np.float64)

    def _limited(self, q: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(q, self._high), self._low)

    def _misses(self, angles: Tensor, reach: Reach, *, is_joined: bool) -> Tensor:
        """How far the palms are from their targets; once joined, the left one's is where the right one carries to."""
        still = torch.zeros(len(angles), 3)
        world, joints = self._body.pose_joints(self.rotations(angles), still, self._shape)
        is_joined = is_joined and len(reach.grips) == 2
        total = torch.zeros(())
        for side, target in reach.targets.items():
            follows = is_joined and side == "L"
            carried = self.follow(world, joints, reach.grips) if follows else None
            wanted = held(reach.grips[side], *carried) if carried else target
            near, turned = self._miss(self._hands[side], world, joints, wanted)
            # A free hand is near its place; how it turns is left to the wrist, which stays nearly straight.
            freely = 0.6 * near + (0.1 if reach.gestures else 0.02) * turned
            holding = (_JOINED if follows else 1.0) * near + turned
            total = total + (holding if side in reach.grips else freely)
        return total

    @staticmethod
    def _miss(hand: Hand, world: Tensor, joints: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Squared misses of the palm's place (in units of 1.5 cm) and of its directions (of 0.25)."""
        centre, along, out = target
        turn, axes = world[:, hand.wrist], floats(hand.axes)
        at = joints[:, hand.wrist] + turn @ floats(hand.offset)
        place = ((at - centre) / 0.015).pow(2).sum(1).mean()
        turned = (turn @ axes[:, 0] - along).pow(2) + (turn @ axes[:, 1] - out).pow(2)
        return place, turned.sum(1).mean() / 0.25**2

    def follow(
        self, world: Tensor, joints: Tensor, grips: Mapping[str, Grip]
    ) -> tuple[Tensor, Tensor]:
        """The product's turn (T,3,3) and place (T,3) from the palm that carries it: the right one, where both hold."""
        side, grip = list(grips.items())[-1]
        hand = self._hands[side]
        turn = world[:, hand.wrist] @ floats(hand.axes @ grip.axes.T)
        palm = joints[:, hand.wrist] + world[:, hand.wrist] @ floats(hand.offset)
        return turn, palm - turn @ floats(grip.centre)

    def _axes(self) -> F64:
        table = np.zeros((len(self._dofs), len(self._body.bone_names), 3))
        for row, dof in zip(table, self._dofs, strict=True):
            for joint, axis in dof.turns:
                row[joint] += axis
        return table


def held(grip: Grip, turn: Tensor, place: Tensor) -> Target:
    """Where the palm of a hand is that holds a product at its turn (T,3,3) and place (T,3)."""
    centre, along, out = (floats(v) for v in (grip.centre, grip.along, grip.out))
    return place + turn @ centre, turn @ along, turn @ out


def floats(array: F64) -> Tensor:
    """Single precision, for torch."""
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


def _sway(dofs: list[Dof], frames: I64, rng: np.random.Generator) -> F64:
    """Slow small movements (K,Q) of trunk and head, as of somebody who talks."""
    size = {"spine": 0.05, "neck": 0.04, "head": 0.06}
    amount = np.array([size.get(d.name.split(".")[0], 0.0) for d in dofs])
    rate = rng.uniform(0.25, 0.7, (2, len(dofs)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(dofs)))
    seconds = frames[:, None] / FPS
    waves = np.sin(2 * np.pi * rate[0] * seconds + phase[0]) + 0.5 * np.sin(
        2 * np.pi * 2.3 * rate[1] * seconds + phase[1]
    )
    return np.asarray(amount * waves)
