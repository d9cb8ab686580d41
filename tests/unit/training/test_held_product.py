"""Made-up pictures for the held-product network are what they say, and its training goes on where it was stopped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import yaml

from jobs.studio.drawing import CODES
from stages.product.held_crop import CROP_PX, Crop, crop_around, draw_hands, hand_size_px
from stages.product.held_net import HeldNet
from training.held_product import train
from training.held_product.compose import _of_rendered, compose
from training.held_product.encoder_weights import load_encoder
from training.held_product.material import Material, Person, Rendered, _invented
from training.held_product.train import Pictures, Trainer, to_tensors

SKIN = (200, 140, 110)


def open_hand(x, y, length):
    """A hand (21,2) that points up: wrist, then five fingers of four points."""
    points = [(0.0, 0.0)]
    for dx, reach in ((-0.45, 0.6), (-0.2, 0.95), (0, 1.0), (0.2, 0.95), (0.4, 0.8)):
        points += [(dx * s, -reach * s) for s in (0.45, 0.65, 0.85, 1.0)]
    return (np.array(points) * length + (x, y)).astype(np.float32)


@pytest.fixture(scope="module")
def material():
    frame = np.full((240, 320, 3), (60, 80, 160), np.uint8)
    matte = np.zeros((240, 320), np.uint8)
    matte[40:, 90:230] = 255
    hand = open_hand(160, 170, 60)
    for finger in range(5):
        line = hand[[0, *range(1 + 4 * finger, 5 + 4 * finger)]].astype(np.int32)
        cv2.polylines(frame, [line], False, SKIN, 9)
    sprite = np.zeros((224, 224, 4), np.uint8)
    sprite[60:170, 70:150] = (30, 200, 40, 255)
    ground = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    png = bytes(cv2.imencode(".png", sprite)[1])
    jpeg = bytes(cv2.imencode(".jpg", ground)[1])
    return Material([Person(frame, matte, (hand,))], rendered(frame, hand), [png], [png], [jpeg])


def rendered(frame, hand):
    """The same person, once with a thing in the hand, once with nothing."""
    shows = np.zeros(frame.shape[:2], np.uint8)
    shows[40:, 90:230] = CODES["body"]
    held = shows.copy()
    held[100:150, 130:190] = CODES["product"]
    picture = frame.copy()
    picture[held == CODES["product"]] = (20, 30, 220)
    return [
        Rendered(
            bytes(cv2.imencode(".jpg", image[..., ::-1])[1]),
            bytes(cv2.imencode(".png", plane)[1]),
            (hand,),
            holding,
        )
        for image, plane, holding in ((picture, held, (0,)), (frame, shows, ()))
    ]


def test_the_same_seed_makes_the_same_pictures_and_another_one_does_not(material):
    first, again, other = (compose(material, np.random.default_rng(s)) for s in (5, 5, 6))
    assert (first.picture == again.picture).all()
    assert (first.mask == again.mask).all()
    assert (first.picture != other.picture).any()


def test_masks_are_there_where_something_is_held_and_nowhere_else(material):
    random = np.random.default_rng(1)
    samples = [compose(material, random) for _ in range(80)]
    held = [s for s in samples if s.is_held]
    assert 0.4 < len(held) / len(samples) < 0.85
    assert all((s.mask > 0.5).mean() > 0.002 for s in held)
    assert all(not s.mask.any() for s in samples if not s.is_held)
    for s in samples:
        assert s.picture.shape == (CROP_PX, CROP_PX, 3)
        assert s.mask.shape == s.hands.shape == s.before.shape == (CROP_PX, CROP_PX)
        assert 0 <= s.mask.min() <= s.mask.max() <= 1
    assert 0.3 < np.mean([s.before.any() for s in held]) < 0.95


def test_fingers_stay_in_front_of_what_they_hold(material):
    """In some pictures, part of the drawn hand lies inside the object's outline and is no product."""
    random = np.random.default_rng(2)
    cut = 0
    for s in (compose(material, random) for _ in range(60)):
        inside = cv2.morphologyEx(
            (s.mask > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((41, 41))
        )
        cut += bool((inside.astype(bool) & (s.mask < 0.2) & (s.hands > 0.5)).sum() > 30)
    assert cut > 8


def test_rendered_pictures_keep_their_truth(material):
    """The product stays blue wherever the mask says so, whatever is done to ground and clothes."""
    random = np.random.default_rng(3)
    samples = [_of_rendered(material, random) for _ in range(60)]
    assert {s.is_held for s in samples} == {True, False}
    share = [
        np.mean(s.picture[..., 2][s.mask > 0.9] > s.picture[..., 0][s.mask > 0.9])
        for s in samples
        if s.is_held
    ]
    assert np.mean(np.array(share) > 0.9) > 0.9


def test_a_square_goes_there_and_back():
    hand = open_hand(150, 120, 50)
    crop = crop_around([hand])
    assert hand_size_px(hand) == pytest.approx(50, rel=0.1)
    assert crop.side_px >= 3 * 50
    there = crop.apply(hand)
    assert (there >= 0).all()
    assert (there <= CROP_PX).all()
    blob = np.zeros((240, 320), np.float32)
    blob[100:140, 130:170] = 1
    back = crop.back(crop.warp(blob, outside=0), (240, 320))
    assert ((back > 0.5) == (blob > 0.5)).mean() > 0.99
    assert draw_hands([there]).max() == 1
    far = Crop(1e5, 1e5, 100).apply(hand)
    assert draw_hands([far]).sum() == 0


def test_the_network_is_small_and_says_three_things():
    net = HeldNet().eval()
    assert sum(p.numel() for p in net.parameters()) < 3_000_000
    found = net(torch.zeros(2, 5, CROP_PX, CROP_PX))
    assert found.mask.shape == (2, CROP_PX // 2, CROP_PX // 2)
    assert found.held.shape == found.quality.shape == (2,)


def test_training_leaves_the_encoder_as_photographs_made_it(material, tmp_path):
    recipe = yaml.safe_load((train.Path(train.__file__).with_name("recipe.yaml")).read_text())
    stream = iter(Pictures(material, 5))
    batch = torch.utils.data.default_collate([next(stream) for _ in range(2)])
    trainer = Trainer(recipe | {"warmup_steps": 1}, tmp_path, None)
    before = {k: v.clone() for k, v in trainer._net.state_dict().items()}
    trainer.learn(batch)
    after = trainer._net.state_dict()
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("encoder.") for k in changed)


def test_invented_things_are_never_empty(material):
    random = np.random.default_rng(0)
    assert min((_invented(material, random)[1] > 0.5).sum() for _ in range(300)) > 50


def test_old_and_new_names_of_encoder_weights_are_taken_and_others_refused(tmp_path):
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2(weights=None).state_dict()
    torch.save(theirs, tmp_path / "new.pt")
    net = HeldNet()
    load_encoder(net, tmp_path / "new.pt")
    own = net.state_dict()
    assert torch.equal(own["encoder.4.17.conv.2.weight"], theirs["features.17.conv.2.weight"])
    assert torch.equal(own["encoder.0.0.0.weight"], theirs["features.0.0.weight"])
    torch.save({"features.3.conv.0.0.weight": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="does not fit"):
        load_encoder(HeldNet(), tmp_path / "bad.pt")
    torch.save({"classifier.1.weight": torch.zeros(1)}, tmp_path / "none.pt")
    with pytest.raises(ValueError, match="only 0"):
        load_encoder(HeldNet(), tmp_path / "none.pt")


def test_training_learns_and_goes_on_where_it_was_stopped(material, tmp_path):
    recipe = yaml.safe_load((train.Path(train.__file__).with_name("recipe.yaml")).read_text())
    recipe |= {"steps": 40, "warmup_steps": 2}
    torch.manual_seed(0)
    stream = iter(Pictures(material, 3))
    batch = torch.utils.data.default_collate([next(stream) for _ in range(4)])
    trainer = Trainer(recipe, tmp_path, None)
    trainer.learn(batch)
    first = trainer._loss
    for _ in range(9):
        trainer.learn(batch)
    assert trainer._loss < first
    trainer.note(trainer.score([batch]))
    trainer.save()
    again = Trainer(recipe, tmp_path, None)
    assert again.step == 10
    for mine, theirs in zip(
        again._net.state_dict().values(), trainer._net.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
    again.learn(batch)
    assert again.step == 11
    assert (tmp_path / "held.safetensors").stat().st_size < 10_000_000
    assert (tmp_path / "log.csv").read_text().startswith("step,loss,J")


def test_tensors_have_the_networks_shape(material):
    tensors = to_tensors(compose(material, np.random.default_rng(0)))
    assert tensors["x"].shape == (5, CROP_PX, CROP_PX)
    assert tensors["mask"].shape == (CROP_PX // 2, CROP_PX // 2)
