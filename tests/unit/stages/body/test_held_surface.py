"""The product as a thing with an outline and a thickness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.body.held_surface import (
    bulge,
    half_thickness_m,
    hull_of,
    share_covered,
    signed_gap,
    spots_of,
    touch_product,
)

SIZE = (120, 160)


def disc(x: int, y: int, radius: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask.astype(bool)


def test_a_finger_cut_out_of_a_mask_does_not_dent_its_outline() -> None:
    whole = disc(80, 60, 30)
    cut = whole.copy()
    cut[56:64, 50:90] = False
    points = np.array([[70.0, 60], [95, 60], [80, 20]])
    gap, whole_gap = signed_gap(points, hull_of(cut))[0], signed_gap(points, hull_of(whole))[0]
    assert whole_gap == pytest.approx([-20, -15, 10], abs=0.5)
    assert gap == pytest.approx(whole_gap, abs=1)


def test_a_speck_far_away_is_no_part_of_the_outline() -> None:
    mask = disc(80, 60, 30)
    mask[5:8, 5:8] = True
    assert hull_of(mask)[:, 0].min() == 50


def test_an_empty_mask_and_a_line_have_no_outline() -> None:
    mask = np.zeros(SIZE, bool)
    assert hull_of(mask) is None
    mask[10, 20:60] = True
    assert hull_of(mask) is None


def test_nearest_point_of_the_outline() -> None:
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    gap, nearest = signed_gap(np.array([[7.0, 8], [3, 2]]), square)
    assert gap.tolist() == [5, -1]
    assert nearest.tolist() == [[4, 4], [4, 2]]


def test_cover_is_a_share_and_none_outside_the_picture() -> None:
    mask = np.zeros(SIZE, bool)
    mask[:, 80:] = True
    points = np.array([[40.0, 60], [79.6, 60], [120, 60], [300, 60]])
    assert share_covered(points, mask, 4.0) == pytest.approx([0, 0.6, 1, 0], abs=0.1)


def test_a_disc_bulges_like_a_ball() -> None:
    gap, radius = np.array([[-10.0, -5, 0, 7]]), np.array([10.0])
    assert bulge(gap, radius)[0] == pytest.approx([1, np.sqrt(0.75), 0, 0])


def test_thickness_comes_from_the_narrow_views_and_ends() -> None:
    scale = np.full(10, 0.001)
    turning = np.array([12.0, 12, 12, 30, 30, 30, 30, 30, 30, np.nan])
    assert half_thickness_m(turning, scale) == pytest.approx(0.7 * 0.012)
    assert half_thickness_m(np.full(10, 200.0), scale) == 0.02


def test_spots_lie_inside() -> None:
    hull = hull_of(disc(80, 60, 30))
    assert (signed_gap(spots_of(hull), hull)[0] < -10).all()


def test_frames_without_hand_or_mask_touch_nothing() -> None:
    masks = np.stack([disc(80, 60, 30), np.zeros(SIZE, bool), disc(80, 60, 30)])
    points = np.full((3, 21, 2), 80.0)
    points[2] = np.nan
    touch = touch_product(points, masks, [hull_of(m) for m in masks], 100.0)
    assert np.isfinite(touch.gap_px).all(axis=1).tolist() == [True, False, False]
    assert np.isfinite(touch.radius_px).tolist() == [True, False, False]
    assert touch.radius_px[0] == pytest.approx(30, abs=1)
