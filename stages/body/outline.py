"""Girth from the outline: the shape for which the posed body fills the person's matte, joints where they are.

Landmarks say how long limbs are and nothing of how thick. Where the posed body's outline faces the edge of the matte, the
edge says how far the body must grow or shrink there. Vertices are linear in the shape while angles are held, so this is
one small least-squares problem, solved twice. Clothes and hair are outside the body: a matte that is a little wider than
the body is believed less than one that is narrower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.body.shape import LIMIT
from stages.body.solve import Pinhole, project, projection_jacobian
from stages.body_models.rendering import face_to_vertex, vertex_normals
from stages.kit.arrays import F32, F64, Mask
from stages.kit.torch_threads import one_thread

NUM_SHAPE = 16
"""Shape numbers that outlines decide: the local ones and the first of the shape space."""
_ROUNDS = 2
_REACH = 0.45
"""Head heights along the outline's normal in which the matte's edge is looked for."""
_CLOTHES = 0.025
"""Head heights (half a centimetre) that clothes stand off the body."""
_DEVIATION, _WIDER = 0.08, 2.0
"""Head heights by which edges err; so many times more where the matte is wider than the body."""
_JOINT_DEVIATION = 0.01
_ROBUST = 3.0
"""Deviations beyond which an edge counts as another thing's: an arm, a product, hair."""
_LOOKS = 60.0
"""All outline points of a clip together count as this many independent ones: neighbours err alike."""
_EDGE_ON = 0.35
"""A vertex is on the outline where its normal is this near to the picture's plane (sine)."""
_MIN_POINTS = 40


class Skin(Protocol):
    """What is posed: see ``stages.body_models.linear_body.LinearBody``."""

    faces: Any
    part_labels: Any

    def forward(
        self, rotations: Any, translation: Any, shape: Any, only: Any = None
    ) -> tuple[Any, Any]:
        """Vertices (T,V,3), or those named by ``only`` (N,), and joints (T,B,3)."""


@dataclass(frozen=True)
class Still:
    """The frames whose outlines are compared."""

    rotations: F32
    """(K,B,3)."""
    translation: F32
    """(K,3)."""
    mattes: Mask
    """(K,H,W)."""
    joints_seen: Mask
    """(K,B) joints that must not move."""
    hair_px: F64
    """(K,) rows above which the matte may be hair: the lower shoulder's."""


@dataclass(frozen=True)
class _Edge:
    """Where outline vertices of one frame face the matte's edge."""

    vertices: NDArray[np.intp]
    normals_px: F64
    """(N,2) unit vectors, outwards."""
    gaps_px: F64
    """(N,) how far out the edge is; negative: inside the body."""


def shape_from_outline(
    body: Skin, shape: F32, still: Still, camera: Pinhole, head_px: float
) -> F32:
    """A better shape (S,), or the same where outlines say too little.

    Args:
        body: The model.
        shape: (S,) as the landmarks gave it.
        still: Frames with their mattes.
        camera: That looks at them.
        head_px: Head height in pixels.
    """
    count = min(NUM_SHAPE, len(shape))
    before = shape.astype(np.float64)
    out = before.copy()
    to_vertices = face_to_vertex(body.faces, len(body.part_labels))
    for _ in range(_ROUNDS):
        vertices, joints = _posed(body, still, out)
        edges = [
            find_edge(
                body, v, vertex_normals(v, body.faces, to_vertices), matte, camera, head_px, hair_px
            )
            for v, matte, hair_px in zip(vertices, still.mattes, still.hair_px, strict=True)
        ]
        if sum(len(e.gaps_px) for e in edges) < _MIN_POINTS:
            return shape
        moves = _moves(body, still, out, count, edges)
        step = _solve(
            edges, moves, (vertices, joints), still, camera, head_px, out[:count], before[:count]
        )
        out[:count] = np.clip(out[:count] + step, -LIMIT, LIMIT)
    return out.astype(np.float32)


def _posed(
    body: Skin, still: Still, shape: F64, only: NDArray[np.intp] | None = None
) -> tuple[F64, F64]:
    import torch

    with torch.inference_mode(), one_thread():
        vertices, joints = body.forward(
            torch.from_numpy(still.rotations),
            torch.from_numpy(still.translation),
            torch.from_numpy(shape.astype(np.float32)),
            None if only is None else torch.from_numpy(only),
        )
    return vertices.numpy().astype(np.float64), joints.numpy().astype(np.float64)


def _moves(
    body: Skin, still: Still, shape: F64, count: int, edges: Sequence[_Edge]
) -> tuple[list[F64], F64]:
    """What a unit of each shape number moves; exact, since vertices and joints are linear in it.

    Returns:
        Per frame (S,N,3) of its edge's vertices, and (S,K,B,3). No other vertex is posed: a clip's edges have some
        hundreds of the model's ten thousand.
    """
    used = np.unique(np.concatenate([e.vertices for e in edges]))
    vertices, joints = _posed(body, still, shape, used)
    moved = [_posed(body, still, shape + np.eye(len(shape))[n], used) for n in range(count)]
    by_vertex = np.stack([v - vertices for v, _ in moved])
    at = [np.searchsorted(used, e.vertices) for e in edges]
    return [by_vertex[:, k, rows] for k, rows in enumerate(at)], np.stack(
        [j - joints for _, j in moved]
    )


def find_edge(
    body: Skin,
    vertices: F64,
    normals: F64,
    matte: Mask,
    camera: Pinhole,
    head_px: float,
    hair_px: float,
) -> _Edge:
    """Outline vertices of a frame and how far along their normals the matte ends.

    Args:
        body: Whose vertices they are.
        vertices: (V,3) metres, in camera axes.
        normals: (V,3) unit vectors, outwards.
        matte: (H,W) the person.
        camera: That looks at them.
        head_px: Head height in pixels.
        hair_px: No vertex above this row is taken.
    """
    pixels = project(vertices, camera)
    toward = -vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    flat = projection_jacobian(vertices, camera) @ normals[..., None]
    normals_px = flat[..., 0] / np.maximum(
        np.linalg.norm(flat[..., 0], axis=1, keepdims=True), 1e-9
    )
    on_edge = np.abs((normals * toward).sum(axis=1)) < _EDGE_ON
    on_edge &= (np.asarray(body.part_labels) == 0) & (pixels[:, 1] > hair_px)
    own = splat(pixels, matte.shape, head_px)
    reach = np.arange(1, max(4, round(_REACH * head_px)) + 1)
    index = np.flatnonzero(on_edge)
    steps = (
        pixels[index, None]
        + normals_px[index, None] * np.concatenate([-reach[::-1], [0], reach])[None, :, None]
    )
    beyond = _sample(own, steps[:, len(reach) + 1 + round(0.12 * head_px) :])
    gaps, is_found = _gap(_sample(matte, steps), len(reach))
    inside = ((steps >= 0) & (steps <= np.array(matte.shape[::-1]) - 1)).all(axis=(1, 2))
    kept = is_found & inside & ~beyond.any(axis=1)
    return _Edge(index[kept], normals_px[index[kept]], gaps[kept])


def _gap(is_matte: Mask, reach: int) -> tuple[F64, Mask]:
    """Signed steps (N,) from the middle of lines (N, 2 reach + 1) to the matte's edge, and whether there is one."""
    here = is_matte[:, reach]
    out, back = is_matte[:, reach:], is_matte[:, reach::-1]
    leaves, meets = ~out, back
    gaps = np.where(here, leaves.argmax(axis=1) - 0.5, 0.5 - meets.argmax(axis=1))
    found = np.where(here, leaves.any(axis=1), meets.any(axis=1))
    return gaps.astype(np.float64), found


def _sample(mask: Mask, points: F64) -> Mask:
    """(...,) values at pixels (...,2), False outside."""
    x, y = points[..., 0].round().astype(np.intp), points[..., 1].round().astype(np.intp)
    height, width = mask.shape
    is_in = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return mask[y.clip(0, height - 1), x.clip(0, width - 1)] & is_in


def splat(pixels: F64, shape: tuple[int, int], head_px: float) -> Mask:
    """(H,W) where vertices (V,2) lie, gaps between them closed."""
    out = np.zeros(shape, np.uint8)
    x, y = pixels.round().astype(np.intp).T
    is_in = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    out[y[is_in], x[is_in]] = 1
    width = max(3, round(0.08 * head_px)) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.morphologyEx(out, cv2.MORPH_CLOSE, disc), bool)


def _solve(
    edges: Sequence[_Edge],
    moves: tuple[Sequence[F64], F64],
    posed: tuple[F64, F64],
    still: Still,
    camera: Pinhole,
    head_px: float,
    now: F64,
    prior: F64,
) -> F64:
    """The step (S,) of the shape: edges met, seen joints kept, near to what the landmarks gave."""
    count = len(now)
    hessian, gradient = np.eye(count), prior.astype(np.float64) - now
    total = sum(len(e.gaps_px) for e in edges)
    for k, edge in enumerate(edges):
        flat = projection_jacobian(posed[0][k, edge.vertices], camera)
        along = np.einsum("sni,nji,nj->ns", moves[0][k], flat, edge.normals_px)
        wanted = edge.gaps_px - _CLOTHES * head_px
        deviation = head_px * _DEVIATION * np.where(wanted > 0, _WIDER, 1.0)
        off = np.abs(wanted) / deviation
        weight = np.where(off < _ROBUST, (1 - (off / _ROBUST) ** 2) ** 2, 0) / deviation**2
        weight *= min(1.0, _LOOKS / total)
        hessian += along.T @ (along * weight[:, None])
        gradient += along.T @ (weight * wanted)
        seen = still.joints_seen[k]
        shift = np.einsum(
            "sni,nji->nsj", moves[1][:, k, seen], projection_jacobian(posed[1][k, seen], camera)
        )
        shift = shift.transpose(0, 2, 1).reshape(-1, count) / (_JOINT_DEVIATION * head_px)
        hessian += shift.T @ shift / len(edges)
    return np.asarray(np.linalg.solve(hessian, gradient))
