"""SAM 3D Body's results on disk: ``<results folder>/<clip id>/<frame:06d>.npz``, one person a frame.

The files come from another program, so nothing in them is trusted: no unpickling, and the shape and number type
in each array's header are checked before a byte of the array is read.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import ConfigError, ModelOutputError
from stages.kit.arrays import F32, F64, I32, Array
from stages.kit.weight_files import sha256_of

NUM_KEYPOINTS = 70
"""Keypoints of the package's ``mhr70`` list."""
MAX_VERTICES, MAX_FACES = 200_000, 400_000
"""The model's mesh has 18439 vertices; ten times that is no body any more."""
MIN_DEPTH_M = 0.05
_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "pred_vertices": ((-1, 3),),
    "pred_cam_t": ((3,),),
    "pred_keypoints_3d": ((NUM_KEYPOINTS, 3),),
    "pred_keypoints_2d": ((NUM_KEYPOINTS, 2),),
}
_FOCAL_SHAPES: tuple[tuple[int, ...], ...] = ((), (1,))
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One person in one frame. Axes of the package: x right, y down, z away from the camera."""

    vertices_m: F32
    """(V,3) before ``camera_t_m`` is added."""
    keypoints_m: F64
    """(70,3) likewise."""
    camera_t_m: F64
    """(3,)."""
    keypoints_px: F64
    """(70,2)."""
    focal_px: float | None
    """None where the file does not say."""

    @classmethod
    def of(cls, output: dict[str, Any], where: str) -> FrameResult:
        """Take what the package returns, or what was read from a file.

        Raises:
            ModelOutputError: ``bad_result`` if numbers are not finite or the person is not before the camera.
        """
        focal = output.get("focal_length")
        result = cls(
            np.asarray(output["pred_vertices"], np.float32),
            np.asarray(output["pred_keypoints_3d"], np.float64),
            np.asarray(output["pred_cam_t"], np.float64),
            np.asarray(output["pred_keypoints_2d"], np.float64),
            None if focal is None else float(np.asarray(focal).reshape(())),
        )
        fields = (
            result.vertices_m,
            result.keypoints_m,
            result.camera_t_m,
            result.keypoints_px,
            np.array(result.focal_px or 1.0),
        )
        if not all(np.isfinite(field).all() for field in fields):
            raise ModelOutputError("bad_result", f"{where}: numbers that are not finite")
        nearest = min(result.vertices_m[:, 2].min(), result.keypoints_m[:, 2].min())
        if nearest + result.camera_t_m[2] < MIN_DEPTH_M or (result.focal_px or 1.0) <= 0:
            raise ModelOutputError("bad_result", f"{where}: not in front of the camera")
        return result


def read_clip(folder: Path, num_frames: int) -> list[FrameResult | None]:
    """Read the results of one clip; None for frames without a file.

    Raises:
        ModelOutputError: ``bad_result`` for a file that is not what it should be.
    """
    paths = [folder / f"{frame:06d}.npz" for frame in range(num_frames)]
    found = [read_result(path) if path.is_file() else None for path in paths]
    counts = {len(r.vertices_m) for r in found if r is not None}
    if len(counts) > 1:
        raise ModelOutputError("bad_result", f"{folder}: frames with {sorted(counts)} vertices")
    return found


def read_result(path: Path) -> FrameResult:
    """Read one file.

    Raises:
        ModelOutputError: ``bad_result`` if arrays are missing, pickled, misshapen or not finite.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            output = {key: _read_array(archive, key, shapes) for key, shapes in _SHAPES.items()}
            if "focal_length.npy" in archive.namelist():
                output["focal_length"] = _read_array(archive, "focal_length", _FOCAL_SHAPES)
    except KeyError as error:
        raise ModelOutputError("bad_result", f"{path}: {error.args[0]}") from error
    except _READ_ERRORS as error:
        raise ModelOutputError("bad_result", f"{path}: {error}") from error
    return FrameResult.of(output, str(path))


def read_faces(path: str) -> I32:
    """Read the triangles (F,3) of the mesh from an npz file with an array ``faces``.

    Raises:
        ConfigError: No such file, or it holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            faces = _read_array(archive, "faces", ((-1, 3),), kinds="iu", limit=MAX_FACES)
    except (KeyError, *_READ_ERRORS) as error:
        raise ConfigError(
            f"body.backend.faces_file: cannot read faces (F,3) from {path!r} ({error}); save the estimator's own "
            "with numpy.savez(path, faces=estimator.faces)"
        ) from error
    if not len(faces) or faces.min() < 0 or faces.max() >= MAX_VERTICES:
        raise ConfigError(f"body.backend.faces_file: {path} has vertex numbers out of range")
    return faces.astype(np.int32)


def _read_array(
    archive: zipfile.ZipFile,
    key: str,
    shapes: tuple[tuple[int, ...], ...],
    *,
    kinds: str = "f",
    limit: int = MAX_VERTICES,
) -> Array:
    """One array whose header says one of ``shapes`` (-1: any length up to ``limit``)."""
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADER_READERS:
            raise ValueError(f"{key}: npy version {version}")
        shape, _, dtype = _HEADER_READERS[version](member)
    fits = any(
        len(shape) == len(s)
        and all(b == a or (a < 0 and 0 < b <= limit) for a, b in zip(s, shape, strict=True))
        for s in shapes
    )
    if not fits or dtype.kind not in kinds:
        raise ValueError(
            f"{key} is {dtype}{list(shape)}, expected {kinds}{[list(s) for s in shapes]}"
        )
    with archive.open(f"{key}.npy") as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


@functools.cache
def folder_digest(folder: str) -> str:
    """Digest of a folder's content: every file's name and content, once per process.

    An npz is an archive that holds the checksums of its arrays, so its own table of contents stands for them:
    81 frames are 17 MB, and a folder holds many clips. Any other file is read.
    """
    digest = hashlib.sha256()
    root = Path(folder)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(root)}\0{_content_of(path)}\0".encode())
    return digest.hexdigest()


def _content_of(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return ",".join(f"{i.filename}:{i.CRC}:{i.file_size}" for i in archive.infolist())
    except _READ_ERRORS:
        return sha256_of(str(path))
