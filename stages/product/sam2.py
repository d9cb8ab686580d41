"""Product masks with SAM 2's official video predictor (Ravi et al. 2024) and the user's checkpoint.

Prompted on the surest frame with a box, points inside and points on the hand outside.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.weight_files import check_weight_file, sha256_of
from stages.product.carried_masks import Mask, MaskCarrier, Prompt

_ID = 1
_OVERRIDES = (
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
)
"""The package's own post-processing, less the hole filling that needs its CUDA extension."""


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

    name = "sam2"

    def __init__(
        self, checkpoint: str, model_config: str, image_size_px: int | None, chunk_frames: int,
        device: str = "cpu", pinned_sha256: str = "",
    ) -> None:  # fmt: skip
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
