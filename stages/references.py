"""Stage 7: the person without the product, and the product without the person."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.errors import DataError
from schemas.facets import ReferencesFacet
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Arrays, Files
from stages.masks import decode_masks

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
COMPOSE = BackendRef(name="compose", version="1", licence="Apache-2.0")


class ReferencesGate(GateConfig):
    """Thresholds."""

    min_product_side_px: int = Field(default=40, ge=1)
    min_product_confidence: float = Field(default=0.4, ge=0, le=1)
    max_filled_share: float = Field(default=0.35, ge=0, le=1)
    allow_truncated: bool = False


class ReferencesConfig(StageConfig):
    """How references are made."""

    num_candidates: int = Field(default=24, ge=2)
    """Frames looked at for either image and as donors of what the product hides."""
    grow_px: int = Field(default=9, ge=0)
    """How far beyond its mask the product is removed."""
    gate: ReferencesGate = ReferencesGate()


class ReferencesStage(Stage[ReferencesConfig, Clip, Clip]):
    """Fills ``references``."""

    name = "references"
    facet = "references"
    config_type = ReferencesConfig
    row_in = row_out = Clip
    needs = ("segment", "detect", "objects")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_face_for_reference", "product_too_small", "product_truncated", "product_uncertain",
        "too_much_filled", "clip_unreadable",
    })  # fmt: skip

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Make both images."""
        assert row.boxes is not None
        assert row.objects is not None
        frames = files.frames(row.media.video)
        boxes, objects = files.arrays(row.boxes.arrays), files.arrays(row.objects.arrays)
        masks = decode_masks(objects, "mask", *frames.shape[1:3])
        candidates = np.unique(
            np.linspace(0, len(frames) - 1, self.config.num_candidates).astype(int)
        )
        person_frame = choose_person_frame(frames, masks, boxes, candidates)
        product_frame = choose_product_frame(frames, masks, objects, boxes, candidates)
        person, filled = remove_product(
            frames, masks, person_frame, candidates, self.config.grow_px
        )
        product, cut_size, truncated = cut_out(frames[product_frame], masks[product_frame])
        facet = ReferencesFacet(
            person_image=files.put_png(person), product_image=files.put_png(product),
            person_frame=person_frame, product_frame=product_frame, filled_share=filled,
            product_height_px=cut_size[0], product_width_px=cut_size[1],
            product_confidence=float(objects["confidence"][product_frame]),
            product_truncated=truncated, backend=COMPOSE,
            product_sharpness=focus(frames[product_frame], objects["box_xyxy_px"][product_frame]),
        )  # fmt: skip
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """A whole, certain product of some size, and a person mostly left as it was."""
        found, gate = row.references, self.config.gate
        assert found is not None
        side = max(found.product_height_px, found.product_width_px)
        checks = (
            ("product_too_small", side < gate.min_product_side_px,
             f"{side} px < {gate.min_product_side_px} px"),
            ("product_truncated", found.product_truncated and not gate.allow_truncated,
             "the best view touches the border of the frame"),
            ("product_uncertain", found.product_confidence < gate.min_product_confidence,
             f"{found.product_confidence=:.2f} < {gate.min_product_confidence}"),
            ("too_much_filled", found.filled_share > gate.max_filled_share,
             f"{found.filled_share=:.2f} > {gate.max_filled_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def focus(frame: Frames, box_xyxy: Floats | None = None) -> float:
    """Variance of the Laplacian inside a box."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if box_xyxy is not None:
        x0, y0, x1, y1 = (int(v) for v in box_xyxy)
        grey = grey[y0 : max(y1, y0 + 2), x0 : max(x1, x0 + 2)]
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def choose_person_frame(
    frames: Frames, masks: Mask, boxes: Arrays, candidates: NDArray[np.int_]
) -> int:
    """The frame with a sharp face that the product covers least.

    Raises:
        DataError: ``no_face_for_reference``.
    """
    best: tuple[float, int] | None = None
    for t in candidates:
        face = boxes["face_box_xyxy_px"][t]
        if not np.isfinite(face).all():
            continue
        x0, y0, x1, y1 = (int(v) for v in face)
        covered = float(masks[t, y0:y1, x0:x1].mean())
        score = np.log1p(focus(frames[t], face)) * (1 - covered) ** 2 * (1 - masks[t].mean())
        best = max(best or (-1.0, 0), (float(score), int(t)))
    if best is None:
        raise DataError("no_face_for_reference", f"no face in {len(candidates)} frames")
    return best[1]


def choose_product_frame(
    frames: Frames, masks: Mask, objects: Arrays, boxes: Arrays, candidates: NDArray[np.int_]
) -> int:
    """The frame with the largest, sharpest, surest view of the product, whole in the picture.

    Raises:
        DataError: ``product_too_small`` if no candidate shows one.
    """
    best: tuple[float, int] | None = None
    areas = np.array([masks[t].sum() for t in candidates], np.float64)
    largest = max(areas.max(initial=0), 1.0)
    for t, area in zip(candidates, areas, strict=True):
        box = objects["box_xyxy_px"][t]
        if area == 0 or not np.isfinite(box).all():
            continue
        whole = 0.25 if touches_border(masks[t]) else 1.0
        hidden = hidden_share(box, boxes, int(t))
        sharp = np.log1p(focus(frames[t], box))
        score = (
            whole * (area / largest) ** 0.5 * sharp * objects["confidence"][t] * (1 - 0.5 * hidden)
        )
        best = max(best or (-1.0, 0), (float(score), int(t)))
    if best is None:
        raise DataError("product_too_small", "no frame shows the product")
    return best[1]


def hidden_share(box_xyxy: Floats, boxes: Arrays, t: int) -> float:
    """Share of the product's box that lies under hand boxes."""
    area = max((box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1]), 1.0)
    overlap = 0.0
    for side in ("left", "right"):
        hand = boxes[f"{side}_hand_box_xyxy_px"][t]
        if np.isfinite(hand).all():
            low = np.maximum(box_xyxy[:2], hand[:2])
            high = np.minimum(box_xyxy[2:], hand[2:])
            overlap += float(np.prod(np.clip(high - low, 0, None)))
    return min(1.0, overlap / float(area))


def touches_border(mask: Mask) -> bool:
    """True if a mask reaches the edge of the picture."""
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


def remove_product(
    frames: Frames, masks: Mask, index: int, donors: NDArray[np.int_], grow_px: int
) -> tuple[Frames, float]:
    """Fill the product's place from frames that show what is behind it, inpaint what none shows.

    Donors are aligned by the flow around the hole, so a person that sways still fits.

    Returns:
        The image (H,W,3) u8 and the share of it that was filled.
    """
    hole = grow(masks[index], grow_px)
    filled_share = float(hole.mean())
    image = frames[index].copy()
    todo = hole.copy()
    nearest = sorted((t for t in donors if t != index), key=lambda t: abs(int(t) - index))
    for donor in nearest:
        if not todo.any():
            break
        shift = _shift(frames[donor], frames[index], hole | grow(masks[donor], grow_px))
        if shift is None:
            continue
        moved = cv2.warpAffine(
            frames[donor], shift, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT
        )
        hidden = cv2.warpAffine(
            grow(masks[donor], grow_px).astype(np.uint8), shift, image.shape[1::-1], borderValue=1
        )
        use = todo & (hidden == 0)
        image[use] = moved[use]
        todo &= ~use
    if todo.any():
        image = np.asarray(
            cv2.inpaint(image, todo.astype(np.uint8), 5, cv2.INPAINT_TELEA), np.uint8
        )
    seam = cv2.GaussianBlur(hole.astype(np.float32), (7, 7), 0)[..., None]
    blended = seam * image + (1 - seam) * np.where(hole[..., None], image, frames[index])
    return blended.round().astype(np.uint8), filled_share


def _shift(source: Frames, target: Frames, ignore: Mask) -> NDArray[np.float32] | None:
    """Translation (2,3) that moves source onto target outside ``ignore``; None if they differ."""
    small = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), None, fx=0.25, fy=0.25)
        for f in (source, target)
    ]
    weight = cv2.resize((~ignore).astype(np.uint8), small[0].shape[::-1])
    a, b = (np.float32(g) * weight for g in small)
    (dx, dy), response = cv2.phaseCorrelate(a, b)
    if response < 0.05 or np.hypot(dx, dy) > 0.1 * min(small[0].shape):
        return None
    return np.array([[1, 0, 4 * dx], [0, 1, 4 * dy]], np.float32)


def grow(mask: Mask, pixels: int) -> Mask:
    """Dilate by a disc."""
    if pixels == 0:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), bool)


def cut_out(frame: Frames, mask: Mask) -> tuple[Frames, tuple[int, int], bool]:
    """The product on white with a soft edge, square with a 10 % margin.

    Returns:
        The image (S,S,3) u8, the product's (height, width) in pixels, and whether it is truncated.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1)
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None]
    on_white = (alpha * frame + (1 - alpha) * 255.0).round().astype(np.uint8)
    crop = on_white[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    side = (round(1.2 * max(height, width)) + 1) // 2 * 2
    canvas = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = crop
    return canvas, (height, width), touches_border(mask)
