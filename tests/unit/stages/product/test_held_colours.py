"""A clip's colours correct chances: skin and clothes that one look took go, what it left out comes back."""

from __future__ import annotations

import numpy as np
import pytest

from stages.kit.masks import iou
from stages.product.held_colours import with_colours
from stages.product.scene import load_scene
from tests.unit.stages.product import held_scene


@pytest.fixture(scope="module")
def clip():
    scene = held_scene.render(24)
    return scene, load_scene(scene.frames, scene.landmarks, 240)


def chances(scene, keys, certain=0.8):
    """Chances (h,w) of the truth at key frames: as sure as a network is."""
    return {t: np.where(scene.truth[t], certain, 1 - certain).astype(np.float32) for t in keys}


def test_shirt_that_was_taken_for_the_product_goes_and_the_product_stays(clip):
    scene, small = clip
    given = chances(scene, range(0, 24, 4))
    for chance in given.values():
        chance[360:400, 60:180] = 0.6
    found = with_colours(small, given)
    for t, chance in found.items():
        assert (chance[365:395, 65:175] > 0.5).mean() < 0.05
        assert iou(chance > 0.5, scene.truth[t]) > 0.8
        assert iou(given[t] > 0.5, scene.truth[t]) < 0.7


def test_a_part_that_one_look_missed_comes_back_by_its_colour(clip):
    scene, small = clip
    given = chances(scene, range(0, 24, 4))
    rows = np.flatnonzero(scene.truth[8].any(axis=1))
    given[8][rows[0] : rows[len(rows) // 2]] = 0.35
    found = with_colours(small, given)
    assert iou(given[8] > 0.5, scene.truth[8]) < 0.6
    assert iou(found[8] > 0.5, scene.truth[8]) > 0.8


def test_a_sure_look_is_not_overruled_and_nothing_stays_nothing(clip):
    scene, small = clip
    given = chances(scene, (0, 4), certain=0.985)
    given[0][360:400, 60:180] = 0.985
    assert (with_colours(small, given)[0][365:395, 65:175] > 0.5).mean() > 0.9
    nothing = {t: np.zeros(small.shape, np.float32) for t in (0, 4)}
    assert all((c == 0).all() for c in with_colours(small, nothing).values())
