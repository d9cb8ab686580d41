"""Shot detectors on composed material with known transitions; spans and windows as laws."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.kit.spans import Span, merge
from stages.source.pyscenedetect import PySceneDetectDetector
from stages.source.shots import black_spans, shots
from stages.source.transnetv2 import TransNetV2Detector, transitions_of
from stages.source.windows import WindowPlan, shown_frames, tick_span, windows


@pytest.fixture(scope="module", params=["transnetv2", "pyscenedetect"])
def detector(request):
    return TransNetV2Detector(0.5) if request.param == "transnetv2" else PySceneDetectDetector(3.0)


def scene(detector, count: int, seed: int) -> np.ndarray:
    """A lit backdrop with a few shapes, one of which drifts: (count,h,w,3) thumbnails."""
    rng = np.random.default_rng(seed)
    top, bottom = rng.integers(60, 230, (2, 3))
    backdrop = np.linspace(top, bottom, 108)[:, None].repeat(192, axis=1).astype(np.uint8)
    for _ in range(6):
        centre, axes = rng.integers(0, (192, 108)), rng.integers(8, 40, 2)
        color = rng.integers(0, 255, 3).tolist()
        cv2.ellipse(backdrop, centre.tolist(), axes.tolist(), 0, 0, 360, color, -1)
    start, color = rng.integers(20, 80), rng.integers(0, 255, 3).tolist()
    frames = []
    for t in range(count):
        picture = backdrop.copy()
        cv2.rectangle(
            picture, (int(start + 0.4 * t), 40), (int(start + 30 + 0.4 * t), 90), color, -1
        )
        frames.append(cv2.resize(picture, detector.thumbnail_size, interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def test_hard_cuts_are_exact(detector):
    material = np.concatenate([scene(detector, n, seed) for n, seed in ((60, 1), (45, 2), (70, 3))])
    assert detector.transitions(material) == [Span(60, 60), Span(105, 105)]


def test_a_single_take_has_no_transition(detector):
    assert detector.transitions(scene(detector, 90, 4)) == []


def test_fade_through_black_leaves_no_black_frame_in_a_shot(detector):
    a, b = scene(detector, 70, 5).astype(float), scene(detector, 70, 6).astype(float)
    ramp = np.ones(70)
    ramp[-12:] = np.linspace(1, 0, 12)
    faded = np.concatenate([a * ramp[:, None, None, None], b * ramp[::-1, None, None, None]])
    material = faded.astype(np.uint8)
    found = shots(140, detector.transitions(material), np.arange(140) / 25, 0.5)
    assert len(found) == 2
    assert found[0].stop <= 70 <= found[1].start
    kept = np.concatenate([material[s.start : s.stop] for s in found])
    assert kept.mean(axis=(1, 2, 3)).min() > 10


def test_probabilities_do_not_depend_on_the_length_of_the_rest():
    """Windows of 100 frames with 25 of overlap: the start of a long video reads like a short one."""
    detector = TransNetV2Detector(0.5)
    material = np.concatenate([scene(detector, 40, 1), scene(detector, 81, 2)])
    whole, _ = detector.probabilities(material)
    part, _ = detector.probabilities(material[:80])
    assert len(whole) == 121
    assert np.allclose(whole[:50], part[:50], atol=1e-5)


def test_gradual_runs_need_a_peak():
    inside = np.array([0, 0.9, 0.9, 0.9, 0, 0.9, 0], np.float32)
    middle = np.array([0, 0, 0.9, 0, 0, 0, 0], np.float32)
    assert transitions_of(middle, inside, 0.5, []) == [Span(1, 4)]
    assert transitions_of(middle, inside, 0.5, [Span(6, 7)]) == [Span(1, 7)]


def test_black_spans():
    frames = np.full((10, 27, 48, 3), 60, np.uint8)
    frames[3:5] = 4
    assert black_spans(frames, chunk=4) == [Span(3, 5)]


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=8).map(
    lambda pairs: [Span(a, min(60, a + n)) for a, n in pairs]
)


@given(spans)
def test_shots_are_ordered_disjoint_and_avoid_transitions(transitions):
    found = shots(60, merge(transitions), np.arange(60) / 25, 0.5)
    inside = np.zeros(60, int)
    for shot in found:
        inside[shot.start : shot.stop] += 1
    assert inside.max(initial=0) <= 1
    for transition in transitions:
        assert not inside[transition.start : transition.stop].any()
        assert not any(s.start < transition.start < s.stop for s in found)
    assert sum(map(len, found)) == 60 - len(
        {i for t in transitions for i in range(t.start, t.stop)}
    )


@given(
    lengths=st.lists(st.integers(0, 400), min_size=1, max_size=5),
    num_frames=st.integers(1, 25).map(lambda k: 1 + 4 * k),
    max_motion=st.integers(0, 80),
    stride=st.integers(1, 120),
)
def test_windows_lie_inside_their_shot_and_fill_latents(lengths, num_frames, max_motion, stride):
    ends = np.cumsum([n + 3 for n in lengths])
    shot_ticks = [Span(int(e) - n, int(e)) for e, n in zip(ends, lengths, strict=True)]
    plan = WindowPlan(num_frames, max_motion, stride, None)
    found = windows(shot_ticks, plan)
    for window in found:
        shot = shot_ticks[window.shot_index]
        assert shot.start <= window.motion_start <= window.start < window.stop <= shot.stop
        assert window.stop - window.start == num_frames
        assert window.num_motion_frames == 0 or window.num_motion_frames % 4 == 1
        assert window.num_motion_frames <= max_motion
    most = sum((n - num_frames) // stride + 1 for n in lengths if n >= num_frames)
    assert len(found) == most  # context never costs a target


@given(st.lists(st.floats(0.001, 0.6), min_size=1, max_size=60))
def test_a_frame_is_shown_from_its_own_time_on_until_the_next(steps):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    shown = shown_frames(times)
    ticks = np.arange(len(shown)) / 25
    assert (times[shown] <= ticks + 0.02 + 1e-8).all()  # never more than half a tick early
    due = np.searchsorted(times, ticks + 1e-8, side="right") - 1
    assert (shown >= due).all()  # once its time has come it is shown
    midway = (times[shown] + times[np.maximum(shown - 1, 0)]) / 2
    assert (ticks >= midway - 1e-8).all()  # nor before it is the nearest
    assert (np.diff(shown) >= 0).all()
    span = tick_span(Span(0, len(times)), shown, times)
    assert (span.start, span.stop) == (0, len(shown))


@pytest.mark.parametrize("fps", [12, 15, 24, 25, 29.97, 30, 50, 59.94, 120, 240])
def test_cameras_gain_no_lead_or_lag(fps):
    rng = np.random.default_rng(1)
    times = np.arange(int(20 * fps)) / fps + rng.uniform(-0.002, 0.002, int(20 * fps))
    times = np.sort(times - times[0])
    shown = shown_frames(times)
    late_s = np.arange(len(shown)) / 25 - times[shown]
    assert abs(late_s.mean()) < (0.002 if fps >= 24 else 0.023)
    assert np.abs(late_s).max() < max(0.021, 1 / fps - 0.02 + 0.005)


def test_a_picture_after_a_pause_does_not_come_early():
    """A recorder that leaves out repeated pictures: what flashes at 0.4 s flashes at 0.4 s."""
    shown = shown_frames(np.array([0.0, 0.04, 0.4, 0.44, 0.9]))
    assert shown.tolist() == [0] + [1] * 9 + [2] + [3] * 12
