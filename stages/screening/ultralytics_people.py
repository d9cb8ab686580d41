"""Person boxes with ultralytics (AGPL-3.0, optional extra) and the user's own weight file.

Any YOLO detection or pose file whose class 0 is a person. Nothing is downloaded, installed or reported.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from schemas.backend import About, BackendConfig, Resources
from schemas.base import BackendRef
from schemas.errors import ConfigError, ModelOutputError
from schemas.settings import PIN, PLACE, KnownAs
from stages.kit.arrays import F32, Frames
from stages.kit.weight_files import check_weight_file, sha256_of
from stages.screening.people import PeopleBackend

_DISTRIBUTION = "ultralytics-opencv-headless"
_PERSON = 0


_ABOUT = About("ultralytics", "ultralytics", "AGPL-3.0", "your file", extra="ultralytics")


class UltralyticsConfig(BackendConfig):
    """Your YOLO weights; AGPL-3.0, so an extra."""

    about: ClassVar[About] = _ABOUT
    name: Literal["ultralytics"] = "ultralytics"
    weights_file: Annotated[str, PLACE] = ""
    """Path of a local YOLO weight file whose class 0 is a person."""
    weights_sha256: Annotated[str, PIN] = ""
    """Pins the weight file; empty for any."""
    min_confidence: Annotated[float, KnownAs("people_min_confidence")] = Field(
        default=0.5, ge=0, le=1
    )
    """Boxes below it are not people."""
    min_person_area: float = Field(default=0.05, ge=0, le=1)
    """Smaller people than this share of the largest are passers-by far away."""

    def build(self) -> UltralyticsPeople:
        """The counter."""
        return UltralyticsPeople(
            self.weights_file,
            self.min_confidence,
            self.weights_sha256,
            min_person_area=self.min_person_area,
        )


class UltralyticsPeople(PeopleBackend):
    """Finds people in single frames.

    Args:
        weights_file: A local ``.pt`` file.
        min_confidence: Boxes below it are not people.
        pinned_sha256: What the file must be; empty for any.
        image_size_px: What the model sees.
        min_person_area: People smaller than this share of the largest are not counted.
    """

    def __init__(
        self,
        weights_file: str,
        min_confidence: float,
        pinned_sha256: str = "",
        image_size_px: int = 640,
        min_person_area: float = 0.0,
    ) -> None:
        self._min_person_area = min_person_area
        self._weights_file, self._min_confidence = weights_file, min_confidence
        self._pinned_sha256, self._image_size_px = pinned_sha256, image_size_px
        self._settings: tempfile.TemporaryDirectory[str] | None = None
        self._model: Any = None

    def check(self) -> None:
        """Check the package and the file.

        Raises:
            ConfigError: One of them is missing.
        """
        if not _ABOUT.is_installed:
            raise ConfigError(
                "detect.backend=ultralytics: the package is not installed; install the extra "
                "'ultralytics' (AGPL-3.0)"
            )
        check_weight_file(
            self._weights_file,
            self._pinned_sha256,
            "detect.backend.weights_file",
            "a local YOLO .pt file with class 0 = person",
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the weight file."""
        return sha256_of(self._weights_file)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=_ABOUT.name,
            version=importlib.metadata.version(_DISTRIBUTION),
            weights_sha256=self.weights_sha256,
            licence=_ABOUT.licence,
        )

    @property
    def resources(self) -> Resources:
        """The landmarks' graphs, and YOLO."""
        return Resources(memory_bytes=2_500_000_000)

    def setup(self) -> None:
        """Load the weights, offline.

        Raises:
            ConfigError: The file is no YOLO model.
        """
        os.environ["YOLO_OFFLINE"] = "true"
        os.environ["YOLO_AUTOINSTALL"] = "false"
        os.environ["YOLO_VERBOSE"] = "false"
        if "YOLO_CONFIG_DIR" not in os.environ:  # it writes its settings there
            self._settings = tempfile.TemporaryDirectory(prefix="handloom-yolo-")
            os.environ["YOLO_CONFIG_DIR"] = self._settings.name
        from ultralytics import YOLO, settings

        settings.update({"sync": False})
        path = str(Path(self._weights_file).resolve())
        try:
            self._model = YOLO(path)
        except (RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"detect.backend.weights_file: {path} is no YOLO model") from error

    def count(self, frame: Frames) -> int:
        """People in one frame (H,W,3) RGB who are not far behind the largest."""
        boxes, _ = self.find(frame)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        return int((areas >= self._min_person_area * areas.max(initial=0)).sum())

    def find(self, frame: Frames) -> tuple[F32, F32]:
        """People in one frame (H,W,3) RGB.

        Returns:
            Boxes (N,4) xyxy in pixels and scores (N,), best first.

        Raises:
            ModelOutputError: ``no_person`` if the model returns no numbers.
        """
        if self._model is None:
            self.setup()
        result = self._model.predict(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), imgsz=self._image_size_px, verbose=False,
            conf=self._min_confidence, classes=[_PERSON], device="cpu", save=False,
        )[0]  # fmt: skip
        boxes = result.boxes.xyxy.cpu().numpy().astype(np.float32).reshape(-1, 4)
        scores = result.boxes.conf.cpu().numpy().astype(np.float32).reshape(-1)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ModelOutputError("no_person", "the YOLO model returned NaN")
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]
