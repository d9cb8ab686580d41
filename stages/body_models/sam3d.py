"""SAM 3D Body (Meta, SAM License): reads its saved results, or runs the package on a CUDA device.

The model's mesh comes with the package and its own checkpoint, never with Handloom. Saved results name their
vertices alone, so their triangles come from a file of the user's.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.base import BackendRef
from schemas.errors import ConfigError, DataError, ModelOutputError
from stages.body_models.sam3d_results import FrameResult, folder_digest, read_clip, read_faces
from stages.kit.arrays import I32, Frames, Mask
from stages.kit.boxes import box_of
from stages.kit.weight_files import check_weight_file, sha256_of

LICENCE = "SAM License (code and weights)"
_PACKAGE = "sam_3d_body"
_CONFIG_NAME = "model_config.yaml"
_HELP = (
    "set body.backend.results_dir to a folder of saved results, or body.backend.checkpoint_file and body.backend.mhr_file to "
    "model.ckpt and assets/mhr_model.pt of huggingface.co/facebook/sam-3d-body-dinov3"
)


@dataclass(frozen=True)
class Sam3dFiles:
    """Where results or weights are; empty for none."""

    results_dir: str = ""
    faces_file: str = ""
    checkpoint_file: str = ""
    checkpoint_sha256: str = ""
    mhr_file: str = ""
    mhr_sha256: str = ""


class Sam3dBody:
    """One result per frame of a clip.

    Args:
        files: Where they come from.
        focal_ratio: Running the package: focal length over the picture's longer side.
    """

    def __init__(self, files: Sam3dFiles, focal_ratio: float) -> None:
        self._files, self._focal_ratio = files, focal_ratio
        self._estimator: Any = None

    @property
    def runs_package(self) -> bool:
        """True where the package is run, False where saved results are read."""
        return not self._files.results_dir

    def check(self) -> None:
        """Check folder, package and files.

        Raises:
            ConfigError: One of them is missing.
        """
        files = self._files
        if files.results_dir and files.checkpoint_file:
            raise ConfigError(
                "body.backend=sam3d-body: both body.backend.results_dir and body.backend.checkpoint_file are set; clear one"
            )
        if self.runs_package:
            self._check_package()
            return
        if not Path(files.results_dir).is_dir():
            raise ConfigError(
                f"body.backend.results_dir: {files.results_dir} is no folder; {_HELP}"
            )
        if not files.faces_file:
            raise ConfigError(
                "body.backend.faces_file: saved results hold no triangles; save the estimator's own with "
                "numpy.savez(path, faces=estimator.faces)"
            )
        read_faces(files.faces_file)

    def _check_package(self) -> None:
        files = self._files
        if not files.checkpoint_file:
            raise ConfigError(f"body.backend=sam3d-body needs results or weights: {_HELP}")
        if importlib.util.find_spec(_PACKAGE) is None:
            raise ConfigError(
                f"body.backend=sam3d-body: the package {_PACKAGE} is not installed; follow INSTALL.md of "
                "github.com/facebookresearch/sam-3d-body, or run it elsewhere and set body.backend.results_dir"
            )
        check_weight_file(
            files.checkpoint_file,
            files.checkpoint_sha256,
            "body.backend.checkpoint_file",
            "model.ckpt",
        )
        check_weight_file(
            files.mhr_file, files.mhr_sha256, "body.backend.mhr_file", "assets/mhr_model.pt"
        )
        _package_config(files.checkpoint_file)

    @property
    def weights_sha256(self) -> str:
        """Digest of what the results depend on: weights, or the saved results and their faces."""
        files = self._files
        if self.runs_package:
            config = _package_config(files.checkpoint_file)
            parts = [sha256_of(f) for f in (files.checkpoint_file, files.mhr_file, config)]
        else:
            parts = [folder_digest(files.results_dir), sha256_of(files.faces_file)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name="sam3d-body",
            version=_version() if self.runs_package else "saved results",
            weights_sha256=self.weights_sha256,
            licence=LICENCE,
        )

    def setup(self) -> None:
        """Load the weights, where the package is run.

        Raises:
            ConfigError: No CUDA device, or the checkpoint does not fit the package.
        """
        if not self.runs_package:
            return
        self.check()
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("body.backend=sam3d-body: the package runs on a CUDA device only")
        from sam_3d_body import SAM3DBodyEstimator, load_sam_3d_body

        try:
            model, config = load_sam_3d_body(
                checkpoint_path=self._files.checkpoint_file,
                device="cuda",
                mhr_path=self._files.mhr_file,
            )
        except (RuntimeError, KeyError, AttributeError, OSError) as error:
            raise ConfigError(
                f"body.backend=sam3d-body: {self._files.checkpoint_file} does not load: {error}"
            ) from error
        self._estimator = SAM3DBodyEstimator(sam_3d_body_model=model, model_cfg=config)

    @property
    def faces(self) -> I32:
        """(F,3) of the mesh."""
        if not self.runs_package:
            return _faces(self._files.faces_file)
        if self._estimator is None:
            self.setup()
        return np.asarray(self._estimator.faces, np.int32)

    def read(self, clip_id: str, num_frames: int) -> list[FrameResult | None]:
        """The clip's saved results.

        Raises:
            DataError: ``no_results`` if the clip has no folder, ``bad_result`` for a hostile file.
        """
        folder = Path(self._files.results_dir) / clip_id
        if not folder.is_dir():
            raise DataError("no_results", f"{folder} is no folder")
        return read_clip(folder, num_frames)

    def run(self, frames: Frames, mattes: Mask) -> list[FrameResult | None]:
        """Run the package frame by frame on the person; None where it or the matte shows nobody.

        One frame is on the device at a time, and of its output only the mesh and the keypoints stay.

        Args:
            frames: (T,H,W,3) u8 RGB.
            mattes: (T,H,W) the person.
        """
        if self._estimator is None:
            self.setup()
        import torch

        height, width = frames.shape[1:3]
        focal = self._focal_ratio * max(height, width)
        lens = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
        out: list[FrameResult | None] = []
        for index, (frame, matte) in enumerate(zip(frames, mattes, strict=True)):
            box = box_of(matte) if matte.any() else None
            found = (
                []
                if box is None
                else self._estimator.process_one_image(
                    np.ascontiguousarray(frame), bboxes=box[None], cam_int=lens.float()
                )
            )
            out.append(FrameResult.of(found[0], f"frame {index}") if found else None)
        if any(r is not None and r.keypoints_m.shape != (70, 3) for r in out):
            raise ModelOutputError("bad_result", "the package did not return 70 keypoints")
        return out


def _package_config(checkpoint_file: str) -> str:
    """The configuration that the package reads beside a checkpoint, or one folder up."""
    folder = Path(checkpoint_file).parent
    for path in (folder / _CONFIG_NAME, folder.parent / _CONFIG_NAME):
        if path.is_file():
            return str(path)
    raise ConfigError(
        f"body.backend.checkpoint_file: the package wants its {_CONFIG_NAME} in {folder} or above it"
    )


def _version() -> str:
    for name in (_PACKAGE, "sam-3d-body"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "source checkout"


@functools.cache
def _faces(path: str) -> I32:
    return read_faces(path)
