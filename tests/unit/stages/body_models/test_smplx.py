from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import ConfigError
from stages.body_models.linear_body import LinearBody, rotation_matrices
from stages.body_models.local_shape import LOCAL_NAMES
from tests.unit.stages.conftest import Truth

pytest.importorskip("smplx", reason="the smplx extra is not installed")

from stages.body_models.smplx import check_smplx, read_model, smplx_ref
from tests.unit.stages.body_models.toy_body import write_model


def pose_of(truth: Truth):
    return [
        torch.from_numpy(np.asarray(a, np.float32))
        for a in (truth.rotations, truth.translation, truth.shape)
    ]


def test_skin_of_the_package_equals_ours_without_correctives(truth: Truth) -> None:
    ours, ours_joints = LinearBody.forward(truth.body, *pose_of(truth))
    theirs, their_joints = truth.body.forward(*pose_of(truth))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(ours_joints, their_joints, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "smplx"])
def test_chosen_vertices_are_those_of_the_whole_skin(truth: Truth, kind: str) -> None:
    forward = LinearBody.forward if kind == "linear" else type(truth.body).forward
    only = torch.tensor([7, 3, 5361])
    whole, joints = forward(truth.body, *pose_of(truth))
    some, same_joints = forward(truth.body, *pose_of(truth), only)
    assert torch.allclose(some, whole[:, only], atol=1e-6)
    assert torch.equal(same_joints, joints)


def test_pose_correctives_are_used(tmp_path: Path, truth: Truth) -> None:
    directions = np.zeros((10475, 3, 486), np.float32)
    directions[5361, 1] = 0.01
    path = write_model(tmp_path / "corrected.npz", posedirs=directions)
    from stages.body_models.smplx import load_smplx

    corrected, _ = load_smplx(str(path)).forward(*pose_of(truth))
    plain, _ = truth.body.forward(*pose_of(truth))
    gap = (corrected - plain).norm(dim=-1)
    assert gap[:, 5361].min() > 1e-4
    assert gap[:, :5000].max() == 0


def test_gradients_reach_pose_and_shape(truth: Truth) -> None:
    rotations, translation, shape = (a.clone().requires_grad_() for a in pose_of(truth))
    vertices, _ = LinearBody.forward(truth.body, rotations, translation, shape)
    vertices.square().sum().backward()
    for tensor in (rotations, translation, shape):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0


def test_rotation_gradient_is_finite_at_rest() -> None:
    still = torch.zeros(4, 3, requires_grad=True)
    rotation_matrices(still).square().sum().backward()
    assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize("name", LOCAL_NAMES)
def test_each_local_proportion_changes_its_own_length_only(truth: Truth, name: str) -> None:
    names, roles = list(truth.body.bone_names), truth.roles
    shape = torch.zeros(truth.body.num_shape)
    shape[LOCAL_NAMES.index(name)] = 1.0

    def lengths(joints):
        def gap(a, b):
            return float((joints[a] - joints[b]).norm())

        return {
            "upper_arm_length": gap(roles.shoulder["L"], roles.elbow["L"]),
            "forearm_length": gap(roles.elbow["L"], roles.wrist["L"]),
            "hand_size": gap(roles.wrist["L"], roles.fingers["L"][3][0]),
            "shoulder_width": gap(roles.shoulder["L"], roles.shoulder["R"]),
            "head_size": gap(roles.head, names.index("left_eye_smplhf")),
        }

    before, after = lengths(truth.body.rest_joints()), lengths(truth.body.rest_joints(shape))
    changed = {key for key in before if abs(after[key] / before[key] - 1) > 0.01}
    assert changed == {name}
    assert 1.03 < after[name] / before[name] < 1.09


def test_missing_keys_are_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "broken.npz", weights=None, J_regressor=None)
    with pytest.raises(ConfigError, match=r"has no \['J_regressor', 'weights'\]"):
        check_smplx(str(path))


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "short.npz", weights=np.zeros((10475, 24), np.float32))
    with pytest.raises(ConfigError, match=r"weights has shape \(10475, 24\), expected"):
        check_smplx(str(path))


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    path = write_model(tmp_path / "pickled.npz", weights=bomb)
    with pytest.raises(ConfigError, match="without unpickling"):
        read_model(str(path))


@pytest.mark.parametrize("text", ["", "/no/such/file.npz"])
def test_no_file_says_where_to_get_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"body\.backend\.model_file"):
        check_smplx(text)


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match="cannot read"):
        check_smplx(str(tmp_path / "model.npz"))


def test_the_reference_names_file_and_licence(truth: Truth) -> None:
    ref = smplx_ref(truth.model_file)
    assert len(ref.weights_sha256) == 64
    assert "non-commercial" in ref.licence
