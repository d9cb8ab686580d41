import numpy as np
import pytest

from stages.kit.landmarks import is_seen
from stages.screening import tracks


def test_gaps_are_filled_up_to_the_limit_and_marked():
    track = np.array([[0.0], [np.nan], [2], [np.nan], [np.nan], [np.nan], [6]], np.float32)
    filled, is_filled = tracks.fill_gaps(track, 2)
    assert filled[:3].ravel().tolist() == [0, 1, 2]
    assert np.isnan(filled[3:6]).all()
    assert is_filled.tolist() == [False, True, False, False, False, False, False]


def test_nothing_is_invented_before_the_first_or_after_the_last_sighting():
    track = np.array([[np.nan], [1], [1], [np.nan]], np.float32)
    filled, _ = tracks.fill_gaps(track, 9)
    assert np.isnan(filled[[0, 3]]).all()


def test_smoothing_keeps_steady_motion_and_calms_noise():
    line = np.linspace(0, 29, 30, dtype=np.float32)[:, None]
    noisy = line + np.random.default_rng(0).normal(0, 0.5, line.shape).astype(np.float32)
    assert np.allclose(tracks.smooth(line), line, atol=1e-3)
    assert (
        np.abs(np.diff(tracks.smooth(noisy), 2, axis=0)).mean()
        < np.abs(np.diff(noisy, 2, axis=0)).mean()
    )


def test_smoothing_never_reaches_across_a_gap():
    track = np.ones((14, 1), np.float32)
    track[7] = np.nan
    track[8:] = 100
    out = tracks.smooth(track)
    assert np.allclose(out[:7], 1)
    assert np.isnan(out[7]).all()
    assert np.allclose(out[8:], 100)


def test_short_runs_are_dropped():
    track = np.full((10, 1), np.nan, np.float32)
    track[1:3], track[5:9] = 1, 1
    assert is_seen(tracks.drop_blips(track, 3)).nonzero()[0].tolist() == [5, 6, 7, 8]


def test_boxes_stay_inside_the_frame_and_vanish_outside():
    points = np.array([[[-20, 10], [30, 40]], [[-50, -50], [-20, -10]]], np.float32)
    boxes = tracks.boxes_around(points, 0.1, 100, 50)
    assert boxes[0].tolist() == [0, 7, 35, 43]
    assert np.isnan(boxes[1]).all()


def hands_at(x_left, x_right):
    """Hands (T,21,3) 20 px long, upright, with wrists at the given x and y = 100."""
    shape = np.zeros((21, 3), np.float32)
    shape[:, 1] = -np.linspace(0, 40, 21)
    shape[9] = (0, -20, 0)
    place = np.array([[x, 100, 0] for x in (*x_left, *x_right)], np.float32)[:, None]
    both = shape + place
    return both[: len(x_left)].copy(), both[len(x_left) :].copy()


def wrists_at(x_left, x_right):
    return np.array(
        [[[a, 100], [b, 100]] for a, b in zip(x_left, x_right, strict=True)], np.float32
    )


def test_a_hand_found_for_both_sides_stays_with_the_nearer_wrist():
    left, right = hands_at([50, 50], [52, 200])
    tracks.drop_doubles(left, right, wrists_at([45, 45], [190, 190]))
    assert np.isnan(right[0]).all()
    assert np.isfinite(left).all()
    assert np.isfinite(right[1]).all()


def test_a_swapped_frame_is_found():
    left, right = hands_at([50, 52, 201, 56], [200, 201, 54, 202])
    wrists = wrists_at([48, 50, 52, 54], [198, 199, 200, 201])
    assert tracks.swapped_sides(left, right, wrists).tolist() == [False, False, True, False]


def test_a_lone_hand_under_the_other_name_is_found_without_body_wrists():
    left, right = hands_at([50, 200, 50], [200, 0, 202])
    right[1] = np.nan
    wrists = np.full((3, 2, 2), np.nan, np.float32)
    wrists[0] = (50, 100), (200, 100)
    assert tracks.swapped_sides(left, right, wrists).tolist() == [False, True, False]


def test_arms_may_cross():
    xs = np.linspace(0, 100, 21)
    left, right = hands_at(xs, xs[::-1])
    assert not tracks.swapped_sides(left, right, wrists_at(xs, xs[::-1])).any()


def cost_of(naming, left, right, wrists, chirality):
    """The cost of one naming of all frames, written down as the docstring says it."""
    hands = np.stack([left[:, 0, :2], right[:, 0, :2]], axis=1)
    size, own = 20.0, tracks._naming_costs(hands, wrists, 20.0, chirality)
    total, last = 0.0, [None, None]
    for t, now in enumerate(naming):
        total += own[t, now] + size * (now != (naming[t - 1] if t else 0))
        for side in (0, 1):
            place = hands[t, side ^ now]
            if np.isfinite(place[0]):
                total += 2 * (
                    3 * size if last[side] is None else np.linalg.norm(place - last[side])
                )
                last[side] = place
    return total


def test_the_naming_is_the_cheapest_of_all():
    random = np.random.default_rng(0)
    for _ in range(40):
        count = 7
        left, right = hands_at(random.uniform(0, 150, count), random.uniform(0, 150, count))
        left[random.random(count) < 0.35] = np.nan
        right[random.random(count) < 0.35] = np.nan
        if not np.isfinite([left, right]).any():
            continue
        wrists = wrists_at(random.uniform(0, 150, count), random.uniform(0, 150, count))
        wrists[random.random((count, 2)) < 0.3] = np.nan
        chirality = random.uniform(-1, 1, (count, 2))
        found = tracks.swapped_sides(left, right, wrists, chirality).astype(int)
        best = min(
            cost_of(naming, left, right, wrists, chirality) for naming in np.ndindex(*[2] * count)
        )
        assert cost_of(tuple(found), left, right, wrists, chirality) == pytest.approx(best)


def test_looks_of_a_hand_decide_where_the_body_does_not():
    left, right = hands_at([50] * 6, [90] * 6)
    right[:] = np.nan
    wrists = np.full((6, 2, 2), np.nan, np.float32)
    like_right = np.full((6, 2), np.nan)
    like_right[:, 0] = -0.9
    assert tracks.swapped_sides(left, right, wrists, like_right).all()
    assert not tracks.swapped_sides(left, right, wrists, -like_right).any()


def test_a_mirrored_clip_gives_mirrored_sides():
    random = np.random.default_rng(1)
    for _ in range(20):
        left, right = hands_at(random.uniform(0, 150, 9), random.uniform(0, 150, 9))
        left[random.random(9) < 0.3] = np.nan
        wrists = wrists_at(random.uniform(0, 150, 9), random.uniform(0, 150, 9))
        chirality = random.uniform(-1, 1, (9, 2))

        def mirror(points):
            return points * np.array([-1, 1, 1][: points.shape[-1]], np.float32) + np.array(
                [150, 0, 0][: points.shape[-1]], np.float32
            )

        plain = tracks.swapped_sides(left, right, wrists, chirality)
        other = tracks.swapped_sides(
            mirror(right), mirror(left), mirror(wrists[:, ::-1]), -chirality[:, ::-1]
        )
        assert (plain == other).all()
