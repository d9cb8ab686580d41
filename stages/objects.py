"""Stage 6: the held product's mask, frame by frame, with a confidence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.facets import ObjectsFacet
from schemas.rows import Clip
from stages import product_cues as cues
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Arrays, Files
from stages.masks import encode_masks
from stages.product_cues import Hand, Mask

CUES = BackendRef(name="cues", version="1", licence="Apache-2.0")
Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


class ObjectsGate(GateConfig):
    """Thresholds over the target frames."""

    min_visible_share: float = Field(default=0.6, ge=0, le=1)
    min_in_hand_share: float = Field(default=0.4, ge=0, le=1)
    min_confidence: float = Field(default=0.45, ge=0, le=1)
    min_area_share: float = Field(default=0.002, ge=0, le=1)
    max_area_share: float = Field(default=0.35, ge=0, le=1)


class ObjectsConfig(StageConfig):
    """How to look for the product."""

    backend: Literal["cues"] = "cues"
    short_side_px: int = Field(default=192, ge=64)
    every: int = Field(default=4, ge=1)
    """Cut every n-th frame; flow carries masks in between."""
    reach_hands: float = Field(default=1.2, gt=0)
    """How far from the grasp a product may extend, in hand lengths."""
    gate: ObjectsGate = ObjectsGate()


@dataclass
class Scene:
    """One clip, scaled down, with what earlier stages know of it."""

    frames: Frames
    lab: Frames
    hands: list[list[Hand]]
    """Per frame: the hands that were seen."""
    sides: list[list[int]]
    """Per frame: 0 left, 1 right, beside ``hands``."""
    faces: NDArray[np.bool_]
    still: NDArray[np.bool_]
    """(H,W): hardly changes over the clip."""
    arms_px: Floats
    """(T,2,2,2): left and right arm, elbow and wrist, xy."""


class ObjectsStage(Stage[ObjectsConfig, Clip, Clip]):
    """Fills ``objects``."""

    name = "objects"
    facet = "objects"
    config_type = ObjectsConfig
    row_in = row_out = Clip
    needs = ("segment", "detect")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_held_object", "low_confidence", "object_rarely_visible", "object_too_small",
        "object_too_large", "clip_unreadable",
    })  # fmt: skip

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Find the product in every frame."""
        assert row.boxes is not None
        frames = files.frames(row.media.video)
        scene = load_scene(frames, files.arrays(row.boxes.arrays), self.config.short_side_px)
        masks, confidence = segment_product(scene, self.config)
        in_hand = touch(scene, masks)
        flicker = _flicker(scene, masks)
        full = _upsample(masks, frames.shape[1:3])
        arrays: dict[str, NDArray[Any]] = {
            "confidence": confidence, "in_hand": in_hand, "box_xyxy_px": _boxes(full),
            **encode_masks(full, "mask"),
        }  # fmt: skip
        target = slice(row.media.num_motion_frames, None)
        visible = full[target].any(axis=(1, 2))
        areas = full[target].mean(axis=(1, 2))
        facet = ObjectsFacet(
            arrays=files.put_arrays(arrays),
            visible_share=float(visible.mean()),
            in_hand_share=float(in_hand[target].any(axis=1).mean()),
            confidence=float(np.median(confidence[target])),
            area_share=float(np.median(areas[visible])) if visible.any() else 0.0,
            flicker=float(np.mean(flicker[target])),
            backend=CUES,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """A product is in a hand for most of the clip, and the cues agree on it."""
        found, gate = row.objects, self.config.gate
        assert found is not None
        checks = (
            ("no_held_object", found.in_hand_share < gate.min_in_hand_share,
             f"{found.in_hand_share=:.2f} < {gate.min_in_hand_share}"),
            ("object_rarely_visible", found.visible_share < gate.min_visible_share,
             f"{found.visible_share=:.2f} < {gate.min_visible_share}"),
            ("low_confidence", found.confidence < gate.min_confidence,
             f"{found.confidence=:.2f} < {gate.min_confidence}"),
            ("object_too_small", found.area_share < gate.min_area_share,
             f"{found.area_share=:.4f} < {gate.min_area_share}"),
            ("object_too_large", found.area_share > gate.max_area_share,
             f"{found.area_share=:.2f} > {gate.max_area_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def load_scene(frames: Frames, boxes: Arrays, short_side_px: int) -> Scene:
    """Scale a clip and its detections down."""
    height, width = frames.shape[1:3]
    scale = short_side_px / min(height, width)
    size = (round(width * scale), round(height * scale))
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
    hands: list[list[Hand]] = []
    sides: list[list[int]] = []
    for t in range(len(frames)):
        seen = [
            (Hand.of(points * scale), side)
            for side, points in enumerate(
                (boxes["left_hand_landmarks_px"][t], boxes["right_hand_landmarks_px"][t])
            )
            if np.isfinite(points).all()
        ]
        hands.append([h for h, _ in seen])
        sides.append([s for _, s in seen])
    face_points = boxes["face_landmarks_px"] * scale
    return Scene(
        frames=small,
        lab=np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2LAB) for f in small]),
        hands=hands, sides=sides,
        faces=np.stack([cues.face_mask(p, small.shape[1:3]) for p in face_points]),
        still=cues.static_background(small, 8),
        arms_px=(boxes["pose_landmarks_px"][:, [[13, 15], [14, 16]], :2] * scale),
    )  # fmt: skip


def segment_product(scene: Scene, config: ObjectsConfig) -> tuple[NDArray[np.bool_], Floats]:
    """Masks (T,H,W) and confidences (T,) by colour models, cuts on key frames, and flow."""
    keys = [t for t in range(0, len(scene.frames), config.every) if scene.hands[t]]
    masks = np.zeros(scene.frames.shape[:3], bool)
    confidence = np.zeros(len(scene.frames), np.float32)
    if not keys:
        return masks, confidence
    skin, others = _learn_others(scene, keys)
    product = _learn_product(scene, keys, skin, others)
    cut: dict[int, Mask] = {}
    for _ in range(2):  # the second pass knows the product's colours from the first one's masks
        cut = {t: _cut_frame(scene, t, skin, others, product, config.reach_hands) for t in keys}
        refined = cues.ColourModel()
        for t, mask in cut.items():
            refined.feed(scene.lab[t], mask)
        if refined.num_pixels:
            product = refined
    for t, mask in cut.items():
        masks[t] = mask
        confidence[t] = _agreement(scene, t, mask, product, others, skin)
    _carry(scene, keys, masks, confidence)
    return masks, confidence


def _learn_others(scene: Scene, keys: Sequence[int]) -> tuple[cues.ColourModel, cues.ColourModel]:
    """Colours of skin, and of everything away from the hands (clothes, hair, room)."""
    skin, others = cues.ColourModel(), cues.ColourModel()
    shape = scene.frames.shape[1:3]
    for t in keys:
        near = cues.reach_mask(scene.hands[t], shape, 0.8)
        span = max(3, round(0.8 * np.sqrt(scene.faces[t].sum()))) | 1
        head = cv2.dilate(scene.faces[t].astype(np.uint8), np.ones((span, span), np.uint8))
        skin.feed(scene.lab[t], scene.faces[t] & ~near)
        for hand in scene.hands[t]:
            skin.feed(scene.lab[t], _finger_cores(hand, shape))
        # hair is often as dark as a product, and never in the hand
        others.feed(scene.lab[t], ~near & ~head.astype(bool))
    return skin, others


def _finger_cores(hand: Hand, shape: tuple[int, int]) -> Mask:
    thin = cv2.erode(cues.hand_mask(hand, shape).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(thin, bool)


def _learn_product(
    scene: Scene, keys: Sequence[int], skin: cues.ColourModel, others: cues.ColourModel
) -> cues.ColourModel:
    """Colours that are common at one hand's grasp and rare elsewhere; the hand that has more of them."""
    candidates: list[tuple[float, cues.ColourModel]] = []
    for side in (0, 1):
        near, shape = cues.ColourModel(), scene.frames.shape[1:3]
        places: dict[int, Mask] = {}
        for t in keys:
            hands = [h for h, s in zip(scene.hands[t], scene.sides[t], strict=True) if s == side]
            if hands:
                fingers = _finger_cores(hands[0], shape)
                places[t] = cues.reach_mask(hands, shape, 0.45) & ~fingers & ~_not_held(scene, t)
                near.feed(scene.lab[t], places[t])
        product, strength = cues.ColourModel(), 0.0
        for t, place in places.items():
            lab = scene.lab[t]
            rare = cues.product_posterior(lab, near, others, place) > 0.75
            odd = rare & ~_is_skin(lab, skin, near)
            product.feed(lab, odd)
            strength += odd.sum() / max(place.sum(), 1)
        if places:
            candidates.append((strength / len(keys), product))
    return max(candidates, key=lambda c: c[0])[1]


def _not_held(scene: Scene, t: int) -> Mask:
    """Forearms, and what stays put although the hands move about (H,W)."""
    shape = scene.frames.shape[1:3]
    size = max(h.size_px for h in scene.hands[t])
    arms = cues.forearm_mask(scene.arms_px[t], shape, 0.3 * size)
    return arms | (scene.still if _hands_move(scene, size) else np.zeros(shape, bool))


def _hands_move(scene: Scene, size_px: float) -> bool:
    """True if a hand wanders so far that nothing it holds can look still."""
    grasps = np.array([h.grasp_px for hands in scene.hands for h in hands])
    return bool(np.ptp(grasps, axis=0).max() > 0.3 * size_px)


def _is_skin(lab: Frames, skin: cues.ColourModel, product: cues.ColourModel) -> Mask:
    return np.asarray(skin.probability(lab) > 0.5 * product.probability(lab))


def _cut_frame(
    scene: Scene, t: int, skin: cues.ColourModel, others: cues.ColourModel,
    product: cues.ColourModel, reach: float,
) -> Mask:  # fmt: skip
    lab, hands = scene.lab[t], scene.hands[t]
    shape = lab.shape[:2]
    maybe = cues.reach_mask(hands, shape, reach)
    posterior = cues.product_posterior(lab, product, others, maybe)
    smooth = cv2.GaussianBlur(posterior, (5, 5), 0)
    is_skin = _is_skin(lab, skin, product)
    never = _not_held(scene, t) | (
        smooth < 0.3
    )  # keeps the cut from growing into clothes that resemble nothing of it
    for hand in hands:
        never |= _finger_cores(hand, shape) & is_skin
    seed = maybe & (smooth > 0.6) & ~is_skin
    return cues.keep_held(cues.cut(scene.frames[t], seed, maybe, never), hands)


def _agreement(
    scene: Scene, t: int, mask: Mask, product: cues.ColourModel, others: cues.ColourModel,
    skin: cues.ColourModel,
) -> float:  # fmt: skip
    """How well the cues agree on a mask: colour inside against its surround, size, no skin."""
    hands, lab = scene.hands[t], scene.lab[t]
    if not mask.any():
        return 0.0
    everywhere = np.ones(mask.shape, bool)
    posterior = cues.product_posterior(lab, product, others, everywhere)
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~mask
    for hand in hands:
        ring &= ~cues.hand_mask(hand, mask.shape)
    outside = posterior[ring].mean() if ring.any() else 1.0
    contrast = float(np.clip(posterior[mask].mean() - outside, 0, 1))
    skinness = skin.probability(lab) / (skin.probability(lab) + product.probability(lab) + 1e-9)
    not_skin = 1.0 - float(skinness[mask].mean())
    hand_area = max(cues.hand_mask(h, mask.shape).sum() for h in hands)
    ratio = float(mask.sum() / max(hand_area, 1))
    plausible = float(np.clip(ratio / 0.35, 0, 1) * np.clip((12 - ratio) / 4, 0, 1))
    rows, cols = np.nonzero(mask)
    closest = min(
        float(np.hypot(cols - h.grasp_px[0], rows - h.grasp_px[1]).min()) / h.size_px for h in hands
    )
    near = float(np.exp(-((closest / 0.3) ** 2)))
    return float((contrast * not_skin * plausible * near) ** (1 / 2))


def _carry(scene: Scene, keys: Sequence[int], masks: NDArray[np.bool_], confidence: Floats) -> None:
    """Carry key masks to the frames between by flow, in place; disagreement lowers confidence."""
    flow = cues.make_flow()
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in scene.frames]
    for before, after in itertools.pairwise(keys):
        if after - before > 4 * (keys[1] - keys[0] if len(keys) > 1 else 1):
            continue  # the hands were out of sight in between
        moved = cues.warp(masks[before], flow.calc(grey[after], grey[before], None))
        agree = 0.5 + 0.5 * cues.iou(moved, masks[after])
        confidence[after] *= agree
        for t in range(before + 1, after):
            near, other = (before, after) if t - before <= after - t else (after, before)
            pulled = cues.warp(masks[near], flow.calc(grey[t], grey[near], None))
            masks[t] = pulled
            weight = abs(t - near) / (after - before)
            confidence[t] = (1 - weight) * confidence[near] + weight * confidence[other]
    if keys:  # frames after the last key keep its mask, moved
        for t in range(keys[-1] + 1, len(masks)):
            if t - keys[-1] > 8:
                break
            masks[t] = cues.warp(masks[keys[-1]], flow.calc(grey[t], grey[keys[-1]], None))
            confidence[t] = confidence[keys[-1]]


def touch(scene: Scene, masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(T,2) u8: the mask touches the left, the right hand."""
    out = np.zeros((len(masks), 2), np.uint8)
    for t, mask in enumerate(masks):
        if not mask.any():
            continue
        for hand, side in zip(scene.hands[t], scene.sides[t], strict=True):
            width = max(3, round(0.1 * hand.size_px))
            grown = cv2.dilate(
                cues.hand_mask(hand, mask.shape).astype(np.uint8), np.ones((width, width), np.uint8)
            )
            out[t, side] = bool((grown.astype(bool) & mask).any())
    return out


def _flicker(scene: Scene, masks: NDArray[np.bool_]) -> Floats:
    """(T,) 1 - IoU with the previous mask, moved by the shift of the hands."""
    out = np.zeros(len(masks), np.float32)
    for t in range(1, len(masks)):
        shift = np.zeros(2)
        if scene.hands[t] and scene.hands[t - 1] and scene.sides[t] == scene.sides[t - 1]:
            shift = np.mean(
                [a.grasp_px - b.grasp_px
                 for a, b in zip(scene.hands[t], scene.hands[t - 1], strict=True)], axis=0
            )  # fmt: skip
        moved = np.roll(masks[t - 1], tuple(np.round(shift[::-1]).astype(int)), (0, 1))
        out[t] = min(1 - cues.iou(moved, masks[t]), 1 - cues.iou(masks[t - 1], masks[t]))
    return out


def _upsample(masks: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    size = (shape[1], shape[0])
    big = [
        cv2.GaussianBlur(
            cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), (7, 7), 0
        )
        for m in masks
    ]
    return np.stack(big) > 0.5


def _boxes(masks: NDArray[np.bool_]) -> Floats:
    out = np.full((len(masks), 4), np.nan, np.float32)
    for t, mask in enumerate(masks):
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            out[t] = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
    return out
