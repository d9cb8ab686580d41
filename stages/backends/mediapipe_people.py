"""People with mediapipe 0.10.21: pose, face mesh, matte and 21-point hands, models in the wheel.

The holistic graph names hands by the pose's wrists, so left and right are the person's own. Hands are then
looked for again in crops around the wrists, which finds small ones and gives metric landmarks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from stages.backends.people_count import PeopleCounter

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]

MEDIAPIPE = BackendRef(name="mediapipe", version="0.10.21", licence="Apache-2.0")
NUM_POSE, NUM_FACE, NUM_HAND = 33, 468, 21
LEFT_WRIST, RIGHT_WRIST, LEFT_ELBOW, RIGHT_ELBOW = 15, 16, 13, 14
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24
_MIN_TORSO_VISIBILITY = 0.6


@dataclass
class PeopleTracks:
    """Raw detections of the main person; NaN where nothing was found. Pixels of the given frames."""

    pose_px: Floats
    """(T,33,4): x, y, z (x's scale), visibility."""
    pose_world_m: Floats
    """(T,33,3), hips at the origin."""
    face_px: Floats
    """(T,468,3)."""
    left_hand_px: Floats
    right_hand_px: Floats
    """(T,21,3)."""
    left_hand_world_m: Floats
    right_hand_world_m: Floats
    left_score: Floats
    right_score: Floats
    """(T,)."""
    face_score: Floats
    """(T,): of the face detector, NaN where it was not asked or found nothing."""
    matte: NDArray[np.bool_]
    """(T,H,W), frames in between repeat the nearest one looked at."""
    person_count: NDArray[np.int32]
    """(T,)."""
    looked_at: NDArray[np.bool_]
    """(T,): frames that the models have seen."""

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> PeopleTracks:
        """All missing."""
        num = shape[0]

        def nan(*dims: int) -> Floats:
            return np.full((num, *dims), np.nan, np.float32)

        return cls(
            nan(NUM_POSE, 4), nan(NUM_POSE, 3), nan(NUM_FACE, 3), nan(NUM_HAND, 3),
            nan(NUM_HAND, 3), nan(NUM_HAND, 3), nan(NUM_HAND, 3), nan(), nan(), nan(),
            np.zeros(shape, bool), np.zeros(num, np.int32), np.zeros(num, bool),
        )  # fmt: skip


class MediapipePeople:
    """Finds the main person and counts people.

    Args:
        every: Look at every n-th frame.
        count_every: Count people on every n-th frame.
        min_confidence: Of faces, poses and hands.
        count_people: Counts the people of a frame instead of mediapipe.
    """

    backend = MEDIAPIPE

    def __init__(
        self, *, every: int, count_every: int, min_confidence: float,
        count_people: Callable[[Frames], int] | None = None,
    ) -> None:  # fmt: skip
        self._every, self._count_every = every, count_every
        self._min_confidence, self._count_people = min_confidence, count_people
        self._mp: Any = None

    def setup(self) -> None:
        """Load mediapipe; graphs are made per clip because they track over time."""
        os.environ.setdefault("GLOG_minloglevel", "3")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import mediapipe as mp

        self._mp = mp

    def detect(self, frames: Frames) -> PeopleTracks:
        """Run over a clip (T,H,W,3) u8 RGB."""
        if self._mp is None:
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
                if self._count_people is not None:
                    count = self._count_people(frames[index])
                out.person_count[index:stop] = count
                out.face_score[index:stop] = score
        _repeat_nearest(out.matte, out.looked_at)
        return out

    @contextlib.contextmanager
    def _graphs(self) -> Iterator[tuple[Any, Any, PeopleCounter]]:
        solutions = self._mp.solutions
        confidence = {
            "min_detection_confidence": self._min_confidence,
        }
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
        pose = _points(found.pose_landmarks, width, height, NUM_POSE)
        visibility = np.array([p.visibility for p in found.pose_landmarks.landmark], np.float32)
        if visibility[[LEFT_SHOULDER, RIGHT_SHOULDER]].max() < _MIN_TORSO_VISIBILITY:
            return  # hands or faces alone make it imagine a body
        out.pose_px[index] = np.concatenate([pose, visibility[:, None]], axis=1)
        out.pose_world_m[index] = _points(found.pose_world_landmarks, 1, 1, NUM_POSE)
        if found.face_landmarks is not None:
            out.face_px[index] = _points(found.face_landmarks, width, height, NUM_FACE)
        self._look_at_hands(index, frame, found, hands, out)

    def _look_at_hands(
        self, index: int, frame: Frames, found: Any, hands: Any, out: PeopleTracks
    ) -> None:
        """Search each hand again in a crop around its wrist; keep holistic's where that fails."""
        height, width = frame.shape[:2]
        pose = out.pose_px[index]
        for side, wrist, elbow in (
            ("left", LEFT_WRIST, LEFT_ELBOW), ("right", RIGHT_WRIST, RIGHT_ELBOW),
        ):  # fmt: skip
            given = getattr(found, f"{side}_hand_landmarks")
            guess = _points(given, width, height, NUM_HAND) if given else None
            crop = _hand_crop(pose, guess, wrist, elbow, width, height)
            if crop is None:
                continue
            x0, y0, x1, y1 = crop
            seen = hands.process(np.ascontiguousarray(frame[y0:y1, x0:x1]))
            best = _nearest_hand(seen, crop, pose[wrist, :2] if guess is None else guess[0, :2])
            if best is not None:
                points, world, score = best
                getattr(out, f"{side}_hand_px")[index] = points
                getattr(out, f"{side}_hand_world_m")[index] = world
                getattr(out, f"{side}_score")[index] = score
            elif guess is not None and pose[wrist, 3] > 0.5:
                getattr(out, f"{side}_hand_px")[index] = guess
                getattr(out, f"{side}_score")[index] = 0.5


def _points(landmarks: Any, width: float, height: float, count: int) -> Floats:
    """Landmarks as (count,3) f32 in pixels; z has x's scale."""
    scale = (width, height, width)
    values = [(p.x, p.y, p.z) for p in landmarks.landmark[:count]]
    return np.asarray(values, np.float32) * np.asarray(scale, np.float32)


def _hand_crop(
    pose: Floats, guess: Floats | None, wrist: int, elbow: int, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """A square around the expected hand, or None where the wrist is out of the picture."""
    if guess is not None:
        low, high = guess[:, :2].min(axis=0), guess[:, :2].max(axis=0)
        centre, size = (low + high) / 2, 2.2 * float((high - low).max())
    elif pose[wrist, 3] > 0.3:
        arm = pose[wrist, :2] - pose[elbow, :2]
        centre, size = pose[wrist, :2] + 0.35 * arm, 2.0 * float(np.linalg.norm(arm))
    else:
        return None
    shoulders = float(np.linalg.norm(pose[LEFT_SHOULDER, :2] - pose[RIGHT_SHOULDER, :2]))
    size = float(np.clip(size, max(48.0, 0.6 * shoulders), 1.5 * max(shoulders, 48.0)))
    x0, y0 = (int(v) for v in np.maximum(centre - size / 2, 0))
    x1, y1 = int(min(centre[0] + size / 2, width)), int(min(centre[1] + size / 2, height))
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= 24 else None


def _nearest_hand(
    seen: Any, crop: tuple[int, int, int, int], expected_px: Floats
) -> tuple[Floats, Floats, float] | None:
    """The found hand whose wrist is nearest to where it is expected, in frame pixels."""
    x0, y0, x1, y1 = crop
    best: tuple[float, tuple[Floats, Floats, float]] | None = None
    for marks, world, label in zip(
        seen.multi_hand_landmarks or [], seen.multi_hand_world_landmarks or [],
        seen.multi_handedness or [], strict=False,
    ):  # fmt: skip
        points = _points(marks, x1 - x0, y1 - y0, NUM_HAND) + np.array([x0, y0, 0], np.float32)
        distance = float(np.linalg.norm(points[0, :2] - expected_px))
        if distance < 0.5 * (x1 - x0) and (best is None or distance < best[0]):
            metric = _points(world, 1, 1, NUM_HAND)
            best = distance, (points, metric, float(label.classification[0].score))
    return best[1] if best else None


def _repeat_nearest(masks: NDArray[np.bool_], looked_at: NDArray[np.bool_]) -> None:
    """Give every frame the mask of the nearest frame that was looked at, in place."""
    known = np.flatnonzero(looked_at)
    if len(known) == 0:
        return
    frames = np.arange(len(masks))
    right = np.clip(np.searchsorted(known, frames), 0, len(known) - 1)
    left = np.clip(right - 1, 0, None)
    closer_left = np.abs(frames - known[left]) <= np.abs(known[right] - frames)
    masks[:] = masks[np.where(closer_left, known[left], known[right])]
