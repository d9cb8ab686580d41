"""The person without the product: which frame, what to take out of it, and what looks best then."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from schemas.errors import DataError
from stages.kit.arrays import F32, Flags, Image, Mask
from stages.kit.landmarks import Sight, fingers_at, hand_boxes_at
from stages.product import filling
from stages.product.held_masks import Looker
from stages.product.person_check import HandFinder, PersonScores, look_at_person
from stages.product.product_view import Seen
from stages.product.references_config import ReferencesConfig
from stages.product.traces import ProductColours, grow, neighbourhood

_FINGER_LIKENESS = 0.5
_THIN_HANDS, _BROAD_HANDS = 0.05, 0.25
"""Hand lengths by which bones are grown: surely the hand, and all that may be."""
_APART_FRAMES = 8
"""Frames that are tried for the person's picture lie this far apart: neighbours fail alike."""
_GOOD_ENOUGH = 0.4
"""Badness of a picture with all its hands and little chance that one holds something: no other frame is tried."""
_SURE_SHARE = 0.9
"""Of the clip's median confidence: a poorer mask would leave the product in the picture, or lend it to others."""


@dataclass(frozen=True)
class Person:
    """A person's picture and what was seen in it."""

    frame: int
    """What it was made of."""
    image: Image
    """(H,W,3) RGB."""
    filled_share: float
    """Of the picture's pixels."""
    scores: PersonScores

    @property
    def badness(self) -> float:
        """0 for one that shows empty hands and no seam."""
        s = self.scores
        lost = 0.0 if s.hands_kept_share is None else 1 - s.hands_kept_share
        return 2 * lost + (s.held_chance or 0.0) + 0.1 * (s.seam or 0.0)


def make_person(
    seen: Seen, config: ReferencesConfig, finder: HandFinder, looker: Looker | None
) -> Person:
    """The person without the product, made of the best frames in turn; the one that looks best then.

    Raises:
        DataError: ``no_face_for_reference`` if no frame has a face that the product leaves clear.
    """
    best: Person | None = None
    for t in person_frames(seen, config.every)[: config.num_tries]:
        image, hole = remove_product(seen, t, config)
        hands = list(seen.landmarks.hands_at(t).values())
        scores = look_at_person(image, seen.frames[t], hole, hands, finder, looker)
        made = Person(t, image, float(hole.mean()), scores)
        if best is None or made.badness < best.badness:
            best = made
        if best.badness < _GOOD_ENOUGH:
            break
    assert best is not None
    return best


def person_frames(seen: Seen, every: int) -> list[int]:
    """Frames whose face is seen (not interpolated), sharp, frontal and free of the product; best first, some way apart.

    Raises:
        DataError: ``no_face_for_reference`` if no frame has a face that the product leaves clear.
    """
    scores: dict[int, float] = {}
    faces = seen.landmarks.face
    has_box, sure = faces.has_box, _sure_frames(seen)
    for t in range(0, len(seen.frames), every):
        if not (has_box[t] and faces.sight[t] == Sight.SEEN):
            continue
        x0, y0, x1, y1 = faces.box_xyxy_px[t].round().astype(int)
        face, covered = seen.frames[t, y0:y1, x0:x1], seen.masks[t, y0:y1, x0:x1]
        if min(face.shape[:2]) < 8 or covered.mean() > 0.25 or not sure[t]:
            continue
        clear = (1 - covered.mean()) ** 4 * (1 - seen.masks[t].mean()) ** 2
        sharp = np.log1p(_laplacian_variance(face))
        scores[t] = float(sharp * clear * frontality(faces.points_px[t]))
    if not scores:
        raise DataError("no_face_for_reference", "no frame has a face clear of the product")
    chosen: list[int] = []
    for t in sorted(scores, key=lambda t: (-scores[t], t)):
        if all(abs(t - other) >= _APART_FRAMES for other in chosen):
            chosen.append(t)
    return chosen


def _sure_frames(seen: Seen) -> Flags:
    """(T,) frames whose mask is about as sure as usual in the clip."""
    return np.asarray(seen.confidence >= _SURE_SHARE * float(np.median(seen.confidence)))


def frontality(face_points_px: F32) -> float:
    """1 for a face seen from the front, 0.2 in profile: nose tip (4) between the cheeks (234, 454).

    >>> points = np.zeros((468, 3), np.float32); points[454, 0], points[4, 0] = 10, 5
    >>> frontality(points)
    1.0
    """
    left, right, nose = face_points_px[[234, 454, 4], 0]
    if abs(right - left) < 1e-3:
        return 0.2
    position = (nose - left) / (right - left)
    return float(np.clip(1.0 - 1.6 * abs(position - 0.5), 0.2, 1.0))


def _laplacian_variance(image: Image) -> float:
    small = cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def remove_product(seen: Seen, t: int, config: ReferencesConfig) -> tuple[Image, Mask]:
    """The person without the product (H,W,3), and what was filled (H,W)."""
    sure = np.flatnonzero(_sure_frames(seen))
    spread = sure[np.linspace(0, len(sure) - 1, config.num_donors).round().astype(int)].tolist()
    colours = ProductColours.learn(seen.frames, seen.masks, [*spread, t])
    hole = product_place(seen, t, colours, config)
    margin = round(2 * config.margin_share * min(hole.shape))
    donors = [
        filling.Donor(
            seen.frames[o],
            grow(seen.masks[o], margin) | hand_boxes_at(seen.landmarks, o, hole.shape),
        )
        for o in sorted(set(spread) - {t})
    ]
    hands = fingers_at(seen.landmarks, t, hole.shape, _BROAD_HANDS)
    person, _ = filling.fill_region(seen.frames[t], hole, donors, hands)
    return person, hole


def product_place(seen: Seen, t: int, colours: ProductColours, config: ReferencesConfig) -> Mask:
    """What to take out (H,W): the mask, what looks like the product beside it, and a margin.

    The margin is wider where the mask is less sure. Fingers in front of the product stay.
    """
    mask, short_side = seen.masks[t], min(seen.masks.shape[1:])
    near = neighbourhood(mask, seen.landmarks, t)
    traces = colours.traces(seen.frames[t], near)
    around = round(config.margin_share * short_side) + 1
    _, labels = cv2.connectedComponents((grow(traces, around) | mask).astype(np.uint8))
    beside = np.unique(labels[mask])
    found = mask | (traces & np.isin(labels, beside[beside > 0]))
    doubt = 1 - float(seen.confidence[t])
    hole = grow(found, round(config.margin_share * (1 + 2 * doubt) * short_side))
    fingers = fingers_at(seen.landmarks, t, mask.shape, _THIN_HANDS) & ~mask
    return hole & ~(fingers & (colours.likeness(seen.frames[t]) < _FINGER_LIKENESS))
