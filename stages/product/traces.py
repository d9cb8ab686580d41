"""Where does a picture still look like the clip's product? For removing it, and for judging the removal.

Colours of the product are learnt inside its masks, colours of all else away from them. A trace is a pixel
near the product's place or near a hand whose colour the product explains much better. What resembles the
product by chance is measured in the clip's own frames, outside the masks, and taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, Frames, Image, Mask
from stages.kit.boxes import grown
from stages.kit.landmarks import Landmarks, hand_boxes_at
from stages.product.cues import ColourModel

_SURE = 0.8
_AWAY = 0.1
"""Other things are learnt this far from a mask, as a share of the short side."""
_NEAR = 0.06
"""Traces are looked for this far around the removed region, as a share of the short side."""
_HAND_MARGIN = 0.5
"""And this far around hands, in the size of their boxes: a product that no mask shows is there too."""


@dataclass(frozen=True)
class ProductColours:
    """What tells the product's colours from all others in one clip."""

    product: ColourModel
    others: ColourModel

    @classmethod
    def learn(cls, frames: Frames, masks: Mask, samples: Sequence[int]) -> ProductColours:
        """From some frames (T,H,W,3) and masks (T,H,W); masks lose their outline."""
        product, others = ColourModel(), ColourModel()
        reach = round(_AWAY * min(masks.shape[1:]))
        for t in samples:
            if masks[t].any():
                lab = np.asarray(cv2.cvtColor(frames[t], cv2.COLOR_RGB2LAB), np.uint8)
                inner = cv2.erode(masks[t].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
                product.feed(lab, inner if inner.any() else masks[t])
                others.feed(lab, ~grow(masks[t], reach))
        return cls(product, others)

    def likeness(self, image: Image) -> F32:
        """Probability (H,W) that a pixel shows the product, prior one half."""
        lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)
        inside, outside = self.product.probability(lab), self.others.probability(lab)
        return np.asarray(inside / (inside + outside + 1e-9), np.float32)

    def traces(self, image: Image, place: Mask) -> Mask:
        """Pixels (H,W) of ``place`` that look like the product, specks left out."""
        like = ((self.likeness(image) > _SURE) & place).astype(np.uint8)
        return np.asarray(cv2.morphologyEx(like, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0)


def grow(mask: Mask, radius_px: int) -> Mask:
    """Dilate (H,W) by a disc."""
    if radius_px < 1:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1,) * 2)
    return grown(mask, np.asarray(kernel, np.uint8))


def neighbourhood(mask: Mask, landmarks: Landmarks, t: int) -> Mask:
    """Where the product or what is left of it may be (H,W): around its mask, and around both hands."""
    near = grow(mask, round(_NEAR * min(mask.shape)))
    return near | hand_boxes_at(landmarks, t, mask.shape, _HAND_MARGIN)


def leak_share(
    person: Image,
    person_frame: int,
    frames: Frames,
    masks: Mask,
    landmarks: Landmarks,
    samples: Sequence[int],
) -> float:
    """How much of the product a picture still shows, in [0, 1].

    The area of traces near the product's place, less what resembles it by chance there, over the product's
    usual area.

    Args:
        person: (H,W,3) the picture to judge, made from ``frames[person_frame]``.
        person_frame: Its frame.
        frames: (T,H,W,3).
        masks: (T,H,W) of the product.
        landmarks: What was detected in the clip.
        samples: Frames to learn from.
    """
    shown = [t for t in samples if masks[t].any()]
    if not shown:
        return 0.0
    colours = ProductColours.learn(frames, masks, shown)
    place = neighbourhood(masks[person_frame], landmarks, person_frame)
    found = float(colours.traces(person, place).sum())
    chance = []
    for t in shown:
        around = neighbourhood(masks[t], landmarks, t) & ~grow(
            masks[t], round(0.02 * min(place.shape))
        )
        chance.append(float(colours.traces(frames[t], around).sum() / max(around.sum(), 1)))
    usual_area = float(np.median([masks[t].sum() for t in shown]))
    by_chance = float(np.median(chance)) * float(place.sum())
    return float(np.clip((found - by_chance) / usual_area, 0, 1))
