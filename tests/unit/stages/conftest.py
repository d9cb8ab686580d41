"""What tests of stages share: a place for their files, a held product, a synthetic body model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stages.files import Files
from tests.unit.stages.body_models.toy_body import observe, write_model
from tests.unit.stages.product import held_scene
from tests.unit.stages.source.synth import toy_files

SIZE_PX = (240, 416)
NUM_FRAMES = 16


@dataclass(frozen=True)
class Truth:
    """A posed toy body and what a perfect detector sees of it."""

    model_file: str
    body: object
    roles: object
    rotations: np.ndarray
    translation: np.ndarray
    shape: np.ndarray
    arrays: dict[str, np.ndarray]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """Files of one row, open while the test runs."""
    files = toy_files(tmp_path)
    with files.row_scope():
        yield files


@pytest.fixture(scope="module")
def held() -> held_scene.HeldScene:
    """Twenty frames of a hand that holds a box; tests change copies."""
    return held_scene.render(20)


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("smplx", reason="the smplx extra is not installed")
    return write_model(tmp_path_factory.mktemp("toy") / "SMPLX_TOY.npz")


@pytest.fixture(scope="session")
def truth(toy_model: Path) -> Truth:
    """Both elbows bent, the left one bending on, the head nodding, fingers curled."""
    from stages.body_models.smplx import load_smplx, smplx_roles

    body = load_smplx(str(toy_model))
    names = list(body.bone_names)
    time = np.linspace(0, 1, NUM_FRAMES)
    rotations = np.zeros((NUM_FRAMES, 55, 3))
    rotations[:, 0, 1] = 0.4 * time
    rotations[:, names.index("head"), 0] = 0.2 * time
    rotations[:, names.index("left_shoulder"), 2] = -1.1
    rotations[:, names.index("right_shoulder"), 2] = 1.0
    rotations[:, names.index("left_elbow"), 1] = -0.3 - 1.2 * time
    rotations[:, names.index("right_elbow"), 1] = 1.5
    for finger in ("index", "middle", "ring", "pinky"):
        rotations[:, names.index(f"left_{finger}2"), 2] = -0.6
    translation = np.tile([0.0, -0.3, -2.0], (NUM_FRAMES, 1))
    shape = np.zeros(body.num_shape)
    roles = smplx_roles(body.bone_names)
    arrays = observe(body, roles, rotations, translation, shape, 1.2 * SIZE_PX[1], SIZE_PX)
    return Truth(str(toy_model), body, roles, rotations, translation, shape, arrays)
