"""Objects of a catalogue in the studio: read with care, painted, held without floating, with exact truth."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from jobs.studio import casting, meshes
from jobs.studio.acting import Actor
from jobs.studio.casting import cast_object, product_for
from jobs.studio.catalogue import find_objects, pick_objects
from jobs.studio.frames import iter_frames
from jobs.studio.generate import generate
from jobs.studio.meshes import held_size_m, load_product
from jobs.studio.solids import solid_of
from schemas.errors import ConfigError
from stages.body_models.anny import load_anny
from stages.kit.masks import decode_masks
from tests.support.furniture import write_catalogue

SIZE_PX = (120, 208)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("furniture"))


@pytest.fixture(scope="module")
def objects(catalogue):
    return {o.name: o for o in find_objects(catalogue)}


def test_a_catalogue_says_what_there_is_and_whose_it_is(objects):
    assert list(objects) == ["Tile", "Cup", "Wardrobe"]
    tile = objects["Tile"]
    assert (tile.key, tile.creator, tile.licence, tile.longest_cm) == (
        "Tiny/tile",
        "Ann",
        "Public domain",
        20.0,
    )
    assert [o.is_hand_sized for o in objects.values()] == [True, True, False]


def test_objects_are_picked_by_key_or_name_and_what_is_not_there_is_named(objects):
    everything = list(objects.values())
    assert pick_objects(everything, ["cup", "TINY/TILE", "cup"]) == [
        objects["Cup"],
        objects["Tile"],
    ]
    with pytest.raises(ConfigError, match=r"no object 'cap'.*Cup"):
        pick_objects(everything, ["cap"])
    with pytest.raises(ConfigError, match=r"2 objects are called 'Cup'"):
        pick_objects([*everything, objects["Cup"]], ["Cup"])


def test_an_absent_or_damaged_catalogue_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="apt install sweethome3d-furniture"):
        list(find_objects(tmp_path))
    (tmp_path / "Bad.sh3f").write_bytes(b"PK no zip")
    with pytest.raises(ConfigError, match="not a furniture catalogue"):
        list(find_objects(tmp_path))
    with zipfile.ZipFile(tmp_path / "Bad.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "model#1=/a/a.obj\n")
        archive.writestr("a/a.obj", "v 0 0 0\n")
    with pytest.raises(ConfigError, match="license"):
        list(find_objects(tmp_path))


def test_what_lies_is_stood_up_scaled_and_painted(objects):
    tile = load_product(objects["Tile"])
    assert np.allclose(tile.half_m, (0.1, 0.075, 0.006), atol=1e-4)
    front = tile.vertices[:, 2] > 0.005
    x = tile.vertices[:, 0]  # at the very rim the print repeats
    red, green = (x < -0.01) & (x > -0.09), (x > 0.01) & (x < 0.09)
    assert (tile.colours[front & red] @ (1, -1, 0) > 0.5).all(), "the print's left half is left"
    assert (tile.colours[front & green] @ (1, -1, 0) < -0.5).all()
    assert np.allclose(np.linalg.norm(tile.normals, axis=1), 1, atol=1e-3)
    assert (tile.normals[front & (np.abs(tile.vertices[:, 0]) < 0.09)][:, 2] > 0.9).mean() > 0.9
    cup = load_product(objects["Cup"])
    assert np.allclose(cup.half_m, (0.04, 0.05, 0.04), atol=1e-3)
    assert np.allclose(cup.colours, (0.1, 0.2, 0.8), atol=0.01)
    wardrobe = load_product(objects["Wardrobe"])
    assert 2 * max(wardrobe.half_m) == pytest.approx(held_size_m(2.0), abs=1e-3)
    assert 0.18 < held_size_m(2.0) < 0.35


def test_distances_are_those_of_the_solid_and_an_open_cup_is_hollow(objects):
    tile, cup = load_product(objects["Tile"]), load_product(objects["Cup"])
    points = np.random.default_rng(0).uniform(-0.15, 0.15, (2000, 3)).astype(np.float32)
    q = np.abs(points) - np.array(tile.half_m)
    true = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    error = np.abs(tile.distance(points) - true)
    assert error[true < 0.015].max() < 0.002
    assert error.max() < 0.012, "far away it is a bound"
    places = np.array([[0, 0.02, 0], [0, -0.049, 0], [0.1, 0, 0]], np.float32)
    inside, floor, outside = cup.distance(places)
    assert inside > 0.02
    assert floor < 0.003
    assert outside == pytest.approx(0.1 - 0.0375, abs=0.004)


def test_a_solid_is_filled_and_found_from_few_triangles():
    vertices = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
         [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    solid = solid_of(vertices * 0.05, faces)
    assert solid.at(np.zeros((1, 3), np.float32))[0] == pytest.approx(-0.05, abs=0.004)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tiny/cup/cup.obj": b"no mesh at all"}, "cannot read|0 triangles"),
        (
            {"tiny/cup/cup.obj": b"v 0 0 0\nv nan 1 1\nv 1 1 1\nf 1 2 3\n"},
            "cannot read|0 triangles",
        ),
        ({"tiny/cup/cup.obj": b"v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n"}, "without size"),
        ({"tiny/cup/cup.obj": b"v 0 0 0\nf 1 2 900\n"}, "cannot read"),
    ],
)
def test_a_damaged_model_is_one_clear_error(tmp_path, files, message):
    (cup,) = pick_objects(list(find_objects(write_catalogue(tmp_path, files))), ["cup"])
    with pytest.raises(ConfigError, match=message):
        load_product(cup)


def test_models_that_are_too_large_are_refused_and_no_file_outside_is_read(
    tmp_path, monkeypatch, objects
):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"not yours")
    escape = f"newmtl blue\nKd 0.5 0.1 0.1\nmap_Kd ../../../..{secret}\n"
    folder = write_catalogue(tmp_path / "a", {"tiny/cup/cup.mtl": escape.encode()})
    monkeypatch.chdir(tmp_path)
    (cup,) = pick_objects(list(find_objects(folder)), ["cup"])
    assert np.allclose(load_product(cup).colours, (0.5, 0.1, 0.1), atol=0.01)
    monkeypatch.setattr(meshes, "_MAX_FACES", 10)
    with pytest.raises(ConfigError, match="triangles, expected 1 to 10"):
        load_product(objects["Tile"])
    monkeypatch.setattr(meshes, "_MAX_MEMBER_BYTES", 100)
    with pytest.raises(ConfigError, match="at most 100"):
        load_product(objects["Tile"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Tile", "Cup", "Wardrobe"])
def test_hands_touch_what_they_hold_and_do_not_enter_it(objects, name):
    body = load_anny()
    seen = set()
    for seed in range(6):
        take = cast_object(objects[name], seed).takes[0]
        product = product_for(take, seed)
        assert product is not None
        shape = body.shape_of(gender=take.person.gender, height=take.person.height)
        acted = Actor(body, shape).poses(take, product, seed, np.array([20, 80]))
        vertices, _ = body.forward(torch.from_numpy(acted.rotations), torch.zeros(2, 3), shape)
        seen.add(take.grip)
        assert acted.holds[0].tolist() == ["L" in take.sides, "R" in take.sides]
        for part, holds in ((1, acted.holds[0, 0]), (2, acted.holds[0, 1])):
            if not holds:
                continue
            hand = vertices.numpy()[:, body.part_labels == part] - acted.place[:, None]
            hand = np.einsum("tvi,tij->tvj", hand, acted.turn)
            distance = product.distance(hand)
            assert (distance.min(1) < 0.003).all(), f"{take.grip} {seed}: the hand touches"
            assert (distance < -0.005).mean() < 0.02, f"{take.grip} {seed}: it stays outside"
            if name == "Cup":
                radius, height = np.hypot(hand[..., 0], hand[..., 2]), hand[..., 1]
                inside = (radius < 0.032) & (np.abs(height) < 0.045)
                assert inside.mean() < 0.005, f"{take.grip} {seed}: nothing goes through a wall"
    assert len(seen) > 1, "grips differ by seed"


@pytest.mark.slow
def test_frames_are_pictures_with_the_truth_about_them(objects):
    held = [objects["Cup"], objects["Tile"]]
    frames = list(iter_frames(held, 3, 2, 2, size_px=SIZE_PX, empty_share=0.0))
    again = list(iter_frames(held, 3, 2, 2, size_px=SIZE_PX, empty_share=0.0))
    assert len(frames) == 4
    for frame, same in zip(frames, again, strict=True):
        assert frame.rgb.shape == (208, 120, 3)
        assert frame.rgb.dtype == np.uint8
        assert frame.product_mask.shape == (208, 120)
        assert frame.product_mask.any()
        assert (frame.hands_px.shape, frame.hands_px.dtype) == ((2, 21, 2), np.float32)
        assert frame.holds.any()
        assert frame.object_key in {"Tiny/cup", "Tiny/tile"}
        ys, xs = np.nonzero(frame.product_mask)
        for hand in frame.hands_px[frame.holds]:
            gaps = np.hypot(hand[:, None, 0] - xs, hand[:, None, 1] - ys).min(1)
            assert gaps.min() < 6, "a joint of the holding hand is at the product"
        assert np.array_equal(frame.rgb, same.rgb)
    empty = list(iter_frames([], 3, 1, 3, size_px=SIZE_PX, empty_share=1.0))
    assert not any(f.product_mask.any() or f.holds.any() or f.object_key for f in empty)
    assert np.abs(empty[0].hands_px - empty[2].hands_px).max() > 2, "hands move"
    with pytest.raises(ValueError, match="no objects"):
        next(iter_frames([], 0, 1, 1))


@pytest.mark.slow
def test_clips_of_objects_name_their_author_and_licence(objects, tmp_path, monkeypatch):
    monkeypatch.setattr(casting, "_NUM_FRAMES", 30)
    made = generate(tmp_path, objects=[objects["Tile"]], num_empty=1, seed=2, size_px=SIZE_PX)
    tile, empty = made
    truth = json.loads(tile.truth_json.read_text())["takes"][0]
    assert truth["product"] == "Tiny/tile"
    assert truth["object"] == {
        "name": "Tile",
        "author": "Ann",
        "licence": "Public domain",
        "longest_m": 0.2,
        "held_longest_m": 0.2,
    }
    arrays = dict(np.load(tile.truth_arrays))
    assert decode_masks(arrays, "product", 208, 120).any(axis=(1, 2)).all()
    assert arrays["contact"].any(axis=1).all()
    assert json.loads(empty.truth_json.read_text())["takes"][0]["product"] is None
    arrays = dict(np.load(empty.truth_arrays))
    assert not decode_masks(arrays, "product", 208, 120).any()
    assert not arrays["contact"].any()
