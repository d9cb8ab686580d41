"""Distils the anny package's model into the tables of ``linear_body``. Runs once per user."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from stages.body_models.local_shape import Attached, local_directions
from stages.body_models.rig import anny_roles
from stages.kit.arrays import F64, I64, U8, Array, Arrays, Mask

NUM_SHAPE = 24
# Anny interpolates linearly between these anchors, so a grid over them covers all adults up to middle age
# (skin folds of old age would only wrinkle a mesh that is fitted to joints).
PHENOTYPE_AXES: dict[str, tuple[float, ...]] = {
    "gender": (0.0, 1.0),
    "age": (2 / 3, 0.8),
    "muscle": (0.0, 0.5, 1.0),
    "weight": (0.0, 0.5, 1.0),
    "height": (0.0, 0.5, 1.0),
    "proportions": (0.0, 1.0),
}
_TO_Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
"""Anny: z up, facing -y. Ours: y up, facing +z."""
_KNUCKLE = 0.2
"""Anny's first finger joints sit near the web; the knuckle that hand detectors mark lies a fifth of a
phalanx before them (from bone length ratios of detected hands)."""
_COCO = {"left_eye": "eye.L", "right_eye": "eye.R", "left_ear": "ear.L", "right_ear": "ear.R"}


def distil(scratch: Path) -> tuple[Arrays, dict[str, str]]:
    """Build the model once in ``scratch`` and return our arrays and their names."""
    import torch
    import warp

    warp.config.quiet = True
    import anny
    from anny.paths import set_anny_cache_path

    set_anny_cache_path(scratch)
    with torch.no_grad():
        model = anny.Anny()
        grid = list(itertools.product(*PHENOTYPE_AXES.values()))
        rests = [_rest(model, dict(zip(PHENOTYPE_AXES, point, strict=True))) for point in grid]
    vertices = np.stack([r[0] for r in rests])
    joints = np.stack([r[1] for r in rests])
    mean, directions, shapes = principal_directions(np.concatenate([vertices, joints], 1))
    split = vertices.shape[1]
    weights = _dense_weights(model, split, joints.shape[1])
    bones = list(model.bone_labels)
    names, owners, regressor = _landmarks(model, mean, weights, bones)
    parents = np.array(model.bone_parents, np.int64)
    local = _local(mean, split, weights, parents, bones)
    directions = np.concatenate([local, directions])
    shapes = np.concatenate([np.zeros((len(shapes), len(local))), shapes], 1)
    arrays: Arrays = {
        "parents": parents,
        "faces": model.faces.numpy().astype(np.int32),
        "template_vertices": mean[:split],
        "vertex_directions": directions[:, :split],
        "template_joints": mean[split:],
        "joint_directions": directions[:, split:],
        "weights": weights,
        "part_labels": _part_labels(weights, bones),
        "landmark_bones": owners,
        "template_landmarks": regressor @ mean,
        "landmark_directions": np.einsum("kv,svd->skd", regressor, directions),
        "grid_shapes": shapes.reshape(*[len(a) for a in PHENOTYPE_AXES.values()], -1),
    }
    for name, axis in PHENOTYPE_AXES.items():
        arrays[f"axis_{name}"] = np.array(axis, np.float64)
    text = {
        "bone_names": " ".join(bones),
        "landmark_names": " ".join(names),
        "phenotypes": " ".join(PHENOTYPE_AXES),
    }
    return {k: _compact(v, k) for k, v in arrays.items()}, text


def principal_directions(samples: F64, count: int = NUM_SHAPE) -> tuple[F64, F64, F64]:
    """Mean (P,3), ``count`` directions (S,P,3) of one standard deviation, coordinates (N,S)."""
    flat = samples.reshape(len(samples), -1)
    mean = flat.mean(0)
    centred = flat - mean
    values, left = np.linalg.eigh(centred @ centred.T)
    values, left = values[::-1][:count], left[:, ::-1][:, :count]
    left = left * np.sign(left[np.abs(left).argmax(0), np.arange(count)])
    deviation = np.sqrt(np.maximum(values, 1e-12) / len(samples))
    coordinates = left * np.sqrt(len(samples))
    directions = (left / np.sqrt(len(samples) * values)).T @ centred * deviation[:, None]
    directions *= np.sqrt(len(samples))
    shape = (count, *samples.shape[1:])
    return mean.reshape(samples.shape[1:]), directions.reshape(shape), coordinates


def _local(
    mean: F64,
    split: int,
    weights: F64,
    parents: I64,
    bones: list[str],
) -> F64:
    """(5,V+B,3) local proportions of vertices and joints; a joint belongs to its parent."""
    own = np.eye(len(bones))[np.maximum(parents, 0)]
    attached = Attached(mean, np.concatenate([weights, own]))
    return local_directions(anny_roles(tuple(bones)), parents, mean[split:], attached)


def _rest(model: Any, phenotypes: dict[str, float]) -> tuple[Array, Array]:
    coefficients = model.get_phenotype_blendshape_coefficients(**phenotypes)
    rest = model.get_rest_model(coefficients)
    return (
        rest["rest_vertices"][0].double().numpy() @ _TO_Y_UP.T,
        rest["rest_bone_heads"][0].double().numpy() @ _TO_Y_UP.T,
    )


def _dense_weights(model: Any, num_vertices: int, num_bones: int) -> F64:
    weights = np.zeros((num_vertices, num_bones))
    rows = np.arange(num_vertices)[:, None]
    np.add.at(
        weights,
        (rows, model.vertex_bone_indices.numpy()),
        model.vertex_bone_weights.double().numpy(),
    )
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _part_labels(weights: F64, bones: list[str]) -> U8:
    """The part that carries most of a vertex's weight."""

    def part(name: str) -> int:
        if name.startswith(("finger", "metacarpal", "wrist")):
            return 1 if name.endswith(".L") else 2
        return 3 if name == "head" or name.startswith("eye") else 0

    of_bone = np.array([part(name) for name in bones])
    totals = np.stack([weights[:, of_bone == p].sum(1) for p in range(4)], 1)
    return np.asarray(totals.argmax(1), np.uint8)


def _landmarks(model: Any, mean: F64, weights: F64, bones: list[str]) -> tuple[list[str], I64, F64]:
    """Names, owning bones (K,) and regressor (K,V+B) of the landmarks from vertices and joints."""
    import anny

    rest, joints = mean[: len(weights)], mean[len(weights) :]

    coco = anny.KeypointsRegressor.coco(model)
    dense = dict(zip(coco.labels, coco.regression_weights.double().numpy(), strict=True))
    rows: list[tuple[str, str, F64]] = [
        (ours, "head", dense[theirs]) for theirs, ours in _COCO.items()
    ]
    head = weights[:, bones.index("head")] > 0.9
    midline = head & (np.abs(rest[:, 0]) < 0.008)
    rows.append(("nose", "head", _extreme(rest, midline, np.array([0.0, 0.0, 1.0]))))
    rows.append(("chin", "head", _extreme(rest, midline, np.array([0.0, -1.0, 1.0]))))
    for side, left in (("L", True), ("R", False)):
        rows.append((f"mouth.{side}", "head", _mouth_corner(model, len(rest), left)))
        for finger in range(1, 6):
            bone = f"finger{finger}-3.{side}"
            owned = weights[:, bones.index(bone)] > 0.9
            outwards = joints[bones.index(bone)] - joints[bones.index(f"finger{finger}-2.{side}")]
            rows.append((f"finger{finger}.tip.{side}", bone, _extreme(rest, owned, outwards, 30)))
        foot = weights[:, bones.index(f"foot.{side}")] > 0.9
        rows.append(
            (f"heel.{side}", f"foot.{side}", _extreme(rest, foot, np.array([0.0, -0.7, -1.0])))
        )
        toe = weights[:, bones.index(f"toe1-2.{side}")] > 0.9
        rows.append(
            (f"toe.{side}", f"toe1-2.{side}", _extreme(rest, toe, np.array([0.0, 0.0, 1.0])))
        )
    owners = np.array([bones.index(bone) for _, bone, _ in rows], np.int64)
    table = np.zeros((len(rows), len(mean)))
    table[:, : len(rest)] = [row for _, _, row in rows]
    names = [name for name, _, _ in rows]
    for side in ("L", "R"):
        for finger in range(2, 6):
            base, middle = (bones.index(f"finger{finger}-{i}.{side}") for i in (1, 2))
            row = np.zeros((1, len(mean)))
            row[0, len(rest) + base], row[0, len(rest) + middle] = 1 + _KNUCKLE, -_KNUCKLE
            table, names = np.concatenate([table, row]), [*names, f"knuckle{finger}.{side}"]
            owners = np.append(owners, bones.index(f"wrist.{side}"))
    return names, owners, table


def _extreme(
    rest: F64,
    mask: Mask,
    direction: F64,
    count: int = 6,
) -> F64:
    """Mean of the masked vertices that lie farthest along a direction, as a regressor row (V,)."""
    along = np.where(mask, rest @ direction, -np.inf)
    row = np.zeros(len(rest))
    row[np.argsort(-along, kind="stable")[:count]] = 1.0 / count
    return row


def _mouth_corner(model: Any, num_vertices: int, left: bool) -> F64:
    """The vertices that a mouth stretch moves most, as a regressor row (V,)."""
    from anny.paths import get_anny_root_dir

    side = "Left" if left else "Right"
    folder = Path(get_anny_root_dir()) / "data" / "faceunits01" / "targets" / "faceunits"
    moves = np.loadtxt(folder / f"mouthStretch{side}.target", comments="#")
    length = np.zeros(int(model.base_mesh_vertex_indices.max()) + 1)
    known = moves[:, 0] < len(length)
    length[moves[known, 0].astype(int)] = np.linalg.norm(moves[known, 1:], axis=1)
    length = length[model.base_mesh_vertex_indices.numpy()]
    row = np.zeros(num_vertices)
    row[np.argsort(-length, kind="stable")[:8]] = 1 / 8
    return row


def _compact(array: Array, name: str) -> Array:
    is_float = array.dtype.kind == "f" and not name.startswith("axis_")
    return np.ascontiguousarray(array.astype(np.float32) if is_float else array)
