"""SyncNet's two towers: mouths and sound in one space of 1024 numbers (Chung and Zisserman 2016, "Out of time").

Laid out so that the arrays of the published ``syncnet_v2.model`` fit by name. Shapes: lips (b,3,5,224,224) in BGR 0..255,
sound (b,1,13,20) cepstral coefficients.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

_EMBEDDING = 1024
# per layer: channels out, kernel, stride, padding, and a pool's (kernel, stride, padding) where one follows
_SOUND: tuple[tuple[Any, ...], ...] = (
    (64, 3, 1, 1, (1, 1, 0)),
    (192, 3, 1, 1, (3, (1, 2), 0)),
    (384, 3, 1, 1, None),
    (256, 3, 1, 1, None),
    (256, 3, 1, 1, (3, 2, 0)),
    (512, (5, 4), 1, 0, None),
)
_LIPS: tuple[tuple[Any, ...], ...] = (
    (96, (5, 7, 7), (1, 2, 2), 0, ((1, 3, 3), (1, 2, 2), 0)),
    (256, (1, 5, 5), (1, 2, 2), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    (256, (1, 3, 3), 1, (0, 1, 1), None),
    (256, (1, 3, 3), 1, (0, 1, 1), None),
    (256, (1, 3, 3), 1, (0, 1, 1), ((1, 3, 3), (1, 2, 2), 0)),
    (512, (1, 6, 6), 1, 0, None),
)


class SyncNet(nn.Module):
    """13.6 M parameters; the attributes are named as the published arrays are."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _tower(1, _SOUND, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
        self.netfcaud = _head()
        self.netcnnlip = _tower(3, _LIPS, nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)
        self.netfclip = _head()

    def embed_sound(self, x: Float[Tensor, "b 1 13 20"]) -> Float[Tensor, "b e"]:
        """0.2 s of sound each."""
        return self.netfcaud(self.netcnnaud(x).flatten(1))

    def embed_lips(self, x: Float[Tensor, "b 3 5 224 224"]) -> Float[Tensor, "b e"]:
        """Five frames each."""
        return self.netfclip(self.netcnnlip(x).flatten(1))


def _tower(
    channels: int, layers: tuple[tuple[Any, ...], ...], conv: Any, norm: Any, pool: Any
) -> nn.Sequential:
    widths = (channels, *(layer[0] for layer in layers))
    parts: list[nn.Module] = []
    for (before, after), (_, kernel, stride, padding, pooled) in zip(
        pairwise(widths), layers, strict=True
    ):
        parts += [conv(before, after, kernel, stride, padding), norm(after), nn.ReLU()]
        if pooled:
            parts.append(pool(*pooled))
    return nn.Sequential(*parts)


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, _EMBEDDING)
    )
