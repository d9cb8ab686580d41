import numpy as np
import pytest

from schemas.errors import ConfigError
from stages.kit.landmarks import Landmarks, Sight
from stages.screening.detect import DetectConfig, DetectStage
from stages.screening.mediapipe_people import (
    MediapipePeople,
    PeopleTracks,
    _hand_crop,
    _repeat_nearest,
)
from tests.support.facets import detect_facet
from tests.support.landmarks import unseen
from tests.unit.stages.product import held_scene


class FakePeople:
    """A right hand seen on every second frame but one, a face on the first half."""

    def detect(self, frames):
        out = PeopleTracks.empty(frames.shape[:3])
        total = len(frames)
        out.pose_px[::2], out.pose_world_m[::2] = 1, 1
        ramp = np.linspace(20, 60, total, dtype=np.float32)[:, None]
        spread = np.arange(21, dtype=np.float32)
        right = out.hands[1].points_px
        right[::2] = np.stack([ramp + spread, ramp + spread, 0 * ramp + spread], 2)[::2]
        right[8] = np.nan
        out.face_px[: total // 2 : 2] = np.random.default_rng(0).uniform(20, 60, (468, 3))
        out.person_count[:] = 1
        out.person_count[-4:] = 2
        out.matte[:, 10:30] = True
        return out


@pytest.fixture
def found(files):
    scene = held_scene.render(20)
    row = held_scene.clip_of(scene, files).replace(detect=None)
    stage = DetectStage(DetectConfig())
    stage._people = FakePeople()
    return stage.process(row, files).rows[0]


def test_frames_between_looks_are_interpolated_and_marked(found, files):
    hand = Landmarks.read(files.arrays(found.detect.arrays)).hands[1]
    x = hand.points_px[:, 0, 0]
    assert np.isfinite(x[:19]).all()
    assert np.isnan(x[19]).all()  # nothing seen after: nothing invented
    assert np.abs(np.diff(x[:19], 2)).max() < 0.1
    assert hand.sight[:11].tolist() == [1, 2, 1, 2, 1, 2, 1, 2, 2, 2, 1]
    assert hand.sight[19] == Sight.UNSEEN


def test_shares_are_over_target_frames(found):
    assert found.detect.left_hand_share == 0
    assert found.detect.right_hand_share == pytest.approx(14 / 15)
    assert found.detect.face_share == pytest.approx(4 / 15)
    assert found.detect.multi_person_share == pytest.approx(4 / 15)
    assert found.detect.max_person_count == 2


def test_the_matte_survives_storage(found, files):
    landmarks = Landmarks.read(files.arrays(found.detect.arrays))
    masks = landmarks.matte(held_scene.HEIGHT, held_scene.WIDTH)
    assert masks[:, 10:30].all()
    assert masks.sum() == masks[:, 10:30].sum()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pose_share": 0.1}, "no_person"),
        ({"face_share": 0.1}, "no_face"),
        ({"any_hand_share": 0.1}, "no_hands"),
        ({"multi_person_share": 0.3, "face_share": 0.0}, "multiple_people"),
        ({"median_face_height_px": 12}, "face_too_small"),
    ],
)
def test_each_gate_names_its_reason(files, change, reason):
    row = held_scene.clip_of(held_scene.render(2), files, 0).replace(detect=detect_facet(**change))
    stage = DetectStage(DetectConfig())
    assert stage.gate(row).reason == reason
    assert reason in stage.reasons


def test_the_hand_crop_lies_beyond_the_wrist_and_inside_the_frame():
    pose = np.zeros((33, 4), np.float32)
    pose[:, 3] = 1
    pose[[11, 12], :2] = (200, 100), (100, 100)
    pose[13, :2], pose[15, :2] = (220, 180), (230, 260)
    x0, y0, x1, y1 = _hand_crop(pose, None, 15, 13, 480, 832)
    assert y0 > 180
    assert x0 < 234 < x1
    assert y0 < 290 < y1
    pose[15, :2] = (900, 2000)
    assert _hand_crop(pose, None, 15, 13, 480, 832) is None


def test_mattes_are_repeated_from_the_nearest_look():
    masks = np.zeros((5, 1, 1), bool)
    masks[4] = True
    _repeat_nearest(masks, np.array([1, 0, 0, 0, 1], bool))
    assert masks.ravel().tolist() == [False, False, False, True, True]


def test_an_unreadable_request_is_refused_before_any_work(tmp_path):
    missing = DetectStage(DetectConfig(backend="ultralytics", weights_file=str(tmp_path / "no.pt")))
    with pytest.raises(ConfigError, match=r"no weight file at .*no\.pt"):
        missing.check()


@pytest.mark.slow
def test_real_models_find_nobody_in_an_empty_room(files):
    room = np.full((10, 240, 320, 3), 128, np.uint8)
    scene = held_scene.HeldScene(room, np.zeros((10, 240, 320), bool), unseen(10))
    row = held_scene.clip_of(scene, files, 0).replace(detect=None)
    stage = DetectStage(DetectConfig())
    stage.check()
    stage.setup()
    row = stage.process(row, files).rows[0]
    assert row.detect.max_person_count == 0
    assert stage.gate(row).reason == "no_person"
    assert row.detect.backend.name == row.detect.people_backend.name == "mediapipe"


@pytest.mark.slow
def test_the_facet_names_who_made_landmarks_and_who_counted(files, tmp_path):
    pytest.importorskip("ultralytics")
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"weights")
    stage = DetectStage(DetectConfig(backend="ultralytics", weights_file=str(weights)))
    stage._people = MediapipePeople(
        every=2, count_every=4, min_confidence=0.5, count_people=lambda frame: 1
    )
    stage._people.setup()
    room = np.full((6, 240, 320, 3), 128, np.uint8)
    scene = held_scene.HeldScene(room, np.zeros((6, 240, 320), bool), unseen(6))
    detect = stage.process(held_scene.clip_of(scene, files, 0), files).rows[0].detect
    assert (detect.backend.name, detect.backend.licence) == ("mediapipe", "Apache-2.0")
    assert (detect.people_backend.name, detect.people_backend.licence) == (
        "ultralytics",
        "AGPL-3.0",
    )
    assert detect.people_backend.weights_sha256 == stage.weights_sha256
