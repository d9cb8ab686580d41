"""Optical flow between key frames of a clip: several looks at the keys need the same ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages import product_cues as cues
from stages.product_scene import Scene

Floats = NDArray[np.float32]
MAX_GAP_STEPS = 4
"""Key frames farther apart than this many steps are not neighbours: the hands were out of sight."""


class KeyFlows:
    """Flows between frames of a scene, each computed once and kept: 8 bytes a pixel for every pair of frames."""

    def __init__(self, scene: Scene) -> None:
        self._grey, self._engine = scene.grey, cues.make_flow()
        self._known: dict[tuple[int, int], Floats] = {}

    def back(self, t: int, other: int) -> Floats:
        """(h,w,2) small pixels: how far from its place in frame ``t`` each pixel lies in frame ``other``."""
        if (t, other) not in self._known:
            self._known[t, other] = self._engine.calc(self._grey[t], self._grey[other], None)
        return self._known[t, other]
