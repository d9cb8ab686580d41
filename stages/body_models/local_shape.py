"""Five proportions that a statistical shape space ties together but people do not.

Linear displacement fields over a rest body, one standard deviation each, so they append to any shape basis:
size of the head, size of the hands, length of the upper arms, of the forearms, width of the shoulders.
Deviations are those of adults given their stature (about 5 %; hands and heads against stature: Gordon
et al., ANSUR II, 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.body_models.rig import SIDES, Roles, ancestors
from stages.kit.arrays import F64, I64

LOCAL_NAMES = ("head_size", "hand_size", "upper_arm_length", "forearm_length", "shoulder_width")
_HEAD, _HAND, _ARM, _SHOULDERS = 0.06, 0.07, 0.06, 0.06


@dataclass(frozen=True, slots=True)
class Attached:
    """Points (P,3) and how much they belong to each joint (P,B), rows summing to 1."""

    points: F64
    weights: F64

    def of(self, joints: Sequence[int] | I64) -> F64:
        """(P,1) share that belongs to some joints."""
        return np.asarray(self.weights[:, joints].sum(1, keepdims=True))


def local_directions(roles: Roles, parents: I64, joints: F64, attached: Attached) -> F64:
    """(5,P,3) displacement of attached points per standard deviation, in the order of LOCAL_NAMES."""
    below = ancestors(parents)
    points = attached.points
    head = attached.of(np.flatnonzero(below[roles.head])) * (points - joints[roles.head])
    hand, upper, fore, wide = (np.zeros_like(points) for _ in range(4))
    for side in SIDES:
        shoulder, elbow, wrist = roles.shoulder[side], roles.elbow[side], roles.wrist[side]
        in_hand = attached.of(np.flatnonzero(below[wrist]))
        in_fore = attached.of(np.flatnonzero(below[elbow] & ~below[wrist]))
        in_upper = attached.of(np.flatnonzero(below[shoulder] & ~below[elbow]))
        hand += in_hand * (points - joints[wrist])
        fore += _stretch(points, joints[elbow], joints[wrist], in_fore, in_hand)
        upper += _stretch(points, joints[shoulder], joints[elbow], in_upper, in_fore + in_hand)
        start = joints[roles.clavicle[side][0]]
        girdle = np.flatnonzero(below[roles.clavicle[side][0]] & ~below[shoulder])
        arm = attached.of(np.flatnonzero(below[shoulder]))
        wide += _stretch(points, start, joints[shoulder], attached.of(girdle), arm)
    return np.stack([_HEAD * head, _HAND * hand, _ARM * upper, _ARM * fore, _SHOULDERS * wide])


def _stretch(points: F64, start: F64, end: F64, within: F64, beyond: F64) -> F64:
    """Lengthen a bone: points on it move by their share of the way, points beyond it by all of it."""
    bone = end - start
    along = np.clip(((points - start) @ bone) / (bone @ bone), 0.0, 1.0)[:, None]
    return np.asarray((within * along + beyond) * bone)
