"""PySceneDetect shot detector (BSD-3-Clause): colour differences, no weights."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from schemas.backend import About, BackendConfig
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.settings import KnownAs
from stages.kit.arrays import Frames
from stages.kit.spans import Span, merge
from stages.source.shots import FLASH_FRAMES, ShotDetector, black_spans

_NOMINAL_FPS = 25.0
_ABOUT = About("pyscenedetect", "scenedetect", "BSD-3-Clause")
_PACKAGE = "scenedetect-headless"


class PySceneDetectConfig(BackendConfig):
    """Hard cuts by colour differences, for a sixth of the time."""

    about: ClassVar[About] = _ABOUT
    name: Literal["pyscenedetect"] = "pyscenedetect"
    threshold: Annotated[float, KnownAs("pyscenedetect_threshold")] = Field(default=3.0, gt=0)
    """Ratio to the neighbourhood that counts as a cut."""

    def build(self) -> PySceneDetectDetector:
        """The detector."""
        return PySceneDetectDetector(self.threshold)


class PySceneDetectDetector(ShotDetector):
    """Content differences against their neighbourhood (AdaptiveDetector), plus black passages.

    Dissolves are beyond it: they have no single step that stands out.

    Args:
        adaptive_threshold: Ratio of a frame's difference to its neighbours' that is a cut.
    """

    thumbnail_size = (128, 72)

    def __init__(self, adaptive_threshold: float) -> None:
        self._adaptive_threshold = adaptive_threshold

    @property
    def ref(self) -> BackendRef:
        """What facets show."""
        return BackendRef(name=_ABOUT.name, version=version(_PACKAGE), licence=_ABOUT.licence)

    def check(self) -> None:
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

    def transitions(self, thumbnails: Frames) -> list[Span]:
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
