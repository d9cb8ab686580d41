"""The held product's mask, frame by frame, with a confidence."""

from __future__ import annotations

from typing import Annotated, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.backend import by_name
from schemas.facets import ObjectsFacet
from schemas.rows import Clip
from schemas.settings import BESIDE
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, AtMost, first_failure
from stages.kit.arrays import F32, U8, Arrays, Flags, Mask
from stages.kit.boxes import box_of
from stages.kit.hands import hand_mask
from stages.kit.landmarks import Landmarks
from stages.kit.masks import encode_masks, iou
from stages.product.cue_finder import CuesConfig
from stages.product.finder import ClipView, ProductFinder
from stages.product.flow import make_flow, warp
from stages.product.held_finder import HeldConfig
from stages.product.sam2 import Sam2Config
from stages.product.sam3 import Sam3Config
from stages.product.scene import Scene, load_scene

_JUMP = 4 / 3
"""Areas of neighbouring frames whose ratio is larger are a jump."""


class ObjectsGate(GateConfig):
    """Thresholds over the target frames."""

    min_visible_share: float = Field(default=0.9, ge=0, le=1)
    """Share of frames with a mask: a frame without one teaches that nothing is held."""
    min_in_hand_share: float = Field(default=0.4, ge=0, le=1)
    min_holding_hand_share: float = Field(default=0.6, ge=0, le=1)
    """Share of the frames with a mask in which a hand that holds it is seen."""
    min_confidence: float = Field(default=0.6, ge=0, le=1)
    """Chosen on real clips with hand-made masks: docs/accuracy.md."""
    min_area_share: float = Field(default=0.002, ge=0, le=1)
    max_area_share: float = Field(default=0.35, ge=0, le=1)
    max_area_jump_share: float = Field(default=0.1, ge=0, le=1)
    """Share of steps in which the mask becomes larger or smaller by more than 4 : 3, or comes or goes."""
    max_second_product_share: float = Field(default=0.3, ge=0, le=1)
    """Share of key frames in which the other hand holds something else; only the network tells."""


ProductBackend = Annotated[
    HeldConfig | CuesConfig | Sam2Config | Sam3Config,
    Field(discriminator="name"),
    by_name("held"),
    BESIDE,
]


class ObjectsConfig(StageConfig):
    """How to look for the product."""

    backend: ProductBackend = HeldConfig()
    """What finds it. ``held`` is a small network of ours that looks around the hands (training/held_product); ``cues``
    knows hands, colours and motion alone. ``sam2`` and ``sam3`` carry the surest mask over the clip."""
    short_side_px: int = Field(default=256, ge=64)
    every: int = Field(default=4, ge=1)
    """Cut every n-th frame; flow carries masks in between."""
    gate: ObjectsGate = ObjectsGate()


class ObjectsStage(Stage[ObjectsConfig, Clip, Clip]):
    """Fills ``objects``."""

    name = "objects"
    version = 4
    facet = "objects"
    config_type = ObjectsConfig
    row_in = row_out = Clip
    needs = ("segment", "detect")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_held_object", "low_confidence", "object_rarely_visible", "object_too_small",
        "object_too_large", "object_unsteady", "holding_hand_lost", "second_product",
        "clip_unreadable",
    })  # fmt: skip

    def __init__(self, config: ObjectsConfig) -> None:
        super().__init__(config)
        self._finder: ProductFinder = config.backend.build()
        self.backends = (self._finder,)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Find the product in every frame."""
        frames = files.frames(row.media.video)
        landmarks = Landmarks.read(files.arrays(row.need("detect").arrays))
        scene = load_scene(frames, landmarks, self.config.short_side_px)
        found = self._finder.find(
            ClipView(frames, landmarks, scene, self.config.every, files.scratch)
        )
        masks, in_hand = found.masks, touch(scene, found.small)
        arrays: Arrays = {
            "confidence": found.confidence,
            "in_hand": in_hand,
            "box_xyxy_px": np.stack([box_of(mask) for mask in masks]),
            **encode_masks(masks, "mask"),
        }
        target = slice(row.media.num_motion_frames, None)
        visible = np.asarray(masks[target].any(axis=(1, 2)))
        areas = masks[target].mean(axis=(1, 2))
        facet = ObjectsFacet(
            arrays=files.put_arrays(arrays),
            visible_share=float(visible.mean()),
            in_hand_share=float(in_hand[target].any(axis=1).mean()),
            holding_hand_share=holding_hand_share(
                in_hand[target], landmarks.hands_seen[target], visible
            ),
            confidence=float(np.median(found.confidence[target])),
            area_share=float(np.median(areas[visible])) if visible.any() else 0.0,
            flicker=float(np.mean(flicker_of(scene, found.small)[target])),
            area_jump_share=jump_share(areas),
            second_product_share=found.second_share,
            backend=self._finder.ref,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """A product is in a hand for most of the clip, and the cues agree on it."""
        found, gate = row.need("objects"), self.config.gate
        return first_failure([
            AtLeast("no_held_object", "in_hand_share", found.in_hand_share, gate.min_in_hand_share),
            AtLeast("holding_hand_lost", "holding_hand_share", found.holding_hand_share,
                    gate.min_holding_hand_share),
            AtMost("second_product", "second_product_share", found.second_product_share,
                   gate.max_second_product_share),
            AtLeast("object_rarely_visible", "visible_share", found.visible_share, gate.min_visible_share),
            AtLeast("low_confidence", "confidence", found.confidence, gate.min_confidence),
            AtLeast("object_too_small", "area_share", found.area_share, gate.min_area_share),
            AtMost("object_too_large", "area_share", found.area_share, gate.max_area_share),
            AtMost("object_unsteady", "area_jump_share", found.area_jump_share, gate.max_area_jump_share),
        ])  # fmt: skip


def touch(scene: Scene, masks: Mask) -> U8:
    """(T,2) u8: the mask touches the left, the right hand."""
    out = np.zeros((len(masks), 2), np.uint8)
    for t, mask in enumerate(masks):
        if not mask.any():
            continue
        for side, hand in scene.hands[t].items():
            width = max(3, round(0.1 * hand.size_px))
            hand_pixels = hand_mask(hand, scene.shape).astype(np.uint8)
            grown = cv2.dilate(hand_pixels, np.ones((width, width), np.uint8))
            out[t, side] = bool((grown.astype(bool) & mask).any())
    return out


def holding_hand_share(in_hand: U8, seen: Flags, visible: Flags) -> float:
    """Share of the frames with a mask in which a hand that holds it is seen; 0 where no hand ever touches it.

    A hand holds where it touches the mask at least half as often as the hand that touches it most: things pass from hand
    to hand.

    Args:
        in_hand: (T,2) the mask touches the left, the right hand.
        seen: (T,2) the hand was seen.
        visible: (T,) there is a mask.
    """
    touches = in_hand[visible].sum(axis=0)
    if not touches.any():
        return 0.0
    holding = 2 * touches >= touches.max()
    return float(seen[visible][:, holding].any(axis=1).mean())


def jump_share(areas: NDArray[np.floating]) -> float:
    """Share of the steps between areas (T,) that are jumps: by more than 4 : 3, from nothing or to nothing.

    >>> jump_share(np.array([4, 4.5, 9, 9, 0.0]))
    0.5
    """
    if len(areas) < 2:
        return 0.0
    low, high = np.minimum(areas[1:], areas[:-1]), np.maximum(areas[1:], areas[:-1])
    return float((low < high / _JUMP).mean())


def flicker_of(scene: Scene, masks: Mask) -> F32:
    """(T,) 1 - IoU of each mask with the one before, moved by optical flow; 0 for the first."""
    engine = make_flow()
    out = np.zeros(len(masks), np.float32)
    for t in range(1, len(masks)):
        if masks[t].any() or masks[t - 1].any():
            flow = engine.calc(scene.grey[t], scene.grey[t - 1], None)
            out[t] = 1 - iou(warp(masks[t - 1], flow), masks[t])
    return out
