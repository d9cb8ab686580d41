"""The real code paths of the optional extras, with random weights."""

import importlib.util
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigError
from stages.kit.weight_files import check_weight_file
from stages.product.carried_masks import chunks, drifted, make_prompt, territories
from stages.product.objects import ObjectsConfig, ObjectsStage
from stages.product.sam2 import Sam2Objects

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


def needs(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize(
    ("start", "end", "size"), [(0, 9, 4), (9, 0, 4), (5, 9, 3), (5, 0, 3), (0, 0, 8)]
)
def test_chunks_cover_every_frame_once_but_for_the_shared_one(start, end, size):
    parts = list(chunks(start, end, size))
    assert all(len(p) <= size for p in parts)
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(parts))
    assert {t for p in parts for t in p} == set(range(min(start, end), max(start, end) + 1))
    assert (parts[0][0], parts[-1][-1]) == (start, end)


def test_territories_cover_the_clip_without_overlap():
    parts = territories([30, 4, 17], 50)
    covered = sorted(t for first, last in parts for t in range(first, last + 1))
    assert covered == list(range(50))
    assert all(first <= t <= last for t, (first, last) in zip([30, 4, 17], parts, strict=True))


def test_drift_is_where_sure_cues_disagree():
    masks, cues = np.zeros((4, 20, 20), bool), np.zeros((4, 20, 20), bool)
    cues[:, 2:8, 2:8] = True
    masks[:2, 2:8, 2:8] = masks[2:, 12:18, 12:18] = True
    confidence = np.array([0.9, 0.8, 0.7, 0.75], np.float32)
    assert drifted(masks, cues, confidence, 0.3, 0.6) == 3
    assert drifted(masks, cues, confidence - 0.5, 0.3, 0.6) is None
    assert drifted(cues, cues, confidence, 0.3, 0.6) is None


def test_another_file_than_the_pinned_one_is_refused(tmp_path):
    weights = tmp_path / "a.pt"
    weights.write_bytes(b"something else")
    check_weight_file(str(weights), "", "detect.weights_file", "a file")
    with pytest.raises(ConfigError, match=r"is pinned; put the pinned file there"):
        check_weight_file(str(weights), "0" * 64, "detect.weights_file", "a file")


def test_the_prompt_points_lie_where_they_should():
    mask = np.zeros((80, 60), bool)
    mask[20:60, 10:30] = True
    hand = np.full((21, 2), (45, 50), np.float32)
    prompt = make_prompt(3, mask, [hand])
    assert prompt.box_xyxy_px.tolist() == [10, 20, 30, 60]
    for (x, y), label in zip(prompt.points_px, prompt.labels, strict=True):
        assert mask[int(y), int(x)] == bool(label)
    assert set(prompt.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("shape", ["square", "disc", "bar", "dot"])
def test_points_inside_are_inside_whatever_the_shape(shape):
    mask = np.zeros((80, 60), np.uint8)
    if shape == "disc":
        cv2.circle(mask, (30, 40), 15, 1, -1)
    height, width = {"square": (30, 30), "disc": (0, 0), "bar": (50, 6), "dot": (1, 1)}[shape]
    mask[20 : 20 + height, 20 : 20 + width] = 1
    points = make_prompt(0, mask.astype(bool), []).points_px.astype(int)
    assert len(points) >= 1
    assert mask[points[:, 1], points[:, 0]].all()


def test_missing_sam2_weights_say_what_to_do(tmp_path):
    stage = ObjectsStage(ObjectsConfig(backend="sam2", weights_file=str(tmp_path / "no.pt")))
    with pytest.raises(ConfigError, match=r"objects\.backend\.weights_file"):
        stage.check()


def in_fresh_process(function, *args):
    """The result of a call in a new process: Mesa's and Triton's copies of LLVM do not stand each other."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result(timeout=300)


def run_random_sam2(folder):
    import torch
    from sam2.build_sam import build_sam2_video_predictor

    torch.manual_seed(0)
    model = build_sam2_video_predictor(TINY, None, device="cpu")
    checkpoint = folder / "tiny.pt"
    torch.save({"model": model.state_dict()}, checkpoint)
    frames = np.random.default_rng(0).integers(0, 255, (5, 96, 64, 3), dtype=np.uint8)
    mask = np.zeros((96, 64), bool)
    mask[30:60, 20:40] = True
    backend = Sam2Objects(str(checkpoint), TINY, 512, chunk_frames=2)
    backend.check()
    return backend.segment(frames, [make_prompt(2, mask, [])], folder), backend.ref


@pytest.mark.slow
def test_sam2_with_random_weights_runs_both_ways_in_chunks(tmp_path):
    needs("sam2")
    masks, ref = in_fresh_process(run_random_sam2, tmp_path)
    assert masks.shape == (5, 96, 64)
    assert masks[2].any()
    assert len(ref.weights_sha256) == 64


def load_bad_sam2(folder):
    import torch

    bad = folder / "bad.pt"
    torch.save({"model": {"a": torch.zeros(1)}}, bad)
    Sam2Objects(str(bad), TINY, 512, chunk_frames=2).setup()


@pytest.mark.slow
def test_a_file_that_is_no_checkpoint_is_a_config_error(tmp_path):
    needs("sam2")
    with pytest.raises(ConfigError, match="does not fit"):
        in_fresh_process(load_bad_sam2, tmp_path)


def run_random_yolo(folder):
    os.environ |= {
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
    }
    from ultralytics import YOLO

    from stages.screening.ultralytics_people import UltralyticsPeople

    weights = folder / "nano.pt"
    YOLO("yolov8n.yaml").save(str(weights))
    people = UltralyticsPeople(str(weights), 0.0001, image_size_px=160)
    people.check()
    image = np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)
    return *people.find(image), people.ref


@pytest.mark.slow
def test_ultralytics_with_random_weights_runs_offline(tmp_path):
    needs("ultralytics")
    boxes, scores, ref = in_fresh_process(run_random_yolo, tmp_path)
    assert boxes.shape == (len(scores), 4)
    assert (np.diff(scores) <= 0).all()
    assert ref.licence == "AGPL-3.0"
