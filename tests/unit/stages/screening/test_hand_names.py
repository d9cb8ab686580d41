"""Hands of a frame are named together: none twice, none lost to a hidden wrist, none that is nobody's."""

from __future__ import annotations

import numpy as np
import pytest

from stages.kit.mediapipe_package import SeenHand
from stages.screening.hand_names import distinct, name_hands


def body(visibility=1.0):
    """Seen from the front: shoulders 100 px apart, the left ones at larger x."""
    pose = np.zeros((33, 4), np.float32)
    for index, place in {
        11: (250, 100),
        12: (150, 100),
        13: (270, 180),
        14: (130, 180),
        15: (240, 230),
        16: (160, 230),
        23: (235, 280),
        24: (165, 280),
    }.items():
        pose[index] = (*place, 0, 1)
    pose[[15, 16], 3] = visibility
    return pose


def hand(x, y, chirality=0.0, size=25.0, score=0.9):
    points = np.zeros((21, 3), np.float32)
    points[:, 0], points[:, 1] = x, y
    points[9, 1] = y - size
    points[12, 1] = y - 1.8 * size
    return SeenHand(points, points, score, chirality)


def names(*seen, pose=None, last=None):
    found = name_hands(seen, body() if pose is None else pose, last or {})
    return {side: tuple(one.points_px[0, :2].tolist()) for side, one in found.items()}


def test_hands_at_their_wrists_get_their_names():
    assert names(hand(165, 228), hand(238, 232)) == {"right": (165, 228), "left": (238, 232)}


def test_a_hand_whose_wrist_the_product_hides_is_named():
    assert names(hand(190, 215, -0.95), pose=body(0.05)) == {"right": (190, 215)}


@pytest.mark.parametrize(("chirality", "side"), [(-0.9, "right"), (0.9, "left")])
def test_between_both_wrists_the_hand_itself_says(chirality, side):
    assert list(names(hand(200, 225, chirality))) == [side]


def test_between_both_wrists_a_hand_stays_what_it_was():
    last = {"left": np.array([205, 222], np.float32), "right": np.array([120, 280], np.float32)}
    assert list(names(hand(200, 225), last=last)) == ["left"]


def test_one_hand_is_never_both_and_a_second_sighting_is_no_second_hand():
    seen = distinct([hand(200, 225), hand(203, 224, score=0.6), hand(238, 232)])
    assert len(seen) == 2
    assert len(names(*seen)) == 2


@pytest.mark.parametrize(
    "stranger", [hand(500, 100), hand(200, 200, size=2), hand(200, 200, size=120)]
)
def test_what_no_arm_reaches_or_is_no_hands_size_is_nobodys(stranger):
    assert names(stranger) == {}


def test_a_mirrored_frame_gives_mirrored_names():
    pose, mirrored = body(0.4), body(0.4)
    for a, b in ((11, 12), (13, 14), (15, 16), (23, 24)):
        mirrored[a], mirrored[b] = pose[b].copy(), pose[a].copy()
    mirrored[:, 0] = 400 - mirrored[:, 0]
    random = np.random.default_rng(0)
    for _ in range(30):
        seen = [
            hand(*random.uniform((120, 150), (280, 260)), random.uniform(-1, 1)) for _ in range(3)
        ]
        other = [hand(400 - s.points_px[0, 0], s.points_px[0, 1], -s.chirality) for s in seen]
        plain, back = name_hands(seen, pose, {}), name_hands(other, mirrored, {})
        assert {k: seen.index(v) for k, v in plain.items()} == {
            {"left": "right", "right": "left"}[k]: other.index(v) for k, v in back.items()
        }
