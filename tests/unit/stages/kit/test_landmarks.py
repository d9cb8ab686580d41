import numpy as np
import pytest

from stages.kit.landmarks import PARTS, Landmarks, Sight, fingers_at, hand_boxes_at, matte_runs
from tests.support.landmarks import table, unseen

STORED = {
    "pose_landmarks_px", "pose_world_m", "person_count", "matte_rle_counts", "matte_rle_offsets",
    "face_landmarks_px", "face_box_xyxy_px", "face_is_filled", "face_score",
    "left_hand_landmarks_px", "left_hand_world_m", "left_hand_box_xyxy_px", "left_hand_is_filled",
    "left_hand_score", "right_hand_landmarks_px", "right_hand_world_m", "right_hand_box_xyxy_px",
    "right_hand_is_filled", "right_hand_score",
}  # fmt: skip
"""What roots hold: a name that changes makes every clip's arrays unreadable."""
MATTE = np.arange(4 * 6 * 8).reshape(4, 6, 8) % 5 == 0


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    made = unseen(4) | matte_runs(MATTE)
    for key, value in made.items():
        if value.dtype == np.float32:
            made[key] = rng.uniform(0, 9, value.shape).astype(np.float32)
    made["right_hand_landmarks_px"][2] = np.nan
    made["right_hand_is_filled"][1] = 1
    return made


def test_what_is_written_is_read_back_to_the_byte(arrays):
    again = Landmarks.read(arrays).arrays()
    assert set(again) == STORED
    for key, value in arrays.items():
        assert again[key].dtype == value.dtype
        assert np.array_equal(again[key], value, equal_nan=value.dtype == np.float32), key


def test_every_part_of_the_table_reads_its_own_arrays(arrays):
    found = Landmarks.read(arrays)
    assert tuple(found.parts) == PARTS
    for part, track in found.parts.items():
        assert np.array_equal(track.box_xyxy_px, arrays[f"{part}_box_xyxy_px"])
        assert np.array_equal(track.score, arrays[f"{part}_score"])
    for hand, world, side in zip(found.hands, found.hands_world_m, ("left", "right"), strict=True):
        assert np.array_equal(
            hand.points_px, arrays[f"{side}_hand_landmarks_px"], equal_nan=side == "right"
        )
        assert np.array_equal(world, arrays[f"{side}_hand_world_m"])
    assert np.array_equal(found.matte(6, 8), MATTE)


def test_a_frame_is_seen_filled_or_unseen(arrays):
    right = Landmarks.read(arrays).hands[1]
    assert right.sight.tolist() == [Sight.SEEN, Sight.FILLED, Sight.UNSEEN, Sight.SEEN]
    assert right.is_seen.tolist() == [True, True, False, True]


def test_a_part_beside_the_picture_is_seen_and_has_no_box(arrays):
    arrays["face_box_xyxy_px"][3] = np.nan
    face = Landmarks.read(arrays).face
    assert face.is_seen.all()
    assert face.has_box.tolist() == [True, True, True, False]


def test_hands_of_a_frame_go_by_their_side(arrays):
    found = Landmarks.read(arrays)
    assert [sorted(hands) for hands in found.hands_by_frame] == [[0, 1], [0, 1], [0], [0, 1]]
    assert np.array_equal(found.hands_at(1)[1], arrays["right_hand_landmarks_px"][1, :, :2])
    assert found.hands_seen.tolist() == [[True, True], [True, True], [True, False], [True, True]]


def test_frames_before_the_target_are_left_out_of_all_of_it(arrays):
    later = Landmarks.read(arrays).since(1)
    assert len(later) == 3
    cut = later.arrays()
    for key in STORED - {"matte_rle_counts", "matte_rle_offsets"}:
        value = arrays[key][1:]
        assert np.array_equal(cut[key], value, equal_nan=value.dtype == np.float32), key
    assert np.array_equal(later.matte(6, 8), MATTE[1:])


def test_boxes_and_fingers_are_drawn_where_hands_are():
    line = np.zeros((1, 21, 3), np.float32)
    line[0, :, 0], line[0, :, 1] = 20, np.linspace(10, 30, 21)
    box = np.float32([[15, 8, 25, 32]])
    found = table({"left_hand_landmarks_px": line, "left_hand_box_xyxy_px": box})
    inside = hand_boxes_at(found, 0, (40, 40))
    assert inside.sum() == 10 * 24
    assert inside[8:32, 15:25].all()
    assert hand_boxes_at(found, 0, (40, 40), 0.5)[0:40, 3:37].all()
    fingers = fingers_at(found, 0, (40, 40), 0.1)
    assert fingers[10:31, 20].all()
    assert not fingers[:, 30:].any()
    nobody = table({"pose_world_m": np.zeros((1, 33, 3), np.float32)})
    assert not fingers_at(nobody, 0, (40, 40), 0.1).any()
    assert not hand_boxes_at(nobody, 0, (40, 40)).any()
