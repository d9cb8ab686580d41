"""Which frame shows the product best, and what fingers hide there, borrowed from other frames.

A good view is whole first: nothing cut off by the border, little behind fingers. Then it is sharp. Size counts last: near
views are large, and often cut or blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from schemas.errors import DataError
from stages.kit.arrays import F32, Frames, Image, Mask
from stages.kit.boxes import window_of
from stages.kit.landmarks import Landmarks, fingers_at
from stages.kit.masks import iou, sure_frames
from stages.product.alignment import by_corners, by_moments
from stages.product.cues import hull_of

_FINGER_HANDS = 0.1
"""How much landmarks' lines are grown to be as broad as fingers, in hand lengths."""
_BESIDE_PX = 2
"""A pixel of the outline this near to a finger or the border may be cut off there."""
_VIEW_SIDE_PX = 128
"""Views are made this large before their sharpness is compared: sqrt of the mask's area."""
_USUAL, _SIZE_WEIGHT, _TOO_LARGE = 0.7, 0.6, 1.5
"""The area of a whole product is this quantile over the views; how much less of it counts, and more of it from where on."""
_SHARP_ENOUGH = 0.5
"""Of the clip's sharpest view: beyond it more sharpness is hardly seen."""
_MAX_HOLE = 0.01
"""Of the mask: smaller holes are highlights and print, larger ones may be seen through."""
_MAX_GAP_ERROR = 24.0
"""Mean difference of two aligned views in grey levels up to which they show the same side."""
_REST = 0.002
"""Of the product: so little of a gap is not looked for in more frames."""
_SPECK = np.ones((3, 3), np.uint8)
_MIN_OVERLAP = 0.75
"""IoU of two aligned masks, both with their gaps closed."""


@dataclass(frozen=True)
class Seen:
    """A clip as the references stage sees it."""

    frames: Frames
    """(T,H,W,3) RGB."""
    masks: Mask
    """(T,H,W) the product."""
    landmarks: Landmarks
    confidence: F32
    """(T,) 0..1, of the masks."""


@dataclass(frozen=True)
class View:
    """How well one frame shows the product."""

    frame: int
    edge_share: float
    """Share of the outline along the frame's border."""
    finger_share: float
    """Share of the outline beside fingers."""
    gap_share: float
    """Fingers inside the hull, as a share of the product and them."""
    sharpness: float
    """Variance of the Laplacian inside, all views scaled to one size."""
    area_px: int

    def score(self, sharpest: float, usual_area_px: float) -> float:
        """Whole, then clear of fingers, sharp, and of usual size, in this order of weight."""
        whole = (1 - self.edge_share) ** 8
        clear = (1 - self.gap_share) ** 4 * (1 - self.finger_share) ** 2
        sharp = min(1.0, self.sharpness / max(_SHARP_ENOUGH * sharpest, 1e-6))
        ratio = self.area_px / max(usual_area_px, 1)
        # a mask smaller than most misses a part, one far larger holds something else
        size = min(1.0, ratio) ** _SIZE_WEIGHT * min(1.0, _TOO_LARGE / ratio)
        return whole * clear * sharp * size


@dataclass(frozen=True)
class ProductView:
    """The chosen view, its gaps filled where other frames show what is there."""

    view: View
    image: Image
    """(H,W,3): the frame, with what was borrowed."""
    alpha: Mask
    """(H,W): the product."""
    gap_share: float
    """Of the product: what is still missing behind fingers."""
    filled_share: float
    """Of the product: what was borrowed."""


def best_view(seen: Seen, every: int, num_donors: int) -> ProductView:
    """The best view of the product in a clip.

    Args:
        seen: The clip.
        every: Step between the frames that are compared.
        num_donors: Frames to borrow from, the next best views first.

    Raises:
        DataError: ``product_too_small`` if there is no mask at all.
    """
    ranked = rank_views(seen, every)
    return fill_gaps(seen, ranked[0], ranked[1 : num_donors + 1])


def rank_views(seen: Seen, every: int) -> list[View]:
    """Views of every n-th frame whose mask is as sure as usual, best first.

    Raises:
        DataError: ``product_too_small`` if there is no mask at all.
    """
    sure = every * sure_frames(seen.masks[::every], seen.confidence[::every])
    if not len(sure):
        raise DataError("product_too_small", "no frame has a product mask")
    views = [view_of(seen, t) for t in sure.tolist()]
    sharpest = max(view.sharpness for view in views)
    usual_area = float(np.quantile([view.area_px for view in views], _USUAL))
    return sorted(views, key=lambda v: (-v.score(sharpest, usual_area), v.frame))


def view_of(seen: Seen, t: int) -> View:
    """Measure the view of one frame; its mask is not empty."""
    fingers = fingers_at(seen.landmarks, t, seen.masks.shape[1:], _FINGER_HANDS)
    mask = main_part(seen.masks[t], fingers)
    edge, beside = outline_shares(mask, fingers)
    area, hidden = int(mask.sum()), int(gap_of(mask, fingers).sum())
    sharp = sharpness_at_one_size(seen.frames[t], mask)
    return View(t, edge, beside, hidden / (hidden + area), sharp, area)


def product_and_gap(seen: Seen, t: int) -> tuple[Mask, Mask]:
    """The product in a frame (H,W), as ``main_part`` has it, and what fingers hide of it."""
    fingers = fingers_at(seen.landmarks, t, seen.masks.shape[1:], _FINGER_HANDS)
    mask = main_part(seen.masks[t], fingers)
    return mask, gap_of(mask, fingers)


def main_part(mask: Mask, fingers: Mask) -> Mask:
    """A mask's largest part and those that fingers join to it (H,W); small holes closed.

    >>> mask = np.zeros((9, 30), bool); mask[:, :6] = mask[:, 8:12] = mask[:, 25:28] = True
    >>> fingers = np.zeros_like(mask); fingers[:, 6:8] = True
    >>> main_part(mask, fingers).any(axis=0).nonzero()[0].tolist()
    [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    """
    if not mask.any():
        return mask
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    _, joined = cv2.connectedComponents((mask | fingers).astype(np.uint8), connectivity=8)
    kept = mask & (joined == joined[largest][0])
    count, holes, sizes, _ = cv2.connectedComponentsWithStats(
        (~kept).astype(np.uint8), connectivity=4
    )
    limit = _MAX_HOLE * float(kept.sum())
    small = [n for n in range(1, count) if sizes[n, cv2.CC_STAT_AREA] < limit]
    return np.asarray(kept | (np.isin(holes, small) & ~fingers))


def gap_of(mask: Mask, fingers: Mask) -> Mask:
    """What fingers hide of a product (H,W): they, where they lie inside its hull and not under its mask."""
    return np.asarray(hull_of(mask) & fingers & ~mask) if mask.any() else np.zeros_like(mask)


def outline_shares(mask: Mask, fingers: Mask) -> tuple[float, float]:
    """Shares of a mask's outer outline along the frame's border, and beside fingers away from it.

    >>> mask = np.zeros((100, 100), bool); mask[40:60, :20] = True
    >>> [round(share, 2) for share in outline_shares(mask, np.zeros_like(mask))]
    [0.26, 0.0]
    """
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate(outlines)[:, 0]
    cols, rows = points.T
    height, width = mask.shape
    edge = (rows < 1) | (cols < 1) | (rows >= height - 1) | (cols >= width - 1)
    around = np.ones((2 * _BESIDE_PX + 1,) * 2, np.uint8)
    near = cv2.dilate((fingers & ~mask).astype(np.uint8), around) > 0
    return float(edge.mean()), float((near[rows, cols] & ~edge).mean())


def sharpness_at_one_size(frame: Image, mask: Mask) -> float:
    """Variance of the Laplacian inside an eroded mask, scaled down to a fixed size: near views gain nothing by being near."""
    scale = min(1.0, _VIEW_SIDE_PX / float(np.sqrt(mask.sum())))
    window = window_of(mask)
    size = [max(1, round(n * scale)) for n in mask[window].shape[::-1]]
    grey = cv2.resize(
        cv2.cvtColor(frame[window], cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA
    )
    small = cv2.resize(mask[window].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    inner = cv2.erode(
        (small > 0.5).astype(np.uint8),
        np.ones((5, 5), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    values = cv2.Laplacian(grey, cv2.CV_32F)[inner > 0]
    return float(values.var()) if values.size else 0.0


def fill_gaps(seen: Seen, view: View, donors: Sequence[View]) -> ProductView:
    """Fill what fingers hide in one view with what others show there."""
    t = view.frame
    image, (mask, gap) = seen.frames[t].copy(), product_and_gap(seen, t)
    alpha, left, whole = mask.copy(), gap.copy(), int(mask.sum() + gap.sum())
    for donor in donors:
        if left.sum() < _REST * whole:
            break
        aligned = _align(seen, donor.frame, t, mask, gap)
        if aligned is None:
            continue
        picture, shown = aligned
        take = left & shown
        take = cv2.morphologyEx(take.astype(np.uint8), cv2.MORPH_OPEN, _SPECK) > 0
        image[take] = picture[take]
        alpha |= take
        left &= ~take
    borrowed = int((alpha & ~mask).sum())
    return ProductView(view, image, alpha, float(left.sum() / whole), borrowed / whole)


def _align(seen: Seen, other: int, t: int, mask: Mask, gap: Mask) -> tuple[Image, Mask] | None:
    """Frame ``other`` and its mask moved onto the product of frame ``t``; None where they do not show the same side.

    By matched corners or by the masks' moments, whichever fits better. ``mask`` and ``gap`` (H,W) are that product and what
    fingers hide of it.
    """
    there, gap_there = product_and_gap(seen, other)
    whole, whole_there = mask | gap, there | gap_there
    inner = cv2.erode(there.astype(np.uint8), _SPECK)  # its edge has the finger's colour
    size = (mask.shape[1], mask.shape[0])
    best: tuple[float, Image, Mask] | None = None
    for matrix in (
        by_corners(seen.frames[other], there, seen.frames[t], mask),
        by_moments(whole_there, whole),
    ):
        if matrix is None:
            continue
        moved = cv2.warpAffine(inner, matrix, size, flags=cv2.INTER_NEAREST) > 0
        moved_whole = cv2.warpAffine(whole_there.astype(np.uint8), matrix, size) > 0
        both = moved & mask
        if iou(moved_whole, whole) < _MIN_OVERLAP or not both.any():
            continue
        picture = np.asarray(cv2.warpAffine(seen.frames[other], matrix, size), np.uint8)
        picture, error = _relit(picture, seen.frames[t], both)
        if error <= _MAX_GAP_ERROR and (best is None or error < best[0]):
            best = error, picture, np.asarray(moved)
    return best[1:] if best else None


def _relit(picture: Image, like: Image, where: Mask) -> tuple[Image, float]:
    """A picture with the mean colour of another one inside a mask, and their mean difference there."""
    shift = like[where].mean(axis=0) - picture[where].mean(axis=0)
    out = np.clip(picture + shift, 0, 255).astype(np.uint8)
    return out, float(np.abs(out[where].astype(np.float32) - like[where]).mean())
