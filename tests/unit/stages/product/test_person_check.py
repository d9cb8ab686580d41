"""The person's picture without the product is judged by what is seen in it, not by the mask that made it."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigError
from stages.product.held_looks import PACKAGED_WEIGHTS
from stages.product.mediapipe_hands import MediapipeHands
from stages.product.person_check import has_five_fingers, is_same_hand, look_at_person, seam_of
from stages.product.person_picture import make_person
from stages.product.product_view import Seen
from stages.product.references import ReferencesStage, judge
from stages.product.references_config import ReferencesConfig, ReferencesGate
from stages.product.traces import leak_share
from tests.unit.stages.product import held_scene


class SeesRed:
    """Stands for the held-product network: something red within a hand's reach is held."""

    def __init__(self):
        self.asked = []

    def look(self, frame, hands):
        self.asked.append(hands)
        (x, y), side = hands[0].mean(axis=0).astype(int), 90
        near = frame[max(0, y - side) : y + side, max(0, x - side) : x + side].astype(int)
        red = (near @ [2, -1, -1] > 120).mean()
        return [SimpleNamespace(held=float(min(1, 20 * red)))]


class FindsDrawnHands:
    """Stands for the hand model: knows where the hand was drawn, and sees it while its palm has the skin's colour."""

    def __init__(self, boxes):
        self.hands = [h for h in boxes["right_hand_landmarks_px"] if np.isfinite(h).all()]

    def find(self, image, near_px):
        hand = min(self.hands, key=lambda h: np.abs(h[:, :2] - near_px).sum())
        x, y = hand[[0, 5, 9, 13, 17], :2].mean(axis=0).astype(int)
        skin = np.abs(image[y - 3 : y + 4, x - 3 : x + 4].astype(int) - held_scene.SKIN).mean()
        return [hand] if skin < 20 else []


def person_of(scene, masks, confidence=1.0, num_tries=1):
    sure = np.broadcast_to(np.float32(confidence), len(masks))
    seen = Seen(scene.frames, masks, scene.landmarks, sure)
    config = ReferencesConfig(num_tries=num_tries, num_donors=4)
    return make_person(seen, config, FindsDrawnHands(scene.arrays), SeesRed())


def test_a_true_mask_leaves_an_empty_hand(held):
    person = person_of(held, held.truth)
    assert person.scores.held_chance < 0.3
    assert person.scores.hands_kept_share == 1.0


def test_a_wrong_mask_cannot_pass_though_its_own_colours_are_gone(held):
    """A mask on a badge: that is taken out, and the product stays in the hand."""
    wrong = np.zeros_like(held.truth)
    wrong[:, 340:380, 160:190] = True
    badges = held_scene.HeldScene(held.frames.copy(), wrong, held.arrays)
    badges.frames[wrong] = (40, 200, 60)
    person = person_of(badges, wrong)
    leak = leak_share(
        person.image, person.frame, badges.frames, wrong, held.landmarks, [0, 6, 12, 18]
    )
    assert leak < 0.3  # by the mask's colours all is well
    assert person.scores.held_chance > 0.9


def test_a_hand_that_is_painted_away_is_lost(held):
    masks = held.truth.copy()
    for t, hand in enumerate(held.arrays["right_hand_landmarks_px"]):
        canvas = masks[t].astype(np.uint8)
        cv2.fillConvexPoly(canvas, cv2.convexHull(hand[:, :2].astype(np.int32)), 1)
        masks[t] = canvas > 0
    person = person_of(held, masks)
    assert person.scores.hands_kept_share == 0.0


def test_the_frame_that_looks_best_afterwards_is_taken(held):
    """One frame has the sharpest face and a wrong mask: another one gives the picture."""
    masks, frames = held.truth.copy(), held.frames.copy()
    masks[9] = False
    masks[9, 340:400, 150:200] = True
    frames[np.arange(20) != 9, 60:165, 80:160] = cv2.GaussianBlur(
        held.frames[0, 60:165, 80:160], (0, 0), 2
    )
    scene = held_scene.HeldScene(frames, masks, held.arrays)
    first = person_of(scene, masks)
    assert first.frame == 9
    assert first.scores.held_chance > 0.9
    better = person_of(scene, masks, num_tries=3)
    assert better.frame != 9
    assert better.scores.held_chance < 0.3


def test_unsure_frames_lend_nothing(held):
    """Every other frame's mask misses the product and says so: the product is not borrowed back from there."""
    masks = held.truth.copy()
    masks[1::2] = False
    masks[1::2, 340:400, 150:200] = True
    confidence = np.where(np.arange(20) % 2, 0.3, 0.8)
    assert person_of(held, masks, confidence).scores.held_chance < 0.3
    assert person_of(held, masks).scores.held_chance > 0.5  # were all as sure, it would be


def test_no_network_is_no_score_and_is_said(held, files):
    stage = ReferencesStage(ReferencesConfig(look_again=False))
    stage._hands = FindsDrawnHands(held.arrays)
    stage.setup()
    assert stage.weights_sha256 == ""
    made = stage.process(held_scene.with_objects(held, files), files).rows[0].references
    assert made.person_held_chance is None
    assert made.person_held_backend is None
    assert made.person_hands_kept_share == 1.0
    strict = judge(made, ReferencesGate(require_held_check=True))
    assert strict.reason == "person_not_looked_at"
    assert "references.look_again" in strict.detail
    assert judge(made, ReferencesGate()) is None


def test_the_packaged_network_is_asked_unless_another_is_named(held, files, tmp_path):
    import torch
    from safetensors.torch import save_file

    from stages.product.held_net import HeldNet

    stage = ReferencesStage(ReferencesConfig())
    stage.check()
    stage.setup()
    stage._hands = FindsDrawnHands(held.arrays)
    made = stage.process(held_scene.with_objects(held, files), files).rows[0].references
    assert 0 < made.person_held_chance < 1
    assert made.person_held_backend.weights_sha256 == stage.weights_sha256
    assert ReferencesStage(ReferencesConfig(look_again=False)).fingerprint != stage.fingerprint
    torch.manual_seed(0)
    weights = tmp_path / "other.safetensors"
    save_file(HeldNet().state_dict(), weights)
    named = ReferencesStage(ReferencesConfig(weights_file=str(weights)))
    assert named.fingerprint != stage.fingerprint
    again = ReferencesStage(ReferencesConfig(weights_file=str(PACKAGED_WEIGHTS)))
    assert again.fingerprint == stage.fingerprint  # the content counts, not the place


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"weights_file": "/absent.safetensors"}, r"references\.weights_file: no weight file"),
        ({"weights_sha256": "0" * 64}, r"is pinned"),
    ],
)
def test_absent_weights_that_are_named_stop_the_run(config, message):
    with pytest.raises(ConfigError, match=message):
        ReferencesStage(ReferencesConfig(**config)).check()


def hand_px(scale=60.0, x=100.0, y=200.0):
    flat = held_scene._HAND * scale + (x, y)
    return np.concatenate([flat, np.zeros((21, 1))], axis=1).astype(np.float32)


def test_the_same_hand_may_move_its_fingers_not_its_palm():
    hand = hand_px()
    bent = hand.copy()
    bent[[8, 12, 16, 20], :2] += 12
    assert is_same_hand(bent, hand)
    assert not is_same_hand(hand_px(x=130), hand)
    assert not is_same_hand(hand_px(scale=20), hand)


@pytest.mark.parametrize("finger", range(5))
def test_a_stub_is_no_finger(finger):
    hand = hand_px()
    assert has_five_fingers(hand)
    joints = slice(1 + 4 * finger, 5 + 4 * finger)
    stub = hand.copy()
    stub[joints] = stub[joints][0] + 0.15 * (stub[joints] - stub[joints][0])
    assert not has_five_fingers(stub)


def test_a_finger_towards_the_camera_is_as_long_as_others():
    hand = hand_px()
    finger = hand[5:9].copy()
    hand[5:9, :2] = finger[0, :2] + 0.1 * (finger[:, :2] - finger[0, :2])
    assert not has_five_fingers(hand)
    hand[5:9, 2] = -np.linalg.norm(finger[:, :2] - finger[0, :2], axis=1)
    assert has_five_fingers(hand)


def test_a_hand_that_the_model_does_not_see_in_the_frame_is_not_asked_for(held):
    blank = np.full_like(held.frames[0], 90)
    hand = held.arrays["right_hand_landmarks_px"][0]
    scores = look_at_person(
        blank, blank, held.truth[0], [hand], FindsDrawnHands(held.arrays), SeesRed()
    )
    assert scores.hands_kept_share is None
    assert scores.held_chance == 0.0
    none = look_at_person(blank, blank, held.truth[0], [], FindsDrawnHands(held.arrays), SeesRed())
    assert (none.held_chance, none.hands_kept_share) == (None, None)


def test_the_network_is_asked_where_the_hand_is_now(held):
    hand = held.arrays["right_hand_landmarks_px"][0]
    moved = hand + np.array([3, 0, 0], np.float32)
    looker = SeesRed()
    finder = SimpleNamespace(find=lambda image, near: [moved])
    look_at_person(held.frames[0], held.frames[0], held.truth[0], [hand], finder, looker)
    assert np.array_equal(looker.asked[0][0], moved[:, :2])


def test_a_seam_shows_and_a_clean_fill_does_not():
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)
    ground = cv2.GaussianBlur(ground, (0, 0), 3)
    hole = np.zeros((200, 200), bool)
    hole[60:140, 60:140] = True
    assert seam_of(ground, hole) == pytest.approx(1, abs=0.35)
    pasted = ground.copy()
    pasted[hole] = np.clip(pasted[hole].astype(int) + 60, 0, 255)
    assert seam_of(pasted, hole) > 2.5
    assert seam_of(ground, np.zeros_like(hole)) is None
    assert seam_of(ground, np.ones_like(hole)) is None


def test_mediapipe_finds_no_hand_in_a_blank_picture_and_none_in_a_tiny_one():
    finder = MediapipeHands()
    finder.check()
    blank = np.full((200, 200, 3), 120, np.uint8)
    assert finder.find(blank, np.array([[80, 80], [120, 120]], np.float32)) == []
    assert finder.find(blank[:10, :10], np.array([[2, 2], [8, 8]], np.float32)) == []
