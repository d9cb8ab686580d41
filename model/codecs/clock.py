"""The one clock: which frames a latent, a box and an audio step stand for.

A clip is ``[motion context | target]`` with 4n+1 target frames, of which frames 0 .. 4n-1 are used.
Latent k of every stream covers target frames 4k .. 4k+3, with and without motion context:

    with motion      encode [context | target 0..4n-1], the first slots are context
    without motion   encode [frame 0 | target 0..4n-1], slot 0 (the repeated frame) is dropped

The published code is one frame off between streams (RGB and HOI with motion); this is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from schemas.clock import FRAMES_PER_LATENT


@dataclass(frozen=True, slots=True)
class Window:
    """What to encode of a clip, and how to split the latents.

    Attributes:
        frames: Clip frame indices in encoding order, 1 + 4m of them.
        num_motion_latents: Leading latents of context; 0 where the first slot is only a repeat.
        num_motion_frames: Context frames in use (1 + 4j, or 0).
        num_latents: Target latents n.
        first_target: Clip index of target frame 0.
    """

    frames: Int[np.ndarray, " f"]
    num_motion_latents: int
    num_motion_frames: int
    num_latents: int
    first_target: int

    @property
    def num_lead_latents(self) -> int:
        """Latents before the first target latent: the context, or the one repeated frame."""
        return max(1, self.num_motion_latents)

    @property
    def num_lead_frames(self) -> int:
        """Encoded frames before target frame 0."""
        return max(1, self.num_motion_frames)


def clip_window(num_frames: int, num_motion_frames: int) -> Window:
    """Plan the encoding of a clip.

    Context of another length than 1 + 4j loses its oldest frames.

    Raises:
        ValueError: The target is not 4n+1 frames with n >= 1.

    >>> w = clip_window(154, 73); (w.num_motion_latents, w.num_latents, len(w.frames))
    (19, 20, 153)
    >>> w = clip_window(9, 0); (w.num_motion_latents, w.num_latents, w.frames.tolist())
    (0, 2, [0, 0, 1, 2, 3, 4, 5, 6, 7])
    """
    num_target = num_frames - num_motion_frames
    if num_motion_frames < 0 or num_target < 5 or num_target % FRAMES_PER_LATENT != 1:
        raise ValueError(
            f"{num_frames} frames with {num_motion_frames} of context leave {num_target} target frames; "
            "expected 4n+1 with n >= 1 (81 by default)"
        )
    num_latents = num_target // FRAMES_PER_LATENT
    last = num_motion_frames + FRAMES_PER_LATENT * num_latents
    if num_motion_frames == 0:
        frames = np.concatenate([[0], np.arange(last)])
        return Window(frames, 0, 0, num_latents, 0)
    steps = (num_motion_frames - 1) // FRAMES_PER_LATENT
    used = 1 + FRAMES_PER_LATENT * steps
    frames = np.arange(num_motion_frames - used, last)
    return Window(frames, 1 + steps, used, num_latents, num_motion_frames)


def union_boxes(boxes: Float[np.ndarray, "frames 4"], num_latents: int) -> Float[np.ndarray, "n 4"]:
    """Unite the boxes of each latent's four frames; NaN where none of them has one.

    Args:
        boxes: Corner pixels per target frame, NaN where absent; at least 4n rows.
        num_latents: Number of target latents n.
    """
    groups = boxes[: FRAMES_PER_LATENT * num_latents].reshape(num_latents, FRAMES_PER_LATENT, 4)
    absent = np.isnan(groups).any(axis=2, keepdims=True)
    low = np.where(absent, np.inf, groups[:, :, :2]).min(axis=1)
    high = np.where(absent, -np.inf, groups[:, :, 2:]).max(axis=1)
    united = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(united), united, np.nan).astype(np.float32)
