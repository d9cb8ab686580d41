"""The studio's parts: a voice that a detector hears, hands that touch, truth that fits the pixels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.studio import scripts
from jobs.studio.acting import Actor
from jobs.studio.generate import generate
from jobs.studio.products import SIZES, make_product
from jobs.studio.voice import speak
from schemas.clock import SAMPLE_RATE_HZ
from schemas.errors import ConfigError
from stages.body_models.anny import load_anny
from stages.kit import media
from stages.kit.masks import decode_masks
from stages.screening.silero import SileroVad


@pytest.mark.parametrize("pitch_hz", [110.0, 210.0])
def test_a_voice_detector_hears_phrases_and_pauses(pitch_hz):
    speech = speak(6.0, seed=3, pitch_hz=pitch_hz)
    probability = SileroVad().probabilities(speech.samples)
    at_s = (np.arange(len(probability)) + 0.5) * 512 / SAMPLE_RATE_HZ
    speaks = np.zeros(len(at_s), bool)
    for start, stop in speech.intervals_s:
        speaks |= (at_s >= start) & (at_s < stop)
    assert (probability[speaks] > 0.5).mean() > 0.9
    # the detector holds on for a quarter of a second: look at the middle of pauses only
    deep = ~np.convolve(speaks, np.ones(15), mode="same").astype(bool)
    assert not deep.any() or (probability[deep] > 0.5).mean() < 0.5
    assert np.abs(speech.samples).max() < 1
    assert speech.opening.max() > 0.5 > speech.opening[:500].max()


def test_a_voice_is_made_by_its_seed():
    assert np.array_equal(speak(2.0, 1).samples, speak(2.0, 1).samples)
    assert not np.array_equal(speak(2.0, 1).samples, speak(2.0, 2).samples)


@pytest.mark.parametrize("kind", SIZES)
def test_products_are_closed_outward_and_as_large_as_they_say(kind):
    product = make_product(kind, (0.8, 0.2, 0.2), (0.1, 0.1, 0.6), 0)
    assert np.allclose(np.abs(product.vertices).max(0), product.half_m, atol=1e-3)
    a, b, c = (product.vertices[product.faces[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert 0.3 < volume / (8 * np.prod(product.half_m)) <= 1.01, "triangles face outwards"
    far = np.array([[0.0, 0.0, product.half_m[2] + 0.05]], np.float32)
    assert product.distance(far)[0] == pytest.approx(0.05, abs=1e-3)
    assert product.distance(np.zeros((1, 3), np.float32))[0] < 0
    assert len(np.unique(product.colours.round(2), axis=0)) > 3, "a product carries a print"


@pytest.fixture(scope="module")
def body():
    return load_anny()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clean", "jar_both"])
def test_palms_carry_the_product_and_fingers_touch_without_entering(body, name):
    take = replace(scripts.SCRIPTS[name].takes[0], num_frames=30)
    shape = body.shape_of(gender=take.person.gender, height=take.person.height)
    product = make_product(take.product, take.base, take.accent, 0)
    actor = Actor(body, shape)
    acted = actor.act(take, product, 0)
    frames = np.arange(30)
    _, wanted = actor._path(take, product, frames)
    assert np.linalg.norm(acted.place - wanted, axis=1).max() < 0.02
    rotations = torch.from_numpy(acted.rotations)
    vertices, _ = body.forward(rotations[::10], torch.zeros(3, 3), shape)
    for side, part in (("L", 1), ("R", 2)):
        if not acted.holds[0, 0 if side == "L" else 1]:
            continue
        hand = vertices.numpy()[:, body.part_labels == part] - acted.place[::10, None]
        local = np.einsum("tvi,tij->tvj", hand, acted.turn[::10])
        distance = product.distance(local.astype(np.float32))
        assert distance.min() < 0.004, "the hand touches"
        assert (distance < -0.01).mean() < 0.03, "the hand stays outside"


@pytest.mark.slow
def test_truth_fits_the_pixels_and_the_same_seed_gives_the_same_clip(tmp_path, monkeypatch):
    take = scripts.SCRIPTS["put_down"].takes[0]
    other = replace(scripts.SCRIPTS["box_left"].takes[0], num_frames=8)
    short = replace(take, num_frames=44, put_down_frame=36, keys=take.keys[:1])
    script = scripts.ClipScript("tiny", (other, short), frozen=(2, 5))
    monkeypatch.setitem(scripts.SCRIPTS, "tiny", script)
    size = (240, 416)
    (clip,) = generate(tmp_path / "a", clips=["tiny"], seed=4, size_px=size)
    (again,) = generate(tmp_path / "b", clips=["tiny"], seed=4, size_px=size)
    truth = json.loads(clip.truth_json.read_text())
    frames = media.read_video(clip.video)
    assert frames.shape == (52, 416, 240, 3)
    assert (truth["cut_frames"], truth["frozen_frames"], truth["num_frames"]) == ([8], [2, 5], 52)
    arrays = dict(np.load(clip.truth_arrays))
    product = decode_masks(arrays, "product", 416, 240)
    person = decode_masks(arrays, "person", 416, 240)
    assert product.any(axis=(1, 2)).all()
    assert not (product & person).any()
    # the first product is blue, the second orange: the mask lies on it
    blue = frames[0][product[0]].astype(int)
    assert np.median(blue[:, 2] - blue[:, 0]) > 15
    orange = frames[20][product[20]].astype(int)
    assert np.median(orange[:, 0] - orange[:, 2]) > 40
    assert np.array_equal(product[2], product[4])
    assert not np.array_equal(product[2], product[5])
    still = np.abs(frames[3].astype(int) - frames[2]).mean()
    cut = np.abs(frames[8].astype(int) - frames[7]).mean()
    assert still < 1 < 10 < cut
    assert arrays["contact"][:8].tolist() == [[True, False]] * 8
    assert arrays["contact"][8:44].tolist() == [[False, True]] * 36
    assert not arrays["contact"][44:].any()
    uncovered = (product[46] & ~product[51]).sum() / product[46].sum()
    assert uncovered < 0.1, "what stands on the table stays: only the hand that leaves changes it"
    face, hand = arrays["face_box_xyxy_px"][20], arrays["right_hand_box_xyxy_px"][20]
    assert face[3] < hand[1], "the face is above the hand"
    assert np.array_equal(frames, media.read_video(again.video))
    assert clip.truth_json.read_bytes() == again.truth_json.read_bytes()


def test_a_wrong_request_names_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match="clean"):
        generate(tmp_path, clips=["nope"])
    with pytest.raises(ConfigError, match="even"):
        generate(tmp_path, size_px=(481, 832))
    assert not list(tmp_path.iterdir())
