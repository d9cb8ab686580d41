"""Products to hold: painted meshes with a distance function for the fingers.

A product's axes: +x the holder's left, +y up, +z its label, towards the camera; metres, centred. The pattern
is painted as vertex colours on a fine grid, so that the whole scene is one mesh with one shading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jobs.studio.solids import DistanceGrid
from stages.body_models.rendering import face_to_vertex, vertex_normals
from stages.kit.arrays import F32, F64, I64

ProductKind = Literal["box", "bottle", "jar", "tube", "bag", "card"]
"""The built-in ones."""
Colour = tuple[float, float, float]
_PRESSED_M = -0.001
_STEP_M = 0.0022
"""Grid spacing of the painted surface: about 1.5 pixels of a 480x832 clip."""


@dataclass(frozen=True, slots=True)
class Product:
    """A painted mesh: ``vertices``, ``colours``, ``normals`` (N,3), ``faces`` (F,3); ``half_m`` of its bounding box.

    ``solid`` knows how far points are where the form is not one of the built-in ones.
    """

    kind: ProductKind | Literal["object"]
    vertices: F32
    faces: I64
    colours: F32
    half_m: tuple[float, float, float]
    normals: F32
    solid: DistanceGrid | None = None

    @property
    def touch_m(self) -> float:
        """Distance from the surface at which skin meets it.

        Flesh gives way to a built-in form by a millimetre. On a grid a wall is one cell thick and has no inside:
        skin stops a little before, so that nothing passes through the wall of a cup.
        """
        return _PRESSED_M if self.solid is None else 0.3 * self.solid.pitch_m

    def distance(self, points: F32) -> F32:
        """Signed distance (...,) of points (...,3) to the surface that fingers rest on, metres."""
        if self.solid is not None:
            return self.solid.at(points)
        hx, hy, hz = self.half_m
        if self.kind in ("bottle", "jar", "tube"):
            radial = np.linalg.norm(points[..., (0, 2)] / (hx, hz), axis=-1) * min(hx, hz)
            q = np.stack([radial - min(hx, hz), np.abs(points[..., 1]) - hy], -1)
        else:
            q = np.abs(points) - np.array([hx, hy, hz])
        outside = np.linalg.norm(np.maximum(q, 0), axis=-1)
        return np.asarray(outside + np.minimum(q.max(-1), 0), np.float32)


SIZES: dict[ProductKind, tuple[float, float, float]] = {
    "box": (0.036, 0.075, 0.022),
    "bottle": (0.030, 0.090, 0.030),
    "jar": (0.038, 0.042, 0.038),
    "tube": (0.026, 0.078, 0.018),
    "bag": (0.062, 0.085, 0.022),
    "card": (0.045, 0.065, 0.004),
}
"""Half sizes in metres."""


def make_product(kind: ProductKind, base: Colour, accent: Colour, seed: int) -> Product:
    """Build and paint a product.

    Args:
        kind: One of ``SIZES``.
        base: Main colour, sRGB 0 to 1.
        accent: Colour of label and cap.
        seed: Varies the print.
    """
    half = SIZES[kind]
    if kind in ("box", "card", "bag"):
        vertices, faces = _cuboid(half, bulge=0.35 if kind == "bag" else 0.0)
    else:
        vertices, faces = _turned(half, _profile(kind))
    colours = _paint(kind, vertices, half, np.array(base), np.array(accent), seed)
    points = vertices.astype(np.float32)
    normals = vertex_normals(points, faces, face_to_vertex(faces, len(points)))
    return Product(kind, points, faces, colours, half, normals)


def _profile(kind: ProductKind) -> F64:
    """Relative radius over relative height: rows (height -1..1, radius 0..1)."""
    shapes = {
        "bottle": [(-1, 0.9), (-0.96, 1), (0.38, 1), (0.52, 0.85), (0.6, 0.42), (0.68, 0.4),
                   (0.69, 0.55), (0.98, 0.55), (1, 0.5)],
        "jar": [(-1, 0.92), (-0.94, 1), (0.45, 1), (0.5, 0.9), (0.52, 1.0), (0.97, 1.0), (1, 0.95)],
        "tube": [(-1, 0.62), (-0.72, 0.62), (-0.7, 0.95), (0.5, 1), (0.97, 0.9), (1, 0.86)],
    }  # fmt: skip
    return np.array(shapes[kind], np.float64)


def _turned(half: tuple[float, float, float], profile: F64) -> tuple[F64, I64]:
    """A lathe body; its cross-section is an ellipse."""
    hx, hy, hz = half
    rows = int(2 * hy / _STEP_M)
    columns = int(2 * np.pi * hx / _STEP_M)
    height = np.linspace(-1, 1, rows)
    radius = np.interp(height, profile[:, 0], profile[:, 1])
    height = np.concatenate([[-1], height, [1]])  # close the ends
    radius = np.concatenate([[0.0], radius, [0.0]])
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    x = radius[:, None] * np.sin(angle) * hx
    z = radius[:, None] * np.cos(angle) * hz
    y = np.repeat(height[:, None] * hy, columns, 1)
    grid = np.arange(x.size).reshape(x.shape)
    right = np.roll(grid, -1, 1)
    quads = (grid[:-1], right[:-1], right[1:], grid[1:])
    return np.stack([x, y, z], -1).reshape(-1, 3), _triangles(quads)


def _cuboid(half: tuple[float, float, float], bulge: float) -> tuple[F64, I64]:
    """Six painted faces; ``bulge`` pinches the thickness towards top and bottom, as a filled bag."""
    points, faces, count = [], [], 0
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        nu, nv = (max(2, int(2 * half[a] / _STEP_M)) for a in (u, v))
        a, b = np.meshgrid(np.linspace(-1, 1, nu), np.linspace(-1, 1, nv), indexing="ij")
        for sign in (-1.0, 1.0):
            face = np.zeros((nu, nv, 3))
            face[..., axis], face[..., u], face[..., v] = sign, a, b
            grid = np.arange(nu * nv).reshape(nu, nv) + count
            quads = (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:])
            faces.append(_triangles(quads if sign > 0 else quads[::-1]))
            points.append(face.reshape(-1, 3))
            count += nu * nv
    unit = np.concatenate(points)
    if bulge:
        unit[:, 2] *= 1 - (1 - bulge) * np.abs(unit[:, 1]) ** 4
    return unit * np.array(half), np.concatenate(faces)


def _triangles(quads: tuple[I64, ...]) -> I64:
    a, b, c, d = (q.reshape(-1) for q in quads)
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int64)


def _paint(
    kind: ProductKind,
    vertices: F64,
    half: tuple[float, float, float],
    base: F64,
    accent: F64,
    seed: int,
) -> F32:
    """A label with lines of print on the front, a band round the body, a cap."""
    rng = np.random.default_rng(seed)
    unit = vertices / np.array(half)
    colours = np.tile(base, (len(vertices), 1))
    band = np.abs(unit[:, 1] + 0.62) < 0.05
    colours[band] = accent
    if kind in ("bottle", "jar", "tube"):
        cap = unit[:, 1] > 0.62 if kind == "bottle" else unit[:, 1] > 0.5
        if kind == "tube":
            cap = unit[:, 1] < -0.7
        colours[cap] = accent * 0.55
    front = unit[:, 2] > 0.2 if kind != "card" else unit[:, 2] > 0.5
    label = front & (np.abs(unit[:, 0]) < 0.72) & (unit[:, 1] > -0.45) & (unit[:, 1] < 0.32)
    colours[label] = 0.92
    line = np.floor((unit[:, 1] + 0.45) / 0.095).astype(int)
    within = (unit[:, 1] + 0.45) % 0.095
    letters = rng.random((12, 24)) < 0.62
    column = np.clip(((unit[:, 0] + 0.6) / 1.2 * 24).astype(int), 0, 23)
    ink = label & (np.abs(unit[:, 0]) < 0.6) & (within < 0.055) & letters[line % 12, column]
    colours[ink] = accent * 0.5
    title = label & (unit[:, 1] > 0.12) & (unit[:, 1] < 0.26) & (np.abs(unit[:, 0]) < 0.62)
    colours[title] = np.where(letters[0, column[title]][:, None], accent, 0.92)
    return np.clip(colours, 0, 1).astype(np.float32)
