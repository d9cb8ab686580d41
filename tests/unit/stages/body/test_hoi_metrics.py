from __future__ import annotations

import numpy as np
import pytest

from stages.body.hoi_metrics import (
    count_onsets,
    debounce,
    depth_conflict_share,
    frame_metrics,
    hand_contact,
    matte_iou,
    penetration_share,
    touches_border,
)


def parts_with(left=None, right=None, body=None, size=(60, 80)):
    part = np.zeros(size, np.uint8)
    for label, box in ((1, body), (2, left), (3, right)):
        if box:
            part[box[0], box[1]] = label
    return part


def mask_of(rows: slice, columns: slice, size=(60, 80)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(("gap", "touches"), [(1, True), (3, True), (6, False), (30, False)])
def test_contact_is_a_matter_of_distance(gap: int, touches: bool) -> None:
    part = parts_with(left=(slice(20, 30), slice(10, 20)))
    thing = mask_of(slice(20, 30), slice(19 + gap, 22 + gap))
    assert hand_contact(part, thing, reach_px=3.0) == (touches, False)


def test_contact_names_the_hand() -> None:
    part = parts_with(left=(slice(0, 5), slice(0, 5)), right=(slice(30, 40), slice(30, 40)))
    assert hand_contact(part, mask_of(slice(38, 45), slice(38, 45)), 1.0) == (False, True)


def test_nothing_touches_an_absent_object() -> None:
    part = parts_with(left=(slice(0, 60), slice(0, 80)))
    assert hand_contact(part, np.zeros((60, 80), bool), 10.0) == (False, False)


def test_penetration_counts_the_body_but_not_the_hands() -> None:
    part = parts_with(body=(slice(0, 60), slice(0, 40)), left=(slice(0, 60), slice(40, 60)))
    assert penetration_share(part, mask_of(slice(0, 10), slice(20, 60))) == pytest.approx(0.5)
    assert np.isnan(penetration_share(part, np.zeros((60, 80), bool)))


@pytest.mark.parametrize(
    ("body_m", "conflict"), [(1.2, 0.0), (0.97, 0.0), (0.8, 0.5)], ids=["behind", "level", "before"]
)
def test_what_the_mesh_has_in_front_of_the_hand_conflicts_with_an_object_over_it(
    body_m: float, conflict: float
) -> None:
    part = parts_with(body=(slice(0, 60), slice(0, 40)), left=(slice(20, 30), slice(40, 60)))
    depth = np.where(part == 1, body_m, 1.0).astype(np.float32)
    thing = mask_of(slice(20, 30), slice(20, 60))
    assert depth_conflict_share(part, depth, thing, 2.0) == pytest.approx(conflict)


def test_no_depth_order_without_a_hand_on_the_object() -> None:
    part = parts_with(body=(slice(0, 60), slice(0, 40)), left=(slice(50, 60), slice(70, 80)))
    depth = np.ones(part.shape, np.float32)
    assert np.isnan(depth_conflict_share(part, depth, mask_of(slice(0, 10), slice(0, 9)), 2.0))
    assert np.isnan(depth_conflict_share(part, depth, np.zeros((60, 80), bool), 2.0))


@pytest.mark.parametrize(
    ("rows", "columns", "cut"),
    [
        (slice(10, 20), slice(10, 20), False),
        (slice(0, 20), slice(10, 20), True),
        (slice(50, 60), slice(10, 20), True),
        (slice(10, 20), slice(0, 20), True),
        (slice(10, 20), slice(70, 80), True),
    ],
)
def test_an_object_at_the_border_is_cut(rows: slice, columns: slice, cut: bool) -> None:
    assert touches_border(mask_of(rows, columns)) is cut


def test_iou_of_equal_and_disjoint_masks() -> None:
    mesh, none = mask_of(slice(10, 50), slice(10, 40)), np.zeros((60, 80), bool)
    assert matte_iou(mesh, mesh, none, 3) == 1.0
    assert matte_iou(mesh, mask_of(slice(10, 50), slice(50, 75)), none, 3) == 0.0
    assert matte_iou(none, none, none, 3) == 0.0


def test_iou_without_band_is_the_plain_one() -> None:
    mesh, matte = mask_of(slice(0, 60), slice(0, 40)), mask_of(slice(0, 60), slice(20, 60))
    assert matte_iou(mesh, matte, np.zeros((60, 80), bool), 0) == pytest.approx(20 / 60)


def test_band_forgives_clothes_but_not_a_misplaced_limb() -> None:
    mesh, none = mask_of(slice(10, 50), slice(10, 40)), np.zeros((60, 80), bool)
    dressed = mask_of(slice(7, 53), slice(7, 43))
    assert matte_iou(mesh, dressed, none, 4) == 1.0
    with_arm = dressed | mask_of(slice(20, 40), slice(43, 80))
    assert matte_iou(mesh, with_arm, none, 4) < 0.7


def test_object_is_left_out_of_the_iou() -> None:
    mesh, thing = mask_of(slice(10, 50), slice(10, 40)), mask_of(slice(10, 50), slice(40, 70))
    assert matte_iou(mesh, mesh | thing, thing, 2) == 1.0


def test_mesh_cut_by_the_frame_has_no_band_there() -> None:
    mesh = mask_of(slice(30, 60), slice(0, 80))
    matte = mask_of(slice(30, 50), slice(0, 80))
    assert matte_iou(mesh, matte, np.zeros((60, 80), bool), 5) == pytest.approx(15 / 25)


def test_frame_metrics_areas_are_shares() -> None:
    part = parts_with(body=(slice(0, 30), slice(0, 80)), right=(slice(30, 36), slice(0, 80)))
    thing = mask_of(slice(36, 42), slice(0, 80))
    depth = np.ones(part.shape, np.float32)
    found = frame_metrics(part, depth, thing, part > 0, reach_px=2, band_px=1)
    assert found.depth_conflict == 0.0
    assert found.is_cut
    assert found.body_area == pytest.approx(0.6)
    assert found.hand_area == pytest.approx(0.1)
    assert found.object_area == pytest.approx(0.1)
    assert found.contact == (False, True)
    assert found.penetration == 0.0


def test_debounce_keeps_long_runs_and_a_clip_that_is_one_run() -> None:
    flags = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], bool)
    expected = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert debounce(flags, 3).astype(int).tolist() == expected
    assert debounce(np.ones(2, bool), 3).all()


def test_onsets_count_takings_per_hand() -> None:
    contact = np.zeros((30, 2), bool)
    contact[5:12, 0] = contact[20:29, 0] = contact[0:9, 1] = True
    contact[15, 1] = True  # a blink
    assert count_onsets(contact) == 2
