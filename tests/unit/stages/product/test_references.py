import numpy as np
import pytest

from schemas.errors import DataError
from stages.product import filling, likeness
from stages.product.person_picture import person_frames
from stages.product.product_view import Seen, rank_views
from stages.product.references import ReferencesStage, cut_out, is_truncated, judge
from stages.product.references_config import ReferencesConfig, ReferencesGate
from stages.product.traces import leak_share
from stages.product.triplets import TripletsConfig, TripletsStage
from tests.support.landmarks import table
from tests.unit.stages.product import held_scene


def test_both_references_are_made_of_the_clip_itself(held, files):
    stage = ReferencesStage(ReferencesConfig(look_again=False))
    row = stage.process(held_scene.with_objects(held, files), files).rows[0]
    person, product = (
        files.image(row.references.person_image),
        files.image(row.references.product_image),
    )
    assert person.shape == (held_scene.HEIGHT, held_scene.WIDTH, 3)
    t = row.references.person_frame
    hole = held.truth[t]
    reddish = person[hole].astype(int) @ [2, -1, -1] > 120
    assert reddish.mean() < 0.05  # the product's red is gone
    far = ~np.asarray(filling.cv2.dilate(hole.astype(np.uint8), np.ones((41, 41))), bool)
    assert (person[far] == files.frames(row.media.video)[t][far]).all()
    assert product.shape[0] == product.shape[1]
    assert (product[0] == 255).all()
    assert stage.gate(row) is None


def test_what_another_frame_shows_is_borrowed_not_guessed():
    rng = np.random.default_rng(1)
    ground = filling.cv2.GaussianBlur(
        rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 2
    )
    frame, hole = ground.copy(), np.zeros((120, 160), bool)
    hole[40:80, 60:100] = True
    frame[hole] = (255, 0, 0)
    donor = filling.Donor(ground, np.zeros_like(hole))
    with_donor, borrowed = filling.fill_region(frame, hole, [donor])
    without, none = filling.fill_region(frame, hole, [])

    def error(picture):
        return np.abs(picture[hole].astype(int) - ground[hole]).mean()

    assert borrowed == pytest.approx(1.0)
    assert none == 0.0
    assert error(with_donor) < 0.4 * error(without)


def test_a_donor_that_shows_something_else_is_refused():
    rng = np.random.default_rng(1)
    frame, other = rng.integers(0, 255, (2, 120, 160, 3), dtype=np.uint8)
    hole = np.zeros((120, 160), bool)
    hole[40:80, 60:100] = True
    _, borrowed = filling.fill_region(frame, hole, [filling.Donor(other, np.zeros_like(hole))])
    assert borrowed == 0.0


def test_no_clear_face_is_no_reference(held):
    arrays = dict(held.arrays)
    arrays["face_box_xyxy_px"] = np.full_like(arrays["face_box_xyxy_px"], np.nan)
    seen = Seen(held.frames, held.truth, table(arrays), np.ones(len(held.frames), np.float32))
    with pytest.raises(DataError) as caught:
        person_frames(seen, 1)
    assert caught.value.code == "no_face_for_reference"


def test_the_product_view_is_whole_and_sharp(held):
    frames, masks = held.frames.copy(), held.truth.copy()
    frames[:10] = [filling.cv2.GaussianBlur(x, (0, 0), 3) for x in frames[:10]]
    masks[15:, :, 0] = True  # cut by the border
    seen = Seen(frames, masks, held.landmarks, np.ones(len(frames), np.float32))
    assert 10 <= rank_views(seen, 1)[0].frame < 15


def test_cut_out_is_white_outside_the_mask():
    frame = np.full((60, 80, 3), 50, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:70] = True
    picture, box = cut_out(frame, mask, 0.1)
    assert box == (20, 10, 70, 30)
    assert picture.shape == (60, 60, 3)
    assert (picture[:18] == 255).all()
    assert (picture[30, 30] == 50).all()


def test_truncation_needs_more_than_a_touch():
    mask = np.zeros((100, 100), bool)
    mask[50:52, 0] = True
    assert not is_truncated(mask)
    mask[40:60, 0] = True
    assert is_truncated(mask)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"product_height_px": 20, "product_width_px": 30}, "product_too_small"),
        ({"product_truncated": True}, "product_truncated"),
        ({"product_sharpness": 1.0}, "product_blurry"),
        ({"filled_share": 0.6}, "person_mostly_filled"),
        ({"person_held_chance": 0.7}, "person_still_holds"),
        ({"person_hands_kept_share": 0.5}, "person_hand_lost"),
        ({"person_seam": 4.0}, "person_seam"),
        ({"product_gap_share": 0.4}, "product_covered"),
    ],
)
def test_each_reference_gate_names_its_reason(held, files, change, reason):
    stage = ReferencesStage(ReferencesConfig(look_again=False))
    row = stage.process(held_scene.with_objects(held, files), files).rows[0]
    assert stage.gate(row) is None
    bad = row.with_facet("references", row.references.replace(**change))
    gate = ReferencesGate(max_person_seam=3, max_product_gap_share=0.3, max_person_held_chance=0.5)
    verdict = judge(bad.references, gate)
    assert verdict.reason == reason
    assert verdict.detail
    assert reason in stage.reasons


def triplet_row(held, files):
    return (
        ReferencesStage(ReferencesConfig(look_again=False))
        .process(held_scene.with_objects(held, files), files)
        .rows[0]
    )


def scores_of(row, files, monkeypatch, face=True):
    stage = TripletsStage(TripletsConfig())
    monkeypatch.setattr(stage, "_has_face", lambda _: face)  # a drawn oval is no face to a detector
    return stage, stage.process(row, files).rows[0]


def test_a_true_triplet_belongs_together(held, files, monkeypatch):
    stage, row = scores_of(triplet_row(held, files), files, monkeypatch)
    assert row.triplets.person_similarity > 0.8
    assert row.triplets.product_similarity > 0.7
    assert row.triplets.product_leak < 0.2
    assert stage.gate(row) is None


def test_a_person_picture_with_the_product_still_in_it_leaks(held, files, monkeypatch):
    row = triplet_row(held, files)
    frame = files.frames(row.media.video)[row.references.person_frame]
    leaky = row.references.replace(person_image=files.put_png(frame.copy()))
    stage, row = scores_of(row.with_facet("references", leaky), files, monkeypatch)
    assert row.triplets.product_leak > 0.8
    assert stage.gate(row).reason == "product_leak"


def test_remnants_beside_the_removed_place_leak(held, files, monkeypatch):
    row = triplet_row(held, files)
    t = row.references.person_frame
    clean = files.image(row.references.person_image)
    rows, _ = np.nonzero(held.truth[t])
    half = np.zeros_like(held.truth[t])
    half[: (rows.min() + rows.max()) // 2] = held.truth[t][: (rows.min() + rows.max()) // 2]
    remnant = np.where(half[..., None], files.frames(row.media.video)[t], clean)
    leaky = row.references.replace(person_image=files.put_png(remnant))
    _, row = scores_of(row.with_facet("references", leaky), files, monkeypatch)
    assert 0.25 < row.triplets.product_leak < 0.8


def test_a_product_that_its_own_mask_missed_leaks(held, files, monkeypatch):
    row = triplet_row(held, files)
    t = row.references.person_frame
    masks = held.truth.copy()
    masks[t] = False  # nothing to remove, says the mask; the hand says where to look
    frame = files.frames(row.media.video)[t]
    leak = leak_share(frame, t, held.frames, masks, held.landmarks, [0, 5, 10, 15])
    assert leak > 0.7


def test_a_swapped_product_does_not_match(held, files, monkeypatch):
    other = held_scene.render(20, colour=(30, 160, 60))
    frames = held.frames.copy()
    frames[12:] = other.frames[12:]
    mixed = held_scene.HeldScene(frames, held.truth, held.arrays)
    row = triplet_row(mixed, files)
    _, row = scores_of(row, files, monkeypatch)
    _, same = scores_of(triplet_row(held, files), files, monkeypatch)
    assert row.triplets.product_similarity < same.triplets.product_similarity - 0.1


def test_a_product_mask_on_the_hand_is_seen(held, files, monkeypatch):
    masks = np.zeros_like(held.truth)
    for t, hand in enumerate(held.arrays["right_hand_landmarks_px"]):
        x, y = hand[[0, 5, 9, 13, 17], :2].mean(axis=0).astype(int)
        masks[t, y - 12 : y + 12, x - 8 : x + 8] = True
    row = (
        ReferencesStage(ReferencesConfig(look_again=False))
        .process(held_scene.with_objects(held, files, masks), files)
        .rows[0]
    )
    stage, row = scores_of(row, files, monkeypatch)
    assert row.triplets.hand_in_product_share > 0.5
    assert stage.gate(row).reason in {"hand_in_product", "product_mismatch"}


def test_a_lost_face_is_a_mismatch(held, files, monkeypatch):
    stage, row = scores_of(triplet_row(held, files), files, monkeypatch, face=False)
    assert stage.gate(row).reason == "person_mismatch"


def test_a_drawn_oval_is_not_taken_for_a_face(held, files):
    stage = TripletsStage(TripletsConfig())
    stage.check()
    stage.setup()
    blank = files.put_png(np.full((held_scene.HEIGHT, held_scene.WIDTH, 3), 90, np.uint8))
    row = triplet_row(held, files)
    row = row.with_facet("references", row.references.replace(person_image=blank))
    assert not stage.process(row, files).rows[0].triplets.face_kept


def test_likeness_orders_pictures_as_people_would():
    rng = np.random.default_rng(0)
    face = filling.cv2.GaussianBlur(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (0, 0), 3)
    brighter = np.clip(face.astype(int) + 8, 0, 255).astype(np.uint8)
    other = filling.cv2.GaussianBlur(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (0, 0), 3)
    assert likeness.face_similarity(face, face) == pytest.approx(1.0, abs=0.01)
    assert likeness.face_similarity(face, brighter) > likeness.face_similarity(face, other)


def test_matches_need_the_same_thing_not_the_same_colour():
    rng = np.random.default_rng(0)
    thing = filling.cv2.GaussianBlur(rng.integers(0, 255, (120, 120, 3), dtype=np.uint8), (0, 0), 2)
    moved = np.roll(thing, 9, axis=1)
    shuffled = rng.permuted(thing.reshape(-1, 3), axis=0).reshape(thing.shape)
    everywhere = np.ones((120, 120), bool)
    assert likeness.num_matches(thing, everywhere, moved, everywhere)[0] > 20
    assert likeness.num_matches(thing, everywhere, shuffled, everywhere)[0] < 8
