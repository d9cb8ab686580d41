"""Stage 7: two reference pictures out of the clip itself.

Person: a frame with a good face, the product taken out and filled. Product: its best view, cut out on white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.base import BackendRef
from schemas.errors import DataError
from schemas.facets import ReferencesFacet
from schemas.rows import Clip
from stages import filling
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Arrays, Files
from stages.masks import decode_masks
from stages.product_cues import Hand, broad_hands
from stages.product_traces import ProductColours, grow, neighbourhood

BORROW = BackendRef(name="borrow", version="1", licence="Apache-2.0")
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_WHITE = 255
_FINGER_LIKENESS = 0.5


class ReferencesGate(GateConfig):
    """When a reference is not worth training on.

    Args:
        min_product_side_px: The longer side of the cut-out. 48 px is three patches of the model.
        allow_truncated_product: Keep products that the frame's border cuts.
        min_product_sharpness: Variance of the Laplacian inside the cut-out; a label out of focus has
            less than 10, printed text in focus some hundreds.
        max_person_filled_share: Beyond it the person picture is mostly invented.
    """

    min_product_side_px: int = Field(default=48, ge=1)
    allow_truncated_product: bool = False
    min_product_sharpness: float = Field(default=8.0, ge=0)
    max_person_filled_share: float = Field(default=0.35, ge=0, le=1)


class ReferencesConfig(StageConfig):
    """How references are made.

    Args:
        backend: ``borrow`` fills the removed product with what other frames show there.
        every: Look at every n-th frame when choosing.
        num_donors: Frames to borrow from.
        margin_share: The product mask is grown by this share of the short side before it is removed.
        padding_share: White around the product, of its longer side.
    """

    backend: Literal["borrow"] = "borrow"
    every: int = Field(default=3, ge=1)
    num_donors: int = Field(default=10, ge=0, le=40)
    margin_share: float = Field(default=0.015, ge=0, le=0.1)
    padding_share: float = Field(default=0.08, ge=0, le=0.5)
    gate: ReferencesGate = ReferencesGate()


@dataclass(frozen=True)
class Seen:
    """A clip as this stage sees it."""

    frames: Image
    masks: Mask
    boxes: Arrays
    confidence: NDArray[np.float32]


class ReferencesStage(Stage[ReferencesConfig, Clip, Clip]):
    """Fills ``references``."""

    name = "references"
    facet = "references"
    config_type = ReferencesConfig
    row_in = row_out = Clip
    needs = ("segment", "detect", "objects")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_face_for_reference", "product_too_small", "product_truncated", "product_blurry",
        "person_mostly_filled", "clip_unreadable",
    })  # fmt: skip

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Choose the frames and make both pictures."""
        assert row.boxes is not None
        assert row.objects is not None
        frames, found = files.frames(row.media.video), files.arrays(row.objects.arrays)
        masks = decode_masks(found, "mask", row.media.height_px, row.media.width_px)
        seen = Seen(frames, masks, files.arrays(row.boxes.arrays), found["confidence"])
        person_frame = choose_person_frame(seen, self.config.every)
        product_frame = choose_product_frame(seen, self.config.every)
        person, filled_share = remove_product(seen, person_frame, self.config)
        product, box = cut_out(
            frames[product_frame], masks[product_frame], self.config.padding_share
        )
        facet = ReferencesFacet(
            person_image=files.put_png(person),
            product_image=files.put_png(product),
            person_frame=person_frame,
            product_frame=product_frame,
            filled_share=filled_share,
            product_height_px=box[3] - box[1],
            product_width_px=box[2] - box[0],
            product_confidence=float(seen.confidence[product_frame]),
            product_truncated=is_truncated(masks[product_frame]),
            product_sharpness=sharpness(frames[product_frame], masks[product_frame]),
            backend=BORROW,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Both pictures must be worth learning from."""
        made, gate = row.references, self.config.gate
        assert made is not None
        side = max(made.product_height_px, made.product_width_px)
        checks = (
            ("product_too_small", side < gate.min_product_side_px,
             f"longer side {side} px < {gate.min_product_side_px}"),
            ("product_truncated", made.product_truncated and not gate.allow_truncated_product,
             "the frame's border cuts the product in its best view"),
            ("product_blurry", made.product_sharpness < gate.min_product_sharpness,
             f"references.product_sharpness={made.product_sharpness:.1f} < "
             f"{gate.min_product_sharpness}"),
            ("person_mostly_filled", made.filled_share > gate.max_person_filled_share,
             f"references.filled_share={made.filled_share:.2f} > {gate.max_person_filled_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def choose_person_frame(seen: Seen, every: int) -> int:
    """The frame whose face is seen (not interpolated), sharp, frontal and free of the product.

    Raises:
        DataError: ``no_face_for_reference`` if no frame has a face that the product leaves clear.
    """
    best: tuple[float, int] | None = None
    faces = seen.boxes["face_box_xyxy_px"]
    sure = 0.9 * float(np.median(seen.confidence))
    for t in range(0, len(seen.frames), every):
        if not np.isfinite(faces[t]).all() or seen.boxes["face_is_filled"][t]:
            continue
        x0, y0, x1, y1 = faces[t].round().astype(int)
        face, covered = seen.frames[t, y0:y1, x0:x1], seen.masks[t, y0:y1, x0:x1]
        if min(face.shape[:2]) < 8 or covered.mean() > 0.25 or seen.confidence[t] < sure:
            continue  # a poor mask would leave the product in the picture
        clear = (1 - covered.mean()) ** 4 * (1 - seen.masks[t].mean()) ** 2
        sharp = np.log1p(_laplacian_variance(face))
        score = float(sharp * clear * frontality(seen.boxes["face_landmarks_px"][t]))
        if best is None or score > best[0]:
            best = score, t
    if best is None:
        raise DataError("no_face_for_reference", "no frame has a face clear of the product")
    return best[1]


def frontality(face_points_px: NDArray[np.float32]) -> float:
    """1 for a face seen from the front, 0.2 in profile: nose tip (4) between the cheeks (234, 454).

    >>> points = np.zeros((468, 3), np.float32); points[454, 0], points[4, 0] = 10, 5
    >>> frontality(points)
    1.0
    """
    left, right, nose = face_points_px[[234, 454, 4], 0]
    if abs(right - left) < 1e-3:
        return 0.2
    position = (nose - left) / (right - left)
    return float(np.clip(1.0 - 1.6 * abs(position - 0.5), 0.2, 1.0))


def choose_product_frame(seen: Seen, every: int) -> int:
    """The view that is large, sharp, whole, sure, and least covered by fingers.

    Raises:
        DataError: ``product_too_small`` if there is no mask at all.
    """
    best: tuple[float, int] | None = None
    for t in range(0, len(seen.frames), every):
        mask = seen.masks[t]
        if not mask.any():
            continue
        whole = 0.25 if is_truncated(mask) else 1.0
        sharp = np.log1p(sharpness(seen.frames[t], mask))
        clear = 1 - 0.7 * finger_share(mask, seen.boxes, t)
        score = float(np.sqrt(mask.mean()) * sharp * whole * clear * (0.05 + seen.confidence[t]))
        if best is None or score > best[0]:
            best = score, t
    if best is None:
        raise DataError("product_too_small", "no frame has a product mask")
    return best[1]


def finger_share(mask: Mask, boxes: Arrays, t: int) -> float:
    """Share of a hand's 21 points that lie inside the hull of a mask, both hands summed, at most 1."""
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    hull = cv2.convexHull(np.concatenate(outlines))
    hands = np.concatenate([boxes[f"{s}_hand_landmarks_px"][t, :, :2] for s in ("left", "right")])
    seen = hands[np.isfinite(hands).all(axis=1)].tolist()
    inside = sum(cv2.pointPolygonTest(hull, point, measureDist=False) >= 0 for point in seen)
    return min(1.0, inside / 21)


def is_truncated(mask: Mask) -> bool:
    """True where a mask lies along a border of the frame for 1 % of its perimeter's half or more."""
    edge = max(mask[0].sum(), mask[-1].sum(), mask[:, 0].sum(), mask[:, -1].sum())
    return bool(edge > 0.01 * sum(mask.shape))


def sharpness(frame: Image, mask: Mask) -> float:
    """Variance of the Laplacian inside a mask, its outline left out."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    values = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[inner]
    return float(values.var()) if values.size else 0.0


def _laplacian_variance(image: Image) -> float:
    small = cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def remove_product(seen: Seen, t: int, config: ReferencesConfig) -> tuple[Image, float]:
    """The person without the product (H,W,3), and the share of the picture that was filled."""
    spread = np.linspace(0, len(seen.frames) - 1, config.num_donors).round().astype(int).tolist()
    colours = ProductColours.learn(seen.frames, seen.masks, [*spread, t])
    hole = product_place(seen, t, colours, config)
    margin = round(2 * config.margin_share * min(hole.shape))
    donors = [
        filling.Donor(seen.frames[o], grow(seen.masks[o], margin) | _hands(seen, o))
        for o in sorted(set(spread) - {t})
    ]
    person, _ = filling.fill_region(seen.frames[t], hole, donors, _fingers(seen, t, 0.25))
    return person, float(hole.mean())


def product_place(seen: Seen, t: int, colours: ProductColours, config: ReferencesConfig) -> Mask:
    """What to take out (H,W): the mask, what looks like the product beside it, and a margin.

    The margin is wider where the mask is less sure. Fingers in front of the product stay.
    """
    mask, short_side = seen.masks[t], min(seen.masks.shape[1:])
    near = neighbourhood(mask, seen.boxes, t)
    traces = colours.traces(seen.frames[t], near)
    around = round(config.margin_share * short_side) + 1
    _, labels = cv2.connectedComponents((grow(traces, around) | mask).astype(np.uint8))
    beside = np.unique(labels[mask])
    found = mask | (traces & np.isin(labels, beside[beside > 0]))
    doubt = 1 - float(seen.confidence[t])
    hole = grow(found, round(config.margin_share * (1 + 2 * doubt) * short_side))
    fingers = (
        _fingers(seen, t, 0.05) & ~mask & (colours.likeness(seen.frames[t]) < _FINGER_LIKENESS)
    )
    return hole & ~fingers


def _fingers(seen: Seen, t: int, width_hands: float) -> Mask:
    """Both hands (H,W), their bones grown by a share of their length."""
    points = (seen.boxes[f"{side}_hand_landmarks_px"][t] for side in ("left", "right"))
    hands = [Hand.of(p) for p in points if np.isfinite(p).all()]
    return broad_hands(hands, (seen.masks.shape[1], seen.masks.shape[2]), width_hands)


def _hands(seen: Seen, t: int) -> Mask:
    out = np.zeros(seen.masks.shape[1:], bool)
    for side in ("left", "right"):
        box = seen.boxes[f"{side}_hand_box_xyxy_px"][t]
        if np.isfinite(box).all():
            x0, y0, x1, y1 = (int(v) for v in box)
            out[y0:y1, x0:x1] = True
    return out


def cut_out(
    frame: Image, mask: Mask, padding_share: float
) -> tuple[Image, tuple[int, int, int, int]]:
    """The masked pixels on a white square with a soft edge.

    Returns:
        (S,S,3) u8 and the mask's box xyxy in the frame.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1
    inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
    alpha = (cv2.GaussianBlur(inner, (0, 0), 1.0) * mask)[..., None]
    mixed = (frame * alpha + _WHITE * (1 - alpha)).round().astype(np.uint8)
    piece = mixed[box[1] : box[3], box[0] : box[2]]
    height, width = piece.shape[:2]
    side = round(max(height, width) * (1 + 2 * padding_share))
    square = np.full((side, side, 3), _WHITE, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = piece
    return square, box
