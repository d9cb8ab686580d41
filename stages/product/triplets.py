"""Do the source clip, the person picture and the product picture belong together?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from schemas.base import BackendRef
from schemas.facets import TripletsFacet
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, AtMost, Never, first_failure
from stages.kit.arrays import Frames, Image, Mask
from stages.kit.boxes import box_iou
from stages.kit.landmarks import Landmarks, hand_boxes_at
from stages.kit.masks import decode_masks
from stages.kit.mediapipe_package import ABOUT, check_mediapipe, load_solutions
from stages.product import likeness
from stages.product.traces import leak_share

FEATURES = BackendRef(name="features", version="1", licence="Apache-2.0")
_MIN_FACE_IOU = 0.3


class TripletsGate(GateConfig):
    """Thresholds.

    Args:
        min_person_similarity: Aligned faces of one person in one light stay above 0.6; strangers in
            another light fall below 0.5.
        min_product_similarity: Median over frames; another product of another colour gives less than 0.3.
        max_product_leak: How much of the product may remain in the person picture.
        max_hand_in_product_share: How much of the product picture may be skin.
        require_face: Drop where the person picture shows no face in the clip's place.
    """

    min_person_similarity: float = Field(default=0.5, ge=0, le=1)
    min_product_similarity: float = Field(default=0.35, ge=0, le=1)
    max_product_leak: float = Field(default=0.3, ge=0, le=1)
    max_hand_in_product_share: float = Field(default=0.25, ge=0, le=1)
    require_face: bool = True


class TripletsConfig(StageConfig):
    """How the check is made.

    Args:
        backend: ``features`` compares colour, gradients and matched corners.
        num_frames: Frames of the clip that the pictures are compared with.
    """

    backend: Literal["features"] = "features"
    num_frames: int = Field(default=8, ge=2, le=64)
    gate: TripletsGate = TripletsGate()


@dataclass(frozen=True)
class Triplet:
    """Everything to compare."""

    frames: Frames
    landmarks: Landmarks
    masks: Mask
    person: Image
    person_frame: int
    product_frame: int
    samples: list[int]
    """Target frames, evenly spread."""


class TripletsStage(Stage[TripletsConfig, Clip, Clip]):
    """Fills ``triplets``."""

    name = "triplets"
    facet = "triplets"
    config_type = TripletsConfig
    row_in = row_out = Clip
    needs = ("segment", "detect", "objects", "references")
    reasons: ClassVar[frozenset[str]] = frozenset({
        "person_mismatch", "product_mismatch", "product_leak", "hand_in_product", "clip_unreadable",
        "image_unreadable",
    })  # fmt: skip

    fixed_backends = (ABOUT,)
    _faces: Any = None

    def check(self) -> None:
        """Check that mediapipe is there: the person picture is searched for a face."""
        check_mediapipe()

    def setup(self) -> None:
        """Load the face detector."""
        self._faces = load_solutions().face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=0.4
        )

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Compare the pictures with the clip."""
        found = files.arrays(row.need("objects").arrays)
        masks = decode_masks(found, "mask", row.media.height_px, row.media.width_px)
        first, last = row.media.num_motion_frames, row.media.num_frames - 1
        spread = np.linspace(first, last, self.config.num_frames).round().astype(int)
        references = row.need("references")
        triplet = Triplet(
            frames=files.frames(row.media.video),
            masks=masks,
            landmarks=Landmarks.read(files.arrays(row.need("detect").arrays)),
            person=files.image(references.person_image),
            person_frame=references.person_frame,
            product_frame=references.product_frame,
            samples=sorted(set(spread.tolist())),
        )
        facet = TripletsFacet(
            person_similarity=person_similarity(triplet),
            product_similarity=product_similarity(triplet),
            product_leak=product_leak(triplet),
            hand_in_product_share=hand_in_product_share(triplet),
            face_kept=self._has_face(triplet),
            backend=FEATURES,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def _has_face(self, triplet: Triplet) -> bool:
        """Is there a face in the person picture where the clip has it?"""
        if self._faces is None:
            self.setup()
        expected = triplet.landmarks.face.box_xyxy_px[triplet.person_frame]
        if not np.isfinite(expected).all():
            return False
        height, width = triplet.person.shape[:2]
        for detection in self._faces.process(triplet.person).detections or []:
            box = detection.location_data.relative_bounding_box
            x0, y0 = box.xmin * width, box.ymin * height
            found = np.array([x0, y0, x0 + box.width * width, y0 + box.height * height])
            if box_iou(found, expected) >= _MIN_FACE_IOU:
                return True
        return False

    def gate(self, row: Clip) -> Dropped | None:
        """All three must belong together."""
        scores, gate = row.need("triplets"), self.config.gate
        return first_failure([
            Never("person_mismatch", gate.require_face and not scores.face_kept,
                  "no face in the person picture where the clip has it"),
            AtLeast("person_mismatch", "person_similarity", scores.person_similarity,
                    gate.min_person_similarity),
            AtLeast("product_mismatch", "product_similarity", scores.product_similarity,
                    gate.min_product_similarity),
            AtMost("product_leak", "product_leak", scores.product_leak, gate.max_product_leak),
            AtMost("hand_in_product", "hand_in_product_share", scores.hand_in_product_share,
                   gate.max_hand_in_product_share),
        ])  # fmt: skip


def person_similarity(triplet: Triplet) -> float:
    """Median likeness of the person picture's face with the clip's faces; 0 where there are none."""
    points = triplet.landmarks.face.points_px
    own = likeness.aligned_face(triplet.person, points[triplet.person_frame])
    others = [likeness.aligned_face(triplet.frames[t], points[t]) for t in triplet.samples]
    scores = [likeness.face_similarity(own, o) for o in others if own is not None and o is not None]
    return float(np.median(scores)) if scores else 0.0


def product_similarity(triplet: Triplet) -> float:
    """Median likeness of the product's best view with the masked product of other frames."""
    best = triplet.product_frame
    view, mask = triplet.frames[best], triplet.masks[best]
    scores = [
        likeness.product_similarity(view, mask, triplet.frames[t], triplet.masks[t])
        for t in triplet.samples
        if t != best and triplet.masks[t].any()
    ]
    return float(np.median(scores)) if scores else 0.0


def product_leak(triplet: Triplet) -> float:
    """What is left of the product in the person picture: its colours near its place, or its corners."""
    t, best = triplet.person_frame, triplet.product_frame
    if triplet.person.shape != triplet.frames[t].shape:
        return 0.0
    by_colour = leak_share(
        triplet.person,
        t,
        triplet.frames,
        triplet.masks,
        triplet.landmarks,
        [*triplet.samples, best],
    )
    view, view_mask = triplet.frames[best], triplet.masks[best]
    if not view_mask.any():
        return by_colour
    everywhere = np.ones(view_mask.shape, bool)
    itself, _ = likeness.num_matches(view, view_mask, view, view_mask)
    after, _ = likeness.num_matches(view, view_mask, triplet.person, everywhere)
    return max(by_colour, min(1.0, after / max(itself, 12)))


def hand_in_product_share(triplet: Triplet) -> float:
    """Share of the product cut-out that has the face's skin colours and lies inside a hand box."""
    t = triplet.product_frame
    mask, frame = triplet.masks[t], triplet.frames[t]
    face = triplet.landmarks.face.box_xyxy_px[triplet.person_frame]
    if not mask.any() or not np.isfinite(face).all():
        return 0.0
    skin = _skin_mask(triplet, frame)
    inside = hand_boxes_at(triplet.landmarks, t, mask.shape)
    return float((skin & inside & mask).sum() / mask.sum())


def _skin_mask(triplet: Triplet, frame: Image) -> Mask:
    """Pixels within 2.5 deviations of the cheeks' and nose's Lab colour (lightness counts half)."""
    points = triplet.landmarks.face.points_px[triplet.person_frame][:, :2]
    canvas = np.zeros(frame.shape[:2], np.uint8)
    for ring in ((50, 101, 36, 205), (280, 330, 266, 425), (6, 197, 195, 5)):  # cheeks, nose
        cv2.fillConvexPoly(canvas, cv2.convexHull(points[list(ring)].round().astype(np.int32)), 1)
    sample = cv2.cvtColor(triplet.person, cv2.COLOR_RGB2LAB)[canvas > 0].astype(np.float32)
    if len(sample) < 16:
        return np.zeros(frame.shape[:2], bool)
    spread = np.maximum(sample.std(axis=0), 4.0) * [2.0, 1.0, 1.0]
    distance = (cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) - np.median(sample, axis=0)) / spread
    return np.asarray(np.linalg.norm(distance, axis=2) < 2.5)
