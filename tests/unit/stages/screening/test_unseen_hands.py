"""A hand that nobody saw is no hand: it is drawn as a part of the arm and touches nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from stages.body.structure import Scene, StructureConfig, draw, hands_seen
from stages.body_models.rendering import Rendered
from tests.support.landmarks import table

SIZE = (40, 60)


class DrawsTwoHands:
    """A body with a left hand on the right and a right hand on the left of the picture, both at the product."""

    camera = SimpleNamespace(focal_px=100.0)

    def render(self, vertices):
        part = np.zeros(SIZE, np.uint8)
        part[10:30, 10:50] = 1
        part[15:25, 14:20], part[15:25, 40:46] = 3, 2
        lit = (part > 0).astype(np.float32)
        return Rendered(lit, part, (255 * lit).astype(np.uint8))


class Still:
    def vertices(self, body, start, stop):
        return np.zeros((stop - start, 3, 3))


def scene(seen):
    count = len(seen)
    thing = np.zeros((count, *SIZE), bool)
    thing[:, 15:25, 20:40] = True
    return Scene(
        body={"is_valid": np.ones(count, np.uint8), "translation_m": np.full((count, 3), -2.0)},
        object_masks=thing,
        mattes=np.ones((count, *SIZE), bool),
        rgb=np.zeros((count, *SIZE, 3), np.uint8),
        num_motion_frames=0,
        hands_seen=np.array(seen, bool),
    )


def test_an_unseen_hand_has_the_bodys_colour_and_no_contact():
    frames, metrics = draw(
        Still(),
        DrawsTwoHands(),
        scene([(1, 1), (0, 1), (0, 0)]),
        StructureConfig(contact_reach_head=0.5),
    )
    hands = frames[..., 1] > 0
    assert hands[0, 20, 17]
    assert hands[0, 20, 43]
    assert hands[1, 20, 17]
    assert not hands[1, 20, 43]
    assert frames[1, 20, 43, 0] == 255
    assert not hands[2].any()
    assert [m.contact for m in metrics] == [(True, True), (False, True), (False, False)]


def test_a_hand_is_trusted_for_some_frames_about_a_sighting():
    marks = np.full((12, 21, 3), np.nan, np.float32)
    marks[5] = 1
    seen = hands_seen(table({"left_hand_landmarks_px": marks}), 2)
    assert seen[:, 0].nonzero()[0].tolist() == [3, 4, 5, 6, 7]
    assert not seen[:, 1].any()
