"""What ``detect`` found of the main person, frame by frame: one table, written and read here alone.

Left and right are the person's own. Coordinates are pixels of the clip; NaN where nothing was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

import numpy as np

from stages.kit.arrays import F32, I32, U8, Array, Arrays, Flags, Mask
from stages.kit.hands import Hand, broad_hands
from stages.kit.masks import decode_masks, encode_masks

SIDES = ("left", "right")
PARTS = ("face", "left_hand", "right_hand")
"""What has landmarks, a box and a score of its own."""


class Sight(IntEnum):
    """How a frame came by its landmarks."""

    UNSEEN = 0
    SEEN = 1
    FILLED = 2
    """A short gap between two frames that saw it, interpolated."""


@dataclass(frozen=True, slots=True)
class Track:
    """A face (N = 468) or a hand (N = 21) over time."""

    points_px: F32
    """(T,N,3): x, y, and z relative to the part, in the scale of x."""
    box_xyxy_px: F32
    """(T,4) inside the picture; NaN too where the part lies outside of it."""
    sight: U8
    """(T,) of ``Sight``."""
    score: F32
    """(T,) 0..1."""

    @classmethod
    def read(cls, arrays: Arrays, part: str) -> Self:
        """Take one of ``PARTS`` out of a facet's arrays."""
        points = arrays[f"{part}_landmarks_px"]
        filled = arrays[f"{part}_is_filled"].astype(bool)
        return cls(points, arrays[box_key(part)], sight_of(points, filled), arrays[f"{part}_score"])

    def arrays(self, part: str) -> Arrays:
        """As stored, the inverse of ``read``."""
        return {
            f"{part}_landmarks_px": self.points_px,
            box_key(part): self.box_xyxy_px,
            f"{part}_is_filled": (self.sight == Sight.FILLED).astype(np.uint8),
            f"{part}_score": self.score,
        }

    @property
    def is_seen(self) -> Flags:
        """(T,) there are landmarks, filled ones too."""
        return np.asarray(self.sight != Sight.UNSEEN)

    @property
    def has_box(self) -> Flags:
        """(T,) something of it lies inside the picture."""
        return is_seen(self.box_xyxy_px)

    def since(self, first: int) -> Self:
        """Without the frames before ``first``."""
        return replace(
            self,
            points_px=self.points_px[first:],
            box_xyxy_px=self.box_xyxy_px[first:],
            sight=self.sight[first:],
            score=self.score[first:],
        )


@dataclass(frozen=True, slots=True)
class Landmarks:
    """One clip's people, T frames."""

    pose_px: F32
    """(T,33,4): x, y, z in the scale of x, visibility 0..1."""
    pose_world_m: F32
    """(T,33,3), hips at the origin."""
    face: Track
    hands: tuple[Track, Track]
    """Left, right."""
    hands_world_m: tuple[F32, F32]
    """Left, right, each (T,21,3) with its own middle at the origin."""
    person_count: I32
    """(T,) people in the picture."""
    matte_runs: Arrays
    """The main person's mattes, run-length encoded; see ``matte``."""

    @classmethod
    def read(cls, arrays: Arrays) -> Self:
        """From the arrays of a ``detect`` facet."""
        left, right = (Track.read(arrays, f"{side}_hand") for side in SIDES)
        left_m, right_m = (arrays[f"{side}_hand_world_m"] for side in SIDES)
        return cls(
            pose_px=arrays["pose_landmarks_px"],
            pose_world_m=arrays["pose_world_m"],
            face=Track.read(arrays, "face"),
            hands=(left, right),
            hands_world_m=(left_m, right_m),
            person_count=arrays["person_count"],
            matte_runs={key: arrays[key] for key in ("matte_rle_counts", "matte_rle_offsets")},
        )

    def arrays(self) -> Arrays:
        """As stored in the facet, the inverse of ``read``."""
        out: Arrays = {"pose_landmarks_px": self.pose_px, "pose_world_m": self.pose_world_m}
        for part, track in self.parts.items():
            out |= track.arrays(part)
        for side, world in zip(SIDES, self.hands_world_m, strict=True):
            out[f"{side}_hand_world_m"] = world
        return out | {"person_count": self.person_count} | self.matte_runs

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pose_px)

    @property
    def parts(self) -> dict[str, Track]:
        """The tracks by the names of ``PARTS``."""
        return dict(zip(PARTS, (self.face, *self.hands), strict=True))

    @property
    def hands_seen(self) -> Flags:
        """(T,2) the left, the right hand has landmarks."""
        return np.stack([hand.is_seen for hand in self.hands], axis=1)

    def hands_at(self, t: int) -> dict[int, F32]:
        """Landmarks (21,2) in pixels of the hands that are seen in a frame, 0 left, 1 right."""
        return {n: hand.points_px[t, :, :2] for n, hand in enumerate(self.hands) if hand.sight[t]}

    @property
    def hands_by_frame(self) -> list[dict[int, F32]]:
        """``hands_at`` of every frame."""
        return [self.hands_at(t) for t in range(len(self))]

    def matte(self, height_px: int, width_px: int) -> Mask:
        """(T,H,W) the main person with what is held, of clips of this size."""
        return decode_masks(self.matte_runs, "matte", height_px, width_px)

    def since(self, first: int) -> Self:
        """Without the frames before ``first``."""
        left, right = self.hands
        left_m, right_m = self.hands_world_m
        return replace(
            self,
            pose_px=self.pose_px[first:],
            pose_world_m=self.pose_world_m[first:],
            face=self.face.since(first),
            hands=(left.since(first), right.since(first)),
            hands_world_m=(left_m[first:], right_m[first:]),
            person_count=self.person_count[first:],
            matte_runs=self.matte_runs
            | {"matte_rle_offsets": self.matte_runs["matte_rle_offsets"][first:]},
        )


def matte_runs(mattes: Mask) -> Arrays:
    """Mattes (T,H,W) as ``Landmarks`` keeps them."""
    return encode_masks(mattes, "matte")


def box_key(part: str) -> str:
    """Name of the array that holds the boxes of one of ``PARTS``, here and in the studio's truth."""
    return f"{part}_box_xyxy_px"


def is_seen(track: Array) -> Flags:
    """True for frames (T,) whose every value is finite."""
    return np.asarray(np.isfinite(track.reshape(len(track), -1)).all(axis=1))


def sight_of(points_px: F32, is_filled: Flags) -> U8:
    """(T,) of ``Sight``: whether there are landmarks (T,N,2+), and where from.

    >>> sight_of(np.array([[[1, 2.0]], [[np.nan, 0]], [[3, 4]]]), np.array([0, 0, 1], bool)).tolist()
    [1, 0, 2]
    """
    found = np.where(is_filled, Sight.FILLED, Sight.SEEN)
    return np.where(is_seen(points_px[..., :2]), found, Sight.UNSEEN).astype(np.uint8)


def fingers_at(landmarks: Landmarks, t: int, shape: tuple[int, ...], width_hands: float) -> Mask:
    """Both hands in a frame (H,W), their bones grown by ``width_hands`` hand lengths in all."""
    hands = [Hand.of(points) for points in landmarks.hands_at(t).values()]
    return broad_hands(hands, (shape[0], shape[1]), width_hands)


def hand_boxes_at(
    landmarks: Landmarks, t: int, shape: tuple[int, ...], margin: float = 0.0
) -> Mask:
    """Boxes of both hands in a frame (H,W), grown on every side by ``margin`` times their longer side."""
    out = np.zeros(shape[:2], bool)
    for hand in landmarks.hands:
        box = hand.box_xyxy_px[t]
        if np.isfinite(box).all():
            grow = margin * max(box[2] - box[0], box[3] - box[1])
            x0, y0, x1, y1 = (max(0, int(v)) for v in (*(box[:2] - grow), *(box[2:] + grow)))
            out[y0:y1, x0:x1] = True
    return out
