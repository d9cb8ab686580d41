"""Product masks with SAM 3's video predictor (Meta, SAM License), asked for by text and the cues' box.

The text finds things all over the frame; the one that lies where the cues see the product is followed. Where the
text finds nothing there, the cues' points start an object of their own, as with SAM 2.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from schemas.backend import BY_HAND, About, Resources
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.settings import PLACE, KnownAs
from stages.kit.arrays import Mask
from stages.kit.boxes import box_of
from stages.kit.weight_files import check_weight_file, sha256_of
from stages.product.carried_finder import CarriedConfig, CarriedFinder
from stages.product.carried_masks import MaskCarrier, Prompt, make_prompt

_BPE_NAME = "bpe_simple_vocab_16e6.txt.gz"
_MIN_FIT = 0.3
"""From here on what the text has found is the prompted product."""


_ABOUT = About("sam3", "sam3", "SAM License (code and weights)", "your file", extra=BY_HAND)


class Sam3Config(CarriedConfig):
    """SAM 3's video predictor with your checkpoint, on a CUDA device."""

    about: ClassVar[About] = _ABOUT
    name: Literal["sam3"] = "sam3"
    prompt: Annotated[str, KnownAs("sam3_prompt")] = Field(
        default="product held in hand", min_length=1
    )
    """What to look for, a short noun phrase; the first finder's box says which of the found."""
    bpe_file: Annotated[str, PLACE, KnownAs("sam3_bpe_file")] = ""
    """Path of bpe_simple_vocab_16e6.txt.gz; empty for the one in a source checkout of the package."""
    chunk_frames: Annotated[int, KnownAs("sam3_chunk_frames")] = Field(default=48, ge=2)
    """Frames in memory at a time."""

    def build(self) -> CarriedFinder:
        """The finder."""
        return self.carrying(
            Sam3Objects(
                self.weights_file,
                self.bpe_file,
                self.prompt,
                self.chunk_frames,
                self.weights_sha256,
            )
        )


class Sam3Objects(MaskCarrier):
    """The video predictor; runs on a CUDA device.

    Args:
        checkpoint: ``sam3.pt``.
        bpe_file: The text encoder's vocabulary; empty for the one beside the package's source.
        text: What to look for, a short noun phrase.
        chunk_frames: Frames in memory at a time.
        pinned_sha256: What the checkpoint must be; empty for any.
    """

    about = _ABOUT

    def __init__(
        self, checkpoint: str, bpe_file: str, text: str, chunk_frames: int, pinned_sha256: str = ""
    ) -> None:
        super().__init__(chunk_frames)
        self._checkpoint, self._bpe_file, self._text = checkpoint, bpe_file, text
        self._pinned_sha256 = pinned_sha256
        self._predictor: Any = None

    def check(self) -> None:
        """Check the package and the files.

        Raises:
            ConfigError: One of them is missing.
        """
        if not _ABOUT.is_installed:
            raise ConfigError(
                "objects.backend=sam3: the package sam3 is not installed; its licence and its pins keep it out "
                "of the extras: docs/install.md says how to add it to an environment of its own"
            )
        check_weight_file(
            self._checkpoint,
            self._pinned_sha256,
            "objects.backend.weights_file",
            "sam3.pt (huggingface.co/facebook/sam3, gated)",
        )
        check_weight_file(
            self._vocabulary,
            "",
            "objects.backend.bpe_file",
            f"assets/{_BPE_NAME} (github.com/facebookresearch/sam3)",
        )

    @property
    def _vocabulary(self) -> str:
        """The user's file, or the one that a source checkout of the package has."""
        if self._bpe_file:
            return self._bpe_file
        spec = importlib.util.find_spec("sam3")
        roots = list(spec.submodule_search_locations or []) if spec else []
        return str(Path(roots[0]).parent / "assets" / _BPE_NAME) if roots else _BPE_NAME

    @property
    def weights_sha256(self) -> str:
        """Digest of checkpoint and vocabulary."""
        parts = sha256_of(self._checkpoint) + sha256_of(self._vocabulary)
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=_ABOUT.name,
            version=importlib.metadata.version("sam3"),
            weights_sha256=self.weights_sha256,
            licence=_ABOUT.licence,
        )

    @property
    def resources(self) -> Resources:
        """A GPU: the package runs on nothing else."""
        return Resources(num_cpus=1.0, num_gpus=1.0, memory_bytes=8_000_000_000)

    def setup(self) -> None:
        """Load the checkpoint.

        Raises:
            ConfigError: No CUDA device, or the checkpoint does not fit the package.
        """
        import torch

        self.check()
        if not torch.cuda.is_available():
            raise ConfigError("objects.backend=sam3: the package runs on a CUDA device only")
        from sam3.model_builder import build_sam3_video_predictor

        try:
            self._predictor = build_sam3_video_predictor(
                checkpoint_path=self._checkpoint, bpe_path=self._vocabulary
            )
        except (RuntimeError, KeyError, OSError) as error:
            raise ConfigError(
                f"objects.backend=sam3: {self._checkpoint} does not load: {error}"
            ) from error
        self.is_ready = True

    def _run(self, folder: Path, order: Sequence[int], start: Prompt | Mask, masks: Mask) -> None:
        """One chunk in a session of its own; the API takes no masks, so a mask starts as its box and points."""
        prompt = start if isinstance(start, Prompt) else make_prompt(order[0], start, [])
        size = masks.shape[1:]
        session = self._ask("start_session", resource_path=str(folder))["session_id"]
        try:
            found = self._ask(
                "add_prompt", session_id=session, frame_index=0, text=self._text,
                bounding_boxes=[relative_box(prompt, size)], bounding_box_labels=[1],
            )  # fmt: skip
            wanted, fit = best_object(found["outputs"], prompt)
            if fit < _MIN_FIT:
                wanted = self._start_from_points(session, prompt, size)
            for index, outputs in self._propagate(session):
                masks[order[index]] = mask_of(outputs, wanted, size)
        finally:
            self._ask("close_session", session_id=session)

    def _start_from_points(self, session: str, prompt: Prompt, size: tuple[int, ...]) -> int:
        """A new object from the prompt's points; its number."""
        # Points build on what a propagation has left in the session, even where that has found nothing.
        ids = [int(i) for _, outputs in self._propagate(session) for i in outputs["out_obj_ids"]]
        wanted = max(ids, default=-1) + 1
        points = prompt.points_px / np.array([size[1], size[0]])
        self._ask(
            "add_prompt", session_id=session, frame_index=0, obj_id=wanted,
            points=np.clip(points, 0, 1).tolist(), point_labels=prompt.labels.tolist(),
        )  # fmt: skip
        return wanted

    def _propagate(self, session: str) -> Iterator[tuple[int, Any]]:
        """Forward over the chunk: number of the frame, its outputs."""
        request = {
            "type": "propagate_in_video",
            "session_id": session,
            "start_frame_index": 0,
            "propagation_direction": "forward",
        }
        for response in self._predictor.handle_stream_request(request=request):
            yield int(response["frame_index"]), response["outputs"]

    def _ask(self, kind: str, **request: Any) -> Any:
        return self._predictor.handle_request(request={"type": kind, **request})


def relative_box(prompt: Prompt, size: tuple[int, ...]) -> list[float]:
    """The prompt's box as x, y, width, height in shares of a picture (H, W)."""
    height, width = size
    box = np.clip(prompt.box_xyxy_px / np.array([width, height, width, height]), 0.0, 1.0)
    return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def best_object(outputs: Any, prompt: Prompt) -> tuple[int, float]:
    """The object that fits a prompt best and how well, 0 to 1; (-1, 0.0) where there is none.

    The fit is the overlap of the boxes times the share of points on their side of the outline.
    """
    best, best_fit = -1, 0.0
    for object_id, mask in zip(outputs["out_obj_ids"], outputs["out_binary_masks"], strict=True):
        fit = _fit(np.asarray(mask, bool), prompt)
        if fit > best_fit:
            best, best_fit = int(object_id), fit
    return best, best_fit


def _fit(mask: Mask, prompt: Prompt) -> float:
    if not mask.any():
        return 0.0
    own = box_of(mask)
    low = np.maximum(own[:2], prompt.box_xyxy_px[:2])
    high = np.minimum(own[2:], prompt.box_xyxy_px[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    sizes = sum(float(np.prod(b[2:] - b[:2])) for b in (own, prompt.box_xyxy_px))
    x, y = prompt.points_px.astype(int).T
    x, y = np.clip(x, 0, mask.shape[1] - 1), np.clip(y, 0, mask.shape[0] - 1)
    right = (mask[y, x] == prompt.labels.astype(bool)).mean()
    return shared / max(sizes - shared, 1e-6) * float(right)


def mask_of(outputs: Any, object_id: int, size: tuple[int, ...]) -> Mask:
    """One object's mask (H,W); empty where it was not found."""
    ids = np.asarray(outputs["out_obj_ids"]).tolist()
    if object_id not in ids:
        return np.zeros(size, bool)
    return np.asarray(outputs["out_binary_masks"][ids.index(object_id)], bool)
