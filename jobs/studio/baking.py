"""Textures and materials become vertex colours on a fine surface, which is how the studio draws everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from schemas.errors import ConfigError
from stages.kit.arrays import F32, F64, I64

_MAX_TEXTURE_PX = 24_000_000
_SMOOTH_RAD = np.deg2rad(40.0)
"""Faces that meet at less are one curved surface; a cylinder's rim and a box's edges stay sharp."""
_EDGE_M = 0.002
_PLAIN_EDGE_M = 0.02
_MAX_TEXTURED_FACES = 80_000
_OPAQUE = 0.5
_DARKEST = 0.03


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a mesh with one material: ``corners`` (F,3,3) metres, ``uv`` (F,3,2) or None, and its material."""

    corners: F64
    uv: F64 | None
    material: Any


@dataclass(frozen=True, slots=True)
class Surface:
    """A painted surface: ``vertices``, ``normals``, ``colours`` (N,3) and ``faces`` (F,3)."""

    vertices: F32
    normals: F32
    colours: F32
    faces: I64


def bake(pieces: list[Piece]) -> Surface:
    """Paint all pieces and join them.

    Raises:
        ConfigError: A texture is larger than 24 million pixels.
    """
    normals = _corner_normals(np.concatenate([p.corners for p in pieces]))
    starts = np.cumsum([0] + [len(p.corners) for p in pieces])
    edge = _edge_m([p.corners for p in pieces if _image(p) is not None])
    parts, count = [], 0
    for piece, start in zip(pieces, starts, strict=False):
        part = _paint(piece, normals[start : start + len(piece.corners)], edge)
        parts.append(Surface(part.vertices, part.normals, part.colours, part.faces + count))
        count += len(part.vertices)
    return Surface(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Surface.__slots__)
    )


def _edge_m(textured: list[F64]) -> float:
    """How short edges are made so that a texture shows, and that there are not more triangles than can be drawn."""
    if not textured:
        return _EDGE_M
    corners = np.concatenate(textured)
    longest = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
    height = 2 * _areas(corners) / np.maximum(longest, 1e-12)
    edge = _EDGE_M
    # halving overshoots: on average twice as many as edges of exactly that length would give
    while 2 * ((1 + longest / edge) * (1 + height / edge)).sum() > _MAX_TEXTURED_FACES + 3 * len(
        corners
    ):
        edge *= 1.15
    return edge


def _areas(corners: F64) -> F64:
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(np.linalg.norm(cross, axis=1) / 2)


def _corner_normals(corners: F64) -> F64:
    """Unit normals (F,3,3): the angle-weighted mean round the vertex (Thuermer and Wuethrich 1998).

    Where a face turns away from that mean it keeps its own normal.
    """
    a, b, c = corners.transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    ahead = np.roll(corners, -1, 1) - corners
    back = np.roll(corners, 1, 1) - corners
    cosine = (ahead * back).sum(2) / np.maximum(
        np.linalg.norm(ahead, axis=2) * np.linalg.norm(back, axis=2), 1e-12
    )
    angle = np.arccos(np.clip(cosine, -1, 1))
    _, place = np.unique(np.rint(corners.reshape(-1, 3) / 1e-5), axis=0, return_inverse=True)
    place = place.reshape(-1)
    pulls = (flat[:, None] * angle[..., None]).reshape(-1, 3)
    summed = np.stack([np.bincount(place, pulls[:, i]) for i in range(3)], 1)
    mean = (summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12))[place]
    mean = mean.reshape(corners.shape)
    own = np.repeat(flat[:, None], 3, 1)
    is_smooth = (mean * own).sum(2) > np.cos(_SMOOTH_RAD)
    return np.where(is_smooth[..., None], mean, own)


def _image(piece: Piece) -> Any:
    return None if piece.uv is None else getattr(piece.material, "image", None)


def _paint(piece: Piece, normals: F64, edge: float) -> Surface:
    """One piece with its colours; what its texture shows as transparent is cut away."""
    import trimesh

    image = _image(piece)
    uv = np.zeros((*piece.corners.shape[:2], 2)) if piece.uv is None else piece.uv
    columns = np.concatenate([piece.corners, normals, uv], 2).reshape(-1, 8)
    rows, faces = np.unique(columns.round(7), axis=0, return_inverse=True)
    rows, faces = trimesh.remesh.subdivide_to_size(
        rows, faces.reshape(-1, 3), edge if image is not None else _PLAIN_EDGE_M, max_iter=12
    )
    colours = np.tile(_plain_colour(piece.material), (len(rows), 1))
    if image is not None:
        texels = _sample(image, rows[:, 6:8], faces, rows[:, :3], edge)
        colours = texels[:, :3]
        faces = faces[texels[:, 3][faces].mean(1) > _OPAQUE]
    shades = np.clip(colours, _DARKEST, 1).astype(np.float32)
    return Surface(
        rows[:, :3].astype(np.float32),
        rows[:, 3:6].astype(np.float32),
        shades,
        faces.astype(np.int64),
    )


def _plain_colour(material: Any) -> F64:
    diffuse = getattr(material, "diffuse", None)
    if diffuse is None:
        return np.full(3, 0.7)
    return np.asarray(diffuse, np.float64)[:3] / 255


def _sample(image: Any, uv: F64, faces: I64, points: F64, edge: float) -> F64:
    """RGBA (N,4) 0 to 1 at texture places; the texture is first shrunk to the grain of the surface."""
    width, height = image.size
    if width * height > _MAX_TEXTURE_PX:
        raise ConfigError(f"a texture of {width}x{height} pixels: at most {_MAX_TEXTURE_PX} in all")
    texture = np.asarray(image.convert("RGBA"), np.float32) / 255
    corners = uv[faces] * (width, height)
    flat = np.concatenate([corners, np.zeros((*corners.shape[:2], 1))], 2)
    density = np.sqrt(
        _areas(flat).sum() / max(_areas(points[faces]).sum(), 1e-12)
    )  # texels a metre
    scale = 1 / max(density * edge, 1.0)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    texture = cv2.resize(texture, small, interpolation=cv2.INTER_AREA).reshape(
        small[1], small[0], 4
    )
    padded = np.pad(texture, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    x = (uv[:, 0] % 1) * small[0] + 0.5
    y = ((1 - uv[:, 1]) % 1) * small[1] + 0.5
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = (x - i)[:, None], (y - j)[:, None]
    top = padded[j, i] * (1 - u) + padded[j, i + 1] * u
    bottom = padded[j + 1, i] * (1 - u) + padded[j + 1, i + 1] * u
    return np.asarray(top * (1 - v) + bottom * v, np.float64)
