"""Run-length masks: many binary masks as two flat arrays.

Mask ``t`` of a sequence (T,H,W) is ``counts[offsets[t]:offsets[t+1]]``: run lengths over the
row-major pixels, starting with zeros. Sums are always H*W.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stages.kit.arrays import F32, Array, Arrays, Mask


def encode_masks(masks: Mask, prefix: str) -> Arrays:
    """Encode (T,H,W) bool as ``{prefix}_rle_counts`` u32 and ``{prefix}_rle_offsets`` (T+1,) i64.

    >>> m = np.array([[[0, 1], [1, 0]]], dtype=bool)
    >>> encode_masks(m, "m")["m_rle_counts"].tolist()
    [1, 2, 1]
    """
    runs = []
    for flat in masks.reshape(len(masks), -1):
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        bounds = np.concatenate([[0], edges, [flat.size]])
        lengths = np.diff(bounds)
        runs.append(np.concatenate([[0], lengths]) if flat[0] else lengths)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in runs])]).astype(np.int64)
    counts = np.concatenate(runs).astype(np.uint32) if runs else np.zeros(0, np.uint32)
    return {f"{prefix}_rle_counts": counts, f"{prefix}_rle_offsets": offsets}


def decode_masks(arrays: Mapping[str, Array], prefix: str, height: int, width: int) -> Mask:
    """Decode what ``encode_masks`` made: (T,H,W) bool.

    Raises:
        ValueError: The runs of a mask do not sum to ``height * width``.
    """
    counts, offsets = arrays[f"{prefix}_rle_counts"], arrays[f"{prefix}_rle_offsets"]
    masks = np.zeros((len(offsets) - 1, height * width), dtype=bool)
    for index, (start, stop) in enumerate(pairwise(offsets)):
        lengths = counts[start:stop].astype(np.int64)
        if lengths.sum() != height * width:
            raise ValueError(
                f"mask {index}: runs sum to {lengths.sum()}, expected {height}x{width}"
            )
        values = np.arange(len(lengths)) % 2 == 1
        masks[index] = np.repeat(values, lengths)
    return masks.reshape(-1, height, width)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else 1.0


_SURE_SHARE = 0.9
"""Of the median confidence of the frames with a mask: less sure masks may be of something else."""


def sure_frames(masks: Mask, confidence: F32) -> NDArray[np.intp]:
    """Frames (N,) whose masks (T,H,W) are as sure as the clip's usual ones, by confidences (T,)."""
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    if not len(shown):
        return shown
    return shown[confidence[shown] >= _SURE_SHARE * float(np.median(confidence[shown]))]
