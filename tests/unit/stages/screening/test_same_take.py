"""A take is known again mirrored, cropped or under a caption; another take in the same room is another."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from stages.kit import media
from stages.screening.near_duplicates import near_duplicates
from stages.screening.picture import grey_frames, motion_steps, perceptual_hash
from stages.screening.quality import QualityConfig, QualityStage
from stages.screening.same_take import NUM_GLANCES, candidates, lay_over, same_moments, traits_of
from tests.support.clips import make_clip
from tests.unit.stages.screening.test_quality import GOOD
from tests.unit.stages.source.synth import textured, toy_files

HEIGHT, WIDTH, NUM_FRAMES = 256, 192, 61


def path(rng, spread: float):
    """A hand's way (T,2) by smoothed noise."""
    noise = rng.standard_normal((NUM_FRAMES + 20, 2)).cumsum(axis=0)
    smooth = cv2.blur(noise, (1, 9))[10:-10]
    return spread * (smooth - smooth.mean(0)) / np.abs(smooth).max()


def take(seed: int, room: int = 1) -> np.ndarray:
    """A head that sways and a hand that moves in a room of texture (T,H,W,3)."""
    rng = np.random.default_rng(seed)
    ground = textured(1, HEIGHT, WIDTH, seed=room)[0]
    frames = np.repeat(ground[None], NUM_FRAMES, axis=0)
    ways = zip(frames, path(rng, 12), path(rng, 70), strict=True)
    for frame, head, hand in ways:
        x, y = (int(v) for v in (WIDTH / 2 + head[0], 90 + head[1]))
        cv2.circle(frame, (x, y), 34, (200, 160, 140), -1)
        x, y = (int(v) for v in (WIDTH / 2 + hand[0], 170 + hand[1]))
        cv2.rectangle(frame, (x - 16, y - 24), (x + 16, y + 24), (30, 60, 220), -1)
    return frames


def mirrored(frames):
    return frames[:, :, ::-1]


def cropped(frames):
    height, width = round(0.85 * HEIGHT), round(0.85 * WIDTH)
    return frames[:, -height:, 5 : 5 + width]


def captioned(frames):
    out = frames.copy()
    for t, frame in enumerate(out):
        cv2.rectangle(frame, (15, 200), (177, 228), (0, 0, 0), -1)
        text = ("Buy this now", "Only today")[t // 13 % 2]
        cv2.putText(frame, text, (20, 220), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    return out


def transcoded(frames, folder):
    height, width = (n // 2 * 2 for n in frames.shape[1:3])
    target = folder / "again.mp4"
    media.write_video(target, np.ascontiguousarray(frames[:, :height, :width]), crf=28)
    return media.read_video(target)


def quality(frames):
    grey = grey_frames(frames, 240)
    take = traits_of(motion_steps(grey)[:, 1:], grey)
    return GOOD.replace(phash=perceptual_hash(grey), take=take)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    files = toy_files(tmp_path_factory.mktemp("files"))
    with files.row_scope():
        return make_clip(files)


def rows_of(template, *takes):
    """A clip per (name, frames), each of a source of its own."""
    return [
        template.replace(clip_id=name, source_id=f"source-{name}", quality=quality(frames))
        for name, frames in takes
    ]


@pytest.mark.parametrize("change", [mirrored, cropped, captioned])
def test_a_take_made_over_is_found_and_another_take_is_not(template, tmp_path, change):
    made_over = transcoded(change(take(1)), tmp_path)
    rows = rows_of(template, ("a", take(1)), ("b", made_over), ("c", take(2)), ("d", take(3)))
    assert near_duplicates(rows, 10) == {}  # the hash alone does not see it
    (verdict,) = QualityStage(QualityConfig()).gate_all(rows).items()
    assert verdict[0] in {"a", "b"}
    assert verdict[1].kept_id in {"a", "b"}
    assert "made over" in verdict[1].detail
    shuffled = [rows[i] for i in (3, 1, 0, 2)]
    assert QualityStage(QualityConfig()).gate_all(shuffled) == dict([verdict])


def test_the_same_movement_of_other_pictures_is_another_take():
    there, elsewhere = quality(take(1)).take, quality(take(1, room=7)).take
    assert candidates([there, elsewhere])
    assert same_moments(there, there) == pytest.approx(1)
    other = quality(255 - take(1, room=7)).take
    assert same_moments(there, other) < 0.3


def test_a_crop_is_laid_where_it_was():
    glances = np.random.default_rng(0).normal(128, 40, (NUM_GLANCES, 24, 24))
    glances = np.stack([cv2.GaussianBlur(g, (0, 0), 2) for g in glances]).astype(np.float32)
    part = np.stack([cv2.resize(g[3:23, 1:21], (24, 24)) for g in glances])
    found = lay_over(glances, np.ascontiguousarray(part[:, :, ::-1]))
    assert (found.is_mirrored, found.size_px, found.x_px, found.y_px) == (True, 20, 1, 3)
    assert found.likeness > 0.95


def test_short_clips_have_no_rhythm():
    grey = np.zeros((6, 24, 24), np.uint8)
    assert traits_of(np.zeros((5, 3), np.float32), grey) is None
    assert candidates([None, None]) == {}


def test_thousands_of_clips_are_searched_in_seconds():
    rng = np.random.default_rng(0)
    steps = cv2.blur(rng.standard_normal((80, 3 * 1500)), (1, 7))
    grey = np.zeros((81, 24, 24), np.uint8)
    traits = [traits_of(steps[:, 3 * i : 3 * i + 3], grey) for i in range(1500)]
    began = time.process_time()
    found = candidates([*traits, traits[0]])
    assert time.process_time() - began < 60
    assert 1500 in found[0]
    assert sum(map(len, found.values())) < 0.01 * 1500**2
