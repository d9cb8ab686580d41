"""Skin, hair, face and clothes as vertex colours and small offsets of the embedded body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from jobs.studio.products import Colour
from stages.body_models.anny import AnnyBody
from stages.body_models.body_tables import PART_HEAD, PART_LEFT_HAND, PART_RIGHT_HAND
from stages.kit.arrays import F32, F64, I32, Mask


@dataclass(frozen=True, slots=True)
class Person:
    """Who is on stage. Colours are sRGB 0 to 1; phenotypes as in ``AnnyBody.shape_of``."""

    gender: float
    height: float
    weight: float
    skin: Colour
    hair: Colour
    shirt: Colour
    long_sleeves: bool = False
    muscle: float = 0.5


@dataclass(frozen=True, slots=True)
class Looks:
    """Per body vertex: ``colours`` (V,3), ``offsets_m`` (V,) along the normal, and where skin is what."""

    colours: F32
    offsets_m: F32
    is_cloth: Mask
    is_face: Mask
    mouth: F32
    """(V,) how far a vertex follows the jaw when the mouth opens, 0 to 1."""


def dress(body: AnnyBody, shape: torch.Tensor, person: Person, seed: int) -> Looks:
    """Colour a body of the given shape."""
    rest = body.rest_vertices(shape).numpy().astype(np.float64)
    marks = dict(zip(body.tables.landmark_names, body.rest_landmarks(shape).numpy(), strict=True))
    owner = np.array(body.bone_names)[body.tables.weights.argmax(1)]
    colours = np.tile(np.array(person.skin), (len(rest), 1)) * _blotches(rest, seed, 0.04)[:, None]
    offsets = np.zeros(len(rest))
    is_head = body.part_labels == PART_HEAD
    is_hand = np.isin(body.part_labels, (PART_LEFT_HAND, PART_RIGHT_HAND))
    _paint_face(colours, rest, marks, is_head, owner, person)
    hair = _hair(rest, marks, is_head)
    colours[hair] = np.array(person.hair) * _strands(rest[hair], seed)[:, None]
    offsets[hair] = 0.014 + 0.012 * _blotches(rest[hair], seed + 1, 0.5, 40.0) ** 2
    shirt = _shirt(rest, marks, owner, person) & ~is_head & ~is_hand
    colours[shirt] = _cloth(rest[shirt], person, seed)
    offsets[shirt] = 0.007 + 0.004 * _blotches(rest[shirt], seed + 2, 0.9, 22.0)
    legs = _belongs(owner, "upperleg", "lowerleg", "pelvis", "root", "spine") & (rest[:, 1] < 0.1)
    colours[legs & ~shirt] = (
        np.array((0.16, 0.2, 0.32)) * _blotches(rest, seed, 0.1)[legs & ~shirt, None]
    )
    is_face = is_head & ~hair & (rest[:, 2] > marks["ear.L"][2])
    return Looks(
        np.clip(colours, 0, 1).astype(np.float32),
        offsets.astype(np.float32),
        shirt,
        is_face,
        _jaw(rest, marks, is_head).astype(np.float32),
    )


def cloth_smoother(faces: I32, is_cloth: Mask) -> sparse.csr_array:
    """(V,V) matrix that moves cloth vertices halfway to the mean of their neighbours and leaves skin alone."""
    count = len(is_cloth)
    a, b = faces[:, (0, 1, 2)].reshape(-1), faces[:, (1, 2, 0)].reshape(-1)
    ones = np.ones(2 * len(a), np.float32)
    links = sparse.csr_array((ones, (np.r_[a, b], np.r_[b, a])), shape=(count, count))
    links.data[:] = 1.0
    mean = sparse.diags_array(0.5 * is_cloth / np.maximum(links.sum(1), 1)) @ links
    keep = sparse.diags_array(np.where(is_cloth, 0.5, 1.0))
    return sparse.csr_array((mean + keep).astype(np.float32))


def _paint_face(
    colours: F64,
    rest: F64,
    marks: dict[str, F32],
    is_head: Mask,
    owner: NDArray[np.str_],
    person: Person,
) -> None:
    mouth = (marks["mouth.L"] + marks["mouth.R"]) / 2
    half = abs(float(marks["mouth.L"][0] - marks["mouth.R"][0])) / 2
    across = np.clip(np.abs(rest[:, 0] - mouth[0]) / (half * 1.05), 0, 1)
    lips = is_head & (across < 1) & (rest[:, 2] > mouth[2] - 0.012)
    lips &= np.abs(rest[:, 1] - mouth[1] - 0.002) < 0.0095 * np.sqrt(1 - across**2)
    skin = np.array(person.skin)
    colours[lips] = skin * (0.92, 0.66, 0.66)
    for side in ("L", "R"):
        eye = marks[f"eye.{side}"]
        ball = owner == f"eye.{side}"
        front = rest[ball, 2].max() if ball.any() else float(eye[2])
        centre = np.array([rest[ball, 0].mean(), rest[ball, 1].mean(), front])
        radius = np.linalg.norm((rest - centre)[:, :2], axis=1)
        colours[ball] = (0.93, 0.92, 0.9)
        colours[ball & (radius < 0.0066)] = (0.25, 0.15, 0.08)
        colours[ball & (radius < 0.003)] = (0.02, 0.02, 0.02)
        lid = is_head & ~ball & (np.linalg.norm(rest - centre, axis=1) < 0.019)
        colours[lid] *= 0.78
        dx, dy = np.abs(rest[:, 0] - centre[0]), rest[:, 1] - centre[1]
        brow = is_head & (dx < 0.021) & (np.abs(dy - 0.0205 + 8 * dx**2) < 0.004)
        brow &= (rest[:, 2] > centre[2] - 0.03) & (np.abs(rest[:, 0]) > 0.016)
        colours[brow] = skin * 0.35 + np.array(person.hair) * 0.65
        cheek = is_head & (
            np.linalg.norm(rest - (centre + np.array([0.0, -0.045, 0.0])), axis=1) < 0.022
        )
        colours[cheek] *= (1.03, 0.93, 0.92)


def _hair(rest: F64, marks: dict[str, F32], is_head: Mask) -> Mask:
    """The scalp: above the forehead, and behind the ears down to the chin's height."""
    ear_z, eye_y = float(marks["ear.L"][2]), float(marks["eye.L"][1])
    chin_y, nose_z = float(marks["chin"][1]), float(marks["nose"][2])
    forward = (rest[:, 2] - ear_z) / max(nose_z - ear_z, 1e-6)
    hairline = eye_y + 0.028 + 0.05 * np.clip(forward, 0, 1)
    behind = (rest[:, 2] < ear_z - 0.008) & (rest[:, 1] > chin_y + 0.01)
    is_ear = np.zeros(len(rest), bool)
    for side in ("L", "R"):
        ear = marks[f"ear.{side}"]
        is_ear |= (np.abs(rest[:, 0]) > abs(float(ear[0])) * 0.86) & (
            np.linalg.norm((rest - ear)[:, 1:], axis=1) < 0.045
        )
    return is_head & ~is_ear & (((rest[:, 1] > hairline) & (forward > -0.2)) | behind)


def _shirt(rest: F64, marks: dict[str, F32], owner: NDArray[np.str_], person: Person) -> Mask:
    torso = _belongs(owner, "spine", "clavicle", "shoulder", "upperarm")
    if person.long_sleeves:
        torso |= _belongs(owner, "lowerarm")
    below_collar = rest[:, 1] < float(marks["chin"][1]) - 0.085
    is_shoulder = np.abs(rest[:, 0]) > 0.07
    torso |= _belongs(owner, "root", "pelvis", "upperleg")
    return torso & (below_collar | is_shoulder) & (rest[:, 1] > 0.03)


def _belongs(owner: NDArray[np.str_], *bones: str) -> Mask:
    """Vertices that move most with bones of these names."""
    return np.asarray(np.logical_or.reduce([np.char.startswith(owner, b) for b in bones]))


def _cloth(rest: F64, person: Person, seed: int) -> F64:
    """Plain cloth with soft folds."""
    folds = _blotches(rest, seed + 3, 0.22, 25.0) * _blotches(rest, seed + 4, 0.12, 60.0)
    return np.asarray(np.array(person.shirt) * folds[:, None])


def _jaw(rest: F64, marks: dict[str, F32], is_head: Mask) -> F64:
    mouth = (marks["mouth.L"] + marks["mouth.R"]) / 2
    below = np.clip((mouth[1] + 0.001 - rest[:, 1]) / 0.008, 0, 1)
    near = np.exp(-(((rest[:, 0] - mouth[0]) / 0.035) ** 2))
    front = np.clip((rest[:, 2] - mouth[2] + 0.05) / 0.03, 0, 1)
    high = np.clip((rest[:, 1] - float(marks["chin"][1]) + 0.03) / 0.03, 0, 1)
    return np.asarray(np.where(is_head, below * near * front * high, 0.0))


def _blotches(points: F64, seed: int, amount: float, frequency: float = 30.0) -> F64:
    """Smooth noise (N,) around 1: a few random waves through space."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, frequency, (6, 3))
    total = np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 6)).sum(1)
    return np.asarray(1 + amount * total / 6)


def _strands(points: F64, seed: int) -> F64:
    angle = np.arctan2(points[:, 0], points[:, 2])
    rng = np.random.default_rng(seed)
    return np.asarray(1 + 0.25 * np.sin(angle * 60 + rng.uniform(0, 6)) + 0.15 * np.sin(angle * 23))
