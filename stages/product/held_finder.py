"""The product found by a small network of ours that looks around the hands; its weights come with the package."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from schemas.backend import About, BackendConfig
from schemas.base import BackendRef
from schemas.settings import PIN, PLACE
from stages.product.finder import ClipView, Found, ProductFinder, upsample
from stages.product.held_looks import ABOUT, HeldProduct
from stages.product.held_masks import look_over, masks_of


class HeldConfig(BackendConfig):
    """The network of training/held_product."""

    about: ClassVar[About] = ABOUT
    name: Literal["held"] = "held"
    weights_file: Annotated[str, PLACE] = ""
    """Path of other weights than the packaged ones."""
    weights_sha256: Annotated[str, PIN] = ""
    """Pins the weight file; empty for any."""

    def build(self) -> HeldFinder:
        """The finder."""
        return HeldFinder(HeldProduct(self.weights_file, self.weights_sha256))


class HeldFinder(ProductFinder):
    """Looks at key frames; motion, colours and flow make masks over time of the looks."""

    def __init__(self, network: HeldProduct) -> None:
        self._network = network

    @property
    def ref(self) -> BackendRef:
        """The network's."""
        return self._network.ref

    @property
    def weights_sha256(self) -> str:
        """Digest of the network's weights."""
        return self._network.weights_sha256

    def check(self) -> None:
        """Check package and weights."""
        self._network.check()

    def setup(self) -> None:
        """Load the weights."""
        self._network.setup()

    def find(self, view: ClipView) -> Found:
        """Masks by votes of the looks around each frame."""
        hands = view.landmarks.hands_by_frame
        looks = look_over(view.scene, view.frames, hands, self._network, view.every)
        small, confidence = masks_of(view.scene, looks, len(view.frames), view.every)
        masks = upsample(small, view.frames.shape[1:3])
        return Found(masks, small, confidence, looks.second_share)
