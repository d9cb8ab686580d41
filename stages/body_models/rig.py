"""The few angles that a body is fitted with: degrees of freedom on named joints, with priors and limits.

A rig is linear: the axis-angle vectors of all joints are ``r = A q``. A degree of freedom may turn several
joints (the spine's five bones share one bend) and a joint may have one, two or three of them.
Axes come from the rest pose, so the same code serves every model whose joints it can name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.kit.arrays import F64, I64, Flags

SIDES = ("L", "R")
FINGERS = (1, 2, 3, 4, 5)
"""Thumb, index, middle, ring, little."""


@dataclass(frozen=True, slots=True)
class Dof:
    """One angle in radians (or metres for ``translation``)."""

    name: str
    turns: tuple[tuple[int, F64], ...]
    """Joints and the axis (3,), in rest axes, that one radian turns each of them about."""
    mean: float = 0.0
    deviation: float = 1.0
    """Prior standard deviation around ``mean``."""
    low: float = -np.inf
    high: float = np.inf
    acceleration: float = 0.05
    """Typical second difference per frame^2."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which joints of a model play which role; every tuple runs from the trunk outwards.

    ``fingers[side][f]`` holds three joints of finger ``f`` (1 thumb to 5 little); ``tips`` the landmarks.
    """

    root: int
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    head: int
    clavicle: Mapping[str, tuple[int, ...]]
    shoulder: Mapping[str, int]
    elbow: Mapping[str, int]
    twist: Mapping[str, tuple[int, ...]]
    """Joints that share the forearm's twist; the last may be the wrist."""
    wrist: Mapping[str, int]
    hip: Mapping[str, int]
    knee: Mapping[str, int]
    ankle: Mapping[str, int]
    fingers: Mapping[str, Mapping[int, tuple[int, int, int]]]
    seen_at: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Where the detector's landmark lies beside the joint of that role: metres (inward, up) in the rest pose.

    Detectors and rigs do not mean the same point by "shoulder". The landmark moves with the joint's parent.
    """


def _unit(vector: F64) -> F64:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _ball(
    name: str,
    joints: tuple[int, ...],
    deviation: float,
    acceleration: float,
    axes: F64 | None = None,
) -> list[Dof]:
    """Three degrees shared evenly by several joints."""
    frame = np.eye(3) if axes is None else axes
    share = 1.0 / len(joints)
    return [
        Dof(
            f"{name}.{i}",
            tuple((j, frame[i] * share) for j in joints),
            0.0,
            deviation,
            acceleration=acceleration,
        )
        for i in range(3)
    ]


def body_dofs(roles: Roles, rest: F64) -> list[Dof]:
    """Root, spine, neck, head, arms, wrists, legs; the root's three rotations come first."""
    dofs = _ball("root", (roles.root,), 3.0, 0.02)
    dofs += _ball("spine", roles.spine, 0.25, 0.02)
    dofs += _ball("neck", roles.neck, 0.3, 0.03)
    dofs += _ball("head", (roles.head,), 0.35, 0.04)
    for side in SIDES:
        dofs += _arm_dofs(roles, rest, side) + _leg_dofs(roles, side)
    return dofs


def _arm_dofs(roles: Roles, rest: F64, side: str) -> list[Dof]:
    shoulder, elbow, wrist = roles.shoulder[side], roles.elbow[side], roles.wrist[side]
    axis, bent = elbow_axis(roles, rest, side)
    along = _unit(rest[wrist] - rest[elbow])
    twist = roles.twist[side]
    share = 1.0 / len(twist)
    dofs = _ball(f"clavicle.{side}", roles.clavicle[side], 0.15, 0.02)
    dofs += _ball(f"shoulder.{side}", (shoulder,), 1.2, 0.04)
    dofs.append(Dof(f"elbow.{side}", ((elbow, axis),), 0.6, 1.0, -bent, 2.6 - bent, 0.05))
    dofs.append(
        Dof(f"twist.{side}", tuple((j, along * share) for j in twist), 0.0, 0.8, -1.7, 1.7, 0.06)
    )
    hinge, sweep = palm_axes(roles, rest, side)
    dofs.append(Dof(f"wrist.{side}.flex", ((wrist, hinge),), 0.0, 0.45, -1.3, 1.3, 0.06))
    dofs.append(Dof(f"wrist.{side}.sweep", ((wrist, sweep),), 0.0, 0.25, -0.6, 0.6, 0.05))
    return dofs


def _leg_dofs(roles: Roles, side: str) -> list[Dof]:
    knee, ankle = roles.knee[side], roles.ankle[side]
    across = np.array([1.0, 0.0, 0.0])
    dofs = _ball(f"hip.{side}", (roles.hip[side],), 0.25, 0.02)
    dofs.append(Dof(f"knee.{side}", ((knee, across),), 0.05, 0.25, -0.1, 2.4, 0.03))
    dofs.append(Dof(f"ankle.{side}", ((ankle, across),), 0.0, 0.15, -0.6, 0.6, 0.03))
    return dofs


def elbow_axis(roles: Roles, rest: F64, side: str) -> tuple[F64, float]:
    """Hinge axis of the elbow (positive bends) and how far the rest pose is already bent, radians."""
    upper = _unit(rest[roles.elbow[side]] - rest[roles.shoulder[side]])
    lower = _unit(rest[roles.wrist[side]] - rest[roles.elbow[side]])
    cross = np.cross(upper, lower)
    if np.linalg.norm(cross) < 0.1:  # straight arm: it bends forwards
        cross = np.cross(upper, [0.0, 0.0, 1.0])
    return _unit(cross), float(np.arccos(np.clip(upper @ lower, -1, 1)))


def palm_axes(roles: Roles, rest: F64, side: str) -> tuple[F64, F64]:
    """Axes of the wrist: flexion towards the palm, and the sweep within the palm's plane."""
    fingers = roles.fingers[side]
    wrist = rest[roles.wrist[side]]
    along = _unit(rest[fingers[3][0]] - wrist)
    across = rest[fingers[2][0]] - rest[fingers[5][0]]
    normal = _unit(np.cross(along, across))
    # On the left hand, (towards the fingers) x (towards the thumb) points out of the palm.
    back = -normal if side == "L" else normal
    hinge = _unit(np.cross(along, -back))
    return hinge, _unit(np.cross(hinge, along))


def finger_dofs(roles: Roles, rest: F64, tips: Mapping[int, F64], side: str) -> list[Dof]:
    """Seventeen angles of one hand: per finger bend, spread and curl; five for the thumb."""
    hinge, _ = palm_axes(roles, rest, side)
    dofs: list[Dof] = []
    for finger in FINGERS[1:]:
        base, middle, end = roles.fingers[side][finger]
        along = _unit(rest[middle] - rest[base])
        flex = _unit(hinge - along * float(hinge @ along))
        spread = np.cross(flex, along)
        name = f"finger{finger}.{side}"
        dofs.append(Dof(f"{name}.bend", ((base, flex),), 0.2, 0.6, -0.5, 1.6, 0.08))
        dofs.append(Dof(f"{name}.spread", ((base, spread),), 0.0, 0.12, -0.35, 0.35, 0.04))
        dofs.append(
            Dof(f"{name}.curl", ((middle, flex), (end, 0.7 * flex)), 0.3, 0.7, -0.3, 1.8, 0.08)
        )
    base, middle, end = roles.fingers[side][1]
    dofs += _ball(f"finger1.{side}", (base,), 0.35, 0.05)
    first, last = _unit(rest[end] - rest[middle]), _unit(tips[1] - rest[end])
    flex = _unit(np.cross(first, last) + 0.05 * hinge)
    dofs.append(Dof(f"finger1.{side}.bend", ((middle, flex),), 0.1, 0.4, -0.5, 1.0, 0.06))
    dofs.append(Dof(f"finger1.{side}.curl", ((end, flex),), 0.2, 0.5, -0.6, 1.4, 0.08))
    return dofs


ANNY_SEEN_AT = {"shoulder": (0.017, 0.023)}
"""Mean offsets over studio clips of seeds 1 to 4 (``benchmarks/landmarks.py``); figures use seed 0."""
ANNY_SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")


def anny_roles(names: tuple[str, ...]) -> Roles:
    """Roles of the Anny rig's bones."""
    at = {name: index for index, name in enumerate(names)}

    def both(pattern: str) -> dict[str, int]:
        return {side: at[pattern.format(side)] for side in SIDES}

    return Roles(
        root=at["root"],
        spine=tuple(at[n] for n in ANNY_SPINE),
        neck=(at["neck01"], at["neck02"], at["neck03"]),
        head=at["head"],
        clavicle={s: (at[f"clavicle.{s}"], at[f"shoulder01.{s}"]) for s in SIDES},
        shoulder=both("upperarm01.{}"),
        elbow=both("lowerarm01.{}"),
        twist={s: (at[f"lowerarm02.{s}"], at[f"wrist.{s}"]) for s in SIDES},
        wrist=both("wrist.{}"),
        hip=both("upperleg01.{}"),
        knee=both("lowerleg01.{}"),
        ankle=both("foot.{}"),
        fingers={
            s: {
                f: (at[f"finger{f}-1.{s}"], at[f"finger{f}-2.{s}"], at[f"finger{f}-3.{s}"])
                for f in FINGERS
            }
            for s in SIDES
        },
        seen_at=ANNY_SEEN_AT,
    )


def ancestors(parents: I64) -> Flags:
    """(B,B): entry [a, j] says that joint j moves when joint a turns (itself included)."""
    table = np.eye(len(parents), dtype=bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            table[:, joint] |= table[:, parent]
    return table
