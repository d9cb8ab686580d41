"""Do two clips show the same take, mirrored, cropped or under a caption?

What moves when (the *rhythm*) is the same in a copy whatever was done to its pictures, and another in a second take of
the same person in the same room. It finds candidates by one matrix product. A candidate is believed if its pictures
can be laid over the other's (the geometric check) and, once they are, differ from their own mean in the same places.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from schemas.facets import TakeTraits
from stages.kit.arrays import F32, U8, Grey

NUM_GLANCES, GLANCE_SIDE_PX = 4, 24
_MIN_STEPS = 12
_MAX_LAG, _SMOOTH = 2, 3
_BLOCK_ROWS = 512
_MIN_RHYTHM = 0.45
"""Copies under a large changing caption reach 0.65, strangers 0.6 at most: this only chooses whom to look at."""
_MIN_OVERLAY = 0.6
_SIZES_PX = range(GLANCE_SIDE_PX, 17, -1)
"""A crop to 75 % is the smallest that is looked for."""
_MAX_CHANGE_LUMA = 40.0


def traits_of(steps: F32, grey: Grey) -> TakeTraits | None:
    """Describe a take; None where it is too short to be told from others.

    Args:
        steps: (T-1,3) mean change of luma, vertical and horizontal flow of every step.
        grey: (T,h,w) the pictures.
    """
    if len(steps) < _MIN_STEPS:
        return None
    from scipy.stats import rankdata

    ranks = rankdata(steps, axis=0)  # a caption that changes is a spike: ranks bear it
    rhythm = np.round(255 * (ranks - 1) / (len(steps) - 1)).astype(np.uint8).T
    chosen = np.linspace(0, len(grey) - 1, NUM_GLANCES).round().astype(int)
    size = (GLANCE_SIDE_PX, GLANCE_SIDE_PX)
    glances = np.stack([cv2.resize(grey[i], size, interpolation=cv2.INTER_AREA) for i in chosen])
    return TakeTraits(rhythm=_pack(rhythm), glances=_pack(glances))


def candidates(traits: Sequence[TakeTraits | None]) -> dict[int, dict[int, float]]:
    """Whose rhythms are alike: per index the others' (both ways) with their correlation."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, trait in enumerate(traits):
        if trait is not None:
            by_length[len(trait.rhythm)].append(index)
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for members in by_length.values():
        for a, b, correlation in _alike(np.stack([_rhythm(traits[i]) for i in members])):
            for one, other in ((members[a], members[b]), (members[b], members[a])):
                found[one][other] = max(correlation, found[one].get(other, 0.0))
    return found


def _alike(rhythms: F32) -> Iterator[tuple[int, int, float]]:
    """Pairs a < b of rhythms (N,3,S) whose correlation reaches the limit at some lag, mirrored or not."""
    num_steps = rhythms.shape[2]
    here = _units(rhythms[:, :, _MAX_LAG : num_steps - _MAX_LAG])
    for lag in range(-_MAX_LAG, _MAX_LAG + 1):
        there = _units(rhythms[:, :, _MAX_LAG + lag : num_steps - _MAX_LAG + lag])
        for start in range(0, len(here), _BLOCK_ROWS):
            rows = here[start : start + _BLOCK_ROWS]
            upright = sum(rows[:, k] @ there[:, k].T for k in (0, 1))
            sideways = np.abs(rows[:, 2] @ there[:, 2].T)  # a mirror turns its sign
            correlation = np.triu((upright + sideways) / 3, start + 1)
            for a, b in zip(*np.nonzero(correlation >= _MIN_RHYTHM), strict=True):
                yield int(a) + start, int(b), float(correlation[a, b])


def _units(series: F32) -> F32:
    """Each series (...,S) with mean 0 and length 1."""
    centred = series - series.mean(axis=-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)


@dataclass(frozen=True, slots=True)
class Overlay:
    """How one take's glances lie over another's."""

    likeness: float
    """Mean correlation of the pictures there."""
    is_mirrored: bool
    size_px: int
    x_px: int
    y_px: int


def same_moments(a: TakeTraits, b: TakeTraits) -> float:
    """How far two takes change alike once one is laid over the other: 1 for a copy, near 0 for another take.

    A still room alone makes pictures alike; what differs from the take's own mean does not agree by chance.
    """
    first, second = _glances(a), _glances(b)
    return max(_moments(first, second), _moments(second, first))


def _moments(whole: F32, part: F32) -> float:
    overlay = lay_over(whole, part)
    if overlay.likeness < _MIN_OVERLAY:
        return 0.0
    size, x, y = overlay.size_px, overlay.x_px, overlay.y_px
    under = _changes(whole[:, y : y + size, x : x + size])
    over = _changes(_resized(part, size, overlay.is_mirrored))
    length = float(np.linalg.norm(under) * np.linalg.norm(over))
    return float((under * over).sum()) / max(length, 1e-6)


def lay_over(whole: F32, part: F32) -> Overlay:
    """Find where glances (K,S,S) of a crop lie in those of the whole picture, both ways round."""
    best = Overlay(-1.0, False, GLANCE_SIDE_PX, 0, 0)
    for is_mirrored in (False, True):
        for size in _SIZES_PX:
            pieces = _resized(part, size, is_mirrored)
            maps = [
                cv2.matchTemplate(w, p, cv2.TM_CCOEFF_NORMED)
                for w, p in zip(whole, pieces, strict=True)
            ]
            likeness = np.mean(maps, axis=0)
            y, x = np.unravel_index(int(likeness.argmax()), likeness.shape)
            if likeness[y, x] > best.likeness:
                best = Overlay(float(likeness[y, x]), is_mirrored, size, int(x), int(y))
    return best


def _resized(glances: F32, size: int, is_mirrored: bool) -> F32:
    seen = glances[:, :, ::-1] if is_mirrored else glances
    pieces = [
        cv2.resize(np.ascontiguousarray(g), (size, size), interpolation=cv2.INTER_AREA)
        for g in seen
    ]
    return np.stack(pieces)


def _changes(glances: F32) -> F32:
    changes = glances - glances.mean(axis=0)
    return np.clip(changes, -_MAX_CHANGE_LUMA, _MAX_CHANGE_LUMA)


def _rhythm(trait: TakeTraits | None) -> F32:
    assert trait is not None
    series = _unpack(trait.rhythm).reshape(3, -1).astype(np.float32)
    kernel = np.full((1, _SMOOTH), 1 / _SMOOTH, np.float32)
    return np.asarray(cv2.filter2D(series, -1, kernel, borderType=cv2.BORDER_REPLICATE))


def _glances(trait: TakeTraits) -> F32:
    pixels = _unpack(trait.glances).astype(np.float32)
    return pixels.reshape(-1, GLANCE_SIDE_PX, GLANCE_SIDE_PX)


def _pack(values: U8) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _unpack(text: str) -> U8:
    return np.frombuffer(base64.b64decode(text), np.uint8)
