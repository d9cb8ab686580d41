"""The constant arrays of a body model; ``linear_body`` says what they mean and poses them."""

from __future__ import annotations

from dataclasses import dataclass

from stages.kit.arrays import F32, I32, I64, U8

PART_BODY, PART_LEFT_HAND, PART_RIGHT_HAND, PART_HEAD = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class BodyTables:
    """Constant arrays of one body model. V vertices, B joints, S shape numbers, K landmarks."""

    bone_names: tuple[str, ...]
    parents: I64
    """(B,) parent of each joint, -1 for the root; parents come before their children."""
    faces: I32
    """(F,3) counter-clockwise seen from outside."""
    template_vertices: F32
    """(V,3)."""
    vertex_directions: F32
    """(S,V,3) metres per unit of shape; a unit is one standard deviation."""
    template_joints: F32
    """(B,3)."""
    joint_directions: F32
    """(S,B,3)."""
    weights: F32
    """(V,B) skinning weights; rows sum to 1."""
    part_labels: U8
    """(V,) 0 body, 1 left hand, 2 right hand, 3 head."""
    landmark_names: tuple[str, ...]
    landmark_bones: I64
    """(K,) the joint that a landmark moves with."""
    template_landmarks: F32
    """(K,3) in the rest pose."""
    landmark_directions: F32
    """(S,K,3)."""
