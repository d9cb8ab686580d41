"""What made-up pictures are made of: people, objects with alpha, grounds; and how one is laid on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.kit.arrays import Array, Image
from stages.product.held_crop import CROP_PX
from training.held_product.people import VALIDATION

_MIN_SEEN_SHARE = 0.6
"""Of a hand's landmarks in the picture."""


@dataclass(frozen=True)
class Person:
    """One frame of a person with empty hands."""

    frame: Image
    matte: Image
    hands: tuple[Array, ...]
    """(21,2) pixels each."""


@dataclass(frozen=True)
class Rendered:
    """One frame of a rendered person, with the truth."""

    jpeg: bytes
    shows: bytes
    """PNG (H,W) of what each pixel shows: ``jobs.studio.drawing.CODES``."""
    hands: tuple[Array, ...]
    """(21,2) pixels each; those in the picture."""
    holding: tuple[int, ...]
    """Which of them hold the product."""


@dataclass(frozen=True)
class Material:
    """All that pictures are made of; sprites, grounds and rendered frames are kept compressed."""

    people: Sequence[Person]
    rendered: Sequence[Rendered]
    sprites: Sequence[bytes]
    furniture: Sequence[bytes]
    grounds: Sequence[bytes]


def load_material(work: Path, grounds: Sequence[Path], *, validation: bool) -> Material:
    """Read what ``people``, ``rendered`` and ``sprites`` wrote.

    Objects, people and grounds of the two splits are disjoint.
    """
    people = []
    for path in sorted((work / "people").glob("*.npz")):
        if (path.stem in VALIDATION) == validation:
            data = np.load(path)
            for frame, matte, hands in zip(
                data["frames"], data["mattes"], data["hands"], strict=True
            ):
                seen = tuple(h for h in hands if np.isfinite(h).all())
                people.append(Person(frame, matte, seen))
    split = "validation" if validation else "training"
    folder = work / "sprites" / split
    pictures = [p for i, p in enumerate(sorted(grounds)) if (i % 8 == 0) == validation]
    return Material(
        people,
        [one for p in sorted((work / "rendered" / split).glob("*.npz")) if (one := _rendered(p))],
        [p.read_bytes() for p in sorted(folder.glob("*-h*.png"))],
        [p.read_bytes() for p in sorted(folder.glob("*-f*.png"))],
        [_small(p) for p in pictures],
    )


def _rendered(path: Path) -> Rendered | None:
    """What ``rendered`` wrote of a frame; None where no hand is in the picture."""
    shows = path.with_suffix(".png").read_bytes()
    with np.load(path) as packed:
        hands, holds = packed["hands_px"], packed["holds"]
    height, width = decoded(shows, cv2.IMREAD_GRAYSCALE).shape
    inside = ((hands > 0) & (hands < (width, height))).all(axis=2).mean(axis=1) > _MIN_SEEN_SHARE
    if not inside.any():
        return None
    return Rendered(
        path.with_suffix(".jpg").read_bytes(),
        shows,
        tuple(hands[inside]),
        tuple(np.flatnonzero(holds[inside]).tolist()),
    )


def decoded(data: bytes, kind: int = cv2.IMREAD_COLOR) -> Image:
    """A picture that was kept compressed: RGB (H,W,3), RGBA (H,W,4) or grey (H,W) by ``kind``."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
    assert image is not None, "kept by us"
    if image.ndim == 3:
        code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        image = cv2.cvtColor(image, code)
    return np.asarray(image, np.uint8)


def _small(path: Path) -> bytes:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is no picture")
    scale = 560 / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image)[1])


def shifted(picture: Image, where: Array, hue: float, colour: float, light: float) -> Image:
    """Other hue, saturation and brightness where ``where`` is 1."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + hue) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * colour, 0, 255)
    hsv[..., 2] = np.clip(hsv[..., 2] * light, 0, 255)
    other = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return blend(picture, other, where)


def blend(under: Image, over: Image, alpha: Array) -> Image:
    """``over`` on ``under`` by alpha (N,N)."""
    a = alpha[..., None]
    return np.asarray(over * a + under * (1 - a), np.uint8)


def ground(material: Material, random: np.random.Generator) -> Image:
    """A square of a wallpaper (N,N,3)."""
    image = decoded(material.grounds[int(random.integers(len(material.grounds)))])
    side = int(min(image.shape[:2]) * random.uniform(0.3, 1))
    y = int(random.integers(image.shape[0] - side + 1))
    x = int(random.integers(image.shape[1] - side + 1))
    return np.asarray(
        cv2.resize(
            image[y : y + side, x : x + side], (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA
        )
    )


def sprite(material: Material, random: np.random.Generator) -> tuple[Image, Array]:
    """An object (224,224,3), perhaps in other colours or with a label, and its alpha."""
    if random.random() < 0.1:
        rgb, alpha = _invented(material, random)
        return (_glossy(rgb, alpha, random) if random.random() < 0.25 else rgb), alpha
    pool = (
        material.sprites if random.random() < 0.75 or not material.furniture else material.furniture
    )
    rgba = decoded(pool[int(random.integers(len(pool)))], cv2.IMREAD_UNCHANGED)
    rgb, alpha = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].astype(np.float32) / 255
    if random.random() < 0.3:  # bigger-scaled things of the same kind are slimmer or flatter
        rgb, alpha = _stretched(rgb, alpha, random)
    everywhere = np.ones_like(alpha)
    chance = random.random()
    if chance < 0.4:
        rgb = shifted(
            rgb,
            everywhere,
            random.uniform(0, 180),
            random.uniform(0.2, 2.2),
            random.uniform(0.4, 1.3),
        )
    elif chance < 0.55:  # black, white, skin-coloured or metal things
        tint = np.array(
            [(20, 20, 22), (240, 238, 235), (215, 165, 135), (150, 110, 85), (175, 175, 180)]
        )
        shade = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
        shade = shade / max(float(shade[alpha > 0.5].mean()), 1.0)
        rgb = np.clip(
            tint[int(random.integers(len(tint)))] * shade ** random.uniform(0.4, 1.2), 0, 255
        ).astype(np.uint8)
    if random.random() < 0.4:
        rgb = _labelled(rgb, alpha, material, random)
    if random.random() < 0.25:
        rgb = _glossy(rgb, alpha, random)
    return rgb, alpha


def _invented(material: Material, random: np.random.Generator) -> tuple[Image, Array]:
    """A thing of no catalogue: a rounded, bulging or garment-like outline with one colour or a print, lit from a side."""
    size, corners = 224, int(random.integers(3, 9))
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radius = random.uniform(0.45, 1, corners) * 95
    wide, high = random.uniform(0.4, 1, 2)
    points = np.stack([wide * radius * np.cos(angles), high * radius * np.sin(angles)], axis=1)
    if random.random() < 0.5:  # mirrored about its upright axis, as most products are
        points = np.concatenate([np.abs(points), np.abs(points)[::-1] * (-1, 1)])
        points[:, 1] = np.repeat(np.sort(random.uniform(-95 * high, 95 * high, corners)), 1)[
            np.r_[0:corners, corners - 1 : -1 : -1]
        ]
    alpha = np.zeros((size, size), np.float32)
    cv2.fillPoly(alpha, [(points + size / 2).astype(np.int32)], 1.0)
    cv2.rectangle(alpha, (size // 2 - 8, size // 2 - 8), (size // 2 + 8, size // 2 + 8), 1.0, -1)
    soft = cv2.GaussianBlur(alpha, (0, 0), random.uniform(1, 9))  # rounds the corners
    if (soft > 0.5).mean() > 0.01:  # thin things would melt away
        alpha = np.clip((soft - 0.5) * 6 + 0.5, 0, 1)
    rgb = np.full((size, size, 3), random.integers(10, 250, 3), np.uint8)
    if random.random() < 0.6:
        print_ = cv2.resize(ground(material, random), (size, size))
        rgb = blend(rgb, print_, np.full_like(alpha, random.uniform(0.3, 1)))
    slope = np.linspace(random.uniform(0.5, 1), random.uniform(0.9, 1.4), size, dtype=np.float32)
    light = slope[None, :, None] if random.random() < 0.5 else slope[:, None, None]
    folds = cv2.GaussianBlur(random.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 9)
    light = light * (1 + random.uniform(0, 2.5) * folds[..., None])
    return np.clip(rgb * light, 0, 255).astype(np.uint8), alpha


def _stretched(rgb: Image, alpha: Array, random: np.random.Generator) -> tuple[Image, Array]:
    size = rgb.shape[0]
    fx, fy = (
        (random.uniform(0.45, 1), 1.0) if random.random() < 0.5 else (1.0, random.uniform(0.45, 1))
    )
    matrix = np.array([[fx, 0, size / 2 * (1 - fx)], [0, fy, size / 2 * (1 - fy)]], np.float32)
    return (
        np.asarray(cv2.warpAffine(rgb, matrix, (size, size))),
        np.asarray(cv2.warpAffine(alpha, matrix, (size, size))),
    )


def _labelled(rgb: Image, alpha: Array, material: Material, random: np.random.Generator) -> Image:
    """A printed label, or a print all over."""
    size = rgb.shape[0]
    print_ = cv2.resize(ground(material, random), (size, size))
    if random.random() < 0.4:  # words
        words = "".join(random.choice(list("ABCDEFGHKLMNOPRSTUVXYZ  "), 7))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        scale = random.uniform(0.7, 2.0)
        for line in range(int(random.integers(1, 4))):
            at = (int(random.integers(20, 90)), int(70 + 45 * line))
            cv2.putText(
                print_, words, at, cv2.FONT_HERSHEY_DUPLEX, scale, colour, int(1 + 2 * scale)
            )
    where = np.ones((size, size), np.float32)
    if random.random() < 0.6:
        rows, cols = np.nonzero(alpha > 0.5)
        x, y = float(np.median(cols)), float(np.median(rows))
        w, h = np.ptp(cols) * random.uniform(0.2, 0.5), np.ptp(rows) * random.uniform(0.15, 0.45)
        where[:] = 0
        cv2.rectangle(where, (int(x - w), int(y - h)), (int(x + w), int(y + h)), 1, -1)
    shade = (
        cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (0, 0), 5).astype(np.float32) / 150
    )
    lit = np.clip(print_ * np.clip(shade, 0.3, 1.4)[..., None], 0, 255).astype(np.uint8)
    return blend(rgb, lit, where)


def _glossy(rgb: Image, alpha: Array, random: np.random.Generator) -> Image:
    """Streaks of light."""
    light = np.zeros(alpha.shape, np.float32)
    for _ in range(int(random.integers(1, 4))):
        a, b = random.integers(0, alpha.shape[0], (2, 2))
        cv2.line(
            light, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1, int(random.integers(2, 12))
        )
    light = cv2.GaussianBlur(light, (0, 0), random.uniform(1, 5)) * random.uniform(0.3, 0.9)
    return blend(rgb, np.full_like(rgb, 255), np.clip(light, 0, 1))


def placed(
    rgb: Image, alpha: Array, centre: Array, size_px: float, angle_deg: float
) -> tuple[Image, Array]:
    """An object moved, scaled and turned into the square: picture and alpha."""
    rows, cols = np.nonzero(alpha > 0.5)
    box = (cols.min(), rows.min(), cols.max(), rows.max())
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    scale = size_px / max(box[2] - box[0] + 1, box[3] - box[1] + 1)
    matrix = cv2.getRotationMatrix2D(middle, angle_deg, scale)
    matrix[:, 2] += centre - np.array(middle)
    if scale < 0.5:
        rgb, alpha = (
            cv2.GaussianBlur(rgb, (0, 0), 0.35 / scale),
            cv2.GaussianBlur(alpha, (0, 0), 0.35 / scale),
        )
    size = (CROP_PX, CROP_PX)
    return np.asarray(
        cv2.warpAffine(rgb, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    ), np.asarray(cv2.warpAffine(alpha, matrix, size))


def paste(
    picture: Image,
    rgb: Image,
    alpha: Array,
    centre: Array,
    size_px: float,
    angle_deg: float,
) -> tuple[Image, Array]:
    """An object on a picture; also its alpha there."""
    over, a = placed(rgb, alpha, centre, size_px, angle_deg)
    return blend(picture, over, a), a
