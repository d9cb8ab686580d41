"""Quality: each defect lowers its own score, gates name it, overlays differ from printed labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.kit import media
from stages.screening import picture
from stages.screening.overlay_text import overlay_text
from stages.screening.quality import QualityConfig, QualityGate, QualityStage, judge
from tests.support.clips import make_clip
from tests.support.facets import quality_facet
from tests.unit.stages.source.synth import textured, toy_files

GOOD = quality_facet()


@pytest.fixture(scope="module")
def reader():
    from stages.screening.rapidocr import RapidOcr

    return RapidOcr()


@pytest.fixture(scope="module")
def moving():
    return textured(27, 320, 256, seed=3)


def test_blur_lowers_sharpness_and_scale_does_not_change_it_much(moving):
    sharp = picture.sharpness(picture.grey_frames(moving[:5], 240))
    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 4) for f in moving[:5]])
    assert picture.sharpness(picture.grey_frames(blurred, 240)) < 0.3 * sharp


def test_exposure():
    frames = np.full((2, 16, 16), 200, np.uint8)
    frames[:, :4] = 5
    frames[:, -2:] = 250
    found = picture.exposure(frames)
    assert found.dark_share == pytest.approx(4 / 16)
    assert found.bright_share == pytest.approx(2 / 16)
    assert found.luma_mean == pytest.approx((4 * 5 + 10 * 200 + 2 * 250) / 16 / 255)


def test_motion_is_the_speed_in_pixels():
    grey = picture.grey_frames(textured(6, 240, 320, seed=2, speed=3), 240)
    assert picture.motion_px(picture.motion_steps(grey)) == pytest.approx(3, abs=0.5)
    assert picture.motion_px(picture.motion_steps(grey[:1].repeat(4, axis=0))) < 0.01


def test_freeze_ignores_coding_noise_but_not_a_moving_mouth(tmp_path):
    still = textured(1, 320, 256, seed=3).repeat(30, axis=0)
    path = tmp_path / "still.mp4"
    media.write_video(path, still, crf=20)
    frozen = picture.frozen_steps(picture.grey_frames(media.read_video(path), 240))
    assert frozen.mean() > 0.9
    talking = still.copy()
    for t in range(30):
        talking[t, 150 : 150 + 4 + t % 5 * 2, 120:140] = 40
    frozen = picture.frozen_steps(picture.grey_frames(talking, 240))
    assert frozen.mean() == 0
    assert picture.longest_run_s(np.array([True, True, False, True])) == pytest.approx(0.08)


def test_repeated_frames_of_a_slow_source_are_no_long_freeze():
    grey = picture.grey_frames(textured(15, 240, 320).repeat(2, axis=0), 240)
    frozen = picture.frozen_steps(grey)
    assert frozen.mean() == pytest.approx(0.5, abs=0.05)
    assert picture.longest_run_s(frozen) == pytest.approx(1 / 25)


def test_borders_are_measured_and_dark_scenes_are_not_borders(moving):
    grey = picture.grey_frames(moving, 240)
    assert picture.border_share(grey) == 0
    barred = grey.copy()
    barred[:, :40] = 16
    assert picture.border_share(barred) == pytest.approx(42 / grey.shape[1], abs=0.01)
    dim = grey // 6
    dim[:, 100:200, 100:200] = 120
    assert picture.border_share(dim) == 0


def test_hash_is_near_for_recoded_and_far_for_other_pictures(tmp_path, moving):
    path = tmp_path / "again.mp4"
    media.write_video(path, moving, crf=30)
    small = np.stack([cv2.resize(f, (192, 240)) for f in media.read_video(path)])
    original = picture.perceptual_hash(picture.grey_frames(moving, 240))
    again = picture.perceptual_hash(picture.grey_frames(small, 240))
    other = picture.perceptual_hash(picture.grey_frames(textured(27, 320, 256, seed=8), 240))
    assert len(original) == 64
    assert picture.hash_distance(original, again) <= 12
    assert picture.hash_distance(original, other) >= 60


def test_overlay_is_found_and_a_label_in_the_hand_is_not(reader):
    frames = textured(54, 480, 320, seed=3, speed=1) // 3 + 60

    def with_text(position):
        out = frames.copy()
        for t, image in enumerate(out):
            x, y = position(t)
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(image, "BUY ONE NOW", (x, y), font, 1.1, (255, 255, 255), 3, cv2.LINE_AA)
        return out

    overlay = overlay_text(with_text(lambda t: (40, 420)), reader)
    held = overlay_text(
        with_text(lambda t: (40 + round(9 * np.sin(t / 5)), 240 + round(12 * np.cos(t / 6)))),
        reader,
    )
    assert overlay.num_regions >= 1
    assert overlay.area_share > 0.03
    assert (held.num_regions, held.area_share) == (0, 0.0)
    assert overlay_text(frames, reader).num_regions == 0


WORDS = ["THIS", "BOTTLE", "KEEPS", "YOUR", "COFFEE", "HOT", "ALL", "DAY"]


def with_words(frames, place, words=WORDS, every=12, scale=1.4):
    """A word at a time, each for about half a second; ``place(t)`` is its middle."""
    out = frames.copy()
    for t, image in enumerate(out):
        word = words[t // every % len(words)]
        size = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, 4)[0]
        x, y = place(t)
        at = (int(x - size[0] / 2), int(y + size[1] / 2))
        for colour, thick in (((0, 0, 0), 10), ((255, 255, 255), 4)):
            cv2.putText(image, word, at, cv2.FONT_HERSHEY_DUPLEX, scale, colour, thick, cv2.LINE_AA)
    return out


@pytest.mark.parametrize("every", [8, 12, 15])
def test_captions_of_one_word_are_found_though_each_is_gone_soon(reader, every):
    frames = textured(81, 480, 320, seed=3, speed=1) // 3 + 60
    cv2.putText(frames[0], "@me", (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    frames[:, :30, :60] = frames[0, :30, :60]  # a watermark, too small to count, does not hide them
    caption = overlay_text(with_words(frames, lambda t: (160, 330), every=every), reader)
    assert caption.num_regions >= 1
    assert caption.area_share > 0.01


def test_words_on_a_moving_product_are_no_captions(reader):
    """A label that moves all the time, one that pauses, and one that turns its other words to the front."""
    frames = textured(81, 480, 320, seed=3, speed=1) // 3 + 60

    def moving(t: int) -> tuple[float, float]:
        return 160 + 30 * np.sin(t / 6), 240 + 25 * np.cos(t / 7)

    def pausing(t: int) -> tuple[float, float]:
        step = t // 20
        return 110 + 60 * (step % 2) + 8 * min(t % 20, 4), 160 + 70 * (step % 3)

    assert overlay_text(with_words(frames, moving, ["COCOA"]), reader).num_regions == 0
    assert overlay_text(with_words(frames, pausing, ["COCOA"]), reader).num_regions == 0
    assert overlay_text(with_words(frames, moving, every=20), reader).num_regions == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"motion_px": 0.001}, "static"),
        ({"freeze_share": 0.95}, "static"),
        ({"longest_freeze_s": 1.5}, "frozen"),
        ({"luma_mean": 0.02}, "too_dark"),
        ({"dark_share": 0.9}, "too_dark"),
        ({"luma_mean": 0.97}, "too_bright"),
        ({"bright_share": 0.9}, "too_bright"),
        ({"sharpness": 3}, "blurry"),
        ({"border_share": 0.2}, "black_borders"),
        ({"text_area_share": 0.03}, "overlay_text"),
    ],
)
def test_gate_names_the_defect(change, reason):
    verdict = judge(GOOD.replace(**change), QualityGate())
    assert (verdict.reason if verdict else None) == reason
    assert reason is None or reason in QualityStage.reasons


def test_the_stage_scores_the_target_frames_only(tmp_path):
    files = toy_files(tmp_path)
    stage = QualityStage(QualityConfig(read_text=False))
    stage.setup()
    with files.row_scope():
        clip = make_clip(files, num_target=9, num_motion=5)
        frames = np.concatenate([textured(5, 64, 96), textured(1, 64, 96).repeat(9, axis=0)])
        media_facet = clip.media.replace(video=files.put_video(frames))
        row = stage.process(clip.replace(media=media_facet), files).rows[0]
    assert row.quality.freeze_share == 1.0
    assert stage.gate(row).reason == "static"


@pytest.mark.parametrize("colour", [0, 255])
def test_bars_count_as_bars_alone(tmp_path, colour):
    """A clip that kept its bars fails for them and for nothing else: counts per cause stay right."""
    files = toy_files(tmp_path)
    stage = QualityStage(QualityConfig(read_text=False))
    stage.setup()
    found = []
    with files.row_scope():
        clip = make_clip(files, num_target=25, num_motion=0)
        inner = textured(25, 240, 160, seed=3)
        barred = np.full((25, 240, 960, 3), colour, np.uint8)
        barred[:, :, 400:560] = inner
        for frames in (inner, barred):
            media_facet = clip.media.replace(video=files.put_video(frames))
            found.append(stage.process(clip.replace(media=media_facet), files).rows[0].quality)
    bare, with_bars = found
    assert with_bars.border_share == pytest.approx(5 / 6, abs=0.02)
    assert bare.border_share == 0
    assert with_bars.luma_mean == pytest.approx(bare.luma_mean, abs=0.02)
    assert with_bars.sharpness == pytest.approx(bare.sharpness, rel=0.2)
    assert with_bars.motion_px == pytest.approx(bare.motion_px, rel=0.2)
    assert max(with_bars.dark_share, with_bars.bright_share) < 0.05
    gate = QualityGate(min_sharpness=0)
    assert judge(with_bars, gate).reason == "black_borders"
    assert judge(bare, gate) is None
