"""Which pixels are the held product? Cues from hands, colour and motion; no segmentation weights.

Everything works on frames scaled to a small short side. A pixel is the product if it lies near the grasp, is
neither skin nor clothes nor what the picture shows away from the hands, and moves with its mask. How far
these independent cues agree is the confidence.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.kit.arrays import F32, Frames, Image, Mask
from stages.kit.boxes import window_of
from stages.kit.hands import Hand, broad_hands, finger_mask, hand_mask

_BINS = (16, 32, 32)
"""Of L, a and b: pictures use little of a and b, and white differs from skin in them alone."""
_SHIFTS = np.array([4, 3, 3], np.uint8)
NUM_COLOURS = 16 * 32 * 32
"""Bins of a colour model; 1 over it is the chance of a colour that nothing is known of."""
_FACE_OVAL_STEP = 4
_MIN_SEEDS = 12
_BAND_SHARE, _COLOUR_WEIGHT = 0.05, 0.5
_CUT_MARGIN_PX = 12
"""What lies this far around the reach tells the cut what is not the product."""


class ColourModel:
    """A smoothed Lab histogram: probability of a colour under what it was fed."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.float32)
        self._table: F32 | None = None

    def feed(self, lab: Image, where: Mask) -> None:
        """Add the pixels (H,W,3) at ``where`` (H,W)."""
        counts = np.bincount(_bins_of(lab[where]), minlength=NUM_COLOURS)
        self._counts += counts.reshape(_BINS).astype(np.float32)  # whole numbers: exact up to 2**24
        self._table = None

    @property
    def num_pixels(self) -> float:
        """How many pixels were fed."""
        return float(self._counts.sum())

    def trimmed(self, share: float) -> ColourModel:
        """Only the commonest colours that make up ``share`` of what was fed: strays are left out."""
        out = ColourModel()
        order = np.argsort(self._counts, axis=None)[::-1]
        running = np.cumsum(self._counts.ravel()[order])
        kept = order[: 1 + int(np.searchsorted(running, share * running[-1]))]
        out._counts.flat[kept] = self._counts.flat[kept]
        return out

    def probability(self, lab: Image) -> F32:
        """Smoothed probability of each pixel (H,W)."""
        if self._table is None:
            self._table = self._smoothed()
        return np.asarray(self._table.ravel().take(_bins_of(lab)), np.float32)

    def _smoothed(self) -> F32:
        """Probability of each bin; neighbours in colour share some evidence."""
        blurred = self._counts.copy()
        for axis in range(3):
            rolled = np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)
            blurred = 0.6 * blurred + 0.2 * rolled
        table = (blurred + 1e-3) / (blurred.sum() + 1e-3 * blurred.size)
        return np.asarray(table, np.float32)


def _bins_of(lab: Image) -> NDArray[np.uint16]:
    """Number of the bin of each colour (...,3) -> (...)."""
    light, a, b = ((lab[..., n] >> _SHIFTS[n]).astype(np.uint16) for n in range(3))
    return (light << 10) | (a << 5) | b


def forearm_mask(arms_px: F32, shape: tuple[int, int], width_px: float) -> Mask:
    """Elbow to wrist of both arms (2,2,2: arm, end, xy) as thick lines (H,W)."""
    canvas = np.zeros(shape, np.uint8)
    for arm in arms_px[np.isfinite(arms_px).all(axis=(1, 2))]:
        ends = arm.round().astype(np.int32)
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), 1, max(2, round(width_px)))
    return canvas.astype(bool)


def static_background(frames: Frames, every: int, max_std: float = 4.0) -> Mask:
    """Pixels (H,W) that hardly change over the whole clip."""
    grey = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames[::every]])
    return np.asarray(grey.astype(np.float32).std(axis=0) < max_std)


def finger_cores(hand: Hand, shape: tuple[int, int]) -> Mask:
    """The inner part of fingers and palm (H,W): skin, unless the product hides them."""
    thin = cv2.erode(hand_mask(hand, shape).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(thin, bool)


def reach_mask(hands: list[Hand], shape: tuple[int, int], reach: float) -> Mask:
    """Pixels within ``reach`` hand lengths of a grasp (H,W)."""
    rows, cols = np.indices(shape, dtype=np.float32)
    near = np.zeros(shape, bool)
    for hand in hands:
        distance = np.hypot(cols - hand.grasp_px[0], rows - hand.grasp_px[1])
        near |= distance < reach * hand.size_px
    return near


def touch_mask(hands: list[Hand], shape: tuple[int, int]) -> Mask:
    """Where fingers and grasps touch things (H,W): sleeves touch the wrist, products touch fingers."""
    out = reach_mask(hands, shape, 0.2)
    for hand in hands:
        out |= finger_mask(hand, shape, 0.1)
    return out


def face_mask(face_points_px: F32, shape: tuple[int, int]) -> Mask:
    """Hull of the face landmarks (H,W); empty where they are missing."""
    canvas = np.zeros(shape, np.uint8)
    if np.isfinite(face_points_px).all():
        hull = cv2.convexHull(face_points_px[::_FACE_OVAL_STEP, :2].round().astype(np.int32))
        cv2.fillConvexPoly(canvas, hull, 1)
    return canvas.astype(bool)


def product_posterior(lab: Image, product: ColourModel, others: ColourModel, near: Mask) -> F32:
    """Probability (H,W) that a pixel near the grasp has the product's colours, prior one half."""
    inside, outside = product.probability(lab), others.probability(lab)
    return np.where(near, inside / (inside + outside + 1e-9), 0).astype(np.float32)


def cut(frame: Image, seed: Mask, maybe: Mask, never: Mask, rounds: int = 3) -> Mask:
    """GrabCut (Rother et al. 2004): seeds are probably product, ``never`` is surely not.

    Returns:
        (H,W) bool; empty if there are too few seeds.
    """
    out = np.zeros(seed.shape, bool)
    probable = seed & maybe & ~never
    if probable.sum() < _MIN_SEEDS:
        return out
    around = window_of(maybe, _CUT_MARGIN_PX)
    labels = np.full(out[around].shape, cv2.GC_BGD, np.uint8)
    labels[(maybe & ~never)[around]] = cv2.GC_PR_BGD
    labels[probable[around]] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    zeros = np.zeros((1, 65), np.float64)
    image = np.ascontiguousarray(frame[around])
    cv2.grabCut(image, labels, None, zeros.copy(), zeros.copy(), rounds, cv2.GC_INIT_WITH_MASK)
    out[around] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return out


def keep_held(mask: Mask, hands: list[Hand], min_share: float = 0.15) -> Mask:
    """Keep the parts that touch a hand or its grasp, and big pieces beside them; close holes."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    reach = touch_mask(hands, mask.shape)
    touching = set(np.unique(labels[reach & (labels > 0)]).tolist())
    if not touching:
        return np.zeros(mask.shape, bool)
    largest = max(stats[i, cv2.CC_STAT_AREA] for i in touching)
    kept = [
        i
        for i in range(1, count)
        if i in touching and stats[i, cv2.CC_STAT_AREA] >= min_share * largest
    ]
    return fill_holes(np.isin(labels, kept), max(hand.size_px for hand in hands))


def fill_holes(mask: Mask, hand_size_px: float) -> Mask:
    """Close the gaps that printed labels and highlights leave, and fill what they enclose."""
    width = max(3, round(0.12 * hand_size_px)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, outlines, -1, color=1, thickness=cv2.FILLED)
    return np.asarray(closed, bool)


def enclosed(mask: Mask, skin: Mask, hands: list[Hand]) -> Mask:
    """The mask (H,W) with what it and the fingers before it surround: labels have the colours of other things.

    Args:
        mask: (H,W) the product so far.
        skin: (H,W) pixels with the colour of skin.
        hands: Those that may hold it.
    """
    if not mask.any():
        return mask
    size = max(hand.size_px for hand in hands)
    fingers = skin & broad_hands(hands, mask.shape, 0.12)
    return np.asarray(fill_holes(mask | fingers, size) & ~fingers & hull_of(mask))


def hull_of(mask: Mask) -> Mask:
    """Convex hull (H,W) of all pixels of a mask; a held product seldom has deep bays."""
    rows, cols = np.nonzero(mask)
    hull = cv2.convexHull(np.stack([cols, rows], 1).astype(np.int32))
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(canvas, hull, 1)
    return canvas.astype(bool)


def correct_outline(moved: Mask, lab: Image, inside: ColourModel, outside: ColourModel) -> Mask:
    """Move the outline of a carried mask (H,W) to where the colours change.

    Flow slips at outlines by a pixel or two a frame. Only a band of a twentieth of the mask's size is decided
    anew: by the distance to the carried outline and the log-likelihood ratio of the colours.

    Args:
        moved: (H,W) the mask, carried by flow.
        lab: (H,W,3) the frame.
        inside: Colours of the mask.
        outside: Colours around it.
    """
    if not moved.any():
        return moved
    band = max(2.0, _BAND_SHARE * float(np.sqrt(moved.sum())))
    within = cv2.distanceTransform(moved.astype(np.uint8), cv2.DIST_L2, 3)
    beyond = cv2.distanceTransform((~moved).astype(np.uint8), cv2.DIST_L2, 3)
    odds = np.log((inside.probability(lab) + 1e-7) / (outside.probability(lab) + 1e-7))
    odds = cv2.GaussianBlur(odds.astype(np.float32), (0, 0), 1.0)
    new = 2 * (within - beyond) / band + _COLOUR_WEIGHT * odds > 0
    return np.asarray((new & (beyond <= band)) | (within > 2 * band))
