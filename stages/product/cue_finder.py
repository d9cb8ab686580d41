"""The product found by hands, colours and motion alone: no weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.backend import About, BackendConfig
from schemas.base import BackendRef
from stages.product.cue_masks import segment_product
from stages.product.finder import ClipView, Found, ProductFinder, upsample

_ABOUT = About("cues", "cv2", "Apache-2.0")


class CuesConfig(BackendConfig):
    """Cues from hands, colours and motion."""

    about: ClassVar[About] = _ABOUT
    name: Literal["cues"] = "cues"
    reach_hands: float = Field(default=1.2, gt=0)
    """How far from the grasp a product may extend, in hand lengths."""

    def build(self) -> CueFinder:
        """The finder."""
        return CueFinder(self.reach_hands)


class CueFinder(ProductFinder):
    """See ``stages/product/cue_masks.py``."""

    def __init__(self, reach_hands: float) -> None:
        self._reach_hands = reach_hands

    @property
    def ref(self) -> BackendRef:
        """What facets show."""
        return BackendRef(name=_ABOUT.name, version="1", licence=_ABOUT.licence)

    def find(self, view: ClipView) -> Found:
        """Masks of what the cues agree on."""
        small, confidence = segment_product(view.scene, view.every, self._reach_hands)
        return Found(upsample(small, view.frames.shape[1:3]), small, confidence)
