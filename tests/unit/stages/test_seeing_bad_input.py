"""Pictures that the seeing stages cannot use: a reason code, never a crash, never an empty structure kept."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from jobs.studio import generate as studio
from jobs.studio.casting import cast_empty
from jobs.studio.scripts import SCRIPTS
from stages.base import Dropped
from stages.body.body import BodyConfig, BodyStage
from stages.body_models.anny import load_anny
from stages.kit import media
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks
from stages.product.objects import ObjectsConfig, ObjectsGate, ObjectsStage
from stages.screening.detect import DetectConfig, DetectStage
from tests.support.clips import clip_of

pytestmark = pytest.mark.slow
NUM_FRAMES, WIDTH, HEIGHT = 24, 480, 832


def rendered(script, folder):
    """A studio clip, short."""
    short = replace(script, takes=(replace(script.takes[0], num_frames=NUM_FRAMES),))
    clip = studio._paths(folder, script.name)
    for path in (clip.video, clip.truth_json):
        path.parent.mkdir(parents=True)
    studio._make(load_anny(), short, clip, 0, (WIDTH, HEIGHT), lambda _frame: None)
    return clip


@pytest.fixture(scope="module")
def acted(tmp_path_factory):
    """A person with a bottle in the right hand: frames (T,H,W,3), masks (T,H,W) of person and product."""
    clip = rendered(SCRIPTS["clean"], tmp_path_factory.mktemp("studio"))
    with np.load(clip.truth_arrays) as truth:
        person, product = (
            decode_masks(dict(truth), n, HEIGHT, WIDTH) for n in ("person", "product")
        )
    return media.read_video(clip.video), person, product


@pytest.fixture(scope="module")
def detect():
    stage = DetectStage(DetectConfig())
    stage.setup()
    return stage


def row_of(frames, files):
    return clip_of(files, frames)


def reason_of(stage, done) -> str:
    """Why a stage let a row go, or an empty text."""
    if isinstance(done, Dropped):
        return done.reason
    verdict = stage.gate(done.rows[0])
    return verdict.reason if verdict else ""


def test_the_clip_itself_is_fine(acted, detect, files):
    assert reason_of(detect, detect.process(row_of(acted[0], files), files)) == ""


def test_black_pictures_show_nobody(acted, detect, files):
    done = detect.process(row_of(np.zeros_like(acted[0]), files), files)
    assert reason_of(detect, done) == "no_person"
    body = BodyStage(BodyConfig())  # and a lenient gate gives no empty mesh either
    assert reason_of(body, body.process(done.rows[0], files)) == "no_pose"
    objects = ObjectsStage(ObjectsConfig())
    objects.setup()
    assert reason_of(objects, objects.process(done.rows[0], files)) == "no_held_object"


def test_a_hand_alone_is_no_clip_of_a_person(acted, detect, files):
    frames, _, product = acted
    rows, cols = np.nonzero(product[0])
    y, x = int(np.median(rows)), int(np.median(cols))
    top, left = max(0, min(y - 104, HEIGHT - 208)), max(0, min(x - 60, WIDTH - 120))
    close = frames[:, top : top + 208, left : left + 120]
    large = np.stack([cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for f in close])
    done = detect.process(row_of(large, files), files)
    assert reason_of(detect, done) in {"no_person", "no_face"}


def test_a_mirrored_clip_has_its_sides_exchanged(acted, detect, files):
    straight = detect.process(row_of(acted[0], files), files).rows[0]
    mirrored = detect.process(
        row_of(np.ascontiguousarray(acted[0][:, :, ::-1]), files), files
    ).rows[0]
    a, b = (Landmarks.read(files.arrays(c.detect.arrays)) for c in (straight, mirrored))
    holding = np.nanmedian(a.hands[1].box_xyxy_px, axis=0)
    flipped = np.nanmedian(b.hands[0].box_xyxy_px, axis=0)
    assert flipped[[0, 2]] == pytest.approx(WIDTH - holding[[2, 0]], abs=25)
    assert (
        reason_of(detect, detect.process(row_of(acted[0][:, :, ::-1].copy(), files), files)) == ""
    )


def test_a_second_person_behind_is_seen(acted, detect, files):
    """The same person, smaller, stands in the background for half of the clip."""
    frames, person, _ = acted
    out = frames.copy()
    small = (WIDTH // 2, HEIGHT // 2)
    for t in range(NUM_FRAMES // 2, NUM_FRAMES):
        figure = cv2.resize(frames[t], small, interpolation=cv2.INTER_AREA)
        shape = cv2.resize(person[t].astype(np.uint8), small, interpolation=cv2.INTER_NEAREST) > 0
        rows, cols = np.nonzero(shape)
        x0, y0 = WIDTH - small[0] // 2 - 40, 60
        ys, xs = rows + y0, cols + x0
        inside = (ys < HEIGHT) & (xs < WIDTH)
        ys, xs, rows, cols = ys[inside], xs[inside], rows[inside], cols[inside]
        behind = ~person[t][ys, xs]
        out[t, ys[behind], xs[behind]] = figure[rows[behind], cols[behind]]
    assert reason_of(detect, detect.process(row_of(out, files), files)) == "multiple_people"


def test_a_product_that_is_painted_away_is_no_held_object(acted, detect, files):
    frames, _, product = acted
    empty = frames.copy()
    for picture, mask in zip(empty, product, strict=True):
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8))
        picture[:] = cv2.inpaint(picture, wide, 5, cv2.INPAINT_TELEA)
    row = detect.process(row_of(empty, files), files).rows[0]
    objects = ObjectsStage(ObjectsConfig())
    objects.setup()
    assert reason_of(objects, objects.process(row, files)) in {
        "no_held_object",
        "low_confidence",
        "object_rarely_visible",
        "object_too_small",
    }


def test_the_bottle_is_found_where_it_is(acted, detect, files):
    """The first frames of so short a clip may be unsure (no mask, never a wrong one); no other gate cuts it."""
    frames, _, product = acted
    objects = ObjectsStage(ObjectsConfig(gate=ObjectsGate(min_visible_share=0.8)))
    objects.setup()
    row = objects.process(detect.process(row_of(frames, files), files).rows[0], files).rows[0]
    found = decode_masks(files.arrays(row.objects.arrays), "mask", HEIGHT, WIDTH)
    assert objects.gate(row) is None
    shared = (found & product).sum(axis=(1, 2)) / (found | product).sum(axis=(1, 2))
    seen = found.any(axis=(1, 2))
    assert np.median(shared) > 0.6
    assert shared[seen].min() > 0.5


@pytest.mark.parametrize("seed", [3, 4])
def test_hands_that_gesture_with_nothing_in_them_hold_nothing(detect, files, tmp_path, seed):
    clip = rendered(cast_empty(0, seed), tmp_path / "studio")
    row = detect.process(row_of(media.read_video(clip.video), files), files).rows[0]
    objects = ObjectsStage(ObjectsConfig())
    objects.setup()
    assert reason_of(objects, objects.process(row, files)) != ""
