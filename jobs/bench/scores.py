"""Scores of masks, boxes and joints against truth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.kit.arrays import F32, F64, U8, Mask


def mask_iou(found: Mask, true: Mask) -> F64:
    """Region similarity J per frame (T,): intersection over union; NaN where both are empty.

    Source: Perazzi et al. 2016 (DAVIS), section 4.
    """
    both = (found & true).sum(axis=(1, 2)).astype(np.float64)
    either = (found | true).sum(axis=(1, 2))
    return np.asarray(np.where(either > 0, both / np.maximum(either, 1), np.nan))


def boundary_f(found: Mask, true: Mask, tolerance: float = 0.008) -> F64:
    """Contour accuracy F per frame (T,): precision and recall of outlines within a tolerance.

    Source: Perazzi et al. 2016 (DAVIS): the tolerance is 0.8 % of the diagonal; NaN without truth.
    """
    radius = max(1, round(tolerance * float(np.hypot(*true.shape[1:]))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    out = np.full(len(true), np.nan)
    for t, (a, b) in enumerate(zip(found, true, strict=True)):
        if not b.any():
            continue
        edge_a, edge_b = _outline(a), _outline(b)
        precision = (edge_a & cv2.dilate(edge_b, disc)).sum() / max(edge_a.sum(), 1)
        recall = (edge_b & cv2.dilate(edge_a, disc)).sum() / max(edge_b.sum(), 1)
        total = precision + recall
        out[t] = 2 * precision * recall / total if total else 0.0
    return out


def _outline(mask: Mask) -> U8:
    shape = mask.astype(np.uint8)
    return np.asarray(shape - cv2.erode(shape, np.ones((3, 3), np.uint8)), np.uint8)


def box_iou(found: F32, true: F32) -> F64:
    """IoU per row (T,) of corner boxes (T,4): 0 where a true box was missed, NaN without a true box."""
    has_true = np.isfinite(true).all(1)
    has_both = has_true & np.isfinite(found).all(1)
    a, b = np.nan_to_num(found).astype(np.float64), np.nan_to_num(true).astype(np.float64)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    areas = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
    iou = common / np.maximum(areas - common, 1e-9)
    return np.where(has_true, np.where(has_both, iou, 0.0), np.nan)


def f1(found: Mask, true: Mask) -> float:
    """F1 of two boolean arrays of one shape; 1 where nothing is true and nothing found."""
    hit = float((found & true).sum())
    wrong = float((found ^ true).sum())
    return 1.0 if hit + wrong == 0 else 2 * hit / (2 * hit + wrong)


def error_after_dropping(score: F64, confidence: F64, share: float = 0.2) -> tuple[float, float]:
    """Mean of 1 - score over all frames, and without the ``share`` of least confidence."""
    known = np.isfinite(score)
    error, sure = 1 - score[known], confidence[known]
    order = np.argsort(sure, kind="stable")[round(share * len(sure)) :]
    return float(error.mean()), float(error[order].mean())


def calibration_error(
    confidence: NDArray[np.floating], score: NDArray[np.floating], bins: int = 10
) -> float:
    """Expected calibration error of confidences as predictions of scores, both in 0..1.

    Mean over bins of |mean confidence - mean score|, weighted by the bins' sizes (Guo et al. 2017, equation 3).
    """
    if not len(score):
        return float("nan")
    place = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[place == n].mean() - score[place == n].mean())) * (place == n).mean()
        for n in np.unique(place)
    ]
    return float(sum(gaps))
