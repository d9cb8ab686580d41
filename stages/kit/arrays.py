"""Types of arrays, once: a name is one dtype. Shapes are in the docstrings of what takes and gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""Pictures (T,H,W,3) RGB."""
Image = NDArray[np.uint8]
"""One picture (H,W,3) RGB."""
Grey = NDArray[np.uint8]
"""Brightness (H,W) or (T,H,W)."""
Mask = NDArray[np.bool_]
"""Pixels (H,W) or (T,H,W) that show something."""
Flags = NDArray[np.bool_]
"""Yes or no of each frame, point or thing."""
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Array = NDArray[Any]
Arrays = dict[str, Array]
"""The arrays of a facet by name."""
