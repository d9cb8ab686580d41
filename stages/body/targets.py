"""From detections to what the fit aims at: tracked points with pixels, depths and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.body.detections import HEAD_M, MIN_VISIBILITY, Detections
from stages.body.solve import Targets
from stages.body_models.body_tables import BodyTables
from stages.body_models.rig import FINGERS, SIDES, Roles
from stages.kit.arrays import F64, I64, Flags

_FACE_POINTS: dict[str, tuple[int, ...]] = {
    "nose": (4,),
    "eye.L": (263, 362),
    "eye.R": (33, 133),
    "mouth.L": (291,),
    "mouth.R": (61,),
    "chin": (152,),
    "ear.L": (454,),
    "ear.R": (234,),
}
_POSE_FACE = {
    "nose": 0,
    "eye.L": 2,
    "eye.R": 5,
    "ear.L": 7,
    "ear.R": 8,
    "mouth.L": 9,
    "mouth.R": 10,
}
_POSE_BODY = {"shoulder": 11, "elbow": 13, "wrist": 15, "hip": 23, "knee": 25, "ankle": 27}
# Deviations in head heights: how far a perfect fit would still lie from the detector's point.
_DEVIATION = {
    "shoulder": 0.10,
    "elbow": 0.08,
    "wrist": 0.08,
    "hip": 0.20,
    "knee": 0.15,
    "ankle": 0.15,
}
_FACE_DEVIATION, _POSE_FACE_DEVIATION, _HAND_DEVIATION = 0.05, 0.10, 0.03
_KNUCKLES = {1: 1, 2: 5, 3: 9, 4: 13, 5: 17}
"""Hand landmark of each finger's first joint."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """Points of the model that have a counterpart in the picture."""

    names: tuple[str, ...]
    owners: I64
    """(K,) joint that each point moves with."""
    rest: F64
    """(K,3)."""
    directions: F64
    """(S,K,3)."""


@dataclass(frozen=True, slots=True)
class RestModel:
    """Joints and landmarks of one shape, in the rest pose."""

    tables: BodyTables
    joints: F64
    marks: F64

    @classmethod
    def of(cls, tables: BodyTables, shape: F64) -> RestModel:
        """Rest positions of a shape (S,)."""
        joints = tables.template_joints + np.einsum("s,sbd->bd", shape, tables.joint_directions)
        marks = tables.template_landmarks + np.einsum(
            "s,skd->kd", shape, tables.landmark_directions
        )
        return cls(tables, joints.astype(np.float64), marks.astype(np.float64))

    def track(
        self,
        rows: Sequence[tuple[str, int | str, int | None]],
        offsets: Mapping[str, F64] | None = None,
    ) -> Tracked:
        """Points by (name, joint or landmark name, owner); a landmark's owner is its own joint.

        ``offsets`` shifts named points by metres (3,) in the rest pose.
        """
        owners, rest, directions = [], [], []
        for name, what, owner in rows:
            if isinstance(what, str):
                index = self.tables.landmark_names.index(what)
                owners.append(int(self.tables.landmark_bones[index]))
                rest.append(self.marks[index])
                directions.append(self.tables.landmark_directions[:, index])
            else:
                owners.append(what if owner is None else owner)
                rest.append(self.joints[what])
                directions.append(self.tables.joint_directions[:, what])
            if offsets and name in offsets:
                rest[-1] = rest[-1] + offsets[name]
        return Tracked(
            tuple(r[0] for r in rows),
            np.array(owners),
            np.stack(rest),
            np.stack(directions, 1).astype(np.float64),
        )


def body_points(model: RestModel, roles: Roles) -> Tracked:
    """Head landmarks, limb joints, and knuckles as rigid parts of the wrist."""
    rows: list[tuple[str, int | str, int | None]] = [(n, n, None) for n in _FACE_POINTS]
    offsets: dict[str, F64] = {}
    for side in SIDES:
        joints = {
            "shoulder": roles.shoulder,
            "elbow": roles.elbow,
            "wrist": roles.wrist,
            "hip": roles.hip,
            "knee": roles.knee,
            "ankle": roles.ankle,
        }
        for name, joint in joints.items():
            owner = None
            if name in roles.seen_at:
                inward, up = roles.seen_at[name]
                outward = np.sign(model.joints[joint[side], 0])
                offsets[f"{name}.{side}"] = np.array([-inward * outward, up, 0.0])
                owner = int(model.tables.parents[joint[side]])
            rows.append((f"{name}.{side}", joint[side], owner))
        rows.append((f"knuckle1.{side}", roles.fingers[side][1][0], roles.wrist[side]))
        rows += [(f"knuckle{f}.{side}", f"knuckle{f}.{side}", None) for f in FINGERS[1:]]
    return model.track(rows, offsets)


def joints_seen(roles: Roles, seen: Detections, num_joints: int) -> Flags:
    """(T,B) limb joints that the pose detector sees."""
    out = np.zeros((len(seen.pose_px), num_joints), bool)
    for name, joints in (
        ("shoulder", roles.shoulder),
        ("elbow", roles.elbow),
        ("wrist", roles.wrist),
    ):
        for side, offset in (("L", 0), ("R", 1)):
            out[:, joints[side]] = seen.visibility[:, _POSE_BODY[name] + offset] >= MIN_VISIBILITY
    return out


def hand_points(model: RestModel, roles: Roles, side: str) -> Tracked:
    """The 21 points of one hand in mediapipe's order."""
    rows: list[tuple[str, int | str, int | None]] = [("wrist", roles.wrist[side], None)]
    for f in FINGERS:
        first = roles.fingers[side][1][0] if f == 1 else f"knuckle{f}.{side}"
        rows.append((f"finger{f}-1", first, None))
        rows += [(f"finger{f}-{i}", roles.fingers[side][f][i - 1], None) for i in (2, 3)]
        rows.append((f"tip{f}", f"finger{f}.tip.{side}", None))
    return model.track(rows)


def body_targets(seen: Detections, tracked: Tracked) -> Targets:
    """Targets of the body fit: limbs, head, palms."""
    num_frames = len(seen.pose_px)
    points = np.full((num_frames, len(tracked.names), 2), np.nan)
    weights = np.zeros((num_frames, len(tracked.names)))
    for index, name in enumerate(tracked.names):
        points[:, index], weights[:, index] = _observe(seen, name)
    weights = np.where(np.isfinite(points).all(-1), weights, 0.0) / seen.head_px**2
    weights *= seen.is_valid[:, None]
    pairs, depths, depth_weights = _body_depths(seen, tracked)
    return Targets(
        np.nan_to_num(points), weights, pairs, depths, depth_weights, robust_px=0.5 * seen.head_px
    )


def _observe(seen: Detections, name: str) -> tuple[F64, F64]:
    """Pixels (T,2) and weight (T,) in 1/head^2 of one tracked point."""
    if name in _FACE_POINTS:
        return _observe_face(seen, name)
    kind, side = name.split(".")
    hand = seen.hand_px[side]
    has_hand = np.isfinite(hand[:, 0, 0])
    if kind.startswith("knuckle"):
        place = hand[:, _KNUCKLES[int(kind[-1])]]
        return place, has_hand / _HAND_DEVIATION**2
    index = _POSE_BODY[kind] + (side == "R")
    place = seen.pose_px[:, index]
    trust = np.where(seen.visibility[:, index] >= MIN_VISIBILITY, seen.visibility[:, index], 0.0)
    weight = trust / _DEVIATION[kind] ** 2 * _inside(place, seen.size_px)
    if kind == "wrist":
        place = np.where(has_hand[:, None], hand[:, 0], place)
        weight = np.where(has_hand, 1.0 / _HAND_DEVIATION**2, weight)
    return place, weight


def _observe_face(seen: Detections, name: str) -> tuple[F64, F64]:
    """The face mesh's point, or the pose's where there is no face mesh."""
    mesh = seen.face_px[:, list(_FACE_POINTS[name]), :2].mean(1)
    has_mesh = np.isfinite(mesh[:, 0])
    index = _POSE_FACE.get(name)
    if index is None:
        return mesh, has_mesh / _FACE_DEVIATION**2
    pose = np.where(seen.visibility[:, index] >= MIN_VISIBILITY, 1.0, 0.0)
    # The mesh's outline slides along the cheek when the head turns: its ears are only a hint.
    scale = 0.1 if name.startswith("ear") else 1.0
    return (
        np.where(has_mesh[:, None], mesh, seen.pose_px[:, index]),
        np.where(has_mesh, scale / _FACE_DEVIATION**2, pose / _POSE_FACE_DEVIATION**2),
    )


def _inside(place: F64, size_px: tuple[int, int]) -> F64:
    """1 inside the picture; points that the detector imagines outside of it count less."""
    inside = ((place >= 0) & (place < np.array(size_px))).all(-1)
    return np.where(inside, 1.0, 0.4)


def _body_depths(seen: Detections, tracked: Tracked) -> tuple[I64, F64, F64]:
    """Depth of one point relative to another, from the pose's and the hands' metric landmarks."""
    at = {name: index for index, name in enumerate(tracked.names)}
    rows: list[tuple[str, str, F64, float]] = []
    rows += [
        (f"{n}.L", f"{n}.R", _pose_depth(seen, n, "L", n, "R"), 0.10) for n in ("shoulder", "hip")
    ]
    for side in SIDES:
        for near, far, deviation in (
            ("elbow", "shoulder", 0.08),
            ("wrist", "elbow", 0.08),
            ("shoulder", "hip", 0.15),
            ("knee", "hip", 0.15),
            ("ankle", "knee", 0.15),
        ):
            depth = _pose_depth(seen, near, side, far, side)
            rows.append((f"{near}.{side}", f"{far}.{side}", depth, deviation))
        for finger, landmark in _KNUCKLES.items():
            depth = seen.hand_m[side][:, landmark, 2] - seen.hand_m[side][:, 0, 2]
            depth = np.where(np.isfinite(seen.hand_px[side][:, 0, 0]), depth, np.nan)
            rows.append((f"knuckle{finger}.{side}", f"wrist.{side}", depth, 0.02))
    for first, second in (
        ("eye.L", "eye.R"),
        ("nose", "ear.L"),
        ("nose", "ear.R"),
        ("chin", "nose"),
        ("mouth.L", "mouth.R"),
        ("eye.L", "chin"),
        ("eye.R", "chin"),
    ):
        rows.append((first, second, _face_depth(seen, first, second), 0.015))
    pairs = np.array([(at[a], at[b]) for a, b, _, _ in rows])
    depths = np.stack([d for _, _, d, _ in rows], 1)
    weights = np.array([1.0 / s**2 for *_, s in rows]) * np.isfinite(depths)
    return pairs, np.nan_to_num(depths), weights * seen.is_valid[:, None]


def _pose_depth(seen: Detections, near: str, near_side: str, far: str, far_side: str) -> F64:
    first = _POSE_BODY[near] + (near_side == "R")
    second = _POSE_BODY[far] + (far_side == "R")
    depth = seen.pose_m[:, first, 2] - seen.pose_m[:, second, 2]
    trusted = seen.visibility[:, [first, second]].min(1) >= MIN_VISIBILITY
    return np.asarray(np.where(trusted, depth, np.nan))


def _face_depth(seen: Detections, first: str, second: str) -> F64:
    """Metres, from the face mesh's own z."""
    z = [seen.face_px[:, list(_FACE_POINTS[name]), 2].mean(1) for name in (first, second)]
    return np.asarray((z[0] - z[1]) * HEAD_M / max(seen.head_px, 1.0))


def hand_targets(seen: Detections, side: str, names: Sequence[str]) -> Targets:
    """Targets of one hand's fingers: 21 points and their depth relative to the wrist."""
    points = seen.hand_px[side]
    has = np.isfinite(points[:, :, 0]) & seen.is_valid[:, None]
    pairs = np.array([(i, 0) for i in range(1, len(names))])
    depths = seen.hand_m[side][:, 1:, 2] - seen.hand_m[side][:, :1, 2]
    return Targets(
        np.nan_to_num(points),
        has / (_HAND_DEVIATION * seen.head_px) ** 2,
        pairs,
        np.nan_to_num(depths),
        np.isfinite(depths) * has[:, 1:] / 0.02**2,
        robust_px=0.5 * seen.head_px,
    )
