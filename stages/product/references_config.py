"""Settings of the references stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.settings import PIN, PLACE
from stages.base import GateConfig, StageConfig


class ReferencesGate(GateConfig):
    """When a reference is not worth training on.

    Args:
        min_product_side_px: The longer side of the cut-out. 48 px is three patches of the model.
        allow_truncated_product: Keep products that the frame's border cuts.
        min_product_sharpness: Variance of the Laplacian inside the cut-out; a label out of focus has
            less than 10, printed text in focus some hundreds.
        max_product_gap_share: Share of the product that fingers hide and no other frame shows.
        max_person_filled_share: Beyond it the person picture is mostly invented.
        max_person_held_chance: Above it the network sees something in a hand of the person picture: the product
            mask was wrong. Off by default: hands curled around nothing look held to it (see docs/accuracy.md). None
            judges nothing.
        min_person_hands_kept_share: Below it a hand of the frame is no hand with five fingers in the picture any more.
            None judges nothing.
        max_person_seam: Above it the edge of what was filled shows. Good fills have 1 to 2, smeared ones 2 to 5
            (22 clips), so try 3. None judges nothing.
        require_held_check: Drop what the network could not look at, for want of a hand, or because ``look_again`` is off.
    """

    min_product_side_px: int = Field(default=48, ge=1)
    allow_truncated_product: bool = False
    min_product_sharpness: float = Field(default=8.0, ge=0)
    max_product_gap_share: float | None = Field(default=None, ge=0, le=1)
    max_person_filled_share: float = Field(default=0.35, ge=0, le=1)
    max_person_held_chance: float | None = Field(default=None, ge=0, le=1)
    min_person_hands_kept_share: float | None = Field(default=1.0, ge=0, le=1)
    max_person_seam: float | None = Field(default=None, ge=0)
    require_held_check: bool = False


class ReferencesConfig(StageConfig):
    """How references are made.

    Args:
        backend: ``borrow`` fills the removed product with what other frames show there.
        every: Look at every n-th frame when choosing.
        num_donors: Frames to borrow from, for the person's picture and for what fingers hide of the product.
        num_tries: Frames to make the person's picture of; the one that looks best afterwards is taken.
        look_again: Look at the finished person picture with the held-product network: nothing may be held any more.
        weights_file: Path of that network's weights; empty for those that come with the package.
        weights_sha256: Pins the weight file; empty for any.
        margin_share: The product mask is grown by this share of the short side before it is removed.
        padding_share: White around the product, of its longer side.
    """

    backend: Literal["borrow"] = "borrow"
    every: int = Field(default=3, ge=1)
    num_donors: int = Field(default=10, ge=0, le=40)
    num_tries: int = Field(default=3, ge=1, le=10)
    look_again: bool = True
    weights_file: Annotated[str, PLACE] = ""
    weights_sha256: Annotated[str, PIN] = ""
    margin_share: float = Field(default=0.015, ge=0, le=0.1)
    padding_share: float = Field(default=0.08, ge=0, le=0.5)
    gate: ReferencesGate = ReferencesGate()
