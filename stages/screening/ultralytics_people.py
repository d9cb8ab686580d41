"""Person boxes with ultralytics (AGPL-3.0, optional extra) and the user's own weight file.

Any YOLO detection or pose file whose class 0 is a person. Nothing is downloaded, installed or reported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from schemas.errors import ConfigError, ModelOutputError
from stages.kit.weight_files import check_weight_file, sha256_of

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]
_DISTRIBUTION = "ultralytics-opencv-headless"
_PERSON = 0


class UltralyticsPeople:
    """Finds people in single frames.

    Args:
        weights_file: A local ``.pt`` file.
        min_confidence: Boxes below it are not people.
        pinned_sha256: What the file must be; empty for any.
        image_size_px: What the model sees.
    """

    name = "ultralytics"

    def __init__(
        self, weights_file: str, min_confidence: float, pinned_sha256: str = "",
        image_size_px: int = 640,
    ) -> None:  # fmt: skip
        self._weights_file, self._min_confidence = weights_file, min_confidence
        self._pinned_sha256, self._image_size_px = pinned_sha256, image_size_px
        self._settings: tempfile.TemporaryDirectory[str] | None = None
        self._model: Any = None

    def check(self) -> None:
        """Check the package and the file.

        Raises:
            ConfigError: One of them is missing.
        """
        if importlib.util.find_spec("ultralytics") is None:
            raise ConfigError(
                "detect.backend=ultralytics: the package is not installed; install the extra "
                "'ultralytics' (AGPL-3.0)"
            )
        check_weight_file(
            self._weights_file, self._pinned_sha256, "detect.weights_file",
            "a local YOLO .pt file with class 0 = person",
        )  # fmt: skip

    @property
    def weights_sha256(self) -> str:
        """Digest of the weight file."""
        return sha256_of(self._weights_file)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=self.name, version=importlib.metadata.version(_DISTRIBUTION),
            weights_sha256=self.weights_sha256, licence="AGPL-3.0",
        )  # fmt: skip

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
            raise ConfigError(f"detect.weights_file: {path} is no YOLO model") from error

    def find(self, frame: Frames) -> tuple[Floats, Floats]:
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
