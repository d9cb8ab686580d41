"""Single random frames with exact truth, to train on: pictures, what is held, where the hands are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from jobs.studio.acting import Actor
from jobs.studio.casting import cast_empty, cast_object, product_for
from jobs.studio.catalogue import Object3D
from jobs.studio.drawing import CODES, Shot, Stage, View
from jobs.studio.looks import dress
from jobs.studio.scripts import Take
from stages.body_models.anny import AnnyBody, load_anny
from stages.body_models.rendering import check_renderer
from stages.body_models.rig import FINGERS, SIDES
from stages.kit.arrays import F32, U8, Flags, Image, Mask


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its truth.

    Attributes:
        rgb: (H,W,3) u8.
        shows: (H,W) u8, what each pixel shows: one of ``drawing.CODES``; 0 is the room.
        hands_px: (2,21,2) float32, left and right hand's landmarks in MediaPipe's order (wrist; thumb, index,
            middle, ring, little, four each from the palm to the tip), in pixels, seen or not.
        holds: (2,) bool, the left, right hand holds the product.
        object_key: The object's ``key``, empty where nothing is held.
    """

    rgb: Image
    shows: U8
    hands_px: F32
    holds: Flags
    object_key: str

    @property
    def product_mask(self) -> Mask:
        """(H,W) the product's visible pixels; empty where nothing is held."""
        return np.asarray(self.shows == CODES["product"])


def iter_frames(
    objects: Sequence[Object3D],
    seed: int,
    num_clips: int,
    frames_per_clip: int,
    *,
    size_px: tuple[int, int] = (480, 832),
    empty_share: float = 0.1,
) -> Iterator[Frame]:
    """Yield ``num_clips * frames_per_clip`` frames; the same arguments give the same frames.

    A clip is one person in one room with one object in one grip; its frames are poses of their own, not
    neighbours in time. About 0.2 s a frame and 2 s a clip on one core.

    Args:
        objects: To draw from, as ``catalogue.find_objects`` gives them.
        seed: Of everything.
        num_clips: How many persons.
        frames_per_clip: How many frames of each.
        size_px: Width and height, even.
        empty_share: Clips in which the hands are empty.

    Raises:
        ConfigError: No offscreen OpenGL, or a model that cannot be read.
        ValueError: No objects although some clips shall hold one.
    """
    if not objects and empty_share < 1:
        raise ValueError("no objects to hold")
    check_renderer()
    body = load_anny()
    for clip in range(num_clips):
        rng = np.random.default_rng([seed, clip])
        if rng.random() < empty_share:
            script = cast_empty(clip, seed)
        else:
            script = cast_object(objects[int(rng.integers(len(objects)))], seed * 1_000_003 + clip)
        yield from _clip(body, script.takes[0], rng, frames_per_clip, size_px)


def _clip(
    body: AnnyBody, take: Take, rng: np.random.Generator, count: int, size_px: tuple[int, int]
) -> Iterator[Frame]:
    person, seed = take.person, int(rng.integers(2**31))
    shape = body.shape_of(
        gender=person.gender, height=person.height, weight=person.weight, muscle=person.muscle
    )
    product = product_for(take, seed)
    actor = Actor(body, shape)
    times = np.sort(rng.choice(take.num_frames, count, replace=count > take.num_frames))
    acted = actor.poses(take, product, seed, times)
    held_x = 0.0 if product is None else float(acted.place[:, 0].mean())
    view = View(
        yaw_rad=rng.normal(0, 0.15),
        pitch_rad=rng.normal(0, 0.06),
        zoom=rng.uniform(0.85, 1.45),
        shift_m=(rng.normal(0, 0.03) - 0.6 * held_x, rng.normal(0, 0.03)),
    )
    shot = Shot(take, float(actor.chest[1]), size_px, view)
    stage = Stage(body, shape, dress(body, shape, person, seed), product, acted, shot, seed)
    marks = _landmarks(body, actor, acted.rotations)
    opening = rng.uniform(0, 1, count).astype(np.float32)
    key = take.product.key if isinstance(take.product, Object3D) else ""
    for t, drawn in enumerate(stage.frames(opening)):
        hands = stage.project(marks[t].reshape(-1, 3)).reshape(2, 21, 2)
        yield Frame(drawn.picture, drawn.shows, hands, acted.holds[t], key)


def _landmarks(body: AnnyBody, actor: Actor, rotations: F32) -> F32:
    """Both hands' 21 points (T,2,21,3) in body axes: joints of the rig and fingertips."""
    turns, still = torch.from_numpy(rotations), torch.zeros(len(rotations), 3)
    _, joints = body.pose_joints(turns, still, actor.shape)
    named = body.landmarks(turns, still, actor.shape)
    names = body.tables.landmark_names
    hands = []
    for side in SIDES:
        points = [joints[:, actor.roles.wrist[side]]]
        for finger in FINGERS:
            points += [joints[:, j] for j in actor.roles.fingers[side][finger]]
            points.append(named[:, names.index(f"finger{finger}.tip.{side}")])
        hands.append(torch.stack(points, 1))
    return np.asarray(torch.stack(hands, 1).numpy(), np.float32)
