"""Pictures and masks of a take: one mesh, lit per vertex, over a painted room.

Colour is rendered at twice the size and averaged down. A second, flat pass writes what each pixel
shows, and that is the truth: product, left hand, right hand, face, body, table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from jobs.studio.acting import Acted
from jobs.studio.looks import Looks, cloth_smoother
from jobs.studio.products import Product
from jobs.studio.rooms import paint_room
from jobs.studio.scripts import Take
from stages.body_models.anny import AnnyBody
from stages.body_models.body_tables import PART_LEFT_HAND, PART_RIGHT_HAND
from stages.body_models.rendering import Camera, FlatRenderer, face_to_vertex, vertex_normals
from stages.kit.arrays import F32, I64, U8, Image

LABELS = {
    "body": (0, 0, 0),
    "product": (1, 0, 0),
    "left_hand": (0, 1, 0),
    "right_hand": (0, 0, 1),
    "face": (0, 1, 1),
    "table": (1, 1, 0),
}
"""What a pixel shows, as three flags."""
CODES = {name: index + 1 for index, name in enumerate(LABELS)}
"""What a pixel shows, as one number; 0 is the room."""
_OVERSAMPLE = 2
_CLOTH_STEPS = 30
"""Cloth bridges what skin follows: so many halfway steps towards the neighbours."""
_BEHIND = -0.25
"""A normal that turns away so far belongs to a surface seen from behind, not to an outline."""
_KEY, _FILL = np.array([-0.45, 0.55, 0.7]), np.array([0.8, 0.15, 0.55])


@dataclass(frozen=True, slots=True)
class Drawn:
    """One frame.

    Attributes:
        picture: (H,W,3) u8.
        shows: (H,W) u8, one of CODES; 0 is the room.
        vertices_px: (V,2) projected vertices of the body.
        joints_px: (B,2) projected joints.
    """

    picture: Image
    shows: U8
    vertices_px: F32
    joints_px: F32


@dataclass(frozen=True, slots=True)
class View:
    """How the camera of a take departs from its usual place: turned round the person, nearer, aside."""

    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    zoom: float = 1.0
    shift_m: tuple[float, float] = (0.0, 0.0)

    def turn(self) -> F32:
        """Rotation (3,3) of the scene before the camera."""
        a, b = self.yaw_rad, self.pitch_rad
        yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        return (pitch @ yaw).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Shot:
    """A take before the camera.

    Args:
        take: What happens.
        chest_y_m: Height of the person's chest above the body's origin.
        size_px: Width and height of the picture.
        view: How the camera departs from its usual place.
    """

    take: Take
    chest_y_m: float
    size_px: tuple[int, int]
    view: View = View()


def frame_camera(shot: Shot) -> tuple[Camera, F32]:
    """Camera and where the body's origin lies in camera axes.

    ``upper`` shows head to waist in portrait, ``full`` head to feet.
    """
    take, view = shot.take, shot.view
    width, height = shot.size_px
    wide = width > height
    span_m = (2.1 if take.framing == "full" else (0.9 if wide else 1.05)) / view.zoom
    distance_m = 3.6 if take.framing == "full" else 2.0
    focal = height * distance_m / span_m
    centre_y = 0.1 if take.framing == "full" else shot.chest_y_m + (0.1 if wide else 0.06)
    x, y = view.shift_m
    camera = Camera(
        width * _OVERSAMPLE,
        height * _OVERSAMPLE,
        focal * _OVERSAMPLE,
        (width * _OVERSAMPLE / 2, height * _OVERSAMPLE / 2),
    )
    return camera, np.array([x, y - centre_y, -distance_m], np.float32)


_NOTHING = Product(
    "object",
    np.zeros((0, 3), np.float32),
    np.zeros((0, 3), np.int64),
    np.zeros((0, 3), np.float32),
    (0.0, 0.0, 0.0),
    np.zeros((0, 3), np.float32),
)


class Stage:
    """Draws the frames of one take."""

    def __init__(
        self,
        body: AnnyBody,
        shape: torch.Tensor,
        looks: Looks,
        product: Product | None,
        acted: Acted,
        shot: Shot,
        seed: int,
    ) -> None:
        self._body, self._shape, self._looks = body, shape, looks
        self._product, self._acted = product or _NOTHING, acted
        self._camera, self._origin = frame_camera(shot)
        self._turn = shot.view.turn()
        table = _table(acted, self._product, shot.take)
        self._table = table
        self._body_faces = body.faces.astype(np.int64)
        faces = [self._body_faces, self._product.faces, table.faces]
        counts = [body.num_vertices, len(self._product.vertices), len(table.vertices)]
        starts = np.cumsum([0, *counts[:-1]])
        joined = np.concatenate([f + s for f, s in zip(faces, starts, strict=True)])
        self._to_vertices = face_to_vertex(body.faces, body.num_vertices)
        self._smoother = cloth_smoother(body.faces, looks.is_cloth)
        self._base = np.concatenate([looks.colours, self._product.colours, table.colours])
        self._flags = _flags(body, looks, counts)
        self._drawing = FlatRenderer(joined.astype(np.uint32), sum(counts), self._camera)
        self._room = paint_room(shot.size_px, shot.take.room + 17 * seed)
        self._rng = np.random.default_rng(1000 * seed + shot.take.room)

    def frames(self, opening: F32) -> Iterator[Drawn]:
        """Draw every frame; ``opening`` (T,) is the mouth's, 0 to 1."""
        rotations = torch.from_numpy(self._acted.rotations)
        still = torch.zeros(1, 3)
        for t in range(len(rotations)):
            vertices, joints = self._body.forward(rotations[t : t + 1], still, self._shape)
            skin = vertices[0].numpy().copy()
            skin[:, 1] -= 0.012 * float(opening[t]) * self._looks.mouth
            for _ in range(_CLOTH_STEPS):
                skin = self._smoother @ skin
            turn = self._acted.turn[t]
            held = self._product.vertices @ turn.T + self._acted.place[t]
            yield self._draw(skin, held, self._product.normals @ turn.T, joints[0].numpy())
        self._drawing.close()

    def _draw(self, skin: F32, held: F32, held_normals: F32, joints: F32) -> Drawn:
        skin_normals = vertex_normals(skin, self._body_faces, self._to_vertices)
        up = np.tile(np.array([0, 1, 0], np.float32), (len(self._table.vertices), 1))
        normals = np.concatenate([skin_normals, self._to_camera(held, held_normals), up])
        thick = skin + skin_normals * self._looks.offsets_m[:, None]
        points = self._seen(np.concatenate([thick, held, self._table.vertices]))
        colours = self._base * _light(normals) * self._shadow(skin, held)[:, None]
        rgba, _ = self._drawing.render(points, np.clip(colours, 0, 1).astype(np.float32))
        flags, depth = self._drawing.render(points, self._flags)
        room = self._room.shifted(self._rng)
        picture = _composite(rgba, depth, room, self._rng)
        return Drawn(picture, _shows(flags, depth), self.project(skin), self.project(joints))

    def _seen(self, points: F32) -> F32:
        """Body axes to camera axes."""
        return np.asarray(points @ self._turn.T + self._origin, np.float32)

    def _to_camera(self, points: F32, normals: F32) -> F32:
        """Normals of what is seen from behind, turned: open shells are lit on both sides."""
        towards = -self._seen(points)
        facing = (normals @ self._turn.T * towards).sum(1) / np.linalg.norm(towards, axis=1)
        return np.where(facing[:, None] < _BEHIND, -normals, normals)

    def _shadow(self, skin: F32, held: F32) -> F32:
        """Skin near the product is darker: the light that reaches a grip is blocked."""
        out = np.ones(len(self._base), np.float32)
        if len(held):
            local = (skin - held.mean(0)) / max(self._product.half_m)
            near = np.exp(-np.maximum(np.linalg.norm(local, axis=1) - 0.5, 0) * 3.0)
            out[: len(skin)] = 1 - 0.3 * near * np.isin(self._body.part_labels, (1, 2))
        return out

    def project(self, points: F32) -> F32:
        """Pixels (N,2) of points (N,3) in body axes."""
        points = self._seen(points)
        focal, centre = self._camera.focal_px, self._camera.principal_px
        x = centre[0] + focal * points[:, 0] / -points[:, 2]
        y = centre[1] - focal * points[:, 1] / -points[:, 2]
        return np.asarray(np.stack([x, y], 1) / _OVERSAMPLE, np.float32)


@dataclass(frozen=True, slots=True)
class _Table:
    vertices: F32
    faces: I64
    colours: F32


def _table(acted: Acted, product: Product, take: Take) -> _Table:
    """A table top in front of the body; where something is put down, it stands on it."""
    top = 0.05
    if take.put_down_frame is not None:
        top = float(acted.place[take.put_down_frame, 1]) - product.half_m[1]
    columns, rows = 120, 50
    x, z = np.meshgrid(np.linspace(-0.9, 0.9, columns), np.linspace(0.12, 0.75, rows))
    grid = np.arange(x.size).reshape(x.shape)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    quads = [q.reshape(-1) for q in (a, b, c, d)]
    faces = np.concatenate(
        [np.stack([quads[0], quads[1], quads[2]], 1), np.stack([quads[0], quads[2], quads[3]], 1)]
    )
    vertices = np.stack([x, np.full_like(x, top), z], -1).reshape(-1, 3)
    grain = 1 + 0.12 * np.sin(z * 90 + 3 * np.sin(x * 7)) + 0.05 * np.sin(x * 200)
    colours = np.array([0.55, 0.4, 0.28]) * grain.reshape(-1, 1)
    return _Table(vertices.astype(np.float32), faces, np.clip(colours, 0, 1).astype(np.float32))


def _flags(body: AnnyBody, looks: Looks, counts: list[int]) -> F32:
    """The flat pass's colours (N,3)."""
    flags = np.zeros((sum(counts), 3), np.float32)
    skin = flags[: counts[0]]
    skin[body.part_labels == PART_LEFT_HAND] = LABELS["left_hand"]
    skin[body.part_labels == PART_RIGHT_HAND] = LABELS["right_hand"]
    skin[looks.is_face] = LABELS["face"]
    flags[counts[0] : counts[0] + counts[1]] = LABELS["product"]
    flags[counts[0] + counts[1] :] = LABELS["table"]
    return flags


def _light(normals: F32) -> F32:
    """Key, fill and sky light per vertex, (N,3): a warm key from the upper left, a cool fill."""
    key = np.clip(normals @ (_KEY / np.linalg.norm(_KEY)), 0, 1)[:, None]
    fill = np.clip(normals @ (_FILL / np.linalg.norm(_FILL)), 0, 1)[:, None]
    sky = (0.5 + 0.5 * normals[:, 1:2]) * np.array([0.30, 0.31, 0.33])
    shine = np.clip(normals[:, 2:3], 0, 1) ** 12 * 0.05
    warm, cool = np.array([0.66, 0.62, 0.57]), np.array([0.2, 0.22, 0.26])
    return np.asarray(0.14 + key * warm + fill * cool + sky + shine, np.float32)


def _composite(rgba: Image, depth: F32, room: Image, rng: np.random.Generator) -> Image:
    """Average down, put over the room, add the noise of a sensor."""
    height, width = room.shape[:2]
    covered = (depth > 0).astype(np.float32)
    alpha = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)[..., None]
    front = rgba[..., :3].astype(np.float32) * covered[..., None]
    front = cv2.resize(front, (width, height), interpolation=cv2.INTER_AREA)
    picture = front + room * (1 - alpha)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * 2.0
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _shows(flags: U8, depth: F32) -> U8:
    """One of CODES at the clip's size; 0 where only the room is."""
    small = flags[::_OVERSAMPLE, ::_OVERSAMPLE, :3] >> 7
    code = small @ np.array([4, 2, 1], np.uint8)
    table = np.zeros(8, np.uint8)
    for name, triple in LABELS.items():
        table[int(np.dot(triple, (4, 2, 1)))] = CODES[name]
    seen: U8 = table[code] * (depth[::_OVERSAMPLE, ::_OVERSAMPLE] > 0)
    return seen
