"""Masks over a clip from looks at key frames: bad looks are outvoted, empty hands stay empty, frames between are filled."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ConfigError
from stages.kit.masks import iou
from stages.product.held_crop import CROP_PX, crop_around
from stages.product.held_looks import Look, group_hands
from stages.product.held_masks import _clean, look_over, masks_of
from stages.product.objects import ObjectsConfig, ObjectsStage
from stages.product.scene import load_scene
from tests.unit.stages.product import held_scene

RIGHT = 1


class Teller:
    """Says the truth of a synthetic scene, but for what it is told to get wrong."""

    def __init__(self, scene, *, wrong=(), empty=()):
        self.scene, self.wrong, self.empty, self.asked = scene, set(wrong), set(empty), []

    def look(self, frame, hands):
        t = next(t for t, f in enumerate(self.scene.frames) if f is frame or (f == frame).all())
        self.asked.append(t)
        out = []
        for group in group_hands(hands):
            crop = crop_around([hands[i] for i in group])
            truth = self.scene.truth[t].astype(np.float32)
            if t in self.wrong:
                truth = np.roll(truth, 70, axis=1)
            chance = crop.warp(truth, outside=0)
            is_held = self.scene.truth[t].any() and t not in self.empty
            held = 0.95 if is_held and (chance > 0.5).mean() > 0.01 else 0.05
            out.append(Look(group, crop, chance * (held > 0.5), held, 0.9))
        return out


def run(scene, teller, every=4):
    small = load_scene(scene.frames, scene.landmarks, 240)
    found = look_over(small, scene.frames, scene.landmarks.hands_by_frame, teller, every)
    return masks_of(small, found, len(scene.frames), every)


@pytest.fixture(scope="module")
def scene():
    return held_scene.render(33)


def overlaps(masks, truth):
    return np.array([iou(m, t) for m, t in zip(masks, truth, strict=True)])


def test_true_looks_give_true_masks_between_them_too(scene):
    teller = Teller(scene)
    masks, confidence = run(scene, teller)
    assert set(teller.asked) == set(range(0, 33, 4))
    assert overlaps(masks, scene.truth).min() > 0.7
    assert confidence.min() > 0.5


def test_one_bad_look_is_outvoted_and_lowers_the_confidence(scene):
    masks, confidence = run(scene, Teller(scene, wrong=(16,)))
    assert overlaps(masks, scene.truth).min() > 0.4
    assert confidence[16] < confidence[[4, 8, 24, 28]].min() - 0.05


def test_nothing_held_is_an_empty_mask_without_confidence():
    empty = held_scene.render(21, holds=False)
    masks, confidence = run(empty, Teller(empty))
    assert not masks.any()
    assert not confidence.any()


def test_a_single_look_that_sees_nothing_does_not_make_a_hole_but_a_row_of_them_does(scene):
    masks, _ = run(scene, Teller(scene, empty=(16,)))
    assert masks[14:19].any(axis=(1, 2)).all()
    masks, _ = run(scene, Teller(scene, empty=range(12, 33)))
    assert not masks[24:].any()
    assert masks[:8].any(axis=(1, 2)).all()


def test_without_hands_there_is_nothing(scene):
    small = load_scene(scene.frames, scene.landmarks, 240)
    teller = Teller(scene)
    found = look_over(small, scene.frames, [{} for _ in scene.frames], teller, 4)
    masks, _ = masks_of(small, found, len(scene.frames), 4)
    assert not masks.any()
    assert teller.asked == []
    assert CROP_PX == 192


class TwoThings:
    """A hand far to the left that holds a thing of its own, as sure as it is told."""

    def __init__(self, teller, held):
        self.teller, self.held = teller, held

    def look(self, frame, hands):
        mine, other = hands[1:], hands[0]
        crop = crop_around([other])
        chance = np.zeros((CROP_PX, CROP_PX), np.float32)
        chance[60:130, 60:130] = 0.9
        return [Look((0,), crop, chance, self.held, 0.8)] + [
            Look((1,), look.crop, look.chance, look.held, look.quality)
            for look in self.teller.look(frame, mine)
        ]


class WithABlob(Teller):
    """The truth and a large patch of the shirt that no finger touches."""

    def look(self, frame, hands):
        looks = super().look(frame, hands)
        blob = np.zeros(frame.shape[:2], np.float32)
        blob[350:400, 130:220] = 0.9
        return [
            Look(
                one.hands,
                one.crop,
                np.maximum(one.chance, one.crop.warp(blob, outside=0)),
                one.held,
                one.quality,
            )
            for one in looks
        ]


def test_what_no_finger_touches_is_not_the_product(scene):
    masks, _ = run(scene, WithABlob(scene))
    assert not masks[:, 355:395, 150:215].any()
    assert overlaps(masks, scene.truth).min() > 0.7


def test_where_fingers_touch_but_a_speck_the_big_part_stays():
    """A sweater on a hanger: the wire between hand and cloth is not seen."""
    scene = held_scene.render(1)
    small = load_scene(scene.frames, scene.landmarks, 240)
    mask = np.zeros(small.shape, bool)
    mask[330:400, 20:200] = True
    x, y = small.hands_at(0)[0].points_px[8].astype(int)
    mask[y - 2 : y + 3, x - 2 : x + 3] = True
    kept = _clean(mask, small.hands_at(0))
    assert kept[335:395, 25:195].all()


@pytest.mark.parametrize(("held", "share"), [(0.9, 1.0), (0.1, 0.0)])
def test_something_else_in_the_other_hand_is_told(scene, held, share):
    small = load_scene(scene.frames, scene.landmarks, 240)
    hands = [{0: one[RIGHT] + (110, -200), **one} for one in scene.landmarks.hands_by_frame]
    found = look_over(small, scene.frames, hands, TwoThings(Teller(scene), held), 4)
    assert found.second_share == share


def test_the_stage_runs_the_network_with_the_users_weights(scene, files, tmp_path):
    """Random weights: loading, squares and shapes are real, what they see is not."""
    import torch
    from safetensors.torch import save_file

    from stages.product.held_net import HeldNet

    torch.manual_seed(0)
    weights = tmp_path / "held.safetensors"
    state = HeldNet().state_dict()
    save_file({k: v.half() for k, v in state.items() if not k.endswith("tracked")}, weights)
    stage = ObjectsStage(ObjectsConfig(backend="held", weights_file=str(weights)))
    stage.check()
    stage.setup()
    row = stage.process(held_scene.clip_of(scene, files, 0), files).rows[0]
    assert row.objects.backend.name == "held"
    assert row.objects.backend.weights_sha256 == stage.weights_sha256


def test_weights_of_another_network_and_missing_ones_are_refused(tmp_path):
    from safetensors.numpy import save_file

    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, other)
    with pytest.raises(ConfigError, match="of another network"):
        ObjectsStage(ObjectsConfig(backend="held", weights_file=str(other))).setup()
    (tmp_path / "bad.safetensors").write_bytes(b"not at all")
    with pytest.raises(ConfigError, match=r"bad\.safetensors"):
        ObjectsStage(
            ObjectsConfig(backend="held", weights_file=str(tmp_path / "bad.safetensors"))
        ).setup()
    with pytest.raises(ConfigError, match="no weight file"):
        ObjectsStage(ObjectsConfig(backend="held", weights_file="none")).check()
