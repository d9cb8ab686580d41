"""What a prompt says of a product is what most of its sure frames show."""

from __future__ import annotations

import numpy as np
import pytest

from stages.kit.masks import sure_frames
from stages.packing.caption import CaptionConfig, CaptionStage
from stages.packing.product_words import (
    ProductLook,
    colour_shares,
    describe,
    holding_hands,
    look_at_product,
    main_colours,
)
from tests.support.landmarks import table
from tests.unit.stages.product import held_scene
from tests.unit.stages.product.test_product_view import AWAY, finger_at

COUNT, HEIGHT, WIDTH = 10, 120, 160


def clip(colour=(200, 40, 40), box=(30, 90, 60, 80)):
    """Frames with one coloured box (y0, y1, x0, x1) and its masks."""
    frames = np.full((COUNT, HEIGHT, WIDTH, 3), 120, np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    y0, y1, x0, x1 = box
    masks[:, y0:y1, x0:x1] = True
    frames[masks] = colour
    return frames, masks


def landmarks_of(hand_px=None, face_px=None):
    hand = AWAY if hand_px is None else finger_at(20, 20, hand_px)
    face = np.full(4, np.nan) if face_px is None else np.array([0, 0, 10, face_px])
    return table(
        {
            "left_hand_landmarks_px": np.stack([hand] * COUNT),
            "face_box_xyxy_px": np.stack([face] * COUNT).astype(np.float32),
        }
    )


def look(frames, masks, *, confidence=None, in_hand=((1, 0),) * COUNT, landmarks=None):
    sure = np.ones(COUNT, np.float32) if confidence is None else np.float32(confidence)
    return look_at_product(
        frames, masks, sure, np.array(in_hand, np.uint8), landmarks or landmarks_of()
    )


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 240, 240), "white"),
        ((30, 60, 180), "blue"),
        ((230, 200, 50), "yellow"),
        ((8, 8, 8), "black"),
    ],
)
def test_colours_have_their_everyday_names(rgb, name):
    assert look(*clip(rgb)).colours == (name,)


def test_a_lid_shown_alone_for_a_while_gives_no_colour():
    """Three frames show the white lid alone, largest and surest of all."""
    frames, masks = clip()
    masks[:3] = False
    masks[:3, 20:100, 20:140] = True
    frames[:3, 20:100, 20:140] = 240
    assert look(frames, masks).colours == ("red",)


def test_unsure_frames_have_no_vote():
    frames, masks = clip()
    frames[:4][masks[:4]] = (30, 160, 60)
    confidence = [0.2] * 4 + [0.8] * 6
    assert sure_frames(masks, np.float32(confidence)).tolist() == [4, 5, 6, 7, 8, 9]
    seen = look(frames, masks, confidence=confidence, in_hand=[(0, 1)] * 4 + [(1, 0)] * 6)
    assert seen.colours == ("red",)
    assert holding_hands(seen) == "in the left hand"


def test_a_second_colour_is_named_where_it_covers_much():
    frames, masks = clip()
    frames[:, 70:90, 60:80] = 245
    assert describe(look(frames, masks)) == "a tall red and white object"
    frames[:, 70:90, 60:80] = (200, 40, 40)
    frames[:, 80:90, 60:80] = 245
    assert look(frames, masks).colours == ("red",)


def test_shares_of_colours_are_medians_over_frames():
    frames, masks = clip()
    red = colour_shares(frames[0], masks[0])
    black = colour_shares(np.zeros_like(frames[0]), masks[0])
    assert main_colours([red, black, red]) == ("red",)
    assert red.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("box", "words"), [((50, 60, 60, 70), "a small red"), ((40, 64, 60, 84), "a palm-sized red"),
                       ((40, 73, 60, 93), "a red"), ((20, 80, 60, 120), "a large red")],
)  # fmt: skip
def test_size_is_told_beside_a_hand(box, words):
    frames, masks = clip(box=box)
    assert describe(look(frames, masks, landmarks=landmarks_of(hand_px=30))) == f"{words} object"


def test_a_face_tells_the_size_where_no_hand_is_seen_whole():
    frames, masks = clip(box=(40, 70, 60, 90))
    assert look(frames, masks, landmarks=landmarks_of(face_px=50)).size_hands == pytest.approx(0.75)
    fist = look(frames, masks, landmarks=landmarks_of(hand_px=12, face_px=50))
    assert fist.size_hands == pytest.approx(0.75)
    assert look(frames, masks).size_hands is None


def test_both_hands_are_said_only_where_both_touch_in_most_frames():
    frames, masks = clip()
    in_turn = [(1, 0)] * 5 + [(0, 1)] * 5
    assert holding_hands(look(frames, masks, in_hand=in_turn)) == "in one hand"
    some = [(1, 1)] * 5 + [(0, 1)] * 5
    assert holding_hands(look(frames, masks, in_hand=some)) == "in the right hand"
    most = [(1, 1)] * 6 + [(0, 1)] * 4
    assert holding_hands(look(frames, masks, in_hand=most)) == "in both hands"


def test_no_mask_is_an_object_without_looks():
    frames, masks = clip()
    assert look(frames, np.zeros_like(masks)) is None


def test_wide_and_tall_come_from_most_frames():
    frames, masks = clip()
    masks[:3] = False
    masks[:3, 50:60, 30:130] = True
    assert "tall" in describe(look(frames, masks))
    assert describe(ProductLook(("red",), None, 0.5, 1, 0, 0, 1)) == "a wide red object"


def test_the_stage_reads_the_target_frames_alone(held, files):
    """Five motion frames show the product in the left hand; it is then held in the right one."""
    in_hand = np.array([(1, 0)] * 5 + [(0, 1)] * 15, np.uint8)
    row = held_scene.with_objects(held, files, in_hand=in_hand)
    made = CaptionStage(CaptionConfig()).process(row, files)
    caption = made.rows[0].caption
    assert "who holds a red object in the right hand, without speaking" in caption.prompt
    assert caption.hoi_prompt == CaptionConfig().hoi_prefix + caption.prompt


def test_the_structure_prompt_names_its_ground():
    assert CaptionConfig().hoi_prefix.startswith("Black background")
