"""Reference images brought to the clip's size, the same for training and sampling."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8


def on_white(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Composite an RGBA image on white; RGB passes through."""
    if image.shape[2] == 3:
        return image
    alpha = image[:, :, 3:].astype(np.float32) / 255
    return (image[:, :, :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def fill_crop(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Scale an image to cover (height, width), then cut the centre."""
    resized = _scale(image, max(size[0] / image.shape[0], size[1] / image.shape[1]))
    top = max(0, resized.shape[0] - size[0]) // 2
    left = max(0, resized.shape[1] - size[1]) // 2
    return fit_exact(resized[top : top + size[0], left : left + size[1]], size)


def fit_pad(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Scale an image to fit into (height, width) and centre it on white, its own ground."""
    resized = _scale(image, min(size[0] / image.shape[0], size[1] / image.shape[1]))
    resized = resized[: size[0], : size[1]]
    canvas = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - resized.shape[0]) // 2, (size[1] - resized.shape[1]) // 2
    canvas[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
    return canvas


def fit_exact(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Repair a rounding difference of a pixel."""
    if image.shape[:2] == size:
        return image
    return np.asarray(
        cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8
    )


def _scale(image: UInt8[np.ndarray, "h w 3"], scale: float) -> UInt8[np.ndarray, "H W 3"]:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
