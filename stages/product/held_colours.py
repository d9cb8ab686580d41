"""Chances of the held product made surer by the clip's own colours.

The network looks at one frame at a time. Over a clip its chances tell which colours are the product's and which are
skin, clothes or room; pixels of another colour than the rest of the product are doubted, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from stages.kit.arrays import F32, U8, Mask
from stages.product import cues
from stages.product.cue_masks import learn_skin
from stages.product.scene import Scene

_ROUNDS = 2
_WEIGHT, _MAX_EVIDENCE = 0.6, 2.5
"""Colours alone can turn a chance of 0.65, not one of 0.7: products may have the colours of the shirt. More weight helps
plain bottles and takes boxes with many colours apart (development set)."""
_NEAR_HANDS = 1.5
"""Hand lengths around grasps in which colours of what is not held are learned."""
_MIN_PIXELS = 20
_SKIN_SHARE = 0.5
_DOUBT = 3.0
"""Pixels of each kind that every colour is thought to have more than were seen."""


def with_colours(scene: Scene, chances: Mapping[int, F32]) -> dict[int, F32]:
    """Chances (h,w) per key frame, each moved by how consistently its colour is the product's over the clip.

    Of all pixels of a colour on the person and around the hands, the share that is taken for the product: a shirt of
    which one patch was taken is doubted there, a cap that one look left out comes back.
    """
    out = dict(chances)
    if sum(int((c > 0.5).sum()) for c in chances.values()) < _MIN_PIXELS:
        return out
    skin = learn_skin(scene, list(chances))
    places = {t: _place(scene, t) for t in chances}
    clear = {t: ~_fingers(scene, t) for t in chances}
    for _ in range(_ROUNDS):
        product, rest = cues.ColourModel(), cues.ColourModel()
        for t, chance in out.items():
            inside = chance > 0.5
            product.feed(scene.lab[t], inside & clear[t])
            rest.feed(scene.lab[t], places[t] & ~inside)
        if product.num_pixels < _MIN_PIXELS:
            return out
        for t in chances:
            evidence = _evidence(scene.lab[t], product, rest, skin)
            out[t] = _moved(chances[t], _WEIGHT * cv2.GaussianBlur(evidence, (3, 3), 0))
    return out


def _evidence(
    lab: U8,
    product: cues.ColourModel,
    rest: cues.ColourModel,
    skin: cues.ColourModel,
) -> F32:
    """(h,w) log odds of the product by colour, by counts of pixels; skin counts as if it were half the product."""
    inside = product.probability(lab) * product.num_pixels
    outside = rest.probability(lab) * rest.num_pixels
    outside = np.maximum(outside, skin.probability(lab) * _SKIN_SHARE * product.num_pixels)
    odds = np.log(inside + _DOUBT) - np.log(outside + _DOUBT)
    return np.clip(odds, -_MAX_EVIDENCE, _MAX_EVIDENCE).astype(np.float32)


def _place(scene: Scene, t: int) -> Mask:
    """The person and what is around the hands (h,w): what the product can be taken for."""
    return np.asarray(scene.matte[t] | cues.reach_mask(scene.hands_at(t), scene.shape, _NEAR_HANDS))


def _fingers(scene: Scene, t: int) -> Mask:
    out = np.zeros(scene.shape, bool)
    for hand in scene.hands_at(t):
        out |= cues.finger_cores(hand, scene.shape)
    return out


def _moved(chance: F32, logit: F32) -> F32:
    """A chance with its logit moved."""
    p = np.clip(chance, 0.01, 0.99)
    return np.asarray(1 / (1 + (1 - p) / p * np.exp(-logit)), np.float32)
