"""A prompt made of what was measured, and nothing else."""

from __future__ import annotations

from typing import ClassVar, Literal

from schemas.base import BackendRef
from schemas.facets import CaptionFacet
from schemas.rows import Clip
from stages.base import Dropped, Kept, Stage, StageConfig
from stages.files import Files
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks
from stages.packing.product_words import ProductLook, describe, holding_hands, look_at_product

TEMPLATE = BackendRef(name="template", version="1", licence="Apache-2.0")
HOI_PREFIX = (
    "Black background, a plain 3D body mesh of one person with the held object, no clothes, no hair, no "
    "scenery. "
)
_MIN_VOICED_SHARE = 0.2


class CaptionConfig(StageConfig):
    """Which captioner."""

    backend: Literal["template"] = "template"
    hoi_prefix: str = HOI_PREFIX


class CaptionStage(Stage[CaptionConfig, Clip, Clip]):
    """Fills ``caption``."""

    name = "caption"
    version = 2
    facet = "caption"
    config_type = CaptionConfig
    row_in = row_out = Clip
    needs = ("segment", "quality", "speech", "detect", "objects")
    reasons: ClassVar[frozenset[str]] = frozenset({"clip_unreadable"})

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Write both prompts."""
        prompt = compose(row, _look(row, files))
        facet = CaptionFacet(
            prompt=prompt, hoi_prompt=self.config.hoi_prefix + prompt, backend=TEMPLATE
        )
        return Kept((row.with_facet(self.facet, facet),))


def _look(row: Clip, files: Files) -> ProductLook | None:
    """How the product looks over the target frames."""
    media, found = row.media, files.arrays(row.need("objects").arrays)
    masks = decode_masks(found, "mask", media.height_px, media.width_px)
    target = slice(media.num_motion_frames, None)
    landmarks = Landmarks.read(files.arrays(row.need("detect").arrays)).since(
        media.num_motion_frames
    )
    return look_at_product(
        files.frames(media.video)[target],
        masks[target],
        found["confidence"][target],
        found["in_hand"][target],
        landmarks,
    )


def compose(row: Clip, product: ProductLook | None) -> str:
    """Two sentences from the row's scores and the product's look."""
    detect = row.detect
    assert detect is not None
    framing = framing_of(detect.median_face_height_px / row.media.height_px)
    thing = "an object" if product is None else describe(product)
    hands = "in the hand" if product is None else holding_hands(product)
    speaks = row.speech is not None and row.need("speech").voiced_share > _MIN_VOICED_SHARE
    doing = "speaking" if speaks else "without speaking"
    parts = [f"A {framing} of one person who holds {thing} {hands}, {doing}."]
    if row.quality is not None:
        parts.append(f"The picture shows {pace_of(row.quality.motion_px)} movement.")
    return " ".join(parts)


def framing_of(face_share: float) -> str:
    """Kind of shot by the face's height over the picture's.

    >>> framing_of(0.3), framing_of(0.15), framing_of(0.05)
    ('close-up shot', 'half-body shot', 'wide shot')
    """
    if face_share > 0.28:
        return "close-up shot"
    return "half-body shot" if face_share > 0.1 else "wide shot"


def pace_of(motion_px: float) -> str:
    """How much moves, by the mean flow at 240 px short side.

    >>> pace_of(0.1), pace_of(0.5), pace_of(2)
    ('little', 'moderate', 'much')
    """
    if motion_px < 0.25:
        return "little"
    return "moderate" if motion_px < 1.0 else "much"
