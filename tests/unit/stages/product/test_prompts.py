"""Points that promptable predictors are given: inside the product, or clear of it."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.product.carried_masks import make_prompt

MASKS = Path("/work/shared/data/held_products")
SIDE = 64
coordinate = st.integers(-8, SIDE + 8)
point = st.tuples(coordinate, coordinate)


def depth_of(mask: np.ndarray) -> np.ndarray:
    """Exact distance of each pixel to the nearest one outside, the picture's border included; by brute force."""
    ground = np.argwhere(~np.pad(mask, 1)) - 1
    pixels = np.argwhere(mask)
    depth = np.zeros(mask.shape)
    for y, x in pixels:
        depth[y, x] = np.sqrt(((ground - (y, x)) ** 2).sum(axis=1).min())
    return depth


@st.composite
def masks(draw) -> np.ndarray:
    """Things of one to three parts with holes, and fingers cut out of them."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        cv2.fillPoly(canvas, [np.array(draw(st.lists(point, min_size=3, max_size=7)), np.int32)], 1)
    for _ in range(draw(st.integers(0, 2))):
        cv2.circle(canvas, draw(point), draw(st.integers(1, 12)), 0, -1)
    for _ in range(draw(st.integers(0, 4))):
        cv2.line(canvas, draw(point), draw(point), 0, draw(st.integers(1, 7)))
    if not canvas.any():
        canvas[draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))] = 1
    return canvas.astype(bool)


hands = st.lists(
    st.lists(st.tuples(*[st.floats(-20, SIDE + 20, width=32)] * 2), min_size=21, max_size=21).map(
        lambda h: np.array(h, np.float32)
    ),
    max_size=2,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks(), hands)
def test_points_lie_on_their_side_of_any_mask(mask, hands_px) -> None:
    prompt = make_prompt(3, mask, hands_px)
    depth, away = depth_of(mask), depth_of(~mask)
    inside = prompt.points_px[prompt.labels == 1].astype(int)
    assert 1 <= len(inside) <= 2
    depths = [depth[y, x] for x, y in inside]
    assert depths[0] == pytest.approx(depth.max(), abs=0.01)  # as deep as the mask allows
    assert all(d > max(2, 0.3 * depths[0]) for d in depths[1:])
    for x, y in prompt.points_px[prompt.labels == 0].astype(int):
        # the picture's border is an edge for `away` too: a point beside it is as clear as can be
        assert not mask[y, x]
        assert away[y, x] >= min(2, x + 1, y + 1, SIDE - x, SIDE - y)
    rows, cols = np.nonzero(mask)
    assert prompt.box_xyxy_px.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


def test_a_mask_at_the_border_is_not_deep_there() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, :30] = True
    (x, y) = make_prompt(0, mask, []).points_px[0]
    assert 8 <= x <= 20
    assert 18 <= y <= 21


def test_a_sliver_beside_a_finger_gets_no_point() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:36] = True
    mask[10:50, 40:43] = True
    assert len(make_prompt(0, mask, []).points_px) == 1
    mask[10:50, 40:58] = True  # a part, not a sliver
    assert len(make_prompt(0, mask, []).points_px) == 2


def test_knuckles_right_beside_the_mask_say_nothing() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:30] = True
    hand = np.full((21, 2), np.nan, np.float32)
    hand[[0, 5, 9, 17]] = [(50, 30), (30, 30), (20, 20), (-3, 5)]
    prompt = make_prompt(0, mask, [hand])
    assert prompt.points_px[prompt.labels == 0].tolist() == [[50, 30]]


@pytest.mark.shared_data
@pytest.mark.skipif(not any(MASKS.glob("*.png")), reason=f"no annotated masks in {MASKS}")
def test_points_of_a_rough_mask_lie_inside_the_true_product() -> None:
    """As cues cut it: a pixel or two off the outline, and with the fingers' gaps partly closed."""
    off, count = [], 0
    for file in sorted(MASKS.glob("*.png")):
        true = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) > 127
        if not true.any():
            continue
        rng = np.random.default_rng(zlib.crc32(file.name.encode()))
        shift = rng.integers(-2, 3, 2)
        rough = np.roll(cv2.dilate(true.astype(np.uint8), np.ones((3, 3))), shift, (0, 1)) > 0
        for mask in (true, rough):
            prompt = make_prompt(0, mask, [])
            for x, y in prompt.points_px[prompt.labels == 1].astype(int):
                count += 1
                if not true[y, x]:
                    off.append((file.name, int(x), int(y)))
    assert count >= 100
    assert off == []
