"""Looks at frames with the held-product network: squares around hands in, masks with two chances out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from schemas.backend import About, Backend
from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.arrays import F32, Image
from stages.kit.torch_threads import one_thread
from stages.kit.weight_files import check_weight_file, fill_net, sha256_of
from stages.product.held_crop import CROP_PX, Crop, crop_around, draw_hands, hand_size_px

if TYPE_CHECKING:
    from stages.product.held_net import HeldNet

ABOUT = About("held", "torchvision", "Apache-2.0", "in the package")
PACKAGED_WEIGHTS = Path(__file__).parents[1] / "data" / "held_product.safetensors"
"""What training/held_product gave, as it comes with the package; its README says how well it sees."""
_TOGETHER = 2.2
"""Hands closer than this many hand lengths are looked at in one square."""
_MIN_MASK_SHARE = 0.002
_SOFTNESS_PX = 1.0
_LOOKS = 3
_CLOSER, _MIN_SIDE_PX = 1.8, 32.0
"""The next look's square, in extents of the mask; what fills its square is looked at in a wider one."""
_ALIKE = 1.15
"""Squares whose sides differ by less show the same."""


@dataclass(frozen=True)
class Look:
    """What the network says of one square."""

    hands: tuple[int, ...]
    """Which of the hands it was asked about."""
    crop: Crop
    chance: F32
    """(N,N): of being the product."""
    held: float
    """Chance that anything is held there."""
    quality: float
    """Expected IoU of ``chance > 0.5`` with the truth."""

    @property
    def score(self) -> float:
        """How much there is to it."""
        return self.held * self.quality


class HeldProduct(Backend):
    """The network with its weights.

    Args:
        weights_file: A safetensors file of ``HeldNet``'s arrays: what training/held_product writes; empty for the
            packaged one.
        pinned_sha256: What it must be; empty for any.
        setting: The recipe's key of the file, for messages.
    """

    def __init__(
        self,
        weights_file: str = "",
        pinned_sha256: str = "",
        setting: str = "objects.backend.weights_file",
    ) -> None:
        self._weights_file = weights_file or str(PACKAGED_WEIGHTS)
        self._pinned_sha256 = pinned_sha256
        self._setting = setting
        self._net: HeldNet | None = None

    def check(self) -> None:
        """Check the package and the file.

        Raises:
            ConfigError: One of them is missing.
        """
        if not ABOUT.is_installed:
            raise ConfigError(
                "the package torchvision is not installed; run make setup, or set objects.backend=cues"
            )
        check_weight_file(
            self._weights_file,
            self._pinned_sha256,
            self._setting,
            "the weights that training/held_product wrote",
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights."""
        return sha256_of(self._weights_file)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=ABOUT.name, version="1", weights_sha256=self.weights_sha256, licence=ABOUT.licence
        )

    def setup(self) -> None:
        """Load the weights.

        Raises:
            ConfigError: They are not this network's.
        """
        from stages.product.held_net import HeldNet

        net = HeldNet()
        fill_held_net(net, self._weights_file, self._setting)
        self._net = net.eval()

    def look(self, frame: Image, hands: Sequence[F32]) -> list[Look]:
        """Look at each group of hands: around the hands, then around what was found, until all of it is in the square.

        Args:
            frame: (H,W,3) RGB.
            hands: (21,2) pixels each.
        """
        groups = group_hands(hands)
        if not groups:
            return []
        crops = [crop_around([hands[i] for i in group]) for group in groups]
        looks = self._ask(frame, hands, groups, crops, [None] * len(crops))
        for _ in range(_LOOKS - 1):
            again = [
                (n, c) for n, one in enumerate(looks) if (c := _better_crop(one, frame.shape[:2]))
            ]
            if not again:
                break
            before = [looks[n] for n, _ in again]
            found = self._ask(
                frame, hands, [groups[n] for n, _ in again], [c for _, c in again], before
            )
            for (n, _), look in zip(again, found, strict=True):
                # whether anything is held is told by the first look, around the hands
                looks[n] = Look(look.hands, look.crop, look.chance, looks[n].held, look.quality)
        return looks

    def _ask(
        self,
        frame: Image,
        hands: Sequence[F32],
        groups: Sequence[tuple[int, ...]],
        crops: Sequence[Crop],
        before: Sequence[Look | None],
    ) -> list[Look]:
        import torch

        x = np.stack([
            to_input(c.warp(frame), draw_hands([c.apply(h) for h in hands]), _seen_from(c, b, frame.shape[:2]))
            for c, b in zip(crops, before, strict=True)
        ])  # fmt: skip
        assert self._net is not None
        with one_thread(), torch.inference_mode():
            found = self._net(torch.from_numpy(x))
        chances = found.mask.sigmoid().numpy()
        held, quality = found.held.sigmoid().tolist(), found.quality.sigmoid().tolist()
        return [
            Look(groups[n], crops[n], _big(chances[n]), held[n], quality[n])
            for n in range(len(crops))
        ]


def fill_held_net(net: HeldNet, weights_file: str, setting: str) -> None:
    """Give the network the arrays of a file, float16 as they are shipped.

    Raises:
        ConfigError: They are not this network's; ``setting`` names where the file was asked for.
    """
    from safetensors.torch import load_file

    def read(path: str) -> dict[str, Any]:
        return {name: value.float() for name, value in load_file(path).items()}

    fill_net(net, read, weights_file, setting)


def group_hands(hands: Sequence[F32]) -> list[tuple[int, ...]]:
    """Both hands together where they are close, else each on its own."""
    if len(hands) == 2:
        apart = float(np.linalg.norm(hands[0].mean(axis=0) - hands[1].mean(axis=0)))
        if apart < _TOGETHER * max(map(hand_size_px, hands)):
            return [(0, 1)]
    return [(n,) for n in range(len(hands))]


def to_input(picture: Image, hands: F32, before: F32) -> F32:
    """The network's input (5,N,N) of one square.

    A little out of focus: people and objects of made-up pictures come from different cameras, and what tells them apart
    by their grain says nothing about a real one.
    """
    from stages.product.held_net import IMAGENET_MEAN, IMAGENET_STD

    soft = cv2.GaussianBlur(picture, (0, 0), _SOFTNESS_PX)
    rgb = (soft.astype(np.float32) / 255 - IMAGENET_MEAN) / np.array(IMAGENET_STD)
    planes: Any = np.concatenate([rgb, hands[..., None], before[..., None]], axis=2)
    return np.ascontiguousarray(planes.transpose(2, 0, 1), np.float32)


def _big(chance: F32) -> F32:
    return np.asarray(
        cv2.resize(chance, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR), np.float32
    )


def _seen_from(crop: Crop, look: Look | None, shape: tuple[int, int]) -> F32:
    """An earlier look's mask in another square."""
    if look is None:
        return np.zeros((CROP_PX, CROP_PX), np.float32)
    return crop.warp(look.crop.back(look.chance, shape), outside=0)


def _better_crop(look: Look, shape: tuple[int, int]) -> Crop | None:
    """The square around what was found; None where that is nothing, or as good as the one it was found in."""
    mask = look.chance > 0.5
    if mask.mean() < _MIN_MASK_SHARE:
        return None
    rows, cols = np.nonzero(look.crop.back(look.chance, shape) > 0.5)
    if not len(rows):
        return None
    extent = float(max(np.ptp(rows), np.ptp(cols)))
    side = max(_CLOSER * extent, _MIN_SIDE_PX)
    if 1 / _ALIKE < side / look.crop.side_px < _ALIKE:
        return None
    x, y = (cols.min() + cols.max()) / 2, (rows.min() + rows.max()) / 2
    return Crop(float(x), float(y), min(side, 1.5 * max(shape)))
