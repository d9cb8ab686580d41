"""Stage 11: a prompt made of what was measured, and nothing else."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from schemas.facets import CaptionFacet
from schemas.rows import Clip
from stages.base import Dropped, Kept, Stage, StageConfig
from stages.files import Files
from stages.likeness import is_white

TEMPLATE = BackendRef(name="template", version="1", licence="Apache-2.0")
HOI_PREFIX = (
    "Black background, a plain 3D body mesh of one person with the held object, no clothes, no hair, no "
    "scenery. "
)
_MIN_VOICED_SHARE = 0.2
_COLOURS = {
    "black": (20, 20, 20), "white": (235, 235, 235), "grey": (128, 128, 128), "red": (190, 40, 40),
    "orange": (225, 130, 40), "yellow": (225, 200, 60), "green": (60, 140, 70),
    "blue": (50, 80, 170), "purple": (120, 60, 150), "pink": (225, 150, 180),
    "brown": (110, 70, 45), "beige": (215, 195, 160),
}  # fmt: skip


class CaptionConfig(StageConfig):
    """Which captioner."""

    backend: Literal["template"] = "template"
    hoi_prefix: str = HOI_PREFIX


class CaptionStage(Stage[CaptionConfig, Clip, Clip]):
    """Fills ``caption``."""

    name = "caption"
    facet = "caption"
    config_type = CaptionConfig
    row_in = row_out = Clip
    needs = ("segment", "quality", "speech", "detect", "objects", "references", "structure")
    reasons: ClassVar[frozenset[str]] = frozenset({"image_unreadable"})

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Write both prompts."""
        assert row.references is not None
        look = describe_product(files.image(row.references.product_image))
        prompt = compose(row, look)
        facet = CaptionFacet(
            prompt=prompt, hoi_prompt=self.config.hoi_prefix + prompt, backend=TEMPLATE
        )
        return Kept((row.with_facet(self.facet, facet),))


def compose(row: Clip, product: str) -> str:
    """Two sentences from the row's scores."""
    boxes, objects, structure = row.boxes, row.objects, row.structure
    assert boxes is not None
    assert objects is not None
    assert structure is not None
    framing = framing_of(boxes.median_face_height_px / row.media.height_px)
    hands = holding_hands(structure.left_contact_share, structure.right_contact_share)
    speaks = row.speech is not None and row.speech.voiced_share > _MIN_VOICED_SHARE
    doing = "speaking" if speaks else "without speaking"
    parts = [f"A {framing} of one person who holds {product} {hands}, {doing}."]
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


def holding_hands(left_share: float, right_share: float, threshold: float = 0.4) -> str:
    """Which hands touch the product, the person's own sides; "in the hand" where neither mostly does.

    >>> holding_hands(0.9, 0.1), holding_hands(0.8, 0.7), holding_hands(0.1, 0.1)
    ('in the left hand', 'with both hands', 'in the hand')
    """
    if left_share > threshold and right_share > threshold:
        return "with both hands"
    if max(left_share, right_share) <= threshold:
        return "in the hand"
    return "in the left hand" if left_share > right_share else "in the right hand"


def describe_product(product: NDArray[np.uint8]) -> str:
    """Colour and proportions of a cut-out on white."""
    where = ~is_white(product)
    if not where.any():
        return "an object"
    rows, cols = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    ratio = (rows[-1] - rows[0] + 1) / (cols[-1] - cols[0] + 1)
    shape = "tall " if ratio > 1.6 else "wide " if ratio < 0.62 else ""
    colour = colour_name(product[where])
    phrase = f"{shape}{colour} object"
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def colour_name(pixels: NDArray[np.uint8]) -> str:
    """The nearest basic colour of most pixels (N,3), compared in Lab.

    >>> colour_name(np.full((5, 3), 15, np.uint8))
    'black'
    """
    palette = np.asarray(list(_COLOURS.values()), np.uint8)[None]
    names = list(_COLOURS)
    lab_palette = cv2.cvtColor(palette, cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    lab = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    nearest = np.linalg.norm(lab[:, None] - lab_palette[None], axis=2).argmin(axis=1)
    return names[int(np.bincount(nearest, minlength=len(names)).argmax())]
