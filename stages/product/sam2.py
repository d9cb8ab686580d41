"""Product masks with SAM 2's official video predictor (Ravi et al. 2024) and the user's checkpoint.

Prompted on the surest frame with a box, points inside and points on the hand outside.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.backend import About, Resources
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.settings import KnownAs
from stages.kit.arrays import Mask
from stages.kit.weight_files import check_weight_file, sha256_of
from stages.product.carried_finder import CarriedConfig, CarriedFinder
from stages.product.carried_masks import MaskCarrier, Prompt

_ID = 1
_OVERRIDES = (
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
)
"""The package's own post-processing, less the hole filling that needs its CUDA extension."""


_ABOUT = About("sam2", "sam2", "Apache-2.0", "your file", extra="sam2")


class Sam2Config(CarriedConfig):
    """SAM 2's video predictor with your checkpoint."""

    about: ClassVar[About] = _ABOUT
    name: Literal["sam2"] = "sam2"
    config: Annotated[str, KnownAs("sam2_config")] = "configs/sam2.1/sam2.1_hiera_t.yaml"
    """The configuration, inside the package, that the checkpoint was trained with."""
    image_size_px: Annotated[int | None, KnownAs("sam2_image_size_px")] = Field(
        default=None, ge=256
    )
    """None for the configuration's own 1024; 512 is seven times faster and coarser."""
    chunk_frames: Annotated[int, KnownAs("sam2_chunk_frames")] = Field(default=48, ge=2)
    """Frames in memory at a time."""
    device: Annotated[Literal["cpu", "cuda"], KnownAs("sam2_device")] = "cpu"

    def build(self) -> CarriedFinder:
        """The finder."""
        return self.carrying(
            Sam2Objects(
                self.weights_file, self.config, self.image_size_px, self.chunk_frames,
                self.device, self.weights_sha256,
            )
        )  # fmt: skip


class Sam2Objects(MaskCarrier):
    """The video predictor.

    Args:
        checkpoint: A ``.pt`` file of SAM 2 or 2.1.
        model_config: Its configuration's name inside the package.
        image_size_px: What the model sees; None leaves the configuration's 1024.
        chunk_frames: Frames in memory at a time.
        device: ``cpu`` or ``cuda``.
        pinned_sha256: What the checkpoint must be; empty for any.
    """

    about = _ABOUT

    def __init__(
        self,
        checkpoint: str,
        model_config: str,
        image_size_px: int | None,
        chunk_frames: int,
        device: str = "cpu",
        pinned_sha256: str = "",
    ) -> None:
        super().__init__(chunk_frames)
        self._checkpoint, self._model_config = checkpoint, model_config
        self._image_size_px, self._device = image_size_px, device
        self._pinned_sha256 = pinned_sha256
        self._predictor: Any = None

    def check(self) -> None:
        """Check the package and the file.

        Raises:
            ConfigError: One of them is missing.
        """
        if not _ABOUT.is_installed:
            raise ConfigError(
                "objects.backend=sam2: the package sam2 is not installed; install the extra 'sam2'"
            )
        check_weight_file(
            self._checkpoint,
            self._pinned_sha256,
            "objects.backend.weights_file",
            "sam2.1_hiera_tiny.pt (github.com/facebookresearch/sam2) or a larger one",
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the checkpoint."""
        return sha256_of(self._checkpoint)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=_ABOUT.name,
            version=importlib.metadata.version("sam2"),
            weights_sha256=self.weights_sha256,
            licence=_ABOUT.licence,
        )

    @property
    def resources(self) -> Resources:
        """One core, and a GPU where it is told to."""
        gpus = 1.0 if self._device == "cuda" else 0.0
        return Resources(num_cpus=1.0, num_gpus=gpus, memory_bytes=4_000_000_000)

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
                self._model_config,
                self._checkpoint,
                device=self._device,
                hydra_overrides_extra=extra,
                apply_postprocessing=False,
            )
        except (RuntimeError, KeyError) as error:
            raise ConfigError(
                f"objects.backend=sam2: {self._checkpoint} does not fit {self._model_config}"
            ) from error
        self.is_ready = True

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
