"""What SAM 3D Body would save of a blocky person: 70 keypoints, one closed mesh, x right, y down, z away."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.body_models.sam3d_results import NUM_KEYPOINTS

CELL_M = 0.04
# Boxes (low, high) in metres; the person faces the camera, so their left is at +x.
_BLOCKS = {
    "torso": ((-0.2, -1.48, -0.12), (0.2, -0.8, 0.12)),
    "neck": ((-0.08, -1.6, -0.08), (0.08, -1.4, 0.08)),
    "head": ((-0.12, -1.8, -0.12), (0.12, -1.56, 0.12)),
    "arm.L": ((0.2, -1.44, -0.04), (0.72, -1.4, 0.04)),
    "arm.R": ((-0.72, -1.44, -0.04), (-0.2, -1.4, 0.04)),
    "hand.L": ((0.68, -1.52, -0.08), (0.88, -1.32, 0.08)),
    "hand.R": ((-0.88, -1.52, -0.08), (-0.68, -1.32, 0.08)),
    "leg.L": ((0.04, -0.8, -0.12), (0.2, 0.0, 0.12)),
    "leg.R": ((-0.2, -0.8, -0.12), (-0.04, 0.0, 0.12)),
}
WRIST_X = 0.6


def toy_mesh() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V,3) and outward triangles (F,3): the surface of the union of the blocks."""
    low = np.array([-1.2, -2.0, -0.4])
    filled = np.zeros((60, 52, 20), bool)
    for start, stop in _BLOCKS.values():
        first, last = (np.round((np.array(p) - low) / CELL_M).astype(int) for p in (start, stop))
        filled[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = True
    corners, quads = [], []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        step = np.eye(3, dtype=int)[axis]
        for sign in (1, -1):
            open_side = filled & ~np.roll(filled, -sign, axis)
            base = np.argwhere(open_side) + (step if sign > 0 else 0)
            ring = np.stack([base, base + u, base + u + v, base + v], 1)
            quads.append(ring if sign > 0 else ring[:, ::-1])
    corners = np.concatenate(quads)
    unique, index = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(-1, 4)
    faces = np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]]).astype(np.int32)
    return unique * CELL_M + low, faces


def toy_keypoints() -> np.ndarray:
    """(70,3) in the order of the package."""
    points = np.zeros((NUM_KEYPOINTS, 3))
    left = {
        1: (0.04, -1.72, -0.12), 3: (0.12, -1.7, 0), 5: (0.18, -1.42, 0), 7: (0.44, -1.42, 0),
        9: (0.12, -0.8, 0), 11: (0.12, -0.4, 0), 13: (0.12, -0.02, 0),
    }  # fmt: skip
    for index, (x, y, z) in left.items():
        points[index], points[index + 1] = (x, y, z), (-x, y, z)
    points[0], points[69] = (0, -1.68, -0.12), (0, -1.46, 0)
    points[62], points[41] = (WRIST_X, -1.42, 0), (-WRIST_X, -1.42, 0)
    for sign, first in ((1, 42), (-1, 21)):
        for finger in range(5):
            for joint in range(4):  # tip first
                x = 0.86 - 0.03 * joint
                points[first + 4 * finger + joint] = (sign * x, -1.5 + 0.04 * finger, 0)
    return points


def toy_result(depth_m: float, shift_m: float, focal_px: float, size_px: tuple[int, int]) -> dict:
    """One frame's arrays."""
    vertices, _ = toy_mesh()
    points, move = toy_keypoints(), np.array([shift_m, 0.9, depth_m])
    there = points + move
    centre = np.array(size_px) / 2
    return {
        "pred_vertices": vertices.astype(np.float32),
        "pred_cam_t": move.astype(np.float32),
        "pred_keypoints_3d": points.astype(np.float32),
        "pred_keypoints_2d": (there[:, :2] / there[:, 2:] * focal_px + centre).astype(np.float32),
        "expr_params": np.zeros(72, np.float32),
    }


def write_result(path: Path, **changes: object) -> Path:
    """One frame with some arrays changed; ``key=None`` leaves one out."""
    arrays = {**toy_result(4.0, 0.0, 500.0, (240, 416)), **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def write_faces(path: Path) -> Path:
    """The triangles, as the estimator's user would save them."""
    np.savez(path, faces=toy_mesh()[1])
    return path


def detections(keypoints_px: np.ndarray, distance_m: float = 4.0) -> dict[str, np.ndarray]:
    """The ``detect`` arrays of a detector that sees the keypoints (T,70,2) exactly."""
    from stages.body.sequence import HAND_POINTS, POSE_POINTS

    count = len(keypoints_px)
    pose = np.full((count, 33, 4), 0.0)
    world = np.zeros((count, 33, 3))
    for landmark, keypoint in POSE_POINTS.items():
        pose[:, landmark, :2] = keypoints_px[:, keypoint]
        pose[:, landmark, 3] = 1.0
        world[:, landmark] = toy_keypoints()[keypoint]
    arrays = {
        "pose_landmarks_px": pose,
        "pose_world_m": world,
        "face_landmarks_px": np.full((count, 468, 3), np.nan),
    }
    for side, name in (("L", "left"), ("R", "right")):
        points = keypoints_px[:, HAND_POINTS[side]]
        arrays[f"{name}_hand_landmarks_px"] = np.concatenate([points, points[..., :1] * 0], -1)
        arrays[f"{name}_hand_world_m"] = np.zeros((count, 21, 3))
    return {key: value.astype(np.float32) for key, value in arrays.items()}
