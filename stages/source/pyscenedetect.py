"""PySceneDetect shot detector (BSD-3-Clause): colour differences, no weights."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import cv2
import numpy as np

from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.spans import Span, merge
from stages.source.shots import FLASH_FRAMES, Thumbnails, black_spans

_NOMINAL_FPS = 25.0
_PACKAGE = "scenedetect-headless"


def check() -> None:
    """Check that the package is there.

    Raises:
        ConfigError: It is not.
    """
    try:
        version(_PACKAGE)
    except PackageNotFoundError as error:
        raise ConfigError(
            f"segment.detector=pyscenedetect needs the package: pip install '{_PACKAGE}>=0.7,<0.8', "
            "or choose segment.detector=transnetv2"
        ) from error


class PySceneDetectDetector:
    """Content differences against their neighbourhood (AdaptiveDetector), plus black passages.

    Dissolves are beyond it: they have no single step that stands out.

    Args:
        adaptive_threshold: Ratio of a frame's difference to its neighbours' that is a cut.
    """

    thumbnail_size = (128, 72)

    def __init__(self, adaptive_threshold: float) -> None:
        self._adaptive_threshold = adaptive_threshold
        self.ref = BackendRef(
            name="pyscenedetect", version=version(_PACKAGE), licence="BSD-3-Clause"
        )

    def transitions(self, thumbnails: Thumbnails) -> list[Span]:
        """Find transitions; see ``ShotDetector``."""
        from scenedetect import AdaptiveDetector
        from scenedetect.common import FrameTimecode

        detector = AdaptiveDetector(self._adaptive_threshold, min_scene_len=1)
        cuts = []
        for index in range(len(thumbnails)):
            picture = cv2.cvtColor(np.ascontiguousarray(thumbnails[index]), cv2.COLOR_RGB2BGR)
            cuts += detector.process_frame(FrameTimecode(index, _NOMINAL_FPS), picture)
        frames = [cut.frame_num for cut in cuts]
        return merge([*(Span(f, f) for f in frames), *black_spans(thumbnails)], FLASH_FRAMES)
