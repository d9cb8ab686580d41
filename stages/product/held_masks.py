"""Masks of the held product over a clip from looks at key frames: who holds it, votes of neighbours, flow between.

The network looks at key frames alone. Its chances are carried to their neighbours by optical flow and averaged, so that
one bad look is outvoted; frames between keys blend what both sides say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from stages.kit.arrays import F32, F64, Frames, Mask
from stages.kit.hands import Hand
from stages.kit.masks import iou
from stages.product import cues
from stages.product.flow import MAX_GAP_STEPS, KeyFlows, make_flow, warp_plane
from stages.product.held_colours import with_colours
from stages.product.held_crop import Crop
from stages.product.held_looks import Look
from stages.product.held_motion import with_motion
from stages.product.scene import Scene

_WEIGHTS = (0.6, 1.0, 0.6)
"""Of the key before, the key itself and the key after: both neighbours together outvote it."""
_HANDOVER = 0.3
"""A look of the other hand must be better by this to be taken: things pass from hand to hand, but seldom."""
_SECOND, _SHARED = 0.35, 0.3
"""Score of a look from which another hand holds something too, and the share of its mask that may be the chosen one's."""
_PRODUCT, _HELD = 0.5, 0.35
"""Chances from which a pixel is the product's, and a hand holds anything: the network was trained on clean edges and is
shyer on real ones; both chosen on the development set."""
_BIAS, _SIGNS = -0.79, (0.50, 0.08, 0.24, 0.21)
_MIN_PART, _MIN_TOUCHED = 0.05, 0.1
"""Parts smaller than this share of the largest are specks; where all that fingers touch is smaller than that, the product
is held by something that was not found."""
_LOOSE = 0.3
"""Chance of parts that nobody touches: motion may still bring them back."""
_SMOOTHED_KEYS = 2
"""Whether anything is held is the median over so many keys before and after."""


class Looker(Protocol):
    """What looks at a frame: see ``stages.product.held_looks.HeldProduct``."""

    def look(self, frame: Frames, hands: Sequence[F32]) -> list[Look]:
        """Looks at each group of hands."""


@dataclass(frozen=True)
class _Seen:
    """A look at a key frame, in the scene's pixels."""

    sides: frozenset[int]
    """Of the hands that it was at: 0 left, 1 right."""
    chance: F32
    """(h,w) of the scene: of being the product."""
    held: float
    quality: float
    score: float

    @classmethod
    def of(cls, look: Look, sides: Sequence[int], shape: tuple[int, int], scale: float) -> _Seen:
        """From a look at a frame with these hands; ``scale`` makes its pixels the scene's (h,w)."""
        crop = Crop(look.crop.x_px * scale, look.crop.y_px * scale, look.crop.side_px * scale)
        mine = frozenset(sides[i] for i in look.hands)
        return cls(mine, crop.back(look.chance, shape), look.held, look.quality, look.score)


@dataclass(frozen=True)
class Over:
    """What was made of a clip's key frames."""

    keys: list[int]
    chances: dict[int, F32]
    """(h,w) of the scene: of being the product."""
    is_held: dict[int, bool]
    signs: dict[int, F64]
    """(4,) 0..1: the network's own expected IoU, agreement with neighbours, with the clip's motion and colours, chance
    of anything being held."""
    second_share: float = 0.0
    """Share of the keys in which another hand holds something else."""


def masks_of(scene: Scene, found: Over, num_frames: int, every: int) -> tuple[Mask, F32]:
    """Masks (T,h,w) in the scene's size and confidences (T,) of all frames, from what was made of the keys."""
    masks = np.zeros((num_frames, *scene.shape), bool)
    confidence = np.zeros(num_frames, np.float32)
    if not found.keys:
        return masks, confidence
    for t in found.keys:
        if found.is_held[t]:
            masks[t] = _clean(found.chances[t] > _PRODUCT, scene.hands_at(t))
            confidence[t] = sureness(found.signs[t]) if masks[t].any() else 0.0
    _between(scene, found.keys, found.chances, found.is_held, masks, confidence, every)
    return masks, confidence


def look_over(
    scene: Scene, frames: Frames, hands_px: Sequence[dict[int, F32]], looker: Looker, every: int
) -> Over:
    """Look at key frames and let neighbours, motion and colours have their say.

    Args:
        scene: The clip, small.
        frames: (T,H,W,3) RGB, as large as they are.
        hands_px: Per frame: landmarks (21,2) in pixels of ``frames``, 0 left, 1 right.
        looker: The network.
        every: Step between key frames.
    """
    keys = [t for t in range(0, len(frames), every) if hands_px[t]]
    if not keys:
        return Over([], {}, {}, {})
    looks = {t: _look(looker, frames[t], hands_px[t], scene.shape) for t in keys}
    flows = KeyFlows(scene.grey)
    seen = _choose(looks, flows, every)
    held = dict(zip(keys, _smoothed([seen[t].held for t in keys]).tolist(), strict=True))
    is_held = {t: held[t] > _HELD for t in keys}
    voted, agreement = _vote(seen, flows, every)
    touched = {t: _touched(voted[t], scene.hands_at(t)) for t in keys if is_held[t]}
    surer = voted | with_motion(scene, touched)
    surer |= with_colours(scene, {t: surer[t] for t in keys if is_held[t]})
    signs = {
        t: np.array([
            seen[t].quality, agreement[t], iou(surer[t] > 0.5, voted[t] > 0.5), held[t],
        ])
        for t in keys
    }  # fmt: skip
    second = float(np.mean([_is_second(looks[t], seen[t]) for t in keys]))
    return Over(keys, surer, is_held, signs, second)


def _is_second(looks: list[_Seen], chosen: _Seen) -> bool:
    """Does another hand hold something else than what was chosen?"""
    mine = chosen.chance > _PRODUCT
    others = [one.chance > _PRODUCT for one in looks if one is not chosen and one.score > _SECOND]
    return any((other & mine).sum() < _SHARED * other.sum() for other in others)


def sureness(signs: F64) -> float:
    """Expected IoU with the truth, of the signs (4,) of a key frame: a logistic regression on their log odds.

    Fitted by training/held_product/calibrate.py.
    """
    return float(1 / (1 + np.exp(-(_BIAS + log_odds(signs) @ np.array(_SIGNS)))))


def log_odds(signs: F64) -> F64:
    """Of chances (4,), none surer than 0.98."""
    p = np.clip(signs, 0.02, 0.98)
    return np.asarray(np.log(p / (1 - p)))


def _look(
    looker: Looker, frame: Frames, hands: dict[int, F32], shape: tuple[int, int]
) -> list[_Seen]:
    """One look per hand, or one at both where they are close."""
    sides = sorted(hands)
    scale = shape[1] / frame.shape[1]
    looks = looker.look(frame, [hands[s] for s in sides])
    return [_Seen.of(look, sides, shape, scale) for look in looks]


def _choose(looks: dict[int, list[_Seen]], flows: KeyFlows, every: int) -> dict[int, _Seen]:
    """Per key the look at the hand that holds over the clip, or at the other one where that is far better.

    What is held is there at the next key too; what a look makes of an empty palm is not.
    """
    if all(len(found) == 1 for found in looks.values()):  # nothing to choose: no flow is needed
        return {t: found[0] for t, found in looks.items()}
    totals = {side: _steadiness(looks, flows, side, every) for side in (0, 1)}
    main = max(totals, key=lambda side: totals[side])
    return {
        t: max(found, key=lambda one: one.score + (_HANDOVER if main in one.sides else 0.0))
        for t, found in looks.items()
    }


def _steadiness(looks: dict[int, list[_Seen]], flows: KeyFlows, side: int, every: int) -> float:
    """Sum over keys of how sure the looks at one hand are, times how far they agree with the key before."""
    total = 0.0
    mine = {t: one for t, found in looks.items() for one in found if side in one.sides}
    for a, b in itertools.pairwise(mine):
        if b - a > MAX_GAP_STEPS * every:
            continue
        if not ((mine[a].chance > _PRODUCT).any() and (mine[b].chance > _PRODUCT).any()):
            continue
        moved = warp_plane(mine[a].chance, flows.back(b, a))
        same = iou(moved > _PRODUCT, mine[b].chance > _PRODUCT)
        total += same * min(mine[a].score, mine[b].score)
    return total


def _smoothed(values: Sequence[float]) -> F32:
    """Running median."""
    padded = np.pad(np.array(values, np.float32), _SMOOTHED_KEYS, mode="edge")
    width = 2 * _SMOOTHED_KEYS + 1
    return np.asarray(
        np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1), np.float32
    )


def _vote(
    seen: dict[int, _Seen], flows: KeyFlows, every: int
) -> tuple[dict[int, F32], dict[int, float]]:
    """Chances averaged with those of neighbours, moved by flow; how far the key agrees with them (0..1)."""
    sums = {t: _WEIGHTS[1] * one.chance for t, one in seen.items()}
    weights = dict.fromkeys(seen, _WEIGHTS[1])
    same: dict[int, list[float]] = {t: [] for t in seen}
    for a, b in itertools.pairwise(seen):
        if b - a > MAX_GAP_STEPS * every:
            continue
        for t, other, weight in ((b, a, _WEIGHTS[0]), (a, b, _WEIGHTS[2])):
            moved = warp_plane(seen[other].chance, flows.back(t, other))
            sums[t] = sums[t] + weight * moved
            weights[t] += weight
            same[t].append(iou(moved > 0.5, seen[t].chance > 0.5))
    voted = {t: np.asarray(sums[t] / weights[t], np.float32) for t in seen}
    return voted, {t: float(np.mean(same[t])) if same[t] else 0.5 for t in seen}


def _between(
    scene: Scene,
    keys: Sequence[int],
    voted: dict[int, F32],
    held: dict[int, bool],
    masks: Mask,
    confidence: F32,
    every: int,
) -> None:
    """Fill the frames between keys in place: both sides' chances, moved and weighted by nearness."""
    flow = make_flow()
    for a, b in itertools.pairwise(keys):
        if b - a > MAX_GAP_STEPS * every or not (held[a] or held[b]):
            continue
        for t in range(a + 1, b):
            near = (b - t) / (b - a)
            if not held[a if near >= 0.5 else b]:
                continue
            shares = {key: share for key, share in ((a, near), (b, 1 - near)) if held[key]}
            parts = [
                share * warp_plane(voted[key], flow.calc(scene.grey[t], scene.grey[key], None))
                for key, share in shares.items()
            ]
            chance = np.sum(parts, axis=0) / sum(shares.values())
            masks[t] = _clean(chance > _PRODUCT, scene.hands_at(t) or scene.hands_at(a))
            confidence[t] = (
                near * confidence[a] + (1 - near) * confidence[b] if masks[t].any() else 0
            )
    last = keys[-1]
    for t in range(last + 1, min(len(masks), last + 2 * every)):  # frames after the last key
        if held[last]:
            moved = warp_plane(voted[last], flow.calc(scene.grey[t], scene.grey[last], None))
            masks[t], confidence[t] = (
                _clean(moved > _PRODUCT, scene.hands_at(last)),
                confidence[last],
            )


def _clean(mask: Mask, hands: list[Hand]) -> Mask:
    """The parts that fingers touch, and big ones where no more than a speck is touched (hangers, thin handles).

    Sleeves touch the wrist, products touch fingers (or, covered by them, the palm).
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count <= 1:
        return np.zeros(mask.shape, bool)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    largest = areas.max()
    near = cv2.dilate(
        cues.touch_mask(hands, mask.shape).astype(np.uint8), np.ones((5, 5), np.uint8)
    )
    touched = np.zeros(count, bool)
    touched[np.unique(labels[near > 0])] = True
    kept = touched & (areas >= _MIN_PART * largest)
    if areas[touched].max(initial=0) < _MIN_TOUCHED * largest:
        kept |= areas >= 0.5 * largest
    return np.asarray(kept[labels] & mask)


def _touched(chance: F32, hands: list[Hand]) -> F32:
    """The chance (h,w) without parts that no finger touches: they would teach motion and colours the shirt's."""
    mask = chance > _PRODUCT
    return np.where(mask & ~_clean(mask, hands), np.minimum(chance, _LOOSE), chance)
