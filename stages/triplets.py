"""Stage 8: do the clip, the person reference and the product reference belong together?"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.facets import TripletsFacet
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Arrays, Files
from stages.masks import decode_masks
from stages.product_cues import ColourModel

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]
FEATURES = BackendRef(name="features", version="1", licence="Apache-2.0")
_BINS = [8, 8, 8]
_RANGES = [0, 256, 0, 256, 0, 256]
_CROP_PX, _CELL_PX, _ANGLES = 96, 16, 9


class TripletsGate(GateConfig):
    """Thresholds."""

    min_person_similarity: float = Field(default=0.5, ge=0, le=1)
    min_product_similarity: float = Field(default=0.35, ge=0, le=1)
    max_product_leak: float = Field(default=0.5, ge=0, le=1)
    max_hand_in_product_share: float = Field(default=0.35, ge=0, le=1)


class TripletsConfig(StageConfig):
    """How many frames are compared."""

    num_frames: int = Field(default=8, ge=2)
    gate: TripletsGate = TripletsGate()


class TripletsStage(Stage[TripletsConfig, Clip, Clip]):
    """Fills ``triplets``."""

    name = "triplets"
    facet = "triplets"
    config_type = TripletsConfig
    row_in = row_out = Clip
    needs = ("segment", "detect", "objects", "references")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "person_mismatch", "product_mismatch", "product_leak", "hand_in_product",
        "clip_unreadable", "image_unreadable",
    })  # fmt: skip

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Compare the references with the clip's own frames."""
        assert row.boxes is not None
        assert row.objects is not None
        assert row.references is not None
        frames = files.frames(row.media.video)
        boxes = files.arrays(row.boxes.arrays)
        masks = decode_masks(files.arrays(row.objects.arrays), "mask", *frames.shape[1:3])
        person = files.image(row.references.person_image)
        product = files.image(row.references.product_image)
        target = np.arange(row.media.num_motion_frames, len(frames))
        some = target[np.linspace(0, len(target) - 1, self.config.num_frames).astype(int)]
        hole = masks[row.references.person_frame]
        facet = TripletsFacet(
            person_similarity=person_similarity(
                person, row.references.person_frame, frames, boxes, some
            ),
            product_similarity=product_similarity(product, frames, masks, some),
            product_leak=product_leak(person, hole, frames, masks, some),
            hand_in_product_share=skin_share(product, frames, boxes, masks, some),
            face_kept=bool(
                np.isfinite(boxes["face_box_xyxy_px"][row.references.person_frame]).all()
            ),
            backend=FEATURES,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """All three belong together and nothing leaks."""
        found, gate = row.triplets, self.config.gate
        assert found is not None
        checks = (
            ("person_mismatch", found.person_similarity < gate.min_person_similarity,
             f"{found.person_similarity=:.2f} < {gate.min_person_similarity}"),
            ("product_mismatch", found.product_similarity < gate.min_product_similarity,
             f"{found.product_similarity=:.2f} < {gate.min_product_similarity}"),
            ("product_leak", found.product_leak > gate.max_product_leak,
             f"{found.product_leak=:.2f} > {gate.max_product_leak}"),
            ("hand_in_product", found.hand_in_product_share > gate.max_hand_in_product_share,
             f"{found.hand_in_product_share=:.2f} > {gate.max_hand_in_product_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def histogram(image: Frames, mask: Mask | None = None) -> NDArray[np.float32]:
    """Normalised Lab histogram."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    where = None if mask is None else mask.astype(np.uint8)
    counts = cv2.calcHist([lab], [0, 1, 2], where, _BINS, _RANGES)
    return np.asarray(counts / max(float(counts.sum()), 1.0), np.float32)


def histogram_match(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Bhattacharyya coefficient of two normalised histograms: 1 equal, 0 disjoint."""
    return float(np.clip(np.sqrt(a * b).sum(), 0, 1))


def gradient_match(a: Frames, b: Frames) -> float:
    """Cosine of two grids of gradient-orientation histograms (after Dalal and Triggs 2005)."""
    one, two = (orientation_grid(i) for i in (a, b))
    norm = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(np.clip(one @ two / norm, 0, 1)) if norm > 0 else 0.0


def orientation_grid(image: Frames) -> NDArray[np.float32]:
    """Magnitude-weighted orientation histograms, 9 bins in cells of 16 px, of a 96 px crop, flat."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_CROP_PX, _CROP_PX)).astype(
        np.float32
    )
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    bins = (np.arctan2(dy, dx) % np.pi / np.pi * _ANGLES).astype(np.intp) % _ANGLES
    cells = np.arange(_CROP_PX) // _CELL_PX
    side = _CROP_PX // _CELL_PX
    grid = np.zeros((side, side, _ANGLES), np.float32)
    np.add.at(grid, (cells[:, None], cells[None, :], bins), np.hypot(dx, dy))
    return np.asarray(np.sqrt(grid).ravel())


def person_similarity(
    person: Frames, person_frame: int, frames: Frames, boxes: Arrays, some: NDArray[np.int_]
) -> float:
    """Median over frames of face colour and face gradient agreement with the reference."""
    face = _crop(person, boxes["face_box_xyxy_px"][person_frame])
    if face is None:
        return 0.0
    scores = []
    for t in some:
        other = _crop(frames[t], boxes["face_box_xyxy_px"][t])
        if other is not None:
            colour = histogram_match(histogram(face), histogram(other))
            scores.append((colour * gradient_match(face, other)) ** 0.5)
    return float(np.median(scores)) if scores else 0.0


def product_similarity(
    product: Frames, frames: Frames, masks: Mask, some: NDArray[np.int_]
) -> float:
    """Median over frames of colour agreement between the cut-out and the masked product."""
    reference = histogram(product, ~is_white(product))
    scores = [
        histogram_match(reference, histogram(frames[t], masks[t])) for t in some if masks[t].any()
    ]
    return float(np.median(scores)) if scores else 0.0


def product_leak(
    person: Frames, hole: Mask, frames: Frames, masks: Mask, some: NDArray[np.int_]
) -> float:
    """How far the filled place still looks like the product rather than what surrounds it."""
    if not hole.any():
        return 0.0
    product, around = ColourModel(), ColourModel()
    for t in some:
        lab = np.asarray(cv2.cvtColor(frames[t], cv2.COLOR_RGB2LAB), np.uint8)
        product.feed(lab, masks[t])
        ring = cv2.dilate(masks[t].astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        around.feed(lab, ring & ~masks[t])
    lab = np.asarray(cv2.cvtColor(person, cv2.COLOR_RGB2LAB), np.uint8)
    inside, outside = product.probability(lab), around.probability(lab)
    core = cv2.erode(hole.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    place = core if core.any() else hole
    return float(((inside / (inside + outside + 1e-9))[place] > 0.8).mean())


def skin_share(
    product: Frames, frames: Frames, boxes: Arrays, masks: Mask, some: NDArray[np.int_]
) -> float:
    """Share of the cut-out that has the face's colours and not the rest of the product's."""
    skin, thing = ColourModel(), ColourModel()
    for t in some:
        lab = np.asarray(cv2.cvtColor(frames[t], cv2.COLOR_RGB2LAB), np.uint8)
        face = boxes["face_box_xyxy_px"][t]
        if np.isfinite(face).all():
            x0, y0, x1, y1 = (int(v) for v in face)
            inner = np.zeros(masks.shape[1:], bool)
            inner[
                y0 + (y1 - y0) // 3 : y1 - (y1 - y0) // 4, x0 + (x1 - x0) // 4 : x1 - (x1 - x0) // 4
            ] = True
            skin.feed(lab, inner & ~masks[t])
        thing.feed(lab, masks[t])
    lab = np.asarray(cv2.cvtColor(product, cv2.COLOR_RGB2LAB), np.uint8)
    place = ~is_white(product)
    if not place.any():
        return 1.0
    return float((skin.probability(lab) > 2 * thing.probability(lab))[place].mean())


def is_white(image: Frames) -> Mask:
    """The white ground of a cut-out."""
    return np.asarray((image >= 250).all(axis=2))


def _crop(image: Frames, box_xyxy: NDArray[np.float32]) -> Frames | None:
    if not np.isfinite(box_xyxy).all():
        return None
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    crop = image[y0:y1, x0:x1]
    return crop if min(crop.shape[:2]) >= 8 else None
