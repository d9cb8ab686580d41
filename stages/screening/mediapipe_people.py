"""People with mediapipe 0.10.21: pose, face mesh, matte and 21-point hands, models in the wheel.

The holistic graph names hands by the pose's wrists, so left and right are the person's own. Hands are then
looked for again in crops around the wrists, which finds small ones and gives metric landmarks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.kit.arrays import F32, I32, Flags, Frames, Mask
from stages.kit.mediapipe_package import NUM_HAND, SeenHand, hands_in, load_solutions, points_of
from stages.screening.hand_names import distinct, name_hands
from stages.screening.people_count import PeopleCounter

NUM_POSE, NUM_FACE = 33, 468
LEFT_WRIST, RIGHT_WRIST, LEFT_ELBOW, RIGHT_ELBOW = 15, 16, 13, 14
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24
_MIN_TORSO_VISIBILITY = 0.6
_SIDES = {"left": (LEFT_WRIST, LEFT_ELBOW), "right": (RIGHT_WRIST, RIGHT_ELBOW)}
_REMEMBERED = 12
"""Frames for which a hand that is not found is still expected."""


@dataclass
class HandSightings:
    """Raw detections of one hand of the main person; NaN where nothing was found."""

    points_px: F32
    """(T,21,3): x, y, z (x's scale)."""
    world_m: F32
    """(T,21,3), the hand's own middle at the origin."""
    score: F32
    """(T,)."""
    chirality: F32
    """(T,) -1..1: how much the hand itself looks like a right (-1) or a left one (1), wherever it is."""

    @classmethod
    def empty(cls, num_frames: int) -> HandSightings:
        """All missing."""
        points = np.full((2, num_frames, NUM_HAND, 3), np.nan, np.float32)
        return cls(*points, *np.full((2, num_frames), np.nan, np.float32))

    def put(self, index: int, hand: SeenHand) -> None:
        """Keep what was seen in a frame."""
        self.points_px[index], self.world_m[index] = hand.points_px, hand.world_m
        self.score[index], self.chirality[index] = hand.score, hand.chirality


@dataclass
class PeopleTracks:
    """Raw detections of the main person; NaN where nothing was found. Pixels of the given frames."""

    pose_px: F32
    """(T,33,4): x, y, z (x's scale), visibility."""
    pose_world_m: F32
    """(T,33,3), hips at the origin."""
    face_px: F32
    """(T,468,3)."""
    hands: tuple[HandSightings, HandSightings]
    """Left, right: the person's own."""
    face_score: F32
    """(T,): of the face detector, NaN where it was not asked or found nothing."""
    matte: Mask
    """(T,H,W), frames in between repeat the nearest one looked at."""
    person_count: I32
    """(T,)."""
    looked_at: Flags
    """(T,): frames that the models have seen."""

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> PeopleTracks:
        """All missing."""
        num = shape[0]

        def nan(*dims: int) -> F32:
            return np.full((num, *dims), np.nan, np.float32)

        return cls(
            nan(NUM_POSE, 4), nan(NUM_POSE, 3), nan(NUM_FACE, 3),
            (HandSightings.empty(num), HandSightings.empty(num)), nan(),
            np.zeros(shape, bool), np.zeros(num, np.int32), np.zeros(num, bool),
        )  # fmt: skip


class MediapipePeople:
    """Finds the main person and counts people.

    Args:
        every: Look at every n-th frame.
        count_every: Count people on every n-th frame.
        min_confidence: Of faces, poses and hands.
        count_people: Counts the people of a frame instead of mediapipe; None where it leaves that to mediapipe.
    """

    def __init__(
        self,
        *,
        every: int,
        count_every: int,
        min_confidence: float,
        count_people: Callable[[Frames], int | None] | None = None,
    ) -> None:
        self._every, self._count_every = every, count_every
        self._min_confidence, self._count_people = min_confidence, count_people
        self._solutions: Any = None

    def setup(self) -> None:
        """Load mediapipe; graphs are made per clip because they track over time."""
        self._solutions = load_solutions()

    def detect(self, frames: Frames) -> PeopleTracks:
        """Run over a clip (T,H,W,3) u8 RGB."""
        if self._solutions is None:
            self.setup()
        out = PeopleTracks.empty(frames.shape[:3])
        indices = sorted({*range(0, len(frames), self._every), len(frames) - 1})
        with self._graphs() as (holistic, hands, counter):
            for index in indices:
                self._look(index, frames[index], holistic, hands, out)
                out.looked_at[index] = True
            for index in range(0, len(frames), self._count_every):
                stop = index + self._count_every
                # frames not looked at have no matte of their own; count_every is a multiple of every
                nearest = index // self._every * self._every
                count, score = counter.count(frames[index], out.matte[nearest])
                told = self._count_people(frames[index]) if self._count_people else None
                out.person_count[index:stop] = count if told is None else told
                out.face_score[index:stop] = score
        _repeat_nearest(out.matte, out.looked_at)
        return out

    @contextlib.contextmanager
    def _graphs(self) -> Iterator[tuple[Any, Any, PeopleCounter]]:
        solutions = self._solutions
        confidence = {"min_detection_confidence": self._min_confidence}
        with (
            solutions.holistic.Holistic(
                model_complexity=1, enable_segmentation=True, **confidence
            ) as holistic,
            solutions.hands.Hands(
                static_image_mode=True, max_num_hands=2, model_complexity=1, **confidence
            ) as hands,
            contextlib.closing(PeopleCounter(solutions)) as counter,
        ):
            yield holistic, hands, counter

    def _look(
        self, index: int, frame: Frames, holistic: Any, hands: Any, out: PeopleTracks
    ) -> None:
        height, width = frame.shape[:2]
        found = holistic.process(frame)
        if found.segmentation_mask is not None:
            out.matte[index] = found.segmentation_mask > 0.5
        if found.pose_landmarks is None:
            return
        pose = points_of(found.pose_landmarks, width, height, NUM_POSE)
        visibility = np.array([p.visibility for p in found.pose_landmarks.landmark], np.float32)
        if visibility[[LEFT_SHOULDER, RIGHT_SHOULDER]].max() < _MIN_TORSO_VISIBILITY:
            return  # hands or faces alone make it imagine a body
        out.pose_px[index] = np.concatenate([pose, visibility[:, None]], axis=1)
        out.pose_world_m[index] = points_of(found.pose_world_landmarks, 1, 1, NUM_POSE)
        if found.face_landmarks is not None:
            out.face_px[index] = points_of(found.face_landmarks, width, height, NUM_FACE)
        self._look_at_hands(index, frame, found, hands, out)

    def _look_at_hands(
        self, index: int, frame: Frames, found: Any, hands: Any, out: PeopleTracks
    ) -> None:
        """Search around both wrists, then on the whole picture if a hand is missing, and name what was found."""
        height, width = frame.shape[:2]
        pose = out.pose_px[index]
        guesses = {
            side: points_of(given, width, height, NUM_HAND)
            for side in _SIDES
            if (given := getattr(found, f"{side}_hand_landmarks"))
        }
        seen: list[SeenHand] = []
        for side, joints in _SIDES.items():
            crop = _hand_crop(pose, guesses.get(side), *joints, width, height)
            if crop is not None:
                seen += hands_in(frame, crop, hands)
        seen = distinct(seen)
        tracks = dict(zip(_SIDES, out.hands, strict=True))
        last = {side: _last_seen(track.points_px, index) for side, track in tracks.items()}
        if len(seen) < 2 and _may_show_both(pose, last, width, height):
            seen = distinct(seen + hands_in(frame, (0, 0, width, height), hands))
        # holistic's own hands are rougher: only where nothing better is there
        seen = distinct(seen + [
            SeenHand(guess, np.full((NUM_HAND, 3), np.nan, np.float32), 0.5, 1.0 if side == "left" else -1.0)
            for side, guess in guesses.items() if pose[_SIDES[side][0], 3] > 0.5
        ])  # fmt: skip
        for side, hand in name_hands(seen, pose, last).items():
            tracks[side].put(index, hand)


def _hand_crop(
    pose: F32, guess: F32 | None, wrist: int, elbow: int, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """A square around the expected hand, or None where the wrist is out of the picture."""
    if guess is not None:
        low, high = guess[:, :2].min(axis=0), guess[:, :2].max(axis=0)
        centre, size = (low + high) / 2, 2.2 * float((high - low).max())
    elif 0 <= pose[wrist, 0] < width and 0 <= pose[wrist, 1] < height:
        # whatever its visibility is said to be: products hide wrists
        arm = pose[wrist, :2] - pose[elbow, :2]
        centre, size = pose[wrist, :2] + 0.35 * arm, 2.0 * float(np.linalg.norm(arm))
    else:
        return None
    shoulders = float(np.linalg.norm(pose[LEFT_SHOULDER, :2] - pose[RIGHT_SHOULDER, :2]))
    size = float(np.clip(size, max(48.0, 0.6 * shoulders), 1.5 * max(shoulders, 48.0)))
    x0, y0 = (int(v) for v in np.maximum(centre - size / 2, 0))
    x1, y1 = int(min(centre[0] + size / 2, width)), int(min(centre[1] + size / 2, height))
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= 24 else None


def _last_seen(track: F32, index: int) -> F32 | None:
    """The wrist (2,) where a hand was seen last, if that is not long ago."""
    recent = track[max(0, index - _REMEMBERED) : index, 0, :2]
    seen = np.flatnonzero(np.isfinite(recent).all(axis=1))
    return recent[seen[-1]] if len(seen) else None


def _may_show_both(pose: F32, last: dict[str, F32 | None], width: int, height: int) -> bool:
    """False where an arm leaves the picture and its hand was not seen lately: looking would cost and find nothing."""
    size = np.array([width, height])
    return all(
        last[side] is not None or bool(((pose[wrist, :2] >= 0) & (pose[wrist, :2] < size)).all())
        for side, (wrist, _) in _SIDES.items()
    )


def _repeat_nearest(masks: Mask, looked_at: Flags) -> None:
    """Give every frame the mask of the nearest frame that was looked at, in place."""
    known = np.flatnonzero(looked_at)
    if len(known) == 0:
        return
    frames = np.arange(len(masks))
    right = np.clip(np.searchsorted(known, frames), 0, len(known) - 1)
    left = np.clip(right - 1, 0, None)
    closer_left = np.abs(frames - known[left]) <= np.abs(known[right] - frames)
    masks[:] = masks[np.where(closer_left, known[left], known[right])]
