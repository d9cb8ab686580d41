"""The product found by one finder and carried over the clip by a promptable video predictor."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from schemas.backend import BackendConfig, Resources
from schemas.base import BackendRef
from schemas.settings import PIN, PLACE
from stages.kit.masks import iou
from stages.product.carried_masks import MaskCarrier, Prompt, drifted, make_prompt
from stages.product.cue_finder import CueFinder
from stages.product.finder import ClipView, Found, ProductFinder, downsample
from stages.product.held_finder import HeldFinder
from stages.product.held_looks import HeldProduct

_DRIFT_IOU, _SURE = 0.3, 0.6
"""A predictor is prompted again where it overlaps less with masks that are at least this sure."""


class CarriedConfig(BackendConfig):
    """What predictors share; a member of the recipe's choice adds its name."""

    prompts: Literal["held", "cues"] = "held"
    """Whose masks the predictor is prompted with."""
    reach_hands: float = Field(default=1.2, gt=0)
    """Prompts of ``cues``: how far from the grasp a product may extend, in hand lengths."""
    weights_file: Annotated[str, PLACE] = ""
    """Path of your checkpoint."""
    weights_sha256: Annotated[str, PIN] = ""
    """Pins the checkpoint; empty for any."""
    max_prompts: int = Field(default=3, ge=1)
    """The surest frame, then frames where the result has drifted away from what prompted it."""

    def carrying(self, carrier: MaskCarrier) -> CarriedFinder:
        """The finder around a predictor."""
        first: ProductFinder = HeldFinder(HeldProduct())
        if self.prompts == "cues":
            first = CueFinder(self.reach_hands)
        return CarriedFinder(first, carrier, self.max_prompts)


class CarriedFinder(ProductFinder):
    """Prompts the predictor where the first finder is surest.

    Args:
        first: What finds the product to begin with.
        carrier: The predictor.
        max_prompts: Prompted frames at most.
    """

    def __init__(self, first: ProductFinder, carrier: MaskCarrier, max_prompts: int) -> None:
        self._first, self._carrier, self._max_prompts = first, carrier, max_prompts

    @property
    def ref(self) -> BackendRef:
        """The predictor's."""
        return self._carrier.ref

    @property
    def weights_sha256(self) -> str:
        """Digests of the predictor's weights and of the first finder's."""
        digests = (self._carrier.weights_sha256, self._first.weights_sha256)
        return "+".join(digest for digest in digests if digest)

    @property
    def resources(self) -> Resources:
        """The predictor's."""
        return self._carrier.resources

    def check(self) -> None:
        """Check packages and weights of both."""
        self._carrier.check()
        self._first.check()

    def setup(self) -> None:
        """Load the weights of both."""
        self._carrier.setup()
        self._first.setup()

    def find(self, view: ClipView) -> Found:
        """The predictor's masks; confidence says how far both agree."""
        first = self._first.find(view)
        if not first.masks.any():
            return first
        prompts = [_prompt(view, first, int(first.confidence.argmax()))]
        for attempt in range(self._max_prompts):
            folder = view.scratch / f"attempt-{attempt}"
            masks = self._carrier.segment(view.frames, prompts, folder)
            off = drifted(masks, first.masks, first.confidence, _DRIFT_IOU, _SURE)
            if off is None or off in [p.frame for p in prompts]:
                break
            prompts.append(_prompt(view, first, off))
        same = [iou(a, b) if b.any() else 0.5 for a, b in zip(masks, first.masks, strict=True)]
        agree = np.sqrt(np.maximum(first.confidence, 0.25) * np.array(same, np.float32))
        confidence = np.where(masks.any(axis=(1, 2)), agree, 0).astype(np.float32)
        small = downsample(masks, view.scene.shape)
        return Found(masks, small, confidence, first.second_share)


def _prompt(view: ClipView, first: Found, t: int) -> Prompt:
    return make_prompt(t, first.masks[t], list(view.landmarks.hands_at(t).values()))
