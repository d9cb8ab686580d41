"""Where hands take hold of a product: palms that lie on its surface, fingers that go round it, behind it or under it.

A grip is chosen from the product's extents, then the palm is moved in until its skin meets the surface, whatever
form that has. All in the product's axes (+x the holder's left, +y up, +z the camera), metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from jobs.studio.products import Product
from stages.kit.arrays import F32, F64
from stages.kit.boxes import window_of

Hold = Literal["side", "edge", "under"]
_BUILT_IN_HEIGHT = -0.1
_STEP_M = 0.001
_SPAN_M = 0.085
"""Thickness that a hand closes round."""
_THIN_M = 0.045
"""Thickness that thumb and fingers hold between them at an edge."""


@dataclass(frozen=True, slots=True)
class Grip:
    """One hand's: ``centre`` (3,) of the palm, unit vectors ``along`` the fingers and ``out`` of the palm (3,)."""

    centre: F64
    along: F64
    out: F64

    @property
    def axes(self) -> F64:
        """(3,3): columns along, out and their cross product."""
        return np.stack([self.along, self.out, np.cross(self.along, self.out)], 1)


def sign_of(side: str) -> float:
    """+1 for the left hand, which is at +x."""
    return 1.0 if side == "L" else -1.0


def choose_grips(
    product: Product, palms: Mapping[str, F64], sides: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Grip]:
    """A grip for each holding hand.

    Args:
        product: A catalogue's object; a built-in one is always held at its sides.
        palms: Per side, points (N,3) of the palm's skin in the hand's axes: columns of ``Grip.axes``, from
            its centre.
        sides: The hands that hold, of "L" and "R".
        rng: Chooses among the holds that suit the product, and how high and how turned the hand is.
    """
    hold: Hold
    if product.solid is None:  # the built-in ones fit a hand at their sides
        hold, height, tilt = "side", _BUILT_IN_HEIGHT, 0.0
    else:
        hold = _hold(product, len(sides), rng)
        height, tilt = _height(product, hold, rng), rng.uniform(-0.35, 0.35)
    is_varied = product.solid is not None and len(sides) == 2
    apart = _apart(product, height) if is_varied and hold == "side" else 0.0
    grips = {}
    for side in sides:
        here = height + sign_of(side) * apart
        anchor, along, out = _approach(hold, side, product, here, tilt, is_varied)
        grips[side] = _touching(product, palms[side], anchor, along, out)
    return grips


def _hold(product: Product, num_hands: int, rng: np.random.Generator) -> Hold:
    hx, hy, hz = product.half_m
    fits: list[Hold] = []
    if 2 * min(_width_at(product, y)[1] for y in (-0.3, 0.0)) <= _SPAN_M or num_hands == 2:
        fits += ["side", "side"]
    if 2 * hz <= _THIN_M and hx > (0.03 if num_hands == 1 else 0.08):
        fits += ["edge", "edge"]
    if num_hands == 1 and not 2 * hz <= _THIN_M and min(hx, hz) > 0.025 and hy < 2 * max(hx, hz):
        fits += ["under"]
    return fits[int(rng.integers(len(fits)))] if fits else "side"


def _near_height(product: Product, height: float) -> F32:
    """Vertices (N,3) about a relative height."""
    half = product.half_m[1]
    return product.vertices[np.abs(product.vertices[:, 1] - height * half) < max(0.02, 0.1 * half)]


def _width_at(product: Product, height: float) -> tuple[float, float]:
    """Half extents in x and z of what lies near a relative height."""
    near = _near_height(product, height)
    if not len(near):
        return product.half_m[0], product.half_m[2]
    return float(np.ptp(near[:, 0])) / 2, float(np.ptp(near[:, 2])) / 2


def _height(product: Product, hold: Hold, rng: np.random.Generator) -> float:
    """Relative height of the palm: where the product is narrow and compact, by preference below the middle."""
    if hold == "under":
        return -1.0
    heights = np.linspace(-0.6, 0.35, 9)
    thick = np.array([2 * min(_width_at(product, h)) for h in heights])
    loose = np.array([1 - _fullness(product, h) for h in heights])
    cost = np.maximum(thick - 0.07, 0) / 0.02 + np.abs(heights + 0.1) + 3 * loose
    cost += rng.uniform(0, 0.7, len(heights))
    return float(heights[int(np.argmin(cost))])


def _apart(product: Product, height: float) -> float:
    """Relative height by which the left hand is above the middle of both, where they would meet round a thin thing."""
    if 2 * min(_width_at(product, height)) > _SPAN_M:
        return 0.0
    return min(0.055 / product.half_m[1], 0.6)


def _fullness(product: Product, height: float) -> float:
    """Share of a cross-section's bounding rectangle that is closed in: low for stems and wires, high for a cup."""
    if product.solid is None:
        return 1.0
    solid = product.solid
    layer = round((height * product.half_m[1] - float(solid.origin[1])) / solid.pitch_m)
    section = ndimage.binary_fill_holes(solid.values[:, layer] <= 0)
    if not section.any():
        return 0.0
    return float(section[window_of(section)].mean())


def _approach(
    hold: Hold, side: str, product: Product, height: float, tilt: float, is_two_handed: bool
) -> tuple[F64, F64, F64]:
    """A point to reach for, and the hand's directions."""
    sign = sign_of(side)
    hx, hy, _ = product.half_m
    y = height * hy
    middle = _middle_at(product, height)
    if hold == "edge":
        along, out = directions((-0.75 * sign, 0.65 + tilt, 0.1), (0.0, -0.1, 1.0))
        inset = min(0.8 * hx, 0.03)
        return np.array([sign * (hx - inset), y, middle[1]]), along, out
    if hold == "under":
        along, out = directions((-0.45 * sign + tilt, 0.1, 1.0), (0.0, 1.0, 0.0))
        return np.array([0.0, -hy, -0.02]), along, out
    if is_two_handed:
        along, out = directions((-0.2 * sign, 0.45 + tilt, 0.9), (-sign, 0.15, -0.15))
    else:
        along, out = directions((-0.25 * sign, 0.38 + tilt, 1.0), (-sign, 0.0, -0.25))
    return np.array([middle[0], y, middle[1] - 0.012]), along, out


def _middle_at(product: Product, height: float) -> tuple[float, float]:
    """Centre in x and z of what lies near a relative height."""
    near = _near_height(product, height)
    if not len(near):
        return 0.0, 0.0
    low, high = near.min(0), near.max(0)
    return float(low[0] + high[0]) / 2, float(low[2] + high[2]) / 2


def directions(
    along: tuple[float, float, float], out: tuple[float, float, float]
) -> tuple[F64, F64]:
    """Unit vectors at right angles; ``along`` keeps its direction."""
    a, o = np.array(along), np.array(out)
    a /= np.linalg.norm(a)
    o -= a * float(o @ a)
    return a, o / np.linalg.norm(o)


def _touching(product: Product, palm: F64, anchor: F64, along: F64, out: F64) -> Grip:
    """The palm moved towards the anchor from outside until its skin meets the surface."""
    start = float(np.linalg.norm(product.half_m)) + 0.06
    ways = np.arange(start, -0.06, -_STEP_M)
    axes = np.stack([along, out, np.cross(along, out)], 1)
    points = (palm @ axes.T)[None] + (anchor - out * ways[:, None])[:, None]
    depth = product.distance(points.astype(np.float32)).min(1)
    touches = np.flatnonzero(depth <= product.touch_m)
    # past the product's edge nothing is met: the palm stops in the plane of the anchor
    last = max(int(touches[0]) - 1, 0) if len(touches) else int(np.argmin(np.abs(ways)))
    return Grip(anchor - out * ways[last], along, out)
