"""The steps of the product search on drawn pictures: labels, strays, votes."""

from __future__ import annotations

import cv2
import numpy as np

from stages.kit.hands import Hand, finger_mask
from stages.kit.masks import iou
from stages.product import cue_masks as held_product
from stages.product import cues
from stages.product.flow import KeyFlows
from tests.unit.stages.product.held_scene import _HAND as HAND

SHAPE = (120, 100)


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_label_between_product_and_fingers_belongs_to_the_product():
    box, label = rectangle(30, 90, 30, 60), rectangle(45, 70, 38, 60)
    hand = Hand.of(np.array([60, 100], np.float32) + 55 * HAND.astype(np.float32))
    fingers = finger_mask(hand, SHAPE, 0.1)
    skin = fingers.copy()
    found = cues.enclosed(box & ~label & ~fingers, skin, [hand])
    assert found[label & ~fingers].mean() > 0.9
    assert not found[fingers].any()
    assert not found[~box].any()


def test_what_no_product_surrounds_is_left_alone():
    hand = Hand.of(np.array([60, 100], np.float32) + 55 * HAND.astype(np.float32))
    nothing = np.zeros(SHAPE, bool)
    assert not cues.enclosed(nothing, finger_mask(hand, SHAPE, 0.1), [hand]).any()


def test_white_is_not_the_colour_of_skin():
    skin_rgb, white_rgb = (214, 170, 150), (225, 222, 216)
    picture = np.full((*SHAPE, 3), skin_rgb, np.uint8)
    picture[60:] = white_rgb
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    skin = cues.ColourModel()
    skin.feed(lab, rectangle(0, 60, 0, 100))
    likely = skin.probability(lab)
    assert likely[:55].min() > 1 / cues.NUM_COLOURS > likely[65:].max()


def test_strays_are_trimmed_from_a_colour_model():
    lab = np.full((*SHAPE, 3), (150, 140, 140), np.uint8)
    stray = rectangle(0, 6, 0, 100)  # a twentieth
    lab[stray] = (220, 128, 130)
    model = cues.ColourModel()
    model.feed(lab, np.ones(SHAPE, bool))
    trimmed = model.trimmed(0.8)
    assert model.probability(lab)[stray].min() > 1 / cues.NUM_COLOURS
    assert trimmed.probability(lab)[stray].max() < 1 / cues.NUM_COLOURS
    assert trimmed.num_pixels == (~stray).sum()


def test_the_cut_sees_only_what_is_around_the_reach():
    """The same cut whatever lies far away, and none without seeds."""
    picture = np.full((*SHAPE, 3), (120, 120, 120), np.uint8)
    picture[rectangle(50, 80, 40, 60)] = (200, 30, 30)
    reach, never = rectangle(35, 95, 25, 75), np.zeros(SHAPE, bool)
    seed = rectangle(55, 75, 45, 55)
    found = cues.cut(picture, seed, reach, never)
    assert iou(found, rectangle(50, 80, 40, 60)) > 0.9
    picture[:15] = (0, 255, 0)
    assert (cues.cut(picture, seed, reach, never) == found).all()
    assert not cues.cut(picture, np.zeros(SHAPE, bool), reach, never).any()


def still_flows(num_frames: int) -> KeyFlows:
    """Of the same textured picture in every frame."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.uniform(0, 255, SHAPE).astype(np.float32), (0, 0), 2)
    return KeyFlows(np.stack([picture.astype(np.uint8)] * num_frames))


def test_neighbours_outvote_one_bad_cut():
    whole, half = rectangle(30, 80, 30, 60), rectangle(30, 50, 30, 60)
    cuts = {t: (half if t == 8 else whole) for t in (0, 4, 8, 12, 16)}
    voted = held_product._vote(still_flows(17), cuts)
    assert all(iou(mask, whole) > 0.95 for mask in voted.values())


def test_frames_beyond_a_gap_have_no_vote():
    whole, half = rectangle(30, 80, 30, 60), rectangle(30, 50, 30, 60)
    voted = held_product._vote(still_flows(60), {0: whole, 4: whole, 52: half})
    assert (voted[52] == half).all()


def test_a_slipped_outline_moves_to_where_the_colours_change():
    true = rectangle(30, 80, 30, 70)
    lab = np.full((*SHAPE, 3), (120, 128, 128), np.uint8)
    lab[true] = (90, 170, 150)
    inside, outside = cues.ColourModel(), cues.ColourModel()
    inside.feed(lab, true)
    outside.feed(lab, ~true)
    slipped = np.roll(true, (1, -2), axis=(0, 1))
    assert iou(slipped, true) < 0.9
    assert iou(cues.correct_outline(slipped, lab, inside, outside), true) > 0.97


def test_far_from_the_outline_colours_do_not_decide():
    """A hole of another colour inside, and a twin of the product elsewhere, change nothing."""
    true, hole, twin = (
        rectangle(30, 80, 20, 60),
        rectangle(50, 60, 35, 45),
        rectangle(5, 15, 80, 95),
    )
    lab = np.full((*SHAPE, 3), (120, 128, 128), np.uint8)
    lab[(true & ~hole) | twin] = (90, 170, 150)
    inside, outside = cues.ColourModel(), cues.ColourModel()
    inside.feed(lab, true & ~hole)
    outside.feed(lab, ~true & ~twin)
    found = cues.correct_outline(true, lab, inside, outside)
    assert found[hole].all()
    assert not found[twin].any()
    nothing = np.zeros(SHAPE, bool)
    assert not cues.correct_outline(nothing, lab, inside, outside).any()
