"""The network that finds the held product: a U-Net on MobileNetV2's layers, 5 channels in, a mask and two scores out.

Encoder: Sandler et al. 2018, MobileNetV2, as torchvision builds it. Input (b,5,N,N): RGB normalised as for ImageNet, the
hands drawn (``held_crop.draw_hands``), the mask of an earlier look or zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v2

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STAGES = ((0, 2), (2, 4), (4, 7), (7, 14), (14, 18))
_WIDTHS = (16, 24, 32, 96, 320)
_UP = (96, 64, 48, 32)
_MIDDLE, _GIVEN = 128, 5


class Found(NamedTuple):
    """What the network says of a batch; all are logits."""

    mask: Float[Tensor, "b n n"]
    """Half the input's size."""
    held: Float[Tensor, " b"]
    """Anything is held in the square."""
    quality: Float[Tensor, " b"]
    """Expected IoU of the mask with the truth."""


class HeldNet(nn.Module):
    """2.8 M parameters, 1.8 M of them in the encoder.

    The encoder sees the picture alone and keeps what it learned from photographs: trained along on made-up pictures it
    learns how these are put together, and real ones come out worse (Hinterstoisser et al. 2017, "On pre-trained image
    features and synthetic images for deep learning"). Hands and the earlier mask enter at every step of the decoder.
    """

    def __init__(self) -> None:
        super().__init__()
        features = mobilenet_v2(weights=None).features
        self.encoder = nn.ModuleList(features[a:b] for a, b in _STAGES)
        self.encoder.requires_grad_(requires_grad=False)
        self.middle = _block(_WIDTHS[-1] + _GIVEN, _MIDDLE)
        skips = _WIDTHS[-2::-1]
        widths = (_MIDDLE, *_UP)
        self.decoder = nn.ModuleList(
            _block(widths[i] + skip + _GIVEN, widths[i + 1]) for i, skip in enumerate(skips)
        )
        self.mask = nn.Conv2d(_UP[-1], 1, 3, 1, 1)
        self.scores = nn.Sequential(
            nn.Linear(2 * _MIDDLE + _UP[-1], 64), nn.ReLU(inplace=True), nn.Linear(64, 2)
        )

    def train(self, mode: bool = True) -> HeldNet:
        """The encoder's running means stay those of photographs."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Float[Tensor, "b 5 s s"]) -> Found:
        """Look at squares."""
        given = x  # the picture itself too, for edges
        seen = []
        x = x[:, :3]
        for stage in self.encoder:
            x = stage(x)
            seen.append(x)
        x = self.middle(torch.cat([x, _shrunk(given, x)], dim=1))
        at_hands = _shrunk(given[:, 3:4], x)
        deep = x.mean(dim=(2, 3)), (x * at_hands).sum(dim=(2, 3)) / (at_hands.sum(dim=(2, 3)) + 0.1)
        for up, skip in zip(self.decoder, seen[-2::-1], strict=True):
            x = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear")
            x = up(torch.cat([x, skip, _shrunk(given, skip)], dim=1))
        mask = self.mask(x)
        inside = mask.detach().sigmoid()
        pooled = (x * inside).sum(dim=(2, 3)) / (inside.sum(dim=(2, 3)) + 1)
        held, quality = self.scores(torch.cat([*deep, pooled], dim=1)).unbind(dim=1)
        return Found(mask[:, 0], held, quality)


def _shrunk(given: Tensor, like: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(given, (like.shape[-2], like.shape[-1]))


def _block(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(inplace=True),
    )
