"""What the accuracy figures look like: frames with masks and joints against the truth."""

from __future__ import annotations

import numpy as np

from stages.kit.arrays import F32, Frames, Mask

_NUM_FRAMES = 6
_HIT, _WRONG, _MISSED = (0, 200, 0), (230, 0, 0), (0, 60, 255)


def strip(frames: Frames, found: Mask, true: Mask, joints_px: F32 | None) -> Frames:
    """Six frames at half size side by side (h, 6w, 3).

    Green: product found; red: found but not product; blue: product missed; yellow: fitted joints.
    """
    tiles = []
    for t in np.linspace(0, len(frames) - 1, _NUM_FRAMES).round().astype(int):
        tile = frames[t].astype(np.float32)
        for where, colour in (
            (found[t] & true[t], _HIT),
            (found[t] & ~true[t], _WRONG),
            (true[t] & ~found[t], _MISSED),
        ):
            tile[where] = 0.45 * tile[where] + 0.55 * np.array(colour)
        if joints_px is not None:
            _dots(tile, joints_px[t])
        tiles.append(tile[::2, ::2].astype(np.uint8))
    return np.concatenate(tiles, axis=1)


def _dots(tile: F32, joints_px: F32) -> None:
    height, width = tile.shape[:2]
    for x, y in np.nan_to_num(joints_px, nan=-9).round().astype(int):
        if 2 <= x < width - 2 and 2 <= y < height - 2:
            tile[y - 2 : y + 3, x - 2 : x + 3] = (255, 220, 0)
