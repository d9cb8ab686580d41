"""The product's picture: whole before sharp before large, and what fingers hide is borrowed or owned up to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from schemas.errors import DataError
from stages.product.product_view import (
    Seen,
    best_view,
    fill_gaps,
    gap_of,
    main_part,
    outline_shares,
    rank_views,
    sharpness_at_one_size,
)
from tests.support.landmarks import table

HEIGHT, WIDTH, SIDE = 200, 240, 60
AWAY = np.full((21, 3), np.nan, np.float32)


def label(seed=0, plain=False):
    """A printed product's face, (SIDE, SIDE, 3)."""
    if plain:
        return np.full((SIDE, SIDE, 3), (200, 60, 50), np.uint8)
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 1.5)
    return np.clip((noise - 128) * 3 + 128, 0, 255).astype(np.uint8)


def finger_at(x, y, length=30):
    """A hand whose every point lies on one upright line: a single finger, some 6 px wide."""
    points = np.zeros((21, 3), np.float32)
    points[:, 0] = x
    points[:, 1] = y + np.linspace(length, 0, 21)
    return points


class Film:
    """Frames of a product on a plain ground, a finger before it where asked."""

    def __init__(self):
        self.frames, self.masks, self.hands = [], [], []

    def add(self, face, x=80, y=70, scale=1.0, turn=0.0, finger=None, blur=0.0):
        frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), turn, scale)
        matrix[:, 2] += x, y
        mask = cv2.warpAffine(np.ones((SIDE, SIDE), np.uint8), matrix, (WIDTH, HEIGHT)) > 0
        frame[mask] = cv2.warpAffine(face, matrix, (WIDTH, HEIGHT), borderMode=1)[mask]
        if blur:
            frame = cv2.GaussianBlur(frame, (0, 0), blur)
        hand = AWAY
        if finger is not None:
            hand = finger_at(*finger)
            covered = np.zeros_like(mask)
            x0, y0, y1 = int(hand[0, 0]), int(hand[:, 1].min()), int(hand[:, 1].max())
            covered[y0 - 2 : y1 + 3, x0 - 2 : x0 + 3] = True
            frame[covered] = (224, 178, 150)
            mask = mask & ~covered
        self.frames.append(frame)
        self.masks.append(mask)
        self.hands.append(hand)
        return self

    def seen(self, confidence=None):
        landmarks = table({"left_hand_landmarks_px": np.stack(self.hands)})
        sure = np.ones(len(self.frames), np.float32) if confidence is None else confidence
        return Seen(np.stack(self.frames), np.stack(self.masks), landmarks, np.asarray(sure))


def best(film, **options):
    return rank_views(film.seen(**options), 1)[0].frame


def test_whole_and_small_beats_near_and_cut_off():
    film = Film().add(label(), x=-20, y=70, scale=1.4).add(label(), scale=0.8)
    assert best(film) == 1


def test_sharp_and_small_beats_large_and_blurred():
    film = Film().add(label(), scale=1.3, blur=2).add(label(), scale=1.0)
    assert best(film) == 1


def test_clear_beats_covered_by_a_finger():
    film = Film().add(label(), finger=(110, 85)).add(label(), scale=0.9)
    assert best(film) == 1


def test_of_equally_good_views_the_larger_one_is_taken():
    film = Film().add(label(), scale=0.9).add(label()).add(label(), scale=1.1)
    assert best(film) in {1, 2}


def test_a_mask_less_sure_than_usual_is_no_view():
    film = Film().add(label()).add(label(), scale=0.7).add(label(), scale=0.7)
    assert best(film, confidence=np.float32([0.2, 0.8, 0.8])) != 0


def test_a_mask_far_larger_than_usual_holds_something_else():
    film = Film().add(label()).add(label()).add(label())
    film.masks[0] = film.masks[0].copy()
    film.masks[0][130:190, 60:200] = True
    assert best(film) != 0


def test_a_mask_that_misses_a_part_is_not_whole():
    """As where a lid is not found in most frames: the few that have it are the whole product."""
    film = Film()
    for _ in range(6):
        film.add(label())
    for t in (0, 1, 3, 4):
        film.masks[t] = film.masks[t].copy()
        film.masks[t][:100] = False
    assert best(film) in {2, 5}


def test_no_mask_is_no_product():
    film = Film().add(label())
    film.masks[0] = np.zeros((HEIGHT, WIDTH), bool)
    with pytest.raises(DataError) as caught:
        rank_views(film.seen(), 1)
    assert caught.value.code == "product_too_small"


@pytest.mark.parametrize(
    ("scale", "turn", "plain"),
    [(1.0, 0, False), (0.8, 20, False), (1.25, -15, False), (0.9, 0, True)],
)
def test_what_a_finger_hides_is_taken_from_another_frame(scale, turn, plain):
    """The other frame is nearer or farther, turned, and has its finger elsewhere."""
    face = label(plain=plain)
    film = (
        Film().add(face, finger=(110, 85)).add(face, x=90, scale=scale, turn=turn, finger=(135, 95))
    )
    seen, truth = film.seen(), Film().add(face)
    first = next(v for v in rank_views(seen, 1) if v.frame == 0)
    other = next(v for v in rank_views(seen, 1) if v.frame == 1)
    made = fill_gaps(seen, first, [other])
    hidden = truth.masks[0] & ~film.masks[0]
    assert (made.alpha & hidden).sum() > 0.9 * hidden.sum()
    assert not (made.alpha & ~truth.masks[0]).any()
    assert made.filled_share > 0.03
    assert made.gap_share < 0.02
    error = np.abs(made.image[hidden].astype(int) - truth.frames[0][hidden]).mean()
    assert error < 25
    assert np.abs(film.frames[0][hidden].astype(int) - truth.frames[0][hidden]).mean() > 50


def test_what_no_frame_shows_is_owned_up_to():
    film = Film()
    for x in (60, 80, 100):
        film.add(label(), x=x, finger=(x + 30, 85))
    made = best_view(film.seen(), 1, 5)
    assert made.filled_share < 0.01
    assert made.gap_share > 0.03
    assert not (made.alpha & ~film.masks[made.view.frame]).any()


def test_another_side_of_the_product_fills_nothing():
    film = Film().add(label(0), finger=(110, 85)).add(label(1))
    views = {v.frame: v for v in rank_views(film.seen(), 1)}
    made = fill_gaps(film.seen(), views[0], [views[1]])
    assert made.filled_share == 0.0
    assert made.gap_share > 0.03


def test_parts_that_no_finger_joins_are_left_out():
    mask = np.zeros((60, 100), bool)
    mask[10:50, 10:30] = mask[10:50, 36:50] = mask[5:15, 80:95] = True
    fingers = np.zeros_like(mask)
    fingers[5:55, 29:37] = True
    kept = main_part(mask, fingers)
    assert kept[:, :60].sum() == mask[:, :60].sum()
    assert not kept[:, 70:].any()


def test_small_holes_are_closed_and_handles_stay_open():
    mask = np.zeros((100, 100), bool)
    mask[10:90, 10:90] = True
    mask[20:24, 20:24] = False
    mask[40:70, 40:70] = False
    kept = main_part(mask, np.zeros_like(mask))
    assert kept[20:24, 20:24].all()
    assert not kept[40:70, 40:70].any()


def test_fingers_beside_a_product_are_no_gap():
    mask = np.zeros((60, 100), bool)
    mask[10:50, 10:50] = True
    fingers = np.zeros_like(mask)
    fingers[10:50, 50:60] = True
    assert not gap_of(mask, fingers).any()
    edge, beside = outline_shares(mask, fingers)
    assert edge == 0.0
    assert 0.2 < beside < 0.35


def test_sharpness_does_not_grow_with_size():
    face = label()
    near = cv2.resize(face, (SIDE * 4, SIDE * 4), interpolation=cv2.INTER_CUBIC)
    small = sharpness_at_one_size(face, np.ones(face.shape[:2], bool))
    large = sharpness_at_one_size(near, np.ones(near.shape[:2], bool))
    assert large < small
    assert sharpness_at_one_size(face, np.eye(SIDE, dtype=bool)) == 0.0
