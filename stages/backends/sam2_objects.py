"""Product masks with SAM 2's official video predictor (Ravi et al. 2024) and the user's checkpoint.

Prompted on the surest frame with a box, points inside and points on the hand outside; carried both ways in
chunks, so that memory is bounded: each chunk starts from the last mask of its neighbour. Where the result has
drifted away from what the cues are sure of, that frame is prompted too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from schemas.errors import ConfigError, ModelOutputError
from stages.backends.weight_files import check_weight_file, sha256_of

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
_ID = 1
_JPEG_QUALITY = 95
_OVERRIDES = (
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
)
"""The package's own post-processing, less the hole filling that needs its CUDA extension."""


@dataclass(frozen=True)
class Prompt:
    """What SAM 2 is told in one frame, in pixels of the frame."""

    frame: int
    box_xyxy_px: Floats
    """(4,)."""
    points_px: Floats
    """(N,2)."""
    labels: NDArray[np.int32]
    """(N,): 1 product, 0 not."""


class Sam2Objects:
    """The video predictor.

    Args:
        checkpoint: A ``.pt`` file of SAM 2 or 2.1.
        model_config: Its configuration's name inside the package.
        image_size_px: What the model sees; None leaves the configuration's 1024.
        chunk_frames: Frames in memory at a time.
        device: ``cpu`` or ``cuda``.
        pinned_sha256: What the checkpoint must be; empty for any.
    """

    name = "sam2"

    def __init__(
        self, checkpoint: str, model_config: str, image_size_px: int | None, chunk_frames: int,
        device: str = "cpu", pinned_sha256: str = "",
    ) -> None:  # fmt: skip
        self._checkpoint, self._model_config = checkpoint, model_config
        self._image_size_px, self._chunk_frames, self._device = image_size_px, chunk_frames, device
        self._pinned_sha256 = pinned_sha256
        self._predictor: Any = None

    def check(self) -> None:
        """Check the package and the file.

        Raises:
            ConfigError: One of them is missing.
        """
        if importlib.util.find_spec("sam2") is None:
            raise ConfigError(
                "objects.backend=sam2: the package sam2 is not installed; install the extra 'sam2'"
            )
        check_weight_file(
            self._checkpoint, self._pinned_sha256, "objects.weights_file",
            "sam2.1_hiera_tiny.pt (github.com/facebookresearch/sam2) or a larger one",
        )  # fmt: skip

    @property
    def weights_sha256(self) -> str:
        """Digest of the checkpoint."""
        return sha256_of(self._checkpoint)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=self.name, version=importlib.metadata.version("sam2"),
            weights_sha256=self.weights_sha256, licence="Apache-2.0",
        )  # fmt: skip

    def setup(self) -> None:
        """Load the checkpoint.

        Raises:
            ConfigError: The checkpoint does not fit the configuration.
        """
        from sam2.build_sam import build_sam2_video_predictor

        extra = list(_OVERRIDES)
        if self._image_size_px is not None:
            extra.append(f"++model.image_size={self._image_size_px}")
        try:
            self._predictor = build_sam2_video_predictor(
                self._model_config, self._checkpoint, device=self._device,
                hydra_overrides_extra=extra, apply_postprocessing=False,
            )  # fmt: skip
        except (RuntimeError, KeyError) as error:
            raise ConfigError(
                f"objects.backend=sam2: {self._checkpoint} does not fit {self._model_config}"
            ) from error

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
        if self._predictor is None:
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
            raise ModelOutputError("no_held_object", "SAM 2 found nothing at the prompt")
        return masks

    def _carry(self, frames: Frames, prompt: Prompt, end: int, masks: Mask, scratch: Path) -> None:
        """From a prompt to one end of its territory, chunk by chunk."""
        for index, order in enumerate(chunks(prompt.frame, end, self._chunk_frames)):
            folder = scratch / f"sam2-{prompt.frame}-{end}-{index}"
            write_jpegs(frames, order, folder)
            start = prompt if index == 0 else masks[order[0]]
            if not isinstance(start, Prompt) and not start.any():
                return  # the thing has left the picture: nothing to carry on
            self._run(folder, order, start, masks)
            shutil.rmtree(folder)

    def _run(self, folder: Path, order: Sequence[int], start: Prompt | Mask, masks: Mask) -> None:
        """One chunk: ``order[0]`` is where it starts, with a prompt or a mask."""
        state = self._predictor.init_state(
            str(folder), offload_video_to_cpu=True, offload_state_to_cpu=True
        )
        if isinstance(start, Prompt):
            self._predictor.add_new_points_or_box(
                state, frame_idx=0, obj_id=_ID, box=start.box_xyxy_px,
                points=start.points_px, labels=start.labels,
            )  # fmt: skip
        else:
            self._predictor.add_new_mask(state, frame_idx=0, obj_id=_ID, mask=start)
        for index, _, logits in self._predictor.propagate_in_video(state):
            masks[order[index]] = logits[0, 0].cpu().numpy() > 0
        self._predictor.reset_state(state)


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
    masks: Mask, cues: Mask, confidence: Floats, min_iou: float, min_confidence: float
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


def make_prompt(frame: int, mask: Mask, hands_px: Sequence[Floats]) -> Prompt:
    """Box of a mask, its two deepest points, and the hands' wrists and knuckles that lie outside it.

    Args:
        frame: Number of the frame.
        mask: (H,W), not empty.
        hands_px: Per hand (21,2) landmarks.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], np.float32)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    inside = []
    for _ in range(2):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        inside.append((float(x), float(y)))
        cv2.circle(depth, (int(x), int(y)), max(2, int(2 * depth[y, x])), 0, -1)
    height, width = mask.shape
    outside = [
        (float(x), float(y))
        for hand in hands_px
        for x, y in hand[[0, 5, 9, 17], :2]
        if 0 <= x < width and 0 <= y < height and not mask[int(y), int(x)]
    ]
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int32)
    return Prompt(frame, box, np.array(inside + outside, np.float32), labels)
