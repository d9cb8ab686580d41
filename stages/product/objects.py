"""Stage 6: the held product's mask, frame by frame, with a confidence."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.facets import ObjectsFacet
from schemas.rows import Clip
from schemas.settings import PIN, PLACE, used_by
from stages.base import Dropped, GateConfig, Kept, Resources, Stage, StageConfig
from stages.files import Files
from stages.kit.arrays import Arrays
from stages.kit.boxes import box_of
from stages.kit.hands import hand_mask
from stages.kit.landmarks import is_seen_by_side, landmarks_at
from stages.kit.masks import encode_masks, iou
from stages.product.carried_masks import MaskCarrier, Prompt, drifted, make_prompt
from stages.product.cue_masks import segment_product
from stages.product.cues import Mask
from stages.product.flow import make_flow, warp
from stages.product.held_looks import HeldProduct
from stages.product.held_masks import look_over, masks_of
from stages.product.sam2 import Sam2Objects
from stages.product.sam3 import Sam3Objects
from stages.product.scene import Scene, load_scene

_DRIFT_IOU, _SURE = 0.3, 0.6
"""A predictor is prompted again where it overlaps less with cues that are at least this sure."""
_JUMP = 4 / 3
"""Areas of neighbouring frames whose ratio is larger are a jump."""
CUES = BackendRef(name="cues", version="1", licence="Apache-2.0")
_SAM2, _SAM3 = used_by("backend", "sam2"), used_by("backend", "sam3")
Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


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


class ObjectsConfig(StageConfig):
    """How to look for the product."""

    backend: Literal["held", "cues", "sam2", "sam3"] = "held"
    """``held`` is a small network of ours that looks around the hands (training/held_product); ``cues`` knows hands,
    colours and motion alone. ``sam2`` and ``sam3`` carry the surest mask over the clip with the user's checkpoint."""
    prompts: Annotated[Literal["held", "cues"], used_by("backend", "sam2", "sam3")] = "held"
    """``sam2``, ``sam3``: whose masks they are prompted with."""
    weights_file: Annotated[str, PLACE] = ""
    """``sam2``, ``sam3``: path of the user's checkpoint. ``held``: path of other weights than the packaged ones."""
    weights_sha256: Annotated[str, PIN] = ""
    """Pins the weight file; empty for any."""
    max_prompts: Annotated[int, used_by("backend", "sam2", "sam3")] = Field(default=3, ge=1)
    """``sam2``, ``sam3``: the surest frame, then frames where the result has drifted away from what prompted it."""
    sam2_config: Annotated[str, _SAM2] = "configs/sam2.1/sam2.1_hiera_t.yaml"
    """``sam2``: the configuration, inside the package, that the checkpoint was trained with."""
    sam2_image_size_px: Annotated[int | None, _SAM2] = Field(default=None, ge=256)
    """``sam2``: None for the configuration's own 1024; 512 is seven times faster and coarser."""
    sam2_chunk_frames: Annotated[int, _SAM2] = Field(default=48, ge=2)
    """``sam2``: frames in memory at a time."""
    sam2_device: Annotated[Literal["cpu", "cuda"], _SAM2] = "cpu"
    sam3_prompt: Annotated[str, _SAM3] = Field(default="product held in hand", min_length=1)
    """``sam3``: what to look for, a short noun phrase; the prompt's box says which of the found."""
    sam3_bpe_file: Annotated[str, PLACE] = ""
    """``sam3``: path of bpe_simple_vocab_16e6.txt.gz; empty for the one in a source checkout of the package."""
    sam3_chunk_frames: Annotated[int, _SAM3] = Field(default=48, ge=2)
    """``sam3``: frames in memory at a time."""
    short_side_px: int = Field(default=256, ge=64)
    every: int = Field(default=4, ge=1)
    """Cut every n-th frame; flow carries masks in between."""
    reach_hands: Annotated[float, used_by("backend", "cues", "sam2", "sam3")] = Field(
        default=1.2, gt=0
    )
    """``cues``: how far from the grasp a product may extend, in hand lengths."""
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
        self._carrier: MaskCarrier | None = None
        self._held: HeldProduct | None = None
        if config.backend == "held":
            self._held = HeldProduct(config.weights_file, config.weights_sha256)
        elif config.backend != "cues" and config.prompts == "held":
            self._held = HeldProduct()
        if config.backend == "sam2":
            self._carrier = Sam2Objects(
                config.weights_file, config.sam2_config, config.sam2_image_size_px,
                config.sam2_chunk_frames, config.sam2_device, config.weights_sha256,
            )  # fmt: skip
        elif config.backend == "sam3":
            self._carrier = Sam3Objects(
                config.weights_file, config.sam3_bpe_file, config.sam3_prompt,
                config.sam3_chunk_frames, config.weights_sha256,
            )  # fmt: skip

    @property
    def resources(self) -> Resources:
        """One core; SAM 2 takes a GPU where it is told to, SAM 3 always."""
        if self._carrier is None:
            return Resources()
        if self.config.backend == "sam3":
            return Resources(num_cpus=1.0, num_gpus=1.0, memory_bytes=8_000_000_000)
        gpus = 1.0 if self.config.sam2_device == "cuda" else 0.0
        return Resources(num_cpus=1.0, num_gpus=gpus, memory_bytes=4_000_000_000)

    @property
    def weights_sha256(self) -> str:
        """Digests of the networks' weights."""
        return "+".join(backend.weights_sha256 for backend in self._networks)

    @property
    def _networks(self) -> list[MaskCarrier | HeldProduct]:
        return [backend for backend in (self._carrier, self._held) if backend is not None]

    def check(self) -> None:
        """Check that packages and weights are there."""
        for backend in self._networks:
            backend.check()

    def setup(self) -> None:
        """Load the weights."""
        for backend in self._networks:
            backend.setup()

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Find the product in every frame."""
        assert row.boxes is not None
        frames, boxes = files.frames(row.media.video), files.arrays(row.boxes.arrays)
        scene = load_scene(frames, boxes, self.config.short_side_px)
        small, confidence, second_share = self._find(frames, boxes, scene)
        masks = _upsample(small, frames.shape[1:3])
        if self._carrier is not None and masks.any():
            masks, confidence = self._refine(frames, boxes, masks, confidence, files)
            small = _downsample(masks, scene.shape)
        in_hand = touch(scene, small)
        arrays: Arrays = {
            "confidence": confidence, "in_hand": in_hand, "box_xyxy_px": _boxes(masks),
            **encode_masks(masks, "mask"),
        }  # fmt: skip
        target = slice(row.media.num_motion_frames, None)
        visible = np.asarray(masks[target].any(axis=(1, 2)))
        areas = masks[target].mean(axis=(1, 2))
        facet = ObjectsFacet(
            arrays=files.put_arrays(arrays),
            visible_share=float(visible.mean()),
            in_hand_share=float(in_hand[target].any(axis=1).mean()),
            holding_hand_share=holding_hand_share(
                in_hand[target], is_seen_by_side(boxes)[target], visible
            ),
            confidence=float(np.median(confidence[target])),
            area_share=float(np.median(areas[visible])) if visible.any() else 0.0,
            flicker=float(np.mean(flicker_of(scene, small)[target])),
            area_jump_share=jump_share(areas),
            second_product_share=second_share,
            backend=self._networks[0].ref if self._networks else CUES,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def _find(self, frames: Frames, boxes: Arrays, scene: Scene) -> tuple[Mask, Floats, float]:
        """Masks (T,h,w), confidences (T,) and the share of key frames in which something else is held too."""
        every = self.config.every
        if self._held is None:
            return *segment_product(scene, every, self.config.reach_hands), 0.0
        found = look_over(scene, frames, hands_of(boxes), self._held, every)
        return *masks_of(scene, found, len(frames), every), found.second_share

    def _refine(
        self, frames: Frames, boxes: Arrays, masks: Mask, confidence: Floats, files: Files
    ) -> tuple[Mask, Floats]:
        """The predictor's masks, prompted where the cues are surest; confidence = how far both agree."""
        assert self._carrier is not None
        prompts = [self._prompt(boxes, masks, int(confidence.argmax()))]
        for attempt in range(self.config.max_prompts):
            folder = files.scratch / f"attempt-{attempt}"
            found = self._carrier.segment(frames, prompts, folder)
            off = drifted(found, masks, confidence, _DRIFT_IOU, _SURE)
            if off is None or off in [p.frame for p in prompts]:
                break
            prompts.append(self._prompt(boxes, masks, off))
        same = [iou(a, b) if b.any() else 0.5 for a, b in zip(found, masks, strict=True)]
        agree = np.sqrt(np.maximum(confidence, 0.25) * np.array(same, np.float32))
        return found, np.where(found.any(axis=(1, 2)), agree, 0).astype(np.float32)

    @staticmethod
    def _prompt(boxes: Arrays, masks: Mask, t: int) -> Prompt:
        return make_prompt(t, masks[t], list(landmarks_at(boxes, t).values()))

    def gate(self, row: Clip) -> Dropped | None:
        """A product is in a hand for most of the clip, and the cues agree on it."""
        found, gate = row.objects, self.config.gate
        assert found is not None
        checks = (
            ("no_held_object", found.in_hand_share < gate.min_in_hand_share,
             f"{found.in_hand_share=:.2f} < {gate.min_in_hand_share}"),
            ("holding_hand_lost", found.holding_hand_share < gate.min_holding_hand_share,
             f"{found.holding_hand_share=:.2f} < {gate.min_holding_hand_share}"),
            ("second_product", found.second_product_share > gate.max_second_product_share,
             f"{found.second_product_share=:.2f} > {gate.max_second_product_share}"),
            ("object_rarely_visible", found.visible_share < gate.min_visible_share,
             f"{found.visible_share=:.2f} < {gate.min_visible_share}"),
            ("low_confidence", found.confidence < gate.min_confidence,
             f"{found.confidence=:.2f} < {gate.min_confidence}"),
            ("object_too_small", found.area_share < gate.min_area_share,
             f"{found.area_share=:.4f} < {gate.min_area_share}"),
            ("object_too_large", found.area_share > gate.max_area_share,
             f"{found.area_share=:.2f} > {gate.max_area_share}"),
            ("object_unsteady", found.area_jump_share > gate.max_area_jump_share,
             f"{found.area_jump_share=:.2f} > {gate.max_area_jump_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def hands_of(boxes: Arrays) -> list[dict[int, Floats]]:
    """Per frame the landmarks (21,2) in pixels of the hands that were seen, 0 left, 1 right."""
    return [landmarks_at(boxes, t) for t in range(len(boxes["left_hand_landmarks_px"]))]


def touch(scene: Scene, masks: Mask) -> NDArray[np.uint8]:
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


def holding_hand_share(in_hand: NDArray[np.uint8], seen: Mask, visible: Mask) -> float:
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


def flicker_of(scene: Scene, masks: Mask) -> Floats:
    """(T,) 1 - IoU of each mask with the one before, moved by optical flow; 0 for the first."""
    engine = make_flow()
    out = np.zeros(len(masks), np.float32)
    for t in range(1, len(masks)):
        if masks[t].any() or masks[t - 1].any():
            flow = engine.calc(scene.grey[t], scene.grey[t - 1], None)
            out[t] = 1 - iou(warp(masks[t - 1], flow), masks[t])
    return out


def _upsample(masks: Mask, shape: tuple[int, int]) -> Mask:
    size = (shape[1], shape[0])
    big = [
        cv2.GaussianBlur(
            cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), (7, 7), 0
        )
        for m in masks
    ]
    return np.stack(big) > 0.5


def _downsample(masks: Mask, shape: tuple[int, int]) -> Mask:
    """Full masks (T,H,W) at the scene's size."""
    small = [
        cv2.resize(m.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) for m in masks
    ]
    return np.stack(small) > 0.5


def _boxes(masks: Mask) -> Floats:
    """(T,4) xyxy of masks (T,H,W), NaN where one is empty."""
    out = np.full((len(masks), 4), np.nan, np.float32)
    for t, mask in enumerate(masks):
        if mask.any():
            out[t] = box_of(mask)
    return out
