"""RapidOCR text reader: PP-OCRv4 networks (Apache-2.0) that come with its wheel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from schemas.backend import About, Backend, Resources
from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.arrays import F32, Image

ABOUT = About("rapidocr", "rapidocr_onnxruntime", "Apache-2.0", "in the package")
_PACKAGE = "rapidocr-onnxruntime"
_FOLDER = "rapidocr_onnxruntime/models"
_FILES = ("ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx")
_DETECT_SIDE_PX = 480


@dataclass(frozen=True, slots=True)
class TextBox:
    """A line of text: axis-aligned box in pixels, slope in degrees."""

    left: float
    top: float
    right: float
    bottom: float
    slope_deg: float


@cache
def model_paths() -> tuple[Path, ...]:
    """Where the wheel put the detection and recognition networks.

    Raises:
        ConfigError: The package or a file is missing.
    """
    try:
        found = distribution(_PACKAGE)
    except PackageNotFoundError as error:
        raise ConfigError(
            f"quality.text needs the package: pip install --no-deps {_PACKAGE}==1.4.4, "
            "or set quality.read_text=false"
        ) from error
    paths = tuple(Path(str(found.locate_file(f"{_FOLDER}/{name}"))) for name in _FILES)
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise ConfigError(f"{missing} are missing; reinstall {_PACKAGE}==1.4.4")
    return paths


@cache
def models_sha256() -> str:
    """Digest over both networks."""
    digest = hashlib.sha256()
    for path in model_paths():
        digest.update(path.read_bytes())
    return digest.hexdigest()


class RapidOcr(Backend):
    """Finds lines of text and says how sure it is to read them."""

    @property
    def ref(self) -> BackendRef:
        """Name, version, digest of both networks."""
        return BackendRef(
            name=ABOUT.name,
            version=distribution(_PACKAGE).version,
            weights_sha256=self.weights_sha256,
            licence=ABOUT.licence,
        )

    @property
    def weights_sha256(self) -> str:
        """Digest over both networks."""
        return models_sha256()

    @property
    def resources(self) -> Resources:
        """Small networks, one thread."""
        return Resources(num_cpus=0.5, memory_bytes=1_000_000_000)

    def check(self) -> None:
        """Check that the wheel and its files are there; ConfigError if not."""
        model_paths()

    def setup(self) -> None:
        """Load the networks."""
        _ = self._engine

    @cached_property
    def _engine(self) -> Any:
        from rapidocr_onnxruntime import RapidOCR

        return RapidOCR(
            intra_op_num_threads=1,
            inter_op_num_threads=1,
            det_limit_side_len=_DETECT_SIDE_PX,
            det_limit_type="min",
        )

    def find(self, image: Image) -> list[TextBox]:
        """Find text lines in an RGB picture (H,W,3), without reading them."""
        corners, _ = self._engine(_bgr(image), use_det=True, use_cls=False, use_rec=False)
        return [_box(np.asarray(c, np.float32)) for c in corners or ()]

    def confidences(self, image: Image, boxes: Sequence[TextBox]) -> list[tuple[str, float]]:
        """Read upright crops: (text, confidence) per box."""
        crops = [_bgr(image)[_rows(b), _columns(b)] for b in boxes]
        read = [
            self._engine(c, use_det=False, use_cls=False, use_rec=True)[0] if c.size else None
            for c in crops
        ]
        return [(str(r[0][0]), float(r[0][1])) if r else ("", 0.0) for r in read]


def _box(corners: F32) -> TextBox:
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    dx, dy = corners[1] - corners[0]
    slope = float(np.degrees(np.arctan2(dy, dx)))
    return TextBox(float(left), float(top), float(right), float(bottom), slope)


def _rows(box: TextBox) -> slice:
    return slice(max(0, int(box.top)), int(np.ceil(box.bottom)))


def _columns(box: TextBox) -> slice:
    return slice(max(0, int(box.left)), int(np.ceil(box.right)))


def _bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), np.uint8)
