"""Two reference pictures out of the clip itself.

Person: a frame with a good face, the product taken out and filled (stages/product/person_picture.py), then looked at afresh
(stages/product/person_check.py). Product: its best view (stages/product/product_view.py), cut out on white.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import cv2
import numpy as np

from schemas.base import BackendRef
from schemas.facets import ReferencesFacet
from schemas.rows import Clip
from stages.base import Dropped, Kept, Stage
from stages.files import Files
from stages.gates import AtLeast, AtMost, Never, first_failure
from stages.kit.arrays import Image, Mask
from stages.kit.boxes import window_of
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks
from stages.kit.mediapipe_package import ABOUT as MEDIAPIPE_PACKAGE
from stages.product.held_looks import ABOUT as HELD
from stages.product.held_looks import HeldProduct
from stages.product.mediapipe_hands import MediapipeHands
from stages.product.person_check import HandFinder
from stages.product.person_picture import make_person
from stages.product.product_view import Seen, best_view
from stages.product.references_config import ReferencesConfig, ReferencesGate

BORROW = BackendRef(name="borrow", version="1", licence="Apache-2.0")
_WHITE = 255
_log = logging.getLogger(__name__)


class ReferencesStage(Stage[ReferencesConfig, Clip, Clip]):
    """Fills ``references``."""

    name = "references"
    version = 2
    facet = "references"
    config_type = ReferencesConfig
    row_in = row_out = Clip
    needs = ("segment", "detect", "objects")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "no_face_for_reference", "product_too_small", "product_truncated", "product_blurry",
        "product_covered", "person_mostly_filled", "person_still_holds", "person_hand_lost",
        "person_seam", "person_not_looked_at", "clip_unreadable",
    })  # fmt: skip

    fixed_backends = (MEDIAPIPE_PACKAGE, HELD)

    def __init__(self, config: ReferencesConfig) -> None:
        super().__init__(config)
        hands = MediapipeHands()
        self._hands: HandFinder = hands
        self._held: HeldProduct | None = None
        if config.look_again:
            self._held = HeldProduct(
                config.weights_file, config.weights_sha256, "references.weights_file"
            )
        self.backends = (hands, self._held) if self._held else (hands,)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Choose the frames and make both pictures."""
        frames, found = files.frames(row.media.video), files.arrays(row.need("objects").arrays)
        masks = decode_masks(found, "mask", row.media.height_px, row.media.width_px)
        landmarks = Landmarks.read(files.arrays(row.need("detect").arrays))
        seen = Seen(frames, masks, landmarks, found["confidence"])
        person = make_person(seen, self.config, self._hands, self._held)
        product = best_view(seen, self.config.every, self.config.num_donors)
        t = product.view.frame
        picture, box = cut_out(product.image, product.alpha, self.config.padding_share)
        facet = ReferencesFacet(
            person_image=files.put_png(person.image),
            product_image=files.put_png(picture),
            person_frame=person.frame,
            product_frame=t,
            filled_share=person.filled_share,
            person_held_chance=person.scores.held_chance,
            person_hands_kept_share=person.scores.hands_kept_share,
            person_seam=person.scores.seam,
            person_held_backend=self._held.ref if self._held else None,
            product_height_px=box[3] - box[1],
            product_width_px=box[2] - box[0],
            product_confidence=float(seen.confidence[t]),
            product_truncated=is_truncated(masks[t]),
            product_sharpness=sharpness(frames[t], masks[t]),
            product_outline_share=1 - product.view.edge_share - product.view.finger_share,
            product_gap_share=product.gap_share,
            product_borrowed_share=product.filled_share,
            backend=BORROW,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Both pictures must be worth learning from."""
        return judge(row.need("references"), self.config.gate)


def judge(made: ReferencesFacet, gate: ReferencesGate) -> Dropped | None:
    """Apply thresholds to scores."""
    side = max(made.product_height_px, made.product_width_px)
    return first_failure([
        AtLeast("product_too_small", "longer side in px", side, gate.min_product_side_px),
        Never("product_truncated", made.product_truncated and not gate.allow_truncated_product,
              "the frame's border cuts the product in its best view"),
        AtLeast("product_blurry", "product_sharpness", made.product_sharpness, gate.min_product_sharpness),
        AtMost("person_mostly_filled", "filled_share", made.filled_share, gate.max_person_filled_share),
        Never("person_not_looked_at", gate.require_held_check and made.person_held_chance is None,
              _why_not_looked_at(made)),
        AtMost("person_still_holds", "person_held_chance", made.person_held_chance, gate.max_person_held_chance,
               "a hand of the person picture holds something"),
        AtLeast("person_hand_lost", "person_hands_kept_share", made.person_hands_kept_share,
                gate.min_person_hands_kept_share,
                "a hand of the frame is no hand with five fingers in the person picture"),
        AtMost("person_seam", "person_seam", made.person_seam, gate.max_person_seam,
               "the edge of what was filled shows in the person picture"),
        AtMost("product_covered", "product_gap_share", made.product_gap_share, gate.max_product_gap_share,
               "fingers hide some of the product in every view"),
    ])  # fmt: skip


def _why_not_looked_at(made: ReferencesFacet) -> str:
    if made.person_held_backend is None:
        return "references.look_again is off"
    return "the person's frame shows no hand to look at"


def is_truncated(mask: Mask) -> bool:
    """True where a mask lies along a border of the frame for 1 % of its perimeter's half or more."""
    edge = max(mask[0].sum(), mask[-1].sum(), mask[:, 0].sum(), mask[:, -1].sum())
    return bool(edge > 0.01 * sum(mask.shape))


def sharpness(frame: Image, mask: Mask) -> float:
    """Variance of the Laplacian inside a mask, its outline left out."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    values = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[inner]
    return float(values.var()) if values.size else 0.0


def cut_out(
    frame: Image, mask: Mask, padding_share: float
) -> tuple[Image, tuple[int, int, int, int]]:
    """The masked pixels on a white square with a soft edge.

    Returns:
        (S,S,3) u8 and the mask's box xyxy in the frame.
    """
    window = rows, cols = window_of(mask)
    box = cols.start, rows.start, cols.stop, rows.stop
    inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
    alpha = (cv2.GaussianBlur(inner, (0, 0), 1.0) * mask)[..., None]
    mixed = (frame * alpha + _WHITE * (1 - alpha)).round().astype(np.uint8)
    piece = mixed[window]
    height, width = piece.shape[:2]
    side = round(max(height, width) * (1 + 2 * padding_share))
    square = np.full((side, side, 3), _WHITE, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = piece
    return square, box
