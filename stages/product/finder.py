"""What finds the held product: the contract of the ``objects`` stage's backends, and what they share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from schemas.backend import Backend
from stages.kit.arrays import F32, Frames, Mask
from stages.kit.landmarks import Landmarks
from stages.product.scene import Scene


@dataclass(frozen=True)
class ClipView:
    """A clip as finders see it."""

    frames: Frames
    """(T,H,W,3) RGB."""
    landmarks: Landmarks
    """What ``detect`` has found."""
    scene: Scene
    """The same, small."""
    every: int
    """Look at every n-th frame; flow carries masks in between."""
    scratch: Path
    """An empty folder."""


@dataclass(frozen=True)
class Found:
    """The product in every frame."""

    masks: Mask
    """(T,H,W)."""
    small: Mask
    """(T,h,w): the same at the scene's size."""
    confidence: F32
    """(T,): expected IoU with the truth."""
    second_share: float = 0.0
    """Share of key frames in which the other hand holds something else; only a network tells."""


class ProductFinder(Backend):
    """Finds the product in a clip."""

    @abstractmethod
    def find(self, view: ClipView) -> Found:
        """Masks and confidences.

        Raises:
            ModelOutputError: ``no_held_object`` if a predictor gives nothing back.
        """


def upsample(masks: Mask, shape: tuple[int, int]) -> Mask:
    """Small masks (T,h,w) at the clip's size (H,W), with smooth outlines."""
    size = (shape[1], shape[0])
    big = [
        cv2.GaussianBlur(
            cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), (7, 7), 0
        )
        for m in masks
    ]
    return np.stack(big) > 0.5


def downsample(masks: Mask, shape: tuple[int, int]) -> Mask:
    """Full masks (T,H,W) at the scene's size (h,w)."""
    small = [
        cv2.resize(m.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) for m in masks
    ]
    return np.stack(small) > 0.5
