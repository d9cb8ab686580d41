"""Rooms behind the person: painted, out of focus, with a little camera movement."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, U8, Image

_MARGIN_PX = 12


@dataclass(slots=True)
class Room:
    """A painted picture that is a little larger than the frame."""

    picture: Image
    _offset: tuple[float, float] = (0.0, 0.0)

    def shifted(self, rng: np.random.Generator) -> U8:
        """The next frame's view: a slow random walk of a few pixels, as of a camera in a hand."""
        step = rng.normal(0, 0.12, 2)
        x, y = (float(np.clip(a + b, -4, 4)) for a, b in zip(self._offset, step, strict=True))
        self._offset = (x, y)
        height, width = (s - 2 * _MARGIN_PX for s in self.picture.shape[:2])
        move = np.array([[1, 0, x - _MARGIN_PX], [0, 1, y - _MARGIN_PX]], np.float32)
        moved = cv2.warpAffine(self.picture, move, (width, height), flags=cv2.INTER_LINEAR)
        return np.asarray(moved, np.uint8)


def paint_room(size_px: tuple[int, int], seed: int) -> Room:
    """Paint wall, window light, shelf, frames and a plant; blur them as a lens would.

    Args:
        size_px: Width and height of the frame.
        seed: Decides colours and furniture.
    """
    rng = np.random.default_rng(seed)
    width, height = (s + 2 * _MARGIN_PX for s in size_px)
    hue, top = rng.uniform(0, 180), rng.uniform(150, 200)
    wall = np.array([[[hue, rng.uniform(15, 60), top]]]).astype(np.uint8)
    colour = cv2.cvtColor(wall, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
    ramp = np.linspace(1.08, 0.78, height)[:, None, None]
    room = np.ones((height, width, 3), np.float32) * colour * ramp
    x = np.linspace(0, 1, width)[None, :, None]
    room *= 1 + 0.25 * np.exp(-(((x - rng.uniform(0, 1)) / 0.3) ** 2))
    for _ in range(int(rng.integers(3, 6))):
        _picture_frame(room, rng)
    _shelf(room, rng)
    _plant(room, rng)
    blurred = cv2.GaussianBlur(room, (0, 0), max(width, height) / 130)
    blurred += cv2.resize(
        rng.normal(0, 3, (height // 8, width // 8)).astype(np.float32), (width, height)
    )[..., None]
    return Room(np.clip(blurred, 0, 255).astype(np.uint8))


def _picture_frame(room: F32, rng: np.random.Generator) -> None:
    height, width = room.shape[:2]
    w, h = int(rng.uniform(0.1, 0.25) * width), int(rng.uniform(0.08, 0.2) * height)
    x, y = int(rng.uniform(0, width - w)), int(rng.uniform(0, 0.5) * height)
    cv2.rectangle(room, (x, y), (x + w, y + h), rng.uniform(20, 90, 3).tolist(), -1)
    inner = max(4, w // 12)
    cv2.rectangle(
        room,
        (x + inner, y + inner),
        (x + w - inner, y + h - inner),
        rng.uniform(90, 230, 3).tolist(),
        -1,
    )


def _shelf(room: F32, rng: np.random.Generator) -> None:
    height, width = room.shape[:2]
    y = int(rng.uniform(0.45, 0.7) * height)
    cv2.rectangle(room, (0, y), (width, y + height // 60), (105, 80, 60), -1)
    x = 0
    while x < width:
        w, h = int(rng.uniform(0.02, 0.06) * width), int(rng.uniform(0.06, 0.14) * height)
        if rng.random() < 0.7:
            cv2.rectangle(room, (x, y - h), (x + w, y), rng.uniform(30, 210, 3).tolist(), -1)
        x += w + int(rng.uniform(0, 0.02) * width)


def _plant(room: F32, rng: np.random.Generator) -> None:
    height, width = room.shape[:2]
    root = np.array([rng.choice([0.08, 0.92]) * width, 0.85 * height])
    for _ in range(26):
        angle, length = rng.uniform(-2.6, -0.5), rng.uniform(0.08, 0.26) * height
        tip = root + length * np.array([np.cos(angle), np.sin(angle)])
        green = (rng.uniform(30, 70), rng.uniform(90, 150), rng.uniform(40, 80))
        cv2.line(room, root.astype(int).tolist(), tip.astype(int).tolist(), green, width // 50)
