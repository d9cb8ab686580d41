"""SAM 3D Body's meshes, saved ones or its package's, made fit to draw."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from schemas.backend import BY_HAND, About, BackendConfig, Resources
from schemas.base import BackendRef
from schemas.settings import PIN, PLACE, UsedWhen
from stages.base import Dropped
from stages.body.recovery import BodyBackend, BodyView, Recovered
from stages.body.sequence import Recorded, record
from stages.body_models.sam3d import LICENCE, Sam3dBody, Sam3dFiles
from stages.kit.arrays import Arrays

_LENS = UsedWhen(lambda config: not config.results_dir)
"""Saved results bring their own focal length."""


class Sam3dConfig(BackendConfig):
    """SAM 3D Body: saved results, or its package on a CUDA device."""

    about: ClassVar[About] = About("sam3d-body", "sam_3d_body", LICENCE, "your files", BY_HAND)
    name: Literal["sam3d-body"] = "sam3d-body"
    results_dir: Annotated[str, PLACE] = ""
    """Saved results, ``<clip id>/<frame:06d>.npz``, in a folder that every worker can read."""
    faces_file: Annotated[str, PLACE] = ""
    """With saved results: npz with the mesh's triangles, ``faces`` (F,3)."""
    checkpoint_file: Annotated[str, PLACE] = ""
    """Without saved results: path of model.ckpt. The package unpickles it: pin it."""
    checkpoint_sha256: Annotated[str, PIN] = ""
    """Pins ``checkpoint_file``; empty for any."""
    mhr_file: Annotated[str, PLACE] = ""
    """Without saved results: path of mhr_model.pt."""
    mhr_sha256: Annotated[str, PIN] = ""
    """Pins ``mhr_file``; empty for any."""
    max_gap_frames: int = Field(default=8, ge=0)
    """Longer runs of frames without a result drop the clip, shorter ones are interpolated."""
    smooth_frames: int = Field(default=7, ge=1, le=51)
    """Window of the smoothing over time; below 5 none."""
    focal_ratio: Annotated[float, _LENS] = Field(default=1.2, gt=0.3, lt=10)
    """Without saved results: focal length over the picture's longer side."""

    def build(self) -> RecordedBody:
        """The reader."""
        names = Sam3dFiles.__dataclass_fields__
        files = Sam3dFiles(**{name: getattr(self, name) for name in names})
        return RecordedBody(Sam3dBody(files, self.focal_ratio), self)


class RecordedBody(BodyBackend):
    """Takes one mesh a frame.

    Args:
        sam3d: Where they come from.
        config: How gaps and jitter are treated.
    """

    def __init__(self, sam3d: Sam3dBody, config: Sam3dConfig) -> None:
        self._sam3d, self._config = sam3d, config

    @property
    def ref(self) -> BackendRef:
        """The model's."""
        return self._sam3d.ref

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights, or of the saved results."""
        return self._sam3d.weights_sha256

    @property
    def resources(self) -> Resources:
        """A GPU where the package is run."""
        if self._sam3d.runs_package:
            return Resources(num_cpus=1.0, num_gpus=1.0, memory_bytes=12_000_000_000)
        return Resources(num_cpus=0.5, memory_bytes=1_500_000_000)

    def check(self) -> None:
        """Raise ConfigError if a folder, file or package is missing."""
        self._sam3d.check()

    def setup(self) -> None:
        """Load the weights where the package is run."""
        self._sam3d.setup()

    def recover(self, view: BodyView) -> Recovered | Dropped:
        """Read or run, fill short gaps, smooth."""
        row, sam3d, config = view.row, self._sam3d, self._config
        if sam3d.runs_package:
            mattes = view.landmarks.matte(row.media.height_px, row.media.width_px)
            results = sam3d.run(view.files.frames(row.media.video), mattes)
        else:
            results = sam3d.read(row.clip_id, len(view.seen.pose_px))
        found = record(results, sam3d.faces, view.seen, config.max_gap_frames, config.smooth_frames)
        if found is None:
            return Dropped("no_pose", f"over {config.max_gap_frames} frames have no result")
        return Recovered(sequence_arrays(found), found)


def sequence_arrays(body: Recorded) -> Arrays:
    """What is stored of a recorded body: all that the structure stage draws."""
    return {
        "vertices_m": body.vertices_m,
        "translation_m": body.translation_m,
        "faces": body.faces,
        "part_labels": body.part_labels,
        "joints_px": body.joints_px,
        "is_valid": body.is_valid.astype(np.uint8),
        "focal_px": np.array([body.camera.focal_px], np.float32),
        "principal_px": np.array(body.camera.principal_px, np.float32),
    }
