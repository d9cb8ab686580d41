"""The held product's mask and its confidence over a clip; no segmentation weights.

Colours of skin, of all else and of the product are learnt from the clip; key frames are cut, and flow carries
masks to the frames between.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.kit.arrays import F32, Frames, Mask
from stages.kit.hands import hand_mask
from stages.kit.masks import iou
from stages.product import cues
from stages.product.flow import MAX_GAP_STEPS, KeyFlows, make_flow, warp
from stages.product.scene import Scene

_CORE_SHARE = 0.8
"""Share of the skin's pixels whose colours are surely skin."""
_TRIALS = 6
"""Key frames on which each hand is tried."""
_TAIL_FRAMES = 8
"""So many frames after the last key frame keep its mask, moved."""


@dataclass(frozen=True)
class Palette:
    """What colours skin, the product and all else have in a clip."""

    skin: cues.ColourModel
    others: cues.ColourModel
    product: cues.ColourModel

    def with_product(self, product: cues.ColourModel) -> Palette:
        """The same with other colours of the product."""
        return replace(self, product=product)

    def is_skin(self, lab: Frames) -> Mask:
        """Pixels (h,w) that are likelier skin than product."""
        likely = self.skin.probability(lab)
        is_likelier = likely > 0.5 * self.product.probability(lab)
        return np.asarray(is_likelier & (likely > 1 / cues.NUM_COLOURS))

    def posterior(self, lab: Frames, near: Mask) -> F32:
        """Chance (h,w) of the product's colours near a grasp, see ``cues.product_posterior``."""
        return cues.product_posterior(lab, self.product, self.others, near)

    def with_core_skin(self) -> Palette:
        """The same with the commonest colours of skin alone."""
        return replace(self, skin=self.skin.trimmed(_CORE_SHARE))


def segment_product(scene: Scene, every: int, reach: float) -> tuple[Mask, F32]:
    """Masks (T,h,w) and confidences (T,) by colour models, cuts on key frames, and flow.

    Args:
        scene: The clip.
        every: Step between key frames.
        reach: How far from the grasp a product may extend, in hand lengths.
    """
    keys = [t for t in range(0, len(scene.frames), every) if scene.hands[t]]
    masks = np.zeros(scene.frames.shape[:3], bool)
    confidence = np.zeros(len(scene.frames), np.float32)
    if not keys:
        return masks, confidence
    palette = _learn_palette(scene, keys, reach)
    cut: dict[int, Mask] = {}
    for rounds in (1, 3):  # the second pass knows the product's colours from the first one's masks
        cut = {t: _cut_frame(scene, t, palette, reach, rounds) for t in keys}
        refined = cues.ColourModel()
        for t, mask in cut.items():
            refined.feed(scene.lab[t], mask)
        if refined.num_pixels:
            palette = palette.with_product(refined)
    # fingers are thinner than they are drawn: labels between them are strays in the colours of skin
    core = palette.with_core_skin()
    flows = KeyFlows(scene.grey)
    for t, mask in _vote(flows, cut).items():
        cut[t] = cues.enclosed(mask, core.is_skin(scene.lab[t]), scene.hands_at(t))
    for t, mask in cut.items():
        masks[t] = mask
        confidence[t] = _agreement(scene, t, mask, palette)
    _carry(scene, flows, keys, masks, confidence, palette)
    return masks, confidence


def learn_skin(scene: Scene, keys: Sequence[int]) -> cues.ColourModel:
    """Colours of faces, away from the hands, and of fingers over some frames."""
    skin = cues.ColourModel()
    for t in keys:
        skin.feed(scene.lab[t], scene.faces[t] & ~_near_hands(scene, t))
        for hand in scene.hands_at(t):
            skin.feed(scene.lab[t], cues.finger_cores(hand, scene.shape))
    return skin


def learn_others(scene: Scene, keys: Sequence[int]) -> cues.ColourModel:
    """Colours of everything away from hands and heads over some frames: clothes, room."""
    others = cues.ColourModel()
    for t in keys:
        # hair is often as dark as a product, and never in the hand
        span = max(3, round(0.8 * np.sqrt(scene.faces[t].sum()))) | 1
        head = cv2.dilate(scene.faces[t].astype(np.uint8), np.ones((span, span), np.uint8))
        others.feed(scene.lab[t], ~_near_hands(scene, t) & ~head.astype(bool))
    return others


def _near_hands(scene: Scene, t: int) -> Mask:
    """(h,w) where the product may be."""
    return cues.reach_mask(scene.hands_at(t), scene.shape, 0.8)


def _learn_palette(scene: Scene, keys: Sequence[int], reach: float) -> Palette:
    """Colours over a clip; the product's are those of the hand on whose masks the cues agree best."""
    skin, others = learn_skin(scene, keys), learn_others(scene, keys)
    candidates = [
        Palette(skin, others, _colours_at_grasp(scene, keys, side, skin, others))
        for side in (0, 1)
        if any(side in scene.hands[t] for t in keys)
    ]
    if len(candidates) < 2:
        return candidates[0]
    tried = keys[:: max(1, len(keys) // _TRIALS)]

    def agreement(palette: Palette) -> float:
        found = {t: _cut_frame(scene, t, palette, reach, 1) for t in tried}
        return float(np.mean([_agreement(scene, t, m, palette) for t, m in found.items()]))

    return max(candidates, key=agreement)


def _colours_at_grasp(
    scene: Scene, keys: Sequence[int], side: int, skin: cues.ColourModel, others: cues.ColourModel
) -> cues.ColourModel:
    """Colours that are common at a grasp and rare elsewhere."""
    near, product, shape = cues.ColourModel(), cues.ColourModel(), scene.shape
    places: dict[int, Mask] = {}
    for t in keys:
        if side in scene.hands[t]:
            hand = scene.hands[t][side]
            fingers = cues.finger_cores(hand, shape)
            places[t] = cues.reach_mask([hand], shape, 0.45) & ~fingers & ~_not_held(scene, t)
            near.feed(scene.lab[t], places[t])
    around = Palette(skin, others, near)
    for t, place in places.items():
        lab = scene.lab[t]
        rare = around.posterior(lab, place) > 0.75
        product.feed(lab, rare & ~around.is_skin(lab))
    return product


def _not_held(scene: Scene, t: int) -> Mask:
    """Forearms, and what stays put although the hands move about (H,W)."""
    shape = scene.shape
    size = max(h.size_px for h in scene.hands_at(t))
    arms = cues.forearm_mask(scene.arms_px[t], shape, 0.3 * size)
    return arms | (scene.still if _hands_move(scene, size) else np.zeros(shape, bool))


def _hands_move(scene: Scene, size_px: float) -> bool:
    """True if a hand wanders so far that nothing it holds can look still."""
    grasps = np.array([h.grasp_px for hands in scene.hands for h in hands.values()])
    return bool(np.ptp(grasps, axis=0).max() > 0.3 * size_px)


def _cut_frame(scene: Scene, t: int, palette: Palette, reach: float, rounds: int) -> Mask:
    lab, hands = scene.lab[t], scene.hands_at(t)
    shape = lab.shape[:2]
    maybe = cues.reach_mask(hands, shape, reach)
    smooth = cv2.GaussianBlur(palette.posterior(lab, maybe), (5, 5), 0)
    is_skin = palette.is_skin(lab)
    # what resembles nothing of it keeps the cut from growing into clothes
    never = _not_held(scene, t) | (smooth < 0.3)
    for hand in hands:
        never |= cues.finger_cores(hand, shape) & is_skin
    seed = maybe & (smooth > 0.6) & ~is_skin
    held = cues.keep_held(cues.cut(scene.frames[t], seed, maybe, never, rounds), hands)
    return cues.enclosed(held, palette.with_core_skin().is_skin(lab), hands)


def _agreement(scene: Scene, t: int, mask: Mask, palette: Palette) -> float:
    """How well the cues agree on a mask: colour inside against its surround, size, no skin."""
    hands, lab = scene.hands_at(t), scene.lab[t]
    if not mask.any():
        return 0.0
    posterior = palette.posterior(lab, np.ones(mask.shape, bool))
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~mask
    drawn = [hand_mask(hand, mask.shape) for hand in hands]
    ring &= ~np.any(drawn, axis=0)
    outside = posterior[ring].mean() if ring.any() else 1.0
    contrast = float(np.clip(posterior[mask].mean() - outside, 0, 1))
    likely = palette.skin.probability(lab)
    skinness = likely / (likely + palette.product.probability(lab) + 1e-9)
    not_skin = 1.0 - float(skinness[mask].mean())
    hand_area = max(hand.sum() for hand in drawn)
    ratio = float(mask.sum() / max(hand_area, 1))
    plausible = float(np.clip(ratio / 0.35, 0, 1) * np.clip((12 - ratio) / 4, 0, 1))
    rows, cols = np.nonzero(mask)
    closest = min(
        float(np.hypot(cols - h.grasp_px[0], rows - h.grasp_px[1]).min()) / h.size_px for h in hands
    )
    near = float(np.exp(-((closest / 0.3) ** 2)))
    return float((contrast * not_skin * plausible * near) ** (1 / 2))


def _vote(flows: KeyFlows, cut: dict[int, Mask]) -> dict[int, Mask]:
    """Each key mask by majority with its neighbours' masks, moved to it by flow.

    A held product hardly changes from one key frame to the next: what one cut alone lost comes back, what one
    alone took goes.
    """
    keys = list(cut)
    votes: dict[int, list[Mask]] = {t: [mask] for t, mask in cut.items()}
    for order in (keys, keys[::-1]):
        before: Mask | None = None
        for source, t in itertools.pairwise(order):
            if abs(t - source) > MAX_GAP_STEPS * _step(keys):
                before = None
                continue
            field = flows.back(t, source)
            last = warp(cut[source], field)
            votes[t] += [last] if before is None else [last, warp(before, field)]
            before = last
    return {t: np.mean(masks, axis=0) > 0.5 for t, masks in votes.items()}


def _step(keys: Sequence[int]) -> int:
    return keys[1] - keys[0] if len(keys) > 1 else 1


def _carry(
    scene: Scene,
    flows: KeyFlows,
    keys: Sequence[int],
    masks: Mask,
    confidence: F32,
    palette: Palette,
) -> None:
    """Carry key masks to the frames between by flow, in place; disagreement lowers confidence."""
    flow = make_flow()
    for before, after in itertools.pairwise(keys):
        if after - before > MAX_GAP_STEPS * _step(keys):
            continue  # the hands were out of sight in between
        moved = warp(masks[before], flows.back(after, before))
        agree = 0.5 + 0.5 * iou(moved, masks[after])
        confidence[after] *= agree
        for t in range(before + 1, after):
            near, other = (before, after) if t - before <= after - t else (after, before)
            pulled = warp(masks[near], flow.calc(scene.grey[t], scene.grey[near], None))
            masks[t] = cues.correct_outline(pulled, scene.lab[t], palette.product, palette.others)
            weight = abs(t - near) / (after - before)
            confidence[t] = (1 - weight) * confidence[near] + weight * confidence[other]
    last = keys[-1]
    for t in range(last + 1, min(len(masks), last + 1 + _TAIL_FRAMES)):
        masks[t] = warp(masks[last], flow.calc(scene.grey[t], scene.grey[last], None))
        confidence[t] = confidence[last]
