"""The outline says how thick a body is; hair, another thing beside it and an empty matte do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.body.outline import Still, _posed, shape_from_outline
from stages.body.solve import Pinhole, project
from stages.body_models.anny import load_anny
from stages.body_models.rig import anny_roles

SIZE = (416, 240)
CAMERA = Pinhole(500.0, (119.5, 207.5))
HEAD_PX = 500 / 2.2 * 0.23


@pytest.fixture(scope="module")
def body():
    return load_anny()


def stand(body, mattes):
    """Arms held away from the body, seen from the front."""
    names = list(body.bone_names)
    roles = anny_roles(body.bone_names)
    rotations = np.zeros((1, len(names), 3), np.float32)
    joints = np.zeros((1, len(names)), bool)
    for side in "LR":
        joints[0, [roles.shoulder[side], roles.elbow[side], roles.wrist[side]]] = True
    translation = np.array([[0, -1.2, -2.2]], np.float32)
    return Still(rotations, translation, mattes, joints, np.zeros(1))


def outline(body, shape):
    vertices, _ = _posed(body, stand(body, np.zeros((1, *SIZE), bool)), shape.astype(np.float64))
    out = np.zeros(SIZE, np.uint8)
    for triangle in project(vertices[0], CAMERA)[body.faces].astype(np.int32):
        cv2.fillConvexPoly(out, triangle, 1)
    return out.astype(bool)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def shaped(body, **numbers):
    shape = np.zeros(body.num_shape, np.float32)
    for name, value in numbers.items():
        shape[int(name[1:])] = value
    return shape


def found(body, matte, start, hair_px=0.0):
    still = stand(body, matte[None])
    still = Still(
        still.rotations, still.translation, still.mattes, still.joints_seen, np.array([hair_px])
    )
    return shape_from_outline(body, start, still, CAMERA, HEAD_PX)


@pytest.mark.parametrize("girth", [-2.0, 2.0])
def test_a_thicker_and_a_thinner_body_are_found(body, girth):
    start = shaped(body)
    true = outline(body, shaped(body, n7=girth, n8=girth))
    before = iou(outline(body, start), true)
    after = iou(outline(body, found(body, true, start)), true)
    assert before < 0.95
    assert 1 - after < 0.5 * (1 - before)


def test_hair_about_the_shoulders_does_not_make_them_wider(body):
    start = shaped(body)
    true = outline(body, start)
    shoulder = np.flatnonzero(true.any(axis=1))[0] + round(1.9 * HEAD_PX)
    with_hair = true.copy()
    wide = cv2.dilate(true.astype(np.uint8), np.ones((1, 15), np.uint8)).astype(bool)
    with_hair[:shoulder] = wide[:shoulder]
    plain = found(body, true, start, hair_px=shoulder)
    assert np.allclose(found(body, with_hair, start, hair_px=shoulder), plain, atol=0.05)
    assert not np.allclose(found(body, with_hair, start), found(body, true, start), atol=0.05)


def test_without_an_edge_to_go_by_the_shape_stays(body):
    start = shaped(body, n7=0.5)
    assert found(body, np.zeros(SIZE, bool), start) is start
    assert found(body, np.ones(SIZE, bool), start) is start
