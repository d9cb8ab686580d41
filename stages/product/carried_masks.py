"""Masks carried over a clip from a few prompted frames: what promptable video predictors have in common.

A prompt is a box, points inside and points on the hand outside. Each is carried both ways in chunks, so that
memory is bounded: each chunk starts from the last mask of its neighbour. Where the result has drifted away
from what the cues are sure of, that frame is prompted too.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from schemas.backend import About, Backend
from schemas.errors import ModelOutputError
from stages.kit.arrays import F32, I32, Frames, Mask
from stages.kit.boxes import box_of

_JPEG_QUALITY = 95
_CLEAR_PX = 2.0
"""A pixel this near to a mask's outline may lie on either side of the thing's."""
_SECOND_DEPTH = 0.3
"""Of the deepest point's depth: what is thinner is a sliver beside a finger as likely as a part."""


@dataclass(frozen=True)
class Prompt:
    """What a predictor is told in one frame, in pixels of the frame."""

    frame: int
    box_xyxy_px: F32
    """(4,)."""
    points_px: F32
    """(N,2)."""
    labels: I32
    """(N,): 1 product, 0 not."""


class MaskCarrier(Backend):
    """A video predictor that is prompted in a frame and propagates from there.

    Args:
        chunk_frames: Frames in memory at a time.
    """

    about: ClassVar[About]
    is_ready = False
    """Set once the weights are loaded."""

    def __init__(self, chunk_frames: int) -> None:
        self._chunk_frames = chunk_frames

    @abstractmethod
    def _run(self, folder: Path, order: Sequence[int], start: Prompt | Mask, masks: Mask) -> None:
        """Fill ``masks[order]`` of one chunk.

        Args:
            folder: The chunk's frames as ``00000.jpg``...
            order: Their numbers in the clip; ``order[0]`` is where it starts.
            start: A prompt there, or the mask that the chunk before has left there.
            masks: (T,H,W) of the clip.
        """

    def segment(self, frames: Frames, prompts: Sequence[Prompt], scratch: Path) -> Mask:
        """Masks (T,H,W) of the prompted thing over a clip (T,H,W,3).

        Each prompt is carried both ways, half-way to its neighbours.

        Args:
            frames: The clip.
            prompts: Where the thing is, in one frame or more.
            scratch: An empty folder; chunks are handed over as JPEG files.

        Raises:
            ModelOutputError: ``no_held_object`` if nothing comes back in a prompted frame.
        """
        if not self.is_ready:
            self.setup()
        import torch

        masks = np.zeros(frames.shape[:3], bool)
        with torch.inference_mode():
            for prompt, (first, last) in zip(
                prompts, territories([p.frame for p in prompts], len(frames)), strict=True
            ):
                for end in {first, last} - {prompt.frame} or {prompt.frame}:
                    self._carry(frames, prompt, end, masks, scratch)
        if not any(masks[p.frame].any() for p in prompts):
            raise ModelOutputError(
                "no_held_object", f"{self.about.name} found nothing at the prompt"
            )
        return masks

    def _carry(self, frames: Frames, prompt: Prompt, end: int, masks: Mask, scratch: Path) -> None:
        """From a prompt to one end of its territory, chunk by chunk."""
        for index, order in enumerate(chunks(prompt.frame, end, self._chunk_frames)):
            folder = scratch / f"{self.about.name}-{prompt.frame}-{end}-{index}"
            write_jpegs(frames, order, folder)
            start = prompt if index == 0 else masks[order[0]]
            if not isinstance(start, Prompt) and not start.any():
                return  # the thing has left the picture: nothing to carry on
            self._run(folder, order, start, masks)
            shutil.rmtree(folder)


def territories(prompted: Sequence[int], num_frames: int) -> list[tuple[int, int]]:
    """First and last frame that each prompt is carried to: all frames, each by its nearest prompt.

    >>> territories([8, 2], 10)
    [(6, 9), (0, 5)]
    """
    nearest = [
        min(range(len(prompted)), key=lambda i: (abs(prompted[i] - t), prompted[i]))
        for t in range(num_frames)
    ]
    last = {i: t for t, i in enumerate(nearest)}
    first = {i: num_frames - 1 - t for t, i in enumerate(reversed(nearest))}
    return [(first[i], last[i]) for i in range(len(prompted))]


def drifted(
    masks: Mask, cues: Mask, confidence: F32, min_iou: float, min_confidence: float
) -> int | None:
    """The frame where the cues are surest that the masks are on something else; None where all is well.

    Args:
        masks: (T,H,W) as carried.
        cues: (T,H,W) the embedded default's.
        confidence: (T,) of ``cues``.
        min_iou: Both agree from here on.
        min_confidence: Less sure cues are no argument.
    """
    both = (masks & cues).sum(axis=(1, 2))
    either = (masks | cues).sum(axis=(1, 2))
    apart = (both < min_iou * either) & (confidence >= min_confidence)
    return int(np.where(apart, confidence, -1).argmax()) if apart.any() else None


def chunks(start: int, end: int, size: int) -> Iterator[list[int]]:
    """Frame numbers from ``start`` to ``end``, either way; neighbouring chunks share a frame.

    >>> list(chunks(2, 5, 3))
    [[2, 3, 4], [4, 5]]
    >>> list(chunks(2, 0, 3))
    [[2, 1, 0]]
    """
    order = list(range(start, end + 1)) if end >= start else list(range(start, end - 1, -1))
    step = max(1, size - 1)
    for begin in range(0, max(1, len(order) - 1), step):
        yield order[begin : begin + size]


def write_jpegs(frames: Frames, order: Sequence[int], folder: Path) -> None:
    """Frames as ``00000.jpg``...: what the predictor reads."""
    folder.mkdir(parents=True)
    for index, t in enumerate(order):
        picture = cv2.cvtColor(frames[t], cv2.COLOR_RGB2BGR)
        cv2.imwrite(
            str(folder / f"{index:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        )


def make_prompt(frame: int, mask: Mask, hands_px: Sequence[F32]) -> Prompt:
    """Box of a mask, its deepest points (two at most), and the hands' wrists and knuckles that lie clear of it.

    A predictor takes a point for sure. So points inside lie as deep as the mask allows, with the picture's border for an
    edge; a second one is given only where it is about as deep. A wrist or knuckle right beside the mask says nothing.

    Args:
        frame: Number of the frame.
        mask: (H,W), not empty.
        hands_px: Per hand (21,2) landmarks; NaN where unseen.
    """
    inside = _deepest(mask)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    height, width = mask.shape
    outside = [
        (float(x), float(y))
        for hand in hands_px
        for x, y in hand[[0, 5, 9, 17], :2]
        if 0 <= x < width and 0 <= y < height and away[int(y), int(x)] >= _CLEAR_PX
    ]
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int32)
    return Prompt(frame, box_of(mask), np.array(inside + outside, np.float32), labels)


def _deepest(mask: Mask) -> list[tuple[float, float]]:
    """The deepest pixel xy of a mask, and the deepest away from it where that is not a mere sliver."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1].copy()
    found: list[tuple[float, float]] = []
    enough = 0.0
    for _ in range(2):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] <= enough:
            break
        found.append((float(x), float(y)))
        enough = max(_CLEAR_PX, _SECOND_DEPTH * float(depth[y, x]))
        cv2.circle(depth, (int(x), int(y)), max(2, int(2 * depth[y, x])), 0, -1)
    return found
