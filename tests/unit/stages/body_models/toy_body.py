"""A synthetic SMPL-X model file and synthetic detections of it: known pose in, landmarks out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NUM_VERTICES = 10475
_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
_TRUNK = {
    "pelvis": (0, 0, 0),
    "spine1": (0, 0.10, -0.01),
    "spine2": (0, 0.22, 0),
    "spine3": (0, 0.30, 0),
    "neck": (0, 0.50, -0.02),
    "head": (0, 0.58, 0),
    "jaw": (0, 0.58, 0.02),
}
_LEFT = {
    "hip": (0.09, -0.09, 0),
    "knee": (0.10, -0.48, 0.01),
    "ankle": (0.10, -0.88, -0.02),
    "foot": (0.10, -0.94, 0.10),
    "collar": (0.06, 0.43, 0),
    "shoulder": (0.17, 0.44, -0.01),
    "elbow": (0.43, 0.43, -0.03),
    "wrist": (0.68, 0.43, -0.03),
    "eye_smplhf": (0.03, 0.65, 0.08),
    "index1": (0.77, 0.430, 0.00),
    "index2": (0.81, 0.428, 0.00),
    "index3": (0.835, 0.423, 0.00),
    "middle1": (0.775, 0.430, -0.025),
    "middle2": (0.82, 0.428, -0.025),
    "middle3": (0.85, 0.423, -0.025),
    "ring1": (0.77, 0.430, -0.047),
    "ring2": (0.81, 0.428, -0.048),
    "ring3": (0.835, 0.423, -0.049),
    "pinky1": (0.755, 0.428, -0.065),
    "pinky2": (0.785, 0.426, -0.068),
    "pinky3": (0.80, 0.423, -0.07),
    "thumb1": (0.71, 0.42, 0.01),
    "thumb2": (0.735, 0.412, 0.035),
    "thumb3": (0.76, 0.405, 0.055),
}
_LEFT_MARKS = {
    "eye": (0.03, 0.65, 0.10),
    "ear": (0.075, 0.63, 0.01),
    "thumb": (0.78, 0.40, 0.072),
    "index": (0.857, 0.415, 0.00),
    "middle": (0.877, 0.415, -0.025),
    "ring": (0.858, 0.415, -0.05),
    "pinky": (0.818, 0.416, -0.072),
    "BigToe": (0.11, -0.97, 0.17),
    "SmallToe": (0.15, -0.97, 0.12),
    "Heel": (0.10, -0.96, -0.06),
}
_MOUTH = {"L": (0.03, 0.565, 0.10), "R": (-0.03, 0.565, 0.10)}
_CHIN, _NOSE = (0.0, 0.525, 0.105), (0.0, 0.61, 0.13)


def model_data() -> dict[str, np.ndarray]:
    """The arrays of a made-up model: boxes along the bones, landmarks at SMPL-X's vertex numbers."""
    from smplx.joint_names import JOINT_NAMES
    from smplx.vertex_ids import vertex_ids

    names = JOINT_NAMES[:55]
    joints = np.array([_joint(name) for name in names])
    parents = np.array([_parent(index, names) for index in range(55)])
    vertices = np.tile(joints[0], (NUM_VERTICES, 1))
    weights = np.zeros((NUM_VERTICES, 55))
    weights[:, 0] = 1.0
    faces: list[list[int]] = []
    for joint in range(1, 55):
        start = 1000 + 8 * joint
        corners, triangles = _box(joints[parents[joint]], joints[joint], joint >= 25)
        vertices[start : start + 8] = corners
        _bind(weights, range(start, start + 8), int(parents[joint]))
        faces += (triangles + start).tolist()
    head = names.index("head")
    corners, triangles = _box(np.array([0, 0.53, 0.03]), np.array([0, 0.75, 0.03]), False, 0.08)
    vertices[2000:2008] = corners
    _bind(weights, range(2000, 2008), head)
    faces += (triangles + 2000).tolist()
    for name, index in vertex_ids["smplx"].items():
        vertices[index] = _mark(name)
        _bind(weights, [index], _mark_owner(name, names))
    for index, place in ((3000, _MOUTH["L"]), (3001, _MOUTH["R"]), (3002, _CHIN)):
        vertices[index] = place
        _bind(weights, [index], head)
    regressor = np.zeros((55, NUM_VERTICES))
    for joint in range(55):
        vertices[9990 + joint if joint < 5 else 2100 + joint] = joints[joint]
        spot = 9990 + joint if joint < 5 else 2100 + joint
        regressor[joint, spot] = 1.0
        _bind(weights, [spot], max(int(parents[joint]), 0))
    shapedirs = np.zeros((NUM_VERTICES, 3, 10))
    shapedirs[:, :, 0] = 0.04 * vertices
    landmarks = np.zeros(51, np.int64)
    faces += [[3000] * 3, [3001] * 3]
    landmarks[54 - 17], landmarks[48 - 17] = len(faces) - 2, len(faces) - 1
    return {
        "v_template": vertices.astype(np.float32),
        "shapedirs": shapedirs.astype(np.float32),
        "posedirs": np.zeros((NUM_VERTICES, 3, 486), np.float32),
        "weights": weights.astype(np.float32),
        "J_regressor": regressor.astype(np.float32),
        "f": np.array(faces, np.int32),
        "kintree_table": np.stack([parents, np.arange(55)]),
        "lmk_faces_idx": landmarks,
        "lmk_bary_coords": np.tile([[1.0, 0.0, 0.0]], (51, 1)),
    }


def write_model(path: Path, **changes: np.ndarray | None) -> Path:
    """Write the model file; ``key=None`` leaves an array out."""
    data = {**model_data(), **changes}
    np.savez_compressed(path, **{k: v for k, v in data.items() if v is not None})
    return path


def _joint(name: str) -> tuple[float, float, float]:
    if name in _TRUNK:
        return _TRUNK[name]
    side, _, word = name.partition("_")
    x, y, z = _LEFT[word]
    return (x if side == "left" else -x, y, z)


def _parent(index: int, names: list[str]) -> int:
    if index < len(_PARENTS):
        return _PARENTS[index]
    name = names[index]
    side = name.split("_")[0]
    return names.index(f"{side}_wrist") if name.endswith("1") else index - 1


def _mark(name: str) -> tuple[float, float, float]:
    if name == "nose":
        return _NOSE
    x, y, z = _LEFT_MARKS[name[1:]]
    return (x if name[0] in "lL" else -x, y, z)


def _mark_owner(name: str, names: list[str]) -> int:
    word, side = name[1:], "left" if name[0] in "lL" else "right"
    if name == "nose" or word in ("eye", "ear"):
        return names.index("head")
    return names.index(f"{side}_foot" if word[0].isupper() else f"{side}_{word}3")


def _bind(weights: np.ndarray, rows: object, joint: int) -> None:
    for row in rows:
        weights[row] = 0.0
        weights[row, joint] = 1.0


def _box(start, end, is_finger: bool, radius: float | None = None):
    """Eight corners and twelve outward triangles of a box around a segment."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / max(np.linalg.norm(end - start), 1e-6)
    side = np.cross(along, [0, 0, 1.0] if abs(along[2]) < 0.9 else [1.0, 0, 0])
    side /= np.linalg.norm(side)
    up = np.cross(along, side)
    r = radius or (0.012 if is_finger else 0.05)
    ring = [side + up, -side + up, -side - up, side - up]
    corners = np.array([start + r * c for c in ring] + [end + r * c for c in ring])
    quads = [(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (3, 2, 1, 0), (4, 5, 6, 7)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    centre = corners.mean(0)
    for row in triangles:
        a, b, c = corners[row]
        if np.dot(np.cross(b - a, c - a), (a + b + c) / 3 - centre) < 0:
            row[1], row[2] = row[2], row[1]
    return corners, triangles


def observe(body, roles, rotations, translation, shape, focal_px, size_px) -> dict[str, np.ndarray]:
    """The ``detect`` arrays that a perfect detector would give for a posed body."""
    import torch

    from stages.body.solve import Pinhole, project

    args = [torch.from_numpy(np.asarray(a, np.float32)) for a in (rotations, translation, shape)]
    _, joints = body.pose_joints(*args)
    joints, marks = joints.numpy().astype(float), body.landmarks(*args).numpy().astype(float)
    names = list(body.tables.landmark_names)
    camera = Pinhole(focal_px, ((size_px[0] - 1) / 2, (size_px[1] - 1) / 2))
    count = len(joints)
    pose = np.full((count, 33, 3), np.nan)
    face = np.full((count, 468, 3), np.nan)
    for name, at in {
        "nose": [4],
        "eye.L": [263, 362],
        "eye.R": [33, 133],
        "mouth.L": [291],
        "mouth.R": [61],
        "chin": [152],
        "ear.L": [454],
        "ear.R": [234],
    }.items():
        face[:, at] = marks[:, [names.index(name)]]
    face[:, 10] = 2 * face[:, [33, 263]].mean(1) - face[:, 152]
    for name, at in {
        "nose": 0,
        "eye.L": 2,
        "eye.R": 5,
        "ear.L": 7,
        "ear.R": 8,
        "mouth.L": 9,
        "mouth.R": 10,
    }.items():
        pose[:, at] = marks[:, names.index(name)]
    hands = {}
    for odd, side in ((0, "L"), (1, "R")):
        for first, role in (
            (11, roles.shoulder),
            (13, roles.elbow),
            (15, roles.wrist),
            (23, roles.hip),
            (25, roles.knee),
            (27, roles.ankle),
        ):
            pose[:, first + odd] = joints[:, role[side]]
        points = [joints[:, roles.wrist[side]]]
        for finger in range(1, 6):
            points += [joints[:, j] for j in roles.fingers[side][finger]]
            points.append(marks[:, names.index(f"finger{finger}.tip.{side}")])
        hands[side] = np.stack(points, 1)
    return _as_arrays(pose, face, hands, camera, project)


def _as_arrays(pose, face, hands, camera, project) -> dict[str, np.ndarray]:
    flip = np.array([1.0, -1.0, -1.0])
    scale = camera.focal_px / np.nanmedian(-face[..., 2])
    face_px = np.concatenate([project(face, camera), -face[..., 2:] * scale], -1)
    pose_px = np.nan_to_num(np.concatenate([project(pose, camera), pose[..., 2:] * 0], -1))
    seen = np.isfinite(pose[..., :1]).astype(float)
    arrays = {
        "pose_landmarks_px": np.concatenate([pose_px, seen], -1),
        "pose_world_m": np.nan_to_num((pose - pose[:, 23:25].mean(1, keepdims=True)) * flip),
        "face_landmarks_px": face_px,
    }
    for side, name in (("L", "left"), ("R", "right")):
        arrays[f"{name}_hand_world_m"] = (hands[side] - hands[side].mean(1, keepdims=True)) * flip
        pixels = project(hands[side], camera)
        arrays[f"{name}_hand_landmarks_px"] = np.concatenate([pixels, pixels[..., :1] * 0], -1)
    return {k: v.astype(np.float32) for k, v in arrays.items()}
