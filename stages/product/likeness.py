"""Do two pictures show the same thing? Colour, gradients and matched corners; no learned weights."""

from __future__ import annotations

import cv2
import numpy as np

from stages.kit.arrays import F32, Image, Mask
from stages.product.alignment import fit_similarity, match_corners

FACE_SIDE_PX = 64
_FACE_ANCHORS = (33, 263, 1, 61, 291)
"""Outer eye corners, nose, mouth corners (mediapipe's face mesh)."""
_FACE_TEMPLATE_PX = np.array([[18, 24], [46, 24], [32, 38], [22, 50], [42, 50]], np.float32)
_BINS = (8, 12, 12)
_MIN_MATCHES, _MATCH_ERROR_PX = 4, 6.0


def aligned_face(frame: Image, face_points_px: F32) -> Image | None:
    """The face (64,64,3) with eyes, nose and mouth in fixed places; None without landmarks."""
    points = face_points_px[list(_FACE_ANCHORS), :2].astype(np.float32)
    if not np.isfinite(points).all():
        return None
    transform, _ = cv2.estimateAffinePartial2D(points, _FACE_TEMPLATE_PX, method=cv2.LMEDS)
    if transform is None:
        return None
    return np.asarray(cv2.warpAffine(frame, transform, (FACE_SIDE_PX, FACE_SIDE_PX)), np.uint8)


def gradients(image: Image, cell_px: int = 8, num_bins: int = 9) -> F32:
    """Histograms of oriented gradients (Dalal and Triggs 2005), normalised over 2x2 cells.

    Args:
        image: (H,W,3) u8 RGB; sides are multiples of ``cell_px``.
        cell_px: Side of a cell.
        num_bins: Directions in half a turn.

    Returns:
        One vector of (H/cell - 1) * (W/cell - 1) * 4 * num_bins values.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    angle = np.mod(np.arctan2(down, across), np.pi)
    bins = np.minimum((angle / np.pi * num_bins).astype(np.intp), num_bins - 1)
    rows, cols = grey.shape[0] // cell_px, grey.shape[1] // cell_px
    y, x = np.indices(grey.shape) // cell_px
    flat = np.bincount(
        ((y * cols + x) * num_bins + bins).ravel(),
        weights=np.hypot(across, down).ravel(),
        minlength=rows * cols * num_bins,
    )
    cells = flat.reshape(rows, cols, num_bins)
    blocks = np.concatenate(
        [cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], axis=2
    )
    norms = np.linalg.norm(blocks, axis=2, keepdims=True)
    return (blocks / (norms + 1.0)).astype(np.float32).ravel()


def face_similarity(a: Image, b: Image) -> float:
    """Likeness of two aligned faces in [0, 1]: mean of gradient cosine and colour overlap."""
    first, second = gradients(a), gradients(b)
    cosine = float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-9))
    everywhere = np.ones(a.shape[:2], bool)
    overlap = colour_overlap(a, everywhere, b, everywhere)
    return float(np.clip(0.5 * cosine + 0.5 * overlap, 0, 1))


def colour_histogram(image: Image, where: Mask) -> F32:
    """Lab histogram of the pixels at ``where``, smoothed over neighbouring bins, sum 1."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[where]
    counts, _ = np.histogramdd(lab, bins=_BINS, range=((0, 256),) * 3)
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        counts = (
            0.25 * padded.take(range(counts.shape[axis]), axis)
            + 0.5 * counts
            + 0.25 * padded.take(range(2, counts.shape[axis] + 2), axis)
        )
    total = counts.sum()
    return (counts / total if total else counts).astype(np.float32)


def colour_overlap(a: Image, where_a: Mask, b: Image, where_b: Mask) -> float:
    """Histogram intersection in [0, 1]; 0 where a mask is empty."""
    first, second = colour_histogram(a, where_a), colour_histogram(b, where_b)
    return float(np.clip(np.minimum(first, second).sum(), 0, 1))


def num_matches(a: Image, where_a: Mask, b: Image, where_b: Mask) -> tuple[int, int]:
    """SIFT corners of ``a`` that match in ``b`` and agree on one similarity transform, and all of ``a``'s.

    Fewer than four that agree to 6 px are none.
    """
    matches = match_corners(a, where_a, b, where_b)
    if len(matches.a_px) < _MIN_MATCHES:
        return 0, matches.num_corners
    _, agreeing = fit_similarity(matches, _MATCH_ERROR_PX)
    return (agreeing if agreeing >= _MIN_MATCHES else 0), matches.num_corners


def product_similarity(a: Image, where_a: Mask, b: Image, where_b: Mask) -> float:
    """Likeness of two masked products in [0, 1].

    Colours give the base. Where the first has texture, matched corners pull it up; they never pull it
    down, because a product that turns shows another face.
    """
    colours = colour_overlap(a, where_a, b, where_b)
    matched, _ = num_matches(a, where_a, b, where_b)
    texture = min(1.0, matched / 12)
    return float(colours + (1 - colours) * 0.6 * texture)
