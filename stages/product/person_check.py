"""Is the person's picture without the product what it claims to be? Three looks that know nothing of the product's mask.

The mask says what was taken out; colours learnt inside it cannot tell that it was wrong. So the finished picture is looked
at afresh: does the held-product network see anything in a hand, are the hands still hands, and does the edge of what was
painted show?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from stages.kit.arrays import F32, Image, Mask
from stages.kit.hands import FINGERS
from stages.product.held_crop import hand_size_px
from stages.product.held_masks import Looker

_PALM = [0, 5, 9, 13, 17]
_NEAR_HANDS = 0.3
"""A hand found again lies this near to its old place at the palm, in hand lengths."""
_MIN_FINGER_HANDS, _MAX_FINGER_HANDS = 0.25, 1.1
"""Lengths of a finger from knuckle to tip in hand lengths, seen in space."""
_SEAM_REACH_PX, _APART_PX = 3, 12
_MIN_SEAM_PIXELS = 30


class HandFinder(Protocol):
    """What finds hands: see ``stages.product.mediapipe_hands.MediapipeHands``."""

    def find(self, image: Image, near_px: F32) -> list[F32]:
        """Hands (21,3) in pixels of the image around a place given by points (N,2)."""


@dataclass(frozen=True)
class PersonScores:
    """What was seen in the finished picture; None where it could not be looked for."""

    held_chance: float | None
    """Of the surest hand to hold something; None where the network is not asked, or no hand is to look at."""
    hands_kept_share: float | None
    """Of the hands that the finder sees in the frame, how many it sees in the picture too; None where there were none."""
    seam: float | None
    """Steps across the edge of what was filled over steps beside it; None where nothing was filled."""


def look_at_person(
    person: Image,
    frame: Image,
    hole: Mask,
    hands_px: Sequence[F32],
    finder: HandFinder,
    looker: Looker | None,
) -> PersonScores:
    """Look at a picture (H,W,3) made of ``frame`` by filling ``hole``.

    Args:
        person: The picture to judge.
        frame: What it was made of.
        hole: (H,W) what was replaced.
        hands_px: Landmarks (21,2+) of the hands in ``frame``.
        finder: Finds hands in both.
        looker: The held-product network; None where it is not asked.
    """
    found = [_same_hand(finder.find(person, hand[:, :2]), hand) for hand in hands_px]
    there = [_same_hand(finder.find(frame, hand[:, :2]), hand) is not None for hand in hands_px]
    kept = [after is not None for after, before in zip(found, there, strict=True) if before]
    where = [
        hand[:, :2] if after is None else after[:, :2]
        for hand, after in zip(hands_px, found, strict=True)
    ]
    looks = looker.look(person, where) if looker is not None and where else []
    return PersonScores(
        held_chance=max((look.held for look in looks), default=None),
        hands_kept_share=float(np.mean(kept)) if kept else None,
        seam=seam_of(person, hole),
    )


def _same_hand(found: Sequence[F32], expected: F32) -> F32 | None:
    """The found hand that is the expected one, None where none is."""
    return next((hand for hand in found if is_same_hand(hand, expected)), None)


def is_same_hand(found: F32, expected: F32) -> bool:
    """True where a hand (21,3) has five fingers and its palm is where it was.

    Fingers may lie otherwise: what they held is gone.
    """
    apart = np.linalg.norm(found[_PALM, :2] - expected[_PALM, :2], axis=1)
    return bool(
        np.median(apart) < _NEAR_HANDS * hand_size_px(expected[:, :2]) and has_five_fingers(found)
    )


def has_five_fingers(hand: F32) -> bool:
    """True where all fingers of a hand (21,3) are as long as fingers are beside each other.

    A finger that was painted away comes back as a stub, or stretched over what is there instead.
    """
    paths = [
        float(np.linalg.norm(np.diff(hand[list(f[1:]), :3], axis=0), axis=1).sum()) for f in FINGERS
    ]
    whole = [
        float(np.linalg.norm(np.diff(hand[list(f), :3], axis=0), axis=1).sum()) for f in FINGERS[1:]
    ]
    size = max(*whole, 1e-3)
    return all(_MIN_FINGER_HANDS * size < path < _MAX_FINGER_HANDS * size for path in paths)


def seam_of(image: Image, hole: Mask) -> float | None:
    """How much the edge of a filled region (H,W) shows: 1 as much as any line beside it, 3 plainly.

    The median difference of lightness and colour over some pixels across the edge, over the median of the same across
    parallel lines farther out and in. None where the region has no edge inside the picture.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    signed = _signed_distance(hole)
    at = _steps(lab, signed, 0.0)
    beside = np.concatenate([_steps(lab, signed, d) for d in (-_APART_PX, _APART_PX)])
    if min(len(at), len(beside)) < _MIN_SEAM_PIXELS:
        return None
    return float((np.median(at) + 1) / (np.median(beside) + 1))


def _signed_distance(mask: Mask) -> F32:
    """(H,W) pixels to a mask's edge, negative inside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(outside - inside, np.float32)


def _steps(lab: F32, signed: F32, level_px: float) -> F32:
    """Differences (N,) across the line where the signed distance has a level, along its gradient."""
    rows, cols = np.nonzero(np.abs(signed - level_px) <= 1)
    way = np.stack([np.gradient(signed, axis=axis)[rows, cols] for axis in (0, 1)], axis=1)
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    here = np.stack([rows, cols], axis=1)
    ends = [(here + sign * _SEAM_REACH_PX * way).round().astype(int) for sign in (-1, 1)]
    height, width = signed.shape
    fits = np.all([((e >= 0) & (e < (height, width))).all(axis=1) for e in ends], axis=0)
    here_lab, there_lab = (lab[e[fits, 0], e[fits, 1]] for e in ends)
    return np.asarray(np.linalg.norm(here_lab - there_lab, axis=1), np.float32)
