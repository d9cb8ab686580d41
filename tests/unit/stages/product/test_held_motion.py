"""What moves with the product is the product's; what stays with the body is not."""

from __future__ import annotations

import numpy as np
import pytest

from stages.kit.masks import iou
from stages.product.held_motion import with_motion
from stages.product.scene import load_scene
from tests.unit.stages.product import held_scene

KEYS = (20, 24)


@pytest.fixture(scope="module")
def clip():
    scene = held_scene.render(44)
    return scene, load_scene(scene.frames, scene.landmarks, 240)


def chances(scene, certain=0.8):
    return {t: np.where(scene.truth[t], certain, 1 - certain).astype(np.float32) for t in KEYS}


def test_the_rest_of_a_product_found_in_part_comes_back(clip):
    scene, small = clip
    given = chances(scene)
    for t in KEYS:
        rows = np.flatnonzero(scene.truth[t].any(axis=1))
        upper = np.zeros_like(scene.truth[t])
        upper[rows[0] : rows[0] + 25] = scene.truth[t, rows[0] : rows[0] + 25]
        given[t][upper] = 0.3
    for t, chance in with_motion(small, given).items():
        lost = scene.truth[t] & (given[t] < 0.5)
        assert lost.any()
        assert (chance[lost] > 0.5).mean() > 0.9
        before = iou(given[t] > 0.5, scene.truth[t])
        assert iou(chance > 0.5, scene.truth[t]) > before + 0.1


def test_a_patch_of_the_shirt_that_was_taken_along_goes(clip):
    scene, small = clip
    given = chances(scene)
    for t in KEYS:
        given[t][370:400, 130:190] = 0.7
    for t, chance in with_motion(small, given).items():
        assert (chance[372:398, 132:188] > 0.5).mean() < 0.3
        assert (chance[scene.truth[t]] > 0.5).mean() > 0.9


def test_without_motion_nothing_is_learned():
    scene = held_scene.render(44)
    scene.frames[:] = scene.frames[20]
    small = load_scene(scene.frames, scene.landmarks, 240)
    given = chances(scene)
    for t, chance in with_motion(small, given).items():
        np.testing.assert_allclose(chance, np.clip(given[t], 0.01, 0.99), atol=0.02)


def test_nothing_stays_nothing_and_a_lone_frame_stays_as_it_is(clip):
    _, small = clip
    nothing = {t: np.zeros(small.shape, np.float32) for t in KEYS}
    assert all((c == 0).all() for c in with_motion(small, nothing).values())
    alone = held_scene.render(1)
    given = {0: np.where(alone.truth[0], 0.8, 0.2).astype(np.float32)}
    found = with_motion(load_scene(alone.frames, alone.landmarks, 240), given)
    np.testing.assert_array_equal(found[0], given[0])
