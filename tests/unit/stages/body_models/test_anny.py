"""The distilled Anny table. The first run of a user builds it, about a minute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.errors import ConfigError
from stages.body_models import anny_package
from stages.body_models.anny import AnnyBody, load_anny
from stages.body_models.anny_package import anny_ref
from stages.body_models.rig import SIDES, anny_roles, palm_axes


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return load_anny()


@pytest.mark.slow
class TestAnny:
    def test_axes_and_units(self, body: AnnyBody) -> None:
        rest = body.rest_joints(body.shape_of()).numpy()
        at = {name: rest[i] for i, name in enumerate(body.bone_names)}
        assert at["wrist.L"][0] > 0 > at["wrist.R"][0]
        assert at["head"][1] > at["root"][1] > at["foot.L"][1]
        assert at["eye.L"][2] > at["head"][2]
        height = np.ptp(body.rest_vertices(body.shape_of()).numpy()[:, 1])
        assert 1.4 < height < 2.0

    def test_table_shapes(self, body: AnnyBody) -> None:
        assert body.faces.shape == (27420, 3)
        assert body.num_vertices == len(body.part_labels) == 13718
        assert set(np.unique(body.part_labels)) == {0, 1, 2, 3}
        assert np.allclose(body.tables.weights.sum(1), 1, atol=1e-4)

    def test_rest_pose_is_zero_rotation(self, body: AnnyBody) -> None:
        still = torch.zeros(2, len(body.bone_names), 3)
        vertices, joints = body.forward(still, torch.tensor([[0.0, 0, 0], [1, 2, -3]]))
        assert torch.allclose(vertices[0], body.rest_vertices(), atol=1e-5)
        assert torch.allclose(joints[1] - joints[0], torch.tensor([1.0, 2, -3]), atol=1e-5)

    def test_turning_the_root_turns_everything_rigidly(self, body: AnnyBody) -> None:
        rotations = torch.zeros(1, len(body.bone_names), 3)
        rotations[0, 0, 1] = np.pi / 2
        vertices, _ = body.forward(rotations, torch.zeros(1, 3))
        rest = body.rest_vertices()
        root = body.rest_joints()[0]
        turned = torch.stack([rest[:, 2] - root[2], rest[:, 1] - root[1], root[0] - rest[:, 0]], -1)
        assert torch.allclose(vertices[0] - root, turned, atol=1e-4)

    def test_landmarks_lie_on_the_skin_where_they_should(self, body: AnnyBody) -> None:
        marks = dict(zip(body.tables.landmark_names, body.rest_landmarks().numpy(), strict=True))
        assert marks["nose"][2] > marks["eye.L"][2]
        assert marks["eye.L"][1] > marks["nose"][1] > marks["mouth.L"][1] > marks["chin"][1]
        assert marks["ear.L"][0] > 0 > marks["ear.R"][0]
        skin = body.rest_vertices().numpy()
        for name, place in marks.items():
            if not name.startswith("knuckle"):
                assert np.linalg.norm(skin - place, axis=1).min() < 0.02, name

    def test_fingers_bend_towards_the_palm(self, body: AnnyBody) -> None:
        roles = anny_roles(body.bone_names)
        rest = body.rest_joints().numpy().astype(float)
        for side in SIDES:
            hinge, _ = palm_axes(roles, rest, side)
            base, middle, end = roles.fingers[side][3]
            natural = np.cross(rest[middle] - rest[base], rest[end] - rest[middle])
            assert natural @ hinge > 0

    def test_phenotypes_mean_what_they_say(self, body: AnnyBody) -> None:
        def extent(axis: int, **phenotypes: float) -> float:
            rest = body.rest_vertices(body.shape_of(**phenotypes))
            return float(np.ptp(rest[:, axis].numpy()))

        assert extent(1, height=1.0) > extent(1, height=0.2)
        assert extent(2, weight=1.0) > extent(2, weight=0.0)
        with pytest.raises(ValueError, match="unknown"):
            body.shape_of(tallness=1.0)

    def test_reference_names_versions_and_licence(self) -> None:
        ref = anny_ref()
        assert ref.name == "anny"
        assert len(ref.weights_sha256) == 64
        assert "CC0" in ref.licence


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anny_package, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install anny"):
        anny_package.check_anny()
