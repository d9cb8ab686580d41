"""Both stages on a synthetic clip: known body in, structure stream out."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigError
from schemas.rows import Clip
from stages.base import Dropped, Kept
from stages.body.body import BodyConfig, BodyGate, BodyStage, jerk, left_right_flips
from stages.body.structure import (
    CREAM_RGB,
    StructureConfig,
    StructureGate,
    StructureStage,
    near_valid,
    structure_scores,
)
from stages.body_models.open_body import SmplxSource
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import matte_runs
from stages.kit.masks import encode_masks
from tests.support.clips import clip_of
from tests.support.facets import detect_facet, objects_facet
from tests.support.landmarks import whole
from tests.unit.stages.conftest import NUM_FRAMES, SIZE_PX, Truth

NUM_MOTION = 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("files")
    return Files(FolderBlobs(root / "blobs"), root / "scratch")


def object_masks(truth: Truth) -> np.ndarray:
    """A disc between thumb and index finger of the left hand."""
    width, height = SIZE_PX
    masks = np.zeros((NUM_FRAMES, height, width), np.uint8)
    for mask, hand in zip(masks, truth.arrays["left_hand_landmarks_px"], strict=True):
        centre = hand[[4, 8], :2].mean(0)
        cv2.circle(mask, (int(centre[0]), int(centre[1])), 14, 1, -1)
    return masks.astype(bool)


def make_clip(files: Files, truth: Truth, masks: np.ndarray, arrays=None, matte=None) -> Clip:
    width, height = SIZE_PX
    rng = np.random.default_rng(0)
    rgb = rng.integers(60, 200, (1, height // 8, width // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    matte = np.ones_like(masks) if matte is None else matte
    found = whole({**(arrays or truth.arrays), **matte_runs(matte)})
    return clip_of(
        files,
        rgb.repeat(NUM_FRAMES, 0),
        clip_id="c",
        num_motion=NUM_MOTION,
        detect=detect_facet(arrays=files.put_arrays(found)),
        objects=objects_facet(arrays=files.put_arrays(encode_masks(masks, "mask"))),
    )


def body_stage(truth: Truth, **gate: float) -> BodyStage:
    return BodyStage(
        BodyConfig(backend="smplx", model_file=truth.model_file, gate=BodyGate(**gate))
    )


def structure_stage(truth: Truth, style: str = "silhouette", **gate: float) -> StructureStage:
    return StructureStage(
        StructureConfig(style=style, smplx_model_file=truth.model_file, gate=StructureGate(**gate))
    )


@pytest.fixture(scope="module")
def fitted(files: Files, truth: Truth) -> Clip:
    with files.row_scope():
        clip = make_clip(files, truth, object_masks(truth))
        done = body_stage(truth).process(clip, files)
    assert isinstance(done, Kept)
    return done.rows[0]


@pytest.fixture(scope="module")
def streams(files: Files, truth: Truth, fitted: Clip) -> dict[str, Clip]:
    rows = {}
    for style in ("silhouette", "shaded"):
        with files.row_scope():
            done = structure_stage(truth, style).process(fitted, files)
        assert isinstance(done, Kept)
        rows[style] = done.rows[0]
    return rows


def fit_arrays_of(
    files: Files, truth: Truth, clip: Clip, **settings: bool
) -> dict[str, np.ndarray]:
    config = BodyConfig(backend="smplx", model_file=truth.model_file, **settings)
    with files.row_scope():
        done = BodyStage(config).process(clip, files)
        return files.arrays(done.rows[0].body.arrays)


def test_where_no_product_is_known_the_fit_is_the_landmarks_alone(
    files: Files, truth: Truth
) -> None:
    with files.row_scope():
        held = make_clip(files, truth, object_masks(truth))
        nothing = make_clip(files, truth, np.zeros_like(object_masks(truth)))
    alone = fit_arrays_of(files, truth, held, grasp=False)
    unknown = held.model_copy(update={"objects": None})
    for clip in (nothing, unknown):
        again = fit_arrays_of(files, truth, clip)
        assert all(np.array_equal(again[name], values) for name, values in alone.items())
    closed = fit_arrays_of(files, truth, held)
    assert not np.array_equal(closed["rotations"], alone["rotations"])
    assert np.array_equal(closed["translation_m"], alone["translation_m"])


def test_another_model_file_than_the_fits_is_refused(
    files: Files, fitted: Clip, truth: Truth, tmp_path: Path
) -> None:
    other = tmp_path / "other.npz"
    other.write_bytes(Path(truth.model_file).read_bytes() + b" ")
    for file in (str(other), ""):
        stage = StructureStage(StructureConfig(smplx_model_file=file))
        with files.row_scope(), pytest.raises(ConfigError, match="is not the file of body"):
            stage.process(fitted, files)


def test_body_facet_of_a_perfect_detection(fitted: Clip, truth: Truth) -> None:
    facet = fitted.body
    assert facet.reprojection_error_head < 0.02
    assert facet.hand_reprojection_error_head < 0.03
    assert facet.hand_tracked_share == facet.valid_share == 1.0
    assert facet.num_left_right_flips == 0
    assert facet.backend.name == "smplx"
    assert body_stage(truth).gate(fitted) is None


def test_stored_arrays_give_the_mesh_back(files: Files, fitted: Clip, truth: Truth) -> None:
    arrays = files.arrays(fitted.body.arrays)
    assert arrays["joints_px"].shape == (NUM_FRAMES, 55, 2)
    assert arrays["is_valid"].all()
    model = SmplxSource(truth.model_file).open()
    half = model.vertices(arrays, 3, 5)
    assert half.shape == (2, 10475, 3)
    assert np.allclose(half, model.vertices(arrays, 0, NUM_FRAMES)[3:5], atol=1e-5)
    assert (half[..., 2] < 0).all()


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"min_valid_share": 1.0}, None),
        ({"max_reprojection_error_head": 1e-9}, "poor_fit"),
        ({"max_hand_reprojection_error_head": 1e-9}, "hand_misfit"),
        ({"max_jerk": 1e-12}, "jittery"),
    ],
)
def test_body_gates(fitted: Clip, truth: Truth, gate: dict[str, float], reason: str | None) -> None:
    decision = body_stage(truth, **gate).gate(fitted)
    assert (decision.reason if decision else None) == reason


def test_no_person_is_dropped_not_failed(files: Files, truth: Truth) -> None:
    nobody = {k: np.full_like(v, np.nan) for k, v in truth.arrays.items()}
    with files.row_scope():
        clip = make_clip(files, truth, object_masks(truth), nobody)
        done = body_stage(truth).process(clip, files)
    assert isinstance(done, Dropped)
    assert done.reason == "no_pose"


def test_stream_has_the_size_rate_and_length_of_the_clip(
    files: Files, streams: dict[str, Clip]
) -> None:
    for row in streams.values():
        frames = files.frames(row.structure.video)
        assert frames.shape == files.frames(row.media.video).shape
        assert len(files.arrays(row.structure.arrays)["contact"]) == NUM_FRAMES


def test_silhouette_channels_are_body_hands_object(
    files: Files, truth: Truth, streams: dict[str, Clip]
) -> None:
    frames = files.frames(streams["silhouette"].structure.video)
    masks = object_masks(truth)
    for frame, mask in zip(frames, masks, strict=True):
        inside = cv2.erode(mask.astype(np.uint8), np.ones((7, 7))).astype(bool)
        assert (frame[inside].argmax(-1) == 2).all()
    strongest = frames.argmax(-1)[frames.max(-1) > 128]
    assert set(np.unique(strongest)) == {0, 1, 2}
    wrist = truth.arrays["right_hand_landmarks_px"][8, [5, 9, 17], :2].mean(0).astype(int)
    assert frames[8][wrist[1], wrist[0]].argmax() == 1


def test_shaded_is_cream_with_the_objects_own_pixels(
    files: Files, truth: Truth, streams: dict[str, Clip]
) -> None:
    frames = files.frames(streams["shaded"].structure.video).astype(int)
    rgb = files.frames(streams["shaded"].media.video).astype(int)
    masks = object_masks(truth)
    core = cv2.erode(masks[6].astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert np.abs(frames[6][core] - rgb[6][core]).mean() < 25
    far = ~cv2.dilate(masks[6].astype(np.uint8), np.ones((15, 15))).astype(bool)
    lit = frames[6][far & (frames[6].sum(-1) > 300)]
    ratio = lit / lit.max(-1, keepdims=True)
    assert np.allclose(np.median(ratio, 0), np.array(CREAM_RGB) / max(CREAM_RGB), atol=0.05)


def test_contact_is_with_the_hand_that_holds(streams: dict[str, Clip]) -> None:
    facet = streams["silhouette"].structure
    assert facet.left_contact_share == 1.0
    assert facet.right_contact_share == 0.0
    assert facet.any_contact_share == 1.0
    assert facet.object_visible_share == 1.0
    assert facet.renderer.name.startswith("pyrender-")


def test_same_input_same_bytes(files: Files, truth: Truth, fitted: Clip, streams) -> None:
    with files.row_scope():
        again = structure_stage(truth).process(fitted, files).rows[0]
        body = body_stage(truth).process(fitted.replace(body=None), files).rows[0]
    assert again.structure == streams["silhouette"].structure
    assert body.body == fitted.body


@pytest.mark.parametrize(
    ("score", "value", "reason"),
    [
        ("body_visible_share", 0.0, "empty_structure"),
        ("matte_iou", 0.1, "mesh_off_person"),
        ("object_visible_share", 0.0, "object_missing"),
        ("hand_visible_share", 0.0, "hands_missing"),
        ("any_contact_share", 0.0, "no_contact"),
        ("object_cut_share", 1.0, "object_cut_off"),
        ("depth_conflict", 1.0, "depth_conflict"),
    ],
)
def test_structure_gates(truth: Truth, streams, score: str, value: float, reason: str) -> None:
    row = streams["silhouette"]
    good = row.structure.replace(matte_iou=0.9)
    assert structure_stage(truth).gate(row.with_facet("structure", good)) is None
    bad = row.with_facet("structure", good.replace(**{score: value}))
    assert structure_stage(truth).gate(bad).reason == reason


def test_an_empty_stream_is_never_kept_whatever_the_thresholds(truth: Truth, streams) -> None:
    row = streams["silhouette"]
    empty = row.with_facet("structure", row.structure.replace(body_visible_share=0.0))
    lenient = dict.fromkeys(StructureGate.model_fields, 0.0)
    assert structure_stage(truth, **lenient).gate(empty).reason == "empty_structure"


def test_far_from_any_seen_pose_nothing_is_drawn(files: Files, truth: Truth, fitted: Clip) -> None:
    arrays = files.arrays(fitted.body.arrays)
    arrays["is_valid"][:] = 0
    with files.row_scope():
        row = fitted.with_facet("body", fitted.body.replace(arrays=files.put_arrays(arrays)))
        done = structure_stage(truth).process(row, files).rows[0]
    assert done.structure.body_visible_share == 0.0
    assert structure_stage(truth).gate(done).reason == "empty_structure"


def test_a_mesh_that_is_not_finite_fails_with_a_code(
    files: Files, truth: Truth, fitted: Clip
) -> None:
    from schemas.errors import ModelOutputError

    arrays = files.arrays(fitted.body.arrays)
    arrays["translation_m"][3] = np.nan
    with files.row_scope():
        row = fitted.with_facet("body", fitted.body.replace(arrays=files.put_arrays(arrays)))
        with pytest.raises(ModelOutputError) as caught:
            structure_stage(truth).process(row, files)
    assert caught.value.code in StructureStage.reasons


def test_stages_pickle_and_hash_without_gates(truth: Truth) -> None:
    for make in (body_stage, structure_stage):
        stage = make(truth)
        assert pickle.loads(pickle.dumps(stage)).fingerprint == stage.fingerprint
    assert body_stage(truth).fingerprint == body_stage(truth, max_jerk=1.0).fingerprint
    shaded = structure_stage(truth, "shaded")
    assert shaded.fingerprint != structure_stage(truth).fingerprint


def test_scores_look_at_the_target_frames_only() -> None:
    table = {
        "matte_iou": np.array([0, 0, 0.5, 0.7, 0.9], np.float32),
        "penetration": np.array([np.nan, 1, np.nan, 0.2, 0.4], np.float32),
        "depth_conflict": np.array([1, 1, np.nan, np.nan, 0.6], np.float32),
        "is_cut": np.array([1, 1, 0, 0, 1], np.uint8),
        "body_area": np.array([0, 0, 0.3, 0.3, 0.0], np.float32),
        "hand_area": np.array([0, 0, 0, 0.1, 0.1], np.float32),
        "object_area": np.array([1, 1, 0, 0, 0.1], np.float32),
        "contact": np.array([[1, 1], [1, 1], [0, 0], [1, 0], [0, 1]], np.uint8),
    }
    scores = structure_scores(table, 2, 0.01)
    assert scores["matte_iou"] == pytest.approx(0.7)
    assert scores["any_contact_share"] == pytest.approx(2 / 3)
    assert scores["left_contact_share"] == pytest.approx(1 / 3)
    assert scores["object_visible_share"] == pytest.approx(1 / 3)
    assert scores["penetration"] == pytest.approx(0.3)
    assert scores["depth_conflict"] == pytest.approx(0.6)
    assert scores["object_cut_share"] == pytest.approx(1 / 3)


def test_near_valid_reaches_both_ways_and_no_further() -> None:
    valid = np.zeros(9, bool)
    valid[4] = True
    assert near_valid(valid, 2).astype(int).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert not near_valid(np.zeros(3, bool), 12).any()
    assert near_valid(np.array([True, False]), 12).all()


def test_jerk_of_a_wave_is_its_third_difference() -> None:
    time = np.arange(40)
    joints = np.stack([np.sin(time), np.zeros(40)], -1)[:, None]
    counted = np.ones((40, 1), bool)
    assert jerk(joints, counted) == pytest.approx(np.median(np.abs(np.diff(joints[:, 0, 0], 3))))
    assert jerk(joints, np.zeros((40, 1), bool)) == 0.0


def test_flips_are_counted_but_crossing_arms_are_not() -> None:
    pose = np.zeros((6, 33, 2))
    for index, x in ((11, 1.0), (13, 1.2), (15, 1.4), (23, 0.5)):
        pose[:, index, 0], pose[:, index + 1, 0] = x, -x
    assert left_right_flips(pose) == 0
    crossed = pose.copy()
    crossed[3:, 15, 0], crossed[3:, 16, 0] = -0.5, 0.5
    assert left_right_flips(crossed) == 0
    flipped = pose.copy()
    flipped[3] = -pose[3]
    assert left_right_flips(flipped) == 2
