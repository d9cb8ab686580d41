"""Faces, hands, body pose and person matte over time."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from schemas.backend import by_name
from schemas.facets import DetectFacet
from schemas.rows import Clip
from schemas.settings import BESIDE
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, AtMost, first_failure
from stages.kit.arrays import F32, Flags
from stages.kit.landmarks import Landmarks, Sight, Track, is_seen, matte_runs, sight_of
from stages.kit.mediapipe_package import MEDIAPIPE, check_mediapipe
from stages.screening import tracks
from stages.screening.mediapipe_count import MediapipeConfig
from stages.screening.mediapipe_people import (
    LEFT_WRIST,
    RIGHT_WRIST,
    MediapipePeople,
    PeopleTracks,
)
from stages.screening.people import PeopleBackend
from stages.screening.ultralytics_people import UltralyticsConfig

_FACE_MARGIN, _HAND_MARGIN = 0.12, 0.15


class DetectGate(GateConfig):
    """Thresholds over the target frames."""

    min_face_share: float = Field(default=0.6, ge=0, le=1)
    min_any_hand_share: float = Field(default=0.4, ge=0, le=1)
    min_pose_share: float = Field(default=0.6, ge=0, le=1)
    max_multi_person_share: float = Field(default=0.15, ge=0, le=1)
    """Of 21 looks in 81 frames, three sightings of a second person may be wrong, four are too many."""
    min_face_height_px: float = Field(default=32.0, ge=0)


PeopleChoice = Annotated[
    MediapipeConfig | UltralyticsConfig,
    Field(discriminator="name"),
    by_name("mediapipe"),
    BESIDE,
]


class DetectConfig(StageConfig):
    """How to look."""

    backend: PeopleChoice = MediapipeConfig()
    """What counts people: ``ultralytics`` with your YOLO weights; landmarks are mediapipe's either way."""
    every: int = Field(default=2, ge=1, le=5)
    """Look at every n-th frame; the ones between are interpolated and marked as filled."""
    count_every: int = Field(default=4, ge=1)
    """Count people on every n-th frame."""
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    max_gap_frames: int = Field(default=8, ge=0)
    min_run_frames: int = Field(default=5, ge=1)
    gate: DetectGate = DetectGate()


class DetectStage(Stage[DetectConfig, Clip, Clip]):
    """Fills ``detect``."""

    name = "detect"
    version = 3
    facet = "detect"
    config_type = DetectConfig
    row_in = row_out = Clip
    needs = ("segment",)
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_person", "no_face", "no_hands", "multiple_people", "face_too_small", "clip_unreadable",
    })  # fmt: skip

    _people: MediapipePeople | None = None

    def __init__(self, config: DetectConfig) -> None:
        super().__init__(config)
        self._counter: PeopleBackend = config.backend.build()
        self.backends = (self._counter,)

    def check(self) -> None:
        """Check that packages and weights are there."""
        check_mediapipe()
        super().check()

    def setup(self) -> None:
        """Load the models."""
        super().setup()
        config = self.config
        self._people = MediapipePeople(
            every=config.every,
            count_every=config.count_every,
            min_confidence=config.min_confidence,
            count_people=self._counter.count,
        )
        self._people.setup()

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Detect, track and describe."""
        if self._people is None:
            self.setup()
        assert self._people is not None
        frames = files.frames(row.media.video)
        found = self._people.detect(frames)
        landmarks = self._tracks(found, row.media.width_px, row.media.height_px)
        facet = self._describe(landmarks, found, row, files)
        return Kept((row.with_facet(self.facet, facet),))

    def _tracks(self, found: PeopleTracks, width: int, height: int) -> Landmarks:
        """Fill, smooth, box: what is stored of each frame."""
        _name_hands(found)
        pose, _ = self._steady(found.pose_px)
        pose_m, _ = self._steady(found.pose_world_m)
        left, right = (self._steady(hand.points_px) for hand in found.hands)
        wrists = pose[:, [LEFT_WRIST, RIGHT_WRIST], :2]
        tracks.drop_doubles(left[0], right[0], wrists)  # filled gaps may meet
        left_m, right_m = (self._steady(hand.world_m)[0] for hand in found.hands)
        left_score, right_score = (
            tracks.fill_gaps(hand.score[:, None], self._max_gap)[0][:, 0] for hand in found.hands
        )
        size = (width, height)
        return Landmarks(
            pose_px=pose,
            pose_world_m=pose_m,
            face=_track(*self._steady(found.face_px), found.face_score, _FACE_MARGIN, size),
            hands=(
                _track(*left, left_score, _HAND_MARGIN, size),
                _track(*right, right_score, _HAND_MARGIN, size),
            ),
            hands_world_m=(left_m, right_m),
            person_count=found.person_count,
            matte_runs=matte_runs(found.matte),
        )

    @property
    def _max_gap(self) -> int:
        # frames between two looks are a gap of every-1; a missed look is longer
        return self.config.max_gap_frames + self.config.every - 1

    def _steady(self, track: F32) -> tuple[F32, Flags]:
        """A track with its short gaps filled, blips dropped and smoothed, and which frames (T,) were filled."""
        filled, is_filled = tracks.fill_gaps(track, self._max_gap)
        kept = tracks.drop_blips(filled, self.config.min_run_frames)
        return tracks.smooth(kept), is_filled

    def _describe(
        self, landmarks: Landmarks, found: PeopleTracks, row: Clip, files: Files
    ) -> DetectFacet:
        target = landmarks.since(row.media.num_motion_frames)
        face, (left, right) = target.face, target.hands
        faces = face.box_xyxy_px[face.has_box]
        heights = faces[:, 3] - faces[:, 1]
        filled = [track.sight == Sight.FILLED for track in (face, left, right)]
        return DetectFacet(
            arrays=files.put_arrays(landmarks.arrays()),
            face_share=tracks.share(face.has_box),
            left_hand_share=tracks.share(left.has_box),
            right_hand_share=tracks.share(right.has_box),
            any_hand_share=tracks.share(left.has_box | right.has_box),
            pose_share=tracks.share(is_seen(target.pose_px)),
            filled_share=float(np.mean(filled)),
            multi_person_share=tracks.share(target.person_count > 1),
            max_person_count=int(target.person_count.max(initial=0)),
            median_face_height_px=float(np.median(heights)) if len(heights) else 0.0,
            matte_area_share=float(found.matte[row.media.num_motion_frames :].mean()),
            backend=MEDIAPIPE,
            people_backend=self._counter.ref,
        )

    def gate(self, row: Clip) -> Dropped | None:
        """One person with a face and at least one hand for most of the clip."""
        detect, gate = row.need("detect"), self.config.gate
        return first_failure([
            AtMost("multiple_people", "multi_person_share", detect.multi_person_share, gate.max_multi_person_share),
            AtLeast("no_person", "pose_share", detect.pose_share, gate.min_pose_share),
            AtLeast("no_face", "face_share", detect.face_share, gate.min_face_share),
            AtLeast("face_too_small", "median_face_height_px", detect.median_face_height_px,
                    gate.min_face_height_px),
            AtLeast("no_hands", "any_hand_share", detect.any_hand_share, gate.min_any_hand_share),
        ])  # fmt: skip


def _name_hands(found: PeopleTracks) -> None:
    """One sighting a hand, and the same side over time, in place."""
    left, right = found.hands
    wrists = found.pose_px[:, [LEFT_WRIST, RIGHT_WRIST], :2]
    tracks.drop_doubles(left.points_px, right.points_px, wrists)
    chirality = np.stack([left.chirality, right.chirality], axis=1)
    swap = tracks.swapped_sides(left.points_px, right.points_px, wrists, chirality)
    for one, other in (
        (left.points_px, right.points_px),
        (left.world_m, right.world_m),
        (left.score, right.score),
        (left.chirality, right.chirality),
    ):
        one[swap], other[swap] = other[swap].copy(), one[swap].copy()
    for hand in found.hands:
        unseen = ~is_seen(hand.points_px)
        hand.world_m[unseen] = np.nan
        hand.score[unseen] = np.nan


def _track(
    points_px: F32, is_filled: Flags, score: F32, margin: float, size: tuple[int, int]
) -> Track:
    """A part's landmarks with boxes around them, grown by a share of their size, in a picture (width, height)."""
    with np.errstate(invalid="ignore"):
        boxes = tracks.boxes_around(points_px, margin, *size)
    known = np.nan_to_num(score).astype(np.float32)
    return Track(points_px, boxes, sight_of(points_px, is_filled), known)
