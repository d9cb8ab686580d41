"""SMPL-X from the user's own model file, fitted by the same code as the default body.

The package ``smplx`` and the models are for non-commercial research only (MPI licence), so neither is in
the default path. The package's own loader unpickles what it reads; here the ``.npz`` is read with pickling
off and only the arrays below are touched. Skinning with pose correctives is the package's ``lbs``.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.body_models.body_tables import BodyTables
from stages.body_models.linear_body import LinearBody
from stages.body_models.local_shape import Attached, local_directions
from stages.body_models.rig import FINGERS, SIDES, Roles
from stages.kit.arrays import I64, U8, Array, Arrays

NUM_BETAS = 10
NUM_JOINTS = 55
REQUIRED = {
    "v_template": 2,
    "shapedirs": 3,
    "posedirs": 3,
    "J_regressor": 2,
    "kintree_table": 2,
    "weights": 2,
    "f": 2,
    "lmk_faces_idx": 1,
    "lmk_bary_coords": 2,
}
"""Arrays that are read from the model file, and their number of dimensions."""
_WORDS = {"L": "left", "R": "right"}
_FINGER_WORDS = {1: "thumb", 2: "index", 3: "middle", 4: "ring", 5: "pinky"}
# dlib's 68 face points without the outline: 48 and 54 are the person's right and left mouth corner.
_MOUTH = {"R": 48 - 17, "L": 54 - 17}
_HELP = (
    "set body.backend.model_file to the path of SMPLX_NEUTRAL.npz from https://smpl-x.is.tue.mpg.de"
)


def check_smplx(model_file: str) -> None:
    """Raise ConfigError if the package or the model file is missing or not what it should be."""
    if find_spec("smplx") is None:
        raise ConfigError("the body backend 'smplx' needs its extra: pip install 'handloom[smplx]'")
    if not model_file:
        raise ConfigError(f"the body backend 'smplx' needs a model file: {_HELP}")
    if not Path(model_file).is_file():
        raise ConfigError(f"SMPL-X model file {model_file} does not exist; {_HELP}")
    read_model(model_file)


@cache
def read_model(model_file: str) -> Arrays:
    """Read the required arrays, pickling off.

    Raises:
        ConfigError: Not an npz, keys missing, pickled arrays, or shapes that do not fit together.
    """
    try:
        with np.load(model_file, allow_pickle=False) as source:
            missing = sorted(set(REQUIRED) - set(source.files))
            if missing:
                raise ConfigError(
                    f"{model_file} has no {missing}; expected {sorted(REQUIRED)}; {_HELP}"
                )
            data = {key: source[key] for key in REQUIRED}
    except (ValueError, BadZipFile, OSError) as error:
        raise ConfigError(
            f"cannot read {model_file} without unpickling ({_why(error)}); convert an old file first: "
            f"handloom models convert-smplx {model_file} SMPLX_NEUTRAL_plain.npz; {_HELP}"
        ) from error
    _check_shapes(model_file, data)
    return data


def _why(error: Exception) -> str:
    """The error, without numpy's advice to unpickle what is not trusted."""
    return "it holds pickled objects" if "pickle" in str(error) else str(error)


def _check_shapes(model_file: str, data: Arrays) -> None:
    count = len(data["v_template"])
    expected = {
        "v_template": (count, 3),
        "weights": (count, NUM_JOINTS),
        "J_regressor": (NUM_JOINTS, count),
        "kintree_table": (2, NUM_JOINTS),
        "posedirs": (count, 3, 9 * (NUM_JOINTS - 1)),
    }
    for key, dims in REQUIRED.items():
        if data[key].ndim != dims or data[key].shape != expected.get(key, data[key].shape):
            raise ConfigError(
                f"{model_file}: {key} has shape {data[key].shape}, expected "
                f"{expected.get(key, f'{dims} dimensions')}"
            )
    if data["shapedirs"].shape[:2] != (count, 3) or data["shapedirs"].shape[2] < NUM_BETAS:
        raise ConfigError(
            f"{model_file}: shapedirs has shape {data['shapedirs'].shape}, expected "
            f"({count}, 3, {NUM_BETAS} or more)"
        )


def smplx_ref(model_file: str) -> BackendRef:
    """How reports name this backend; the digest is the model file's."""
    try:
        number = version("smplx")
    except PackageNotFoundError as error:
        raise ConfigError(
            "the body backend 'smplx' needs its extra: pip install 'handloom[smplx]'"
        ) from error
    return BackendRef(
        name="smplx",
        version=number,
        weights_sha256=_digest(model_file),
        licence="MPI non-commercial research (code and model)",
    )


@cache
def _digest(model_file: str) -> str:
    with Path(model_file).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class SmplxBody(LinearBody):
    """Posed like a ``LinearBody``; the skin gets SMPL-X's pose correctives."""

    def __init__(self, tables: BodyTables, posedirs: Array) -> None:
        super().__init__(tables)
        flat = posedirs.reshape(-1, posedirs.shape[-1]).T
        self._pose_directions = torch.from_numpy(np.ascontiguousarray(flat, np.float32))
        self._parents = torch.from_numpy(tables.parents)

    def forward(
        self,
        rotations: Tensor,
        translation: Tensor,
        shape: Tensor | None = None,
        only: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Vertices (T,V,3), or those of ``only`` (N,), and joints (T,55,3), metres, by the package's ``lbs``."""
        from smplx.lbs import batch_rigid_transform, batch_rodrigues

        rest, joints = self.rest_vertices(shape), self.rest_joints(shape)
        num_frames = len(rotations)
        turns = batch_rodrigues(rotations.reshape(-1, 3)).view(num_frames, -1, 3, 3)
        feature = (turns[:, 1:] - torch.eye(3)).reshape(num_frames, -1)
        corrected = rest + (feature @ self._pose_directions).view(num_frames, -1, 3)
        place, moved = batch_rigid_transform(
            turns, joints.expand(num_frames, -1, -1), self._parents, dtype=torch.float32
        )
        at = slice(None) if only is None else only
        blend = torch.einsum("vb,tbij->tvij", self._weights[at], moved[:, :, :3])
        vertices = (blend[..., :3] @ corrected[:, at, :, None])[..., 0] + blend[..., 3]
        return vertices + translation[:, None], place + translation[:, None]


@cache
def load_smplx(model_file: str) -> SmplxBody:
    """Load the model once per process.

    Raises:
        ConfigError: See ``check_smplx``.
    """
    check_smplx(model_file)
    data = read_model(model_file)
    return SmplxBody(smplx_tables(data), data["posedirs"])


def smplx_tables(data: Arrays) -> BodyTables:
    """The model file as linear tables: local proportions first, then the ten betas."""
    from smplx.joint_names import JOINT_NAMES

    names = tuple(JOINT_NAMES[:NUM_JOINTS])
    parents = data["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    vertices = data["v_template"].astype(np.float64)
    regressor = data["J_regressor"].astype(np.float64)
    betas = np.moveaxis(data["shapedirs"][:, :, :NUM_BETAS].astype(np.float64), 2, 0)
    weights = data["weights"].astype(np.float64)
    joints = regressor @ vertices
    own = np.eye(NUM_JOINTS)[np.maximum(parents, 0)]
    roles = smplx_roles(names)
    local = local_directions(
        roles,
        parents,
        joints,
        Attached(np.concatenate([vertices, joints]), np.concatenate([weights, own])),
    )
    directions = np.concatenate([local[:, : len(vertices)], betas])
    joint_directions = np.concatenate(
        [local[:, len(vertices) :], np.einsum("jv,svd->sjd", regressor, betas)]
    )
    marks, owners, table = _landmarks(data, names, roles, vertices, weights, regressor)
    return BodyTables(
        bone_names=names,
        parents=parents,
        faces=data["f"].astype(np.int32),
        template_vertices=vertices.astype(np.float32),
        vertex_directions=directions.astype(np.float32),
        template_joints=joints.astype(np.float32),
        joint_directions=joint_directions.astype(np.float32),
        weights=weights.astype(np.float32),
        part_labels=_part_labels(weights, names),
        landmark_names=marks,
        landmark_bones=owners,
        template_landmarks=(table @ vertices).astype(np.float32),
        landmark_directions=np.einsum("kv,svd->skd", table, directions).astype(np.float32),
    )


def _landmarks(
    data: Arrays,
    names: tuple[str, ...],
    roles: Roles,
    vertices: Array,
    weights: Array,
    regressor: Array,
) -> tuple[tuple[str, ...], I64, Array]:
    """Names, owners (K,) and vertex regressor (K,V)."""
    from smplx.vertex_ids import vertex_ids

    ids = vertex_ids["smplx"]
    count = len(vertices)
    if max(ids.values()) >= count:
        raise ConfigError(f"the SMPL-X model has {count} vertices; expected the full 10475")
    rows: dict[str, tuple[int, Array]] = {}
    for name, word in (
        ("nose", "nose"),
        ("eye.L", "leye"),
        ("eye.R", "reye"),
        ("ear.L", "lear"),
        ("ear.R", "rear"),
    ):
        rows[name] = (roles.head, np.eye(1, count, ids[word])[0])
    for side, landmark in _MOUTH.items():
        row = np.zeros(count)
        np.add.at(
            row, data["f"][data["lmk_faces_idx"][landmark]], data["lmk_bary_coords"][landmark]
        )
        rows[f"mouth.{side}"] = (roles.head, row)
    face = weights[:, [roles.head, names.index("jaw")]].sum(1) > 0.9
    along = np.where(face, vertices @ [0.0, -1.0, 1.0] - 5 * np.abs(vertices[:, 0]), -np.inf)
    rows["chin"] = (roles.head, np.eye(1, count, int(along.argmax()))[0])
    for side in SIDES:
        letter = side.lower()
        for finger, word in _FINGER_WORDS.items():
            joints = roles.fingers[side][finger]
            rows[f"finger{finger}.tip.{side}"] = (
                joints[2],
                np.eye(1, count, ids[f"{letter}{word}"])[0],
            )
            if finger > 1:
                rows[f"knuckle{finger}.{side}"] = (roles.wrist[side], regressor[joints[0]])
    owners = np.array([owner for owner, _ in rows.values()], np.int64)
    return tuple(rows), owners, np.stack([row for _, row in rows.values()])


def _part_labels(weights: Array, names: tuple[str, ...]) -> U8:
    def part(name: str) -> int:
        for label, side in ((1, "left"), (2, "right")):
            if name.startswith(side) and any(w in name for w in (*_FINGER_WORDS.values(), "wrist")):
                return label
        return 3 if name in ("head", "jaw") or "eye" in name else 0

    of_joint = np.array([part(name) for name in names])
    totals = np.stack([weights[:, of_joint == label].sum(1) for label in range(4)], 1)
    return np.asarray(totals.argmax(1), np.uint8)


def smplx_roles(names: tuple[str, ...]) -> Roles:
    """Roles of the SMPL-X joints."""
    at = {name: index for index, name in enumerate(names)}

    def both(word: str) -> dict[str, int]:
        return {side: at[f"{_WORDS[side]}_{word}"] for side in SIDES}

    return Roles(
        root=at["pelvis"],
        spine=(at["spine1"], at["spine2"], at["spine3"]),
        neck=(at["neck"],),
        head=at["head"],
        clavicle={side: (at[f"{_WORDS[side]}_collar"],) for side in SIDES},
        shoulder=both("shoulder"),
        elbow=both("elbow"),
        twist={side: (at[f"{_WORDS[side]}_wrist"],) for side in SIDES},
        wrist=both("wrist"),
        hip=both("hip"),
        knee=both("knee"),
        ankle=both("ankle"),
        fingers={
            side: {
                f: (
                    at[f"{_WORDS[side]}_{_FINGER_WORDS[f]}1"],
                    at[f"{_WORDS[side]}_{_FINGER_WORDS[f]}2"],
                    at[f"{_WORDS[side]}_{_FINGER_WORDS[f]}3"],
                )
                for f in FINGERS
            }
            for side in SIDES
        },
    )
