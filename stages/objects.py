"""Stage 6: the held product's mask, frame by frame, with a confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

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
from stages.masks import decode_masks, encode_masks
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
    reach_hands: float = Field(default=1.7, gt=0)
    """How far from the grasp a product may extend, in hand sizes."""
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
    mattes: NDArray[np.bool_]


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
        arrays = {
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
    mattes = decode_masks(boxes, "matte", height, width)
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
        mattes=np.stack(
            [cv2.resize(m.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in mattes]
        ).astype(bool),
    )  # fmt: skip


def segment_product(scene: Scene, config: ObjectsConfig) -> tuple[NDArray[np.bool_], Floats]:
    """Masks (T,H,W) and confidences (T,) by colour models, cuts on key frames, and flow."""
    keys = [t for t in range(0, len(scene.frames), config.every) if scene.hands[t]]
    masks = np.zeros(scene.frames.shape[:3], bool)
    confidence = np.zeros(len(scene.frames), np.float32)
    if not keys:
        return masks, confidence
    skin, others = _learn_others(scene, keys, config.reach_hands)
    product = cues.ColourModel()
    for t in keys:  # first guess: near the grasp, unlike skin and unlike the rest of the picture
        seed = _first_seed(scene, t, skin, others)
        product.feed(scene.lab[t], seed)
    cut: dict[int, Mask] = {}
    for _ in range(2):  # the second pass knows the product's colours
        cut = {t: _cut_frame(scene, t, skin, others, product, config.reach_hands) for t in keys}
        product = cues.ColourModel()
        for t, mask in cut.items():
            product.feed(scene.lab[t], mask)
    for t, mask in cut.items():
        masks[t] = mask
        confidence[t] = _agreement(scene, t, mask, product, others, skin)
    _carry(scene, keys, masks, confidence)
    return masks, confidence


def _learn_others(
    scene: Scene, keys: Sequence[int], reach: float
) -> tuple[cues.ColourModel, cues.ColourModel]:
    """Colours of skin, and of everything away from the hands (clothes, hair, room)."""
    skin, others = cues.ColourModel(), cues.ColourModel()
    for t in keys:
        shape = scene.frames.shape[1:3]
        near = cues.reach_mask(scene.hands[t], shape, 0.6 * reach)
        skin.feed(scene.lab[t], scene.faces[t] & ~near)
        for hand in scene.hands[t]:
            skin.feed(scene.lab[t], _finger_cores(hand, shape))
        others.feed(scene.lab[t], ~near)
    return skin, others


def _finger_cores(hand: Hand, shape: tuple[int, int]) -> Mask:
    thin = cv2.erode(cues.hand_mask(hand, shape).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(thin, bool)


def _first_seed(
    scene: Scene, t: int, skin: cues.ColourModel, others: cues.ColourModel
) -> Mask:
    lab = scene.lab[t]
    near = cues.reach_mask(scene.hands[t], lab.shape[:2], 0.55)
    usual = np.maximum(skin.probability(lab), others.probability(lab))
    cutoff = np.quantile(usual[near], 0.35) if near.any() else 0.0
    fingers = np.zeros(lab.shape[:2], bool)
    for hand in scene.hands[t]:
        fingers |= _finger_cores(hand, lab.shape[:2])
    return near & (usual <= cutoff) & ~fingers


def _cut_frame(
    scene: Scene, t: int, skin: cues.ColourModel, others: cues.ColourModel,
    product: cues.ColourModel, reach: float,
) -> Mask:  # fmt: skip
    lab, hands = scene.lab[t], scene.hands[t]
    shape = lab.shape[:2]
    maybe = cues.reach_mask(hands, shape, reach)
    posterior = cues.product_posterior(lab, product, others, maybe)
    skinness = skin.probability(lab) / (skin.probability(lab) + product.probability(lab) + 1e-9)
    never = np.zeros(shape, bool)
    for hand in hands:
        never |= _finger_cores(hand, shape) & (skinness > 0.4)
    seed = maybe & (posterior > 0.6) & (skinness < 0.5)
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
    return float((contrast * not_skin * plausible) ** (1 / 2))


def _carry(
    scene: Scene, keys: Sequence[int], masks: NDArray[np.bool_], confidence: Floats
) -> None:
    """Carry key masks to the frames between by flow, in place; disagreement lowers confidence."""
    flow = cues.make_flow()
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in scene.frames]
    for before, after in zip(keys[:-1], keys[1:], strict=True):
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
        cv2.GaussianBlur(cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), (7, 7), 0)
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


