"""Which vertices of a body mesh are hands and head, from its triangles and a few keypoints alone.

A limb is cut off by a plane across its joint. Only the triangles around the joint are cut, so fingers that bend
back over the plane, or a hand that rests on the face, stay with their own limb: parts follow the surface.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelOutputError
from stages.kit.arrays import I32, U8, Flags

if TYPE_CHECKING:  # scipy takes a second to import: functions do so when they need it
    from scipy.spatial import cKDTree

LEFT_HAND, RIGHT_HAND, HEAD = 1, 2, 3
MIN_PART_SHARE = 0.01
"""Less of the mesh is no hand and no head but scraps: a hand has a tenth of the vertices."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a part begins.

    Args:
        label: Of the part.
        joint_m: (3,) point on the plane.
        inward_m: (3,) a point of the body before the joint; the plane is across the way from there.
        seeds_m: (N,3) points of the part.
        radius_m: How far from the joint the surface is cut.
    """

    label: int
    joint_m: NDArray[np.floating]
    inward_m: NDArray[np.floating]
    seeds_m: NDArray[np.floating]
    radius_m: float


def label_parts(vertices: NDArray[np.floating], faces: I32, cuts: list[Cut]) -> U8:
    """Labels (V,) u8; 0 is the body.

    Args:
        vertices: (V,3) metres.
        faces: (F,3).
        cuts: The parts.

    Raises:
        ModelOutputError: ``bad_result`` if a part does not come off the body.
    """
    from scipy.spatial import cKDTree

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    tree = cKDTree(vertices)
    labels = np.zeros(len(vertices), np.uint8)
    for cut in cuts:
        for wider in (1.0, 1.5, 2.25):  # a broad wrist needs a wider cut
            part = _part_of(vertices, edges, replace(cut, radius_m=wider * cut.radius_m), tree)
            if part.mean() >= MIN_PART_SHARE:
                break
        else:
            raise ModelOutputError(
                "bad_result", f"part {cut.label} does not come off the body: faces of another mesh?"
            )
        labels[part] = cut.label
    return labels


def _part_of(vertices: NDArray[np.floating], edges: I32, cut: Cut, tree: cKDTree) -> Flags:
    """(V,) vertices connected with seeds, but not with the body, once the edges through the plane are gone."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    axis = cut.joint_m - cut.inward_m
    beyond = (vertices - cut.joint_m) @ axis > 0
    near = np.linalg.norm(vertices - cut.joint_m, axis=1) <= cut.radius_m
    crosses = (beyond[edges[:, 0]] != beyond[edges[:, 1]]) & near[edges].any(1)
    kept = edges[~crosses]
    graph = coo_array(
        (np.ones(len(kept), bool), (kept[:, 0], kept[:, 1])), shape=(len(vertices),) * 2
    )
    _, piece = connected_components(graph, directed=False)
    _, nearest = tree.query(cut.seeds_m)
    body = np.bincount(piece).argmax()  # a fingertip on the cheek may lie nearest to that
    return np.asarray(np.isin(piece, piece[nearest]) & (piece != body))
