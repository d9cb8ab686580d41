"""A product in words: colours, size beside a hand, proportions and the hands that hold it, over a whole clip.

No word says what it is: that is for a model that can tell. One view may show a lid alone, one mask may be wrong; so every
word is a vote of the frames whose masks are surest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, U8, Frames, Image, Mask
from stages.kit.boxes import window_of
from stages.kit.hands import Hand
from stages.kit.landmarks import Landmarks
from stages.kit.masks import sure_frames

_MAX_LOOKS = 12
_MOSTLY = 0.5
_SECOND_COLOUR = 0.3
"""A second colour on so much of the product is named too."""
_SMALL, _PALM, _LARGE = 0.45, 0.85, 1.4
"""Longer side in hand lengths; about as long as a hand has no word."""
_TALL, _WIDE = 1.6, 0.62
_HAND_OVER_FACE = 0.8
"""A hand is at least so long beside a face: bent fingers look shorter than they are."""
_COLOURS = {
    "black": (20, 20, 20), "white": (235, 235, 235), "grey": (128, 128, 128), "red": (190, 40, 40),
    "orange": (225, 130, 40), "yellow": (225, 200, 60), "green": (60, 140, 70),
    "blue": (50, 80, 170), "purple": (120, 60, 150), "pink": (225, 150, 180),
    "brown": (110, 70, 45), "beige": (215, 195, 160),
}  # fmt: skip


@dataclass(frozen=True)
class ProductLook:
    """What was measured over the surest frames of a clip."""

    colours: tuple[str, ...]
    """The main colour, and a second one where it covers much."""
    size_hands: float | None
    """Longer side in hand lengths; None where neither hand nor face was seen."""
    height_over_width: float
    left_share: float
    right_share: float
    both_share: float
    """Shares of frames in which the left hand, the right hand, both touch it: the person's own sides."""
    any_share: float


def look_at_product(
    frames: Frames, masks: Mask, confidence: F32, in_hand: U8, landmarks: Landmarks
) -> ProductLook | None:
    """Measure a product over a clip; None where no frame has a mask.

    Args:
        frames: (T,H,W,3) RGB.
        masks: (T,H,W).
        confidence: (T,) of the masks.
        in_hand: (T,2): touches the left, the right hand.
        landmarks: Of the same frames.
    """
    sure = sure_frames(masks, confidence)
    if not len(sure):
        return None
    shown = sure[np.linspace(0, len(sure) - 1, min(_MAX_LOOKS, len(sure))).round().astype(int)]
    touching = in_hand[sure].astype(bool)
    extents = np.array([_extent(masks[t]) for t in shown])
    return ProductLook(
        colours=main_colours([colour_shares(frames[t], masks[t]) for t in shown]),
        size_hands=_size_hands(float(np.median(extents.max(axis=1))), landmarks),
        height_over_width=float(np.median(extents[:, 0] / extents[:, 1])),
        left_share=float(touching[:, 0].mean()),
        right_share=float(touching[:, 1].mean()),
        both_share=float(touching.all(axis=1).mean()),
        any_share=float(touching.any(axis=1).mean()),
    )


def _extent(mask: Mask) -> tuple[int, int]:
    """Height and width in pixels of a mask (H,W) that is not empty."""
    rows, cols = window_of(mask)
    return rows.stop - rows.start, cols.stop - cols.start


def _size_hands(side_px: float, landmarks: Landmarks) -> float | None:
    """A side over the length of the person's hand, which is seldom seen shorter than most of the face."""
    hands = (points for seen in landmarks.hands_by_frame for points in seen.values())
    lengths = [Hand.of(points).size_px for points in hands]
    faces = landmarks.face.box_xyxy_px[landmarks.face.has_box]
    heights = faces[:, 3] - faces[:, 1]
    seen = []
    if lengths:
        seen.append(float(np.quantile(lengths, 0.75)))  # a hand seen from its side looks shorter
    if len(heights):
        seen.append(_HAND_OVER_FACE * float(np.median(heights)))
    return side_px / max(seen) if seen else None


def colour_shares(frame: Image, mask: Mask) -> F32:
    """Shares of a mask's pixels by their nearest basic colour in Lab, the outline left out."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    pixels = frame[inner if inner.any() else mask]
    palette = np.asarray(list(_COLOURS.values()), np.uint8)[None]
    lab_palette = cv2.cvtColor(palette, cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    lab = cv2.cvtColor(np.ascontiguousarray(pixels[None]), cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    nearest = np.linalg.norm(lab[:, None] - lab_palette[None], axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(_COLOURS))
    return np.asarray(counts / max(len(pixels), 1), np.float32)


def main_colours(shares: list[F32]) -> tuple[str, ...]:
    """The colour of most of the product over some frames, and a second one that covers much: medians of their shares."""
    usual = np.median(np.stack(shares), axis=0)
    first, second = (int(n) for n in np.argsort(-usual, kind="stable")[:2])
    names = list(_COLOURS)
    if usual[second] >= _SECOND_COLOUR:
        return names[first], names[second]
    return (names[first],)


def describe(look: ProductLook) -> str:
    """Size, proportions and colours of a thing without a name.

    >>> describe(ProductLook(("red", "white"), 0.4, 2.0, 1, 0, 0, 1))
    'a small tall red and white object'
    >>> describe(ProductLook(("orange",), None, 1.0, 1, 0, 0, 1))
    'an orange object'
    """
    words = [word for word in (_size_word(look.size_hands), _shape_word(look)) if word]
    phrase = " ".join([*words, " and ".join(look.colours), "object"])
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _size_word(size_hands: float | None) -> str:
    if size_hands is None or _PALM <= size_hands <= _LARGE:
        return ""
    return "small" if size_hands < _SMALL else "palm-sized" if size_hands < _PALM else "large"


def _shape_word(look: ProductLook) -> str:
    ratio = look.height_over_width
    return "tall" if ratio > _TALL else "wide" if ratio < _WIDE else ""


def holding_hands(look: ProductLook) -> str:
    """Which hands touch the product in most frames, the person's own sides.

    >>> def held(left, right, both, any):
    ...     return holding_hands(ProductLook(("red",), None, 1.0, left, right, both, any))
    >>> held(0.9, 0.8, 0.7, 1.0), held(0.9, 0.5, 0.4, 1.0), held(0.5, 0.5, 0.0, 1.0), held(0, 0.1, 0, 0.1)
    ('in both hands', 'in the left hand', 'in one hand', 'in the hand')
    """
    if look.both_share > _MOSTLY:
        return "in both hands"
    if max(look.left_share, look.right_share) > _MOSTLY:
        return "in the left hand" if look.left_share > look.right_share else "in the right hand"
    return "in one hand" if look.any_share > _MOSTLY else "in the hand"
