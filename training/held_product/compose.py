"""Made-up pictures of hands that hold something: a real person, another ground, an object with fingers in front.

Everything is composed at the size of the network's crop. Pictures and masks are N x N; coordinates are pixels of
the crop after ``_Crop``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from jobs.studio.drawing import CODES
from stages.kit.arrays import Array, Image
from stages.product.held_crop import CROP_PX, Crop, crop_around, draw_hands, hand_size_px
from stages.product.held_looks import group_hands
from training.held_product.material import (
    Material,
    Person,
    blend,
    decoded,
    ground,
    paste,
    placed,
    shifted,
    sprite,
)

_FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
_IN_FRONT = ((0,), (1, 2, 3, 4), (0, 1), (1, 2), (0, 1, 2, 3, 4), (2, 3, 4))
_GRASP = (4, 5, 8, 9, 12)


@dataclass
class Sample:
    """One made-up picture and its truth."""

    picture: Image
    """(N,N,3) RGB."""
    hands: Array
    """(N,N) 0..1: the hands' landmarks, drawn."""
    before: Array
    """(N,N) 0..1: the mask that an earlier look gave, or zeros."""
    mask: Array
    """(N,N) 0..1: the product."""
    is_held: bool
    notes: dict[str, Any] = field(default_factory=dict)


_RENDERED_SHARE = 0.6
_BODY, _PRODUCT = (CODES["body"],), (CODES["product"],)
_SKIN, _SOLID = (
    tuple(CODES[name] for name in ("left_hand", "right_hand", "face")),
    tuple(CODES.values()),
)


def compose(material: Material, random: np.random.Generator) -> Sample:
    """One picture: an object laid into a real person's hand, or a rendered person who holds one or nothing."""
    if material.rendered and random.random() < _RENDERED_SHARE:
        return _of_rendered(material, random)
    return _of_person(material, random)


def _of_rendered(material: Material, random: np.random.Generator) -> Sample:
    """A square of a rendered frame, in another place and dress: fingers and shades are as they should be."""
    one = material.rendered[int(random.integers(len(material.rendered)))]
    frame, shows = decoded(one.jpeg), decoded(one.shows, cv2.IMREAD_GRAYSCALE)
    hands = list(one.hands)
    if random.random() < 0.5:
        frame, shows = frame[:, ::-1], shows[:, ::-1]
        hands = _flipped(hands, shows.shape[1])
    shown = _grouped(hands, one.holding, random)
    is_wide = random.random() < 0.25
    crop = _jittered(crop_around(shown), random, 1.7 if is_wide else 1.0)
    picture = crop.warp(np.ascontiguousarray(frame))
    mask, body, skin, all_of_it = (
        crop.warp(np.isin(shows, labels).astype(np.float32), outside=0)
        for labels in (_PRODUCT, _BODY, _SKIN, _SOLID)
    )
    hands = [crop.apply(h) for h in hands]
    if random.random() < 0.7:
        picture = _dressed(picture, body, skin, material, random)
        for _ in range(int(random.integers(0, 4))):
            picture = _panel(picture, body, skin, hands, material, random)
    if random.random() < 0.7:
        picture = _on_ground(picture, all_of_it, material, random)
    picture = _roughened(picture, random)
    return _finished(picture, mask, hands, random, is_wide=is_wide)


def _grouped(
    hands: Sequence[Array], holding: Sequence[int], random: np.random.Generator
) -> list[Array]:
    """The hands that a square is around: both where they are close, else mostly one that holds."""
    if group_hands(hands) == [(0, 1)]:
        return list(hands)
    if holding and random.random() < 0.8:
        return [hands[holding[int(random.integers(len(holding)))]]]
    return [hands[int(random.integers(len(hands)))]]


def _of_person(material: Material, random: np.random.Generator) -> Sample:
    person = _mirrored(material.people[int(random.integers(len(material.people)))], random)
    used, shown = _choose_hands(person, random)
    is_wide = random.random() < 0.25  # a second look that steps back from what filled the first
    crop = _jittered(crop_around(shown), random, 1.7 if is_wide else 1.0)
    hands = [crop.apply(h) for h in person.hands]
    picture = crop.warp(person.frame)
    matte = crop.warp(person.matte).astype(np.float32) / 255
    skin = _skin(picture)
    is_plain = random.random() < 0.06  # the clip as it is: nothing is held
    if not is_plain:
        picture = _cleaned(picture, random)
        picture = _dressed(picture, matte, skin, material, random)
        for _ in range(int(random.integers(0, 4))):
            picture = _panel(picture, matte, skin, hands, material, random)
        picture = _on_ground(picture, matte, material, random)
        if random.random() < 0.35:
            picture = _badge(picture, hands, material, random)
    mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    is_held = not is_plain and random.random() < 0.72
    if is_held:
        held = [hands[i] for i in used]
        picture, mask = _put_in_hand(picture, held, skin, material, random)
        if not is_plain and random.random() < 0.12:  # something else passes in front
            picture, over = paste(
                picture, *sprite(material, random), _anywhere(random), random.uniform(20, 60), 0.0
            )
            mask = mask * (1 - over)
    return _finished(picture, mask, hands, random, is_wide=is_wide)


def _finished(
    picture: Image,
    mask: Array,
    hands: Sequence[Array],
    random: np.random.Generator,
    *,
    is_wide: bool,
) -> Sample:
    """The camera's part, landmarks as a detector would give them, and what an earlier look may have found."""
    is_held = bool((mask > 0.5).mean() > 0.002)
    if not is_held:
        mask = np.zeros_like(mask)
    drawn = draw_hands([_shaken(h, random) for h in hands if random.random() < 0.92])
    before = _earlier(mask, random)
    if is_wide:
        before = _cut_off(before, hands, random)
    elif is_held and random.random() < 0.4:  # the second look: closer, around what was found
        picture, drawn, before, mask = _closer(picture, drawn, before, mask, random)
    return Sample(_camera(picture, random), drawn, before, np.clip(mask, 0, 1), is_held)


def _mirrored(person: Person, random: np.random.Generator) -> Person:
    if random.random() < 0.5:
        return person
    hands = tuple(_flipped(person.hands, person.frame.shape[1]))
    return Person(person.frame[:, ::-1], person.matte[:, ::-1], hands)


def _flipped(hands: Sequence[Array], width_px: int) -> list[Array]:
    """Landmarks (21,2) of a picture of this width in its mirror image."""
    return [np.stack([width_px - 1 - h[:, 0], h[:, 1]], axis=1) for h in hands]


def _choose_hands(person: Person, random: np.random.Generator) -> tuple[list[int], list[Array]]:
    """Which hands hold, and which the crop is around: both where they are close, else one."""
    hands = person.hands
    if group_hands(hands) == [(0, 1)]:
        used = [0, 1] if random.random() < 0.55 else [int(random.integers(2))]
        return used, list(hands)
    one = int(random.integers(len(hands)))
    return [one], [hands[one]]


def _jittered(crop: Crop, random: np.random.Generator, wider: float) -> Crop:
    side = crop.side_px * wider * random.uniform(0.72, 1.35)
    x, y = random.normal(0, 0.09 * side, 2)
    return Crop(crop.x_px + float(x), crop.y_px + float(y), side)


def _skin(picture: Image) -> Array:
    ycc = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    red, blue = ycc[..., 1], ycc[..., 2]
    found = (red > 135) & (red < 180) & (blue > 85) & (blue < 135)
    return np.asarray(cv2.GaussianBlur(found.astype(np.float32), (5, 5), 0))


def _cleaned(picture: Image, random: np.random.Generator) -> Image:
    """As a better camera would see it: else smooth and sharp would mean "not the person"."""
    chance = random.random()
    if chance < 0.3:
        picture = np.asarray(cv2.bilateralFilter(picture, 7, random.uniform(15, 60), 4))
    elif chance < 0.5:
        picture = np.asarray(cv2.medianBlur(picture, 5))
    if random.random() < 0.5:
        soft = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.8, 2))
        amount = random.uniform(0.3, 1.5)
        picture = np.asarray(cv2.addWeighted(picture, 1 + amount, soft, -amount, 0))
    return picture


def _roughened(rgb: Image, random: np.random.Generator) -> Image:
    """An object as bad a camera would see it as saw the person."""
    if random.random() < 0.5:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), random.uniform(0.4, 1.8)))
    if random.random() < 0.5:
        rough = random.normal(0, random.uniform(1, 9), rgb.shape[:2]).astype(np.float32)
        rough = cv2.GaussianBlur(rough, (0, 0), random.uniform(0.5, 1.5)) * 2
        rgb = np.clip(rgb + rough[..., None], 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 70))]
        rgb = np.asarray(cv2.imdecode(cv2.imencode(".jpg", rgb, quality)[1], cv2.IMREAD_COLOR))
    return rgb


def _dressed(
    picture: Image,
    matte: Array,
    skin: Array,
    material: Material,
    random: np.random.Generator,
) -> Image:
    """Other clothes, another skin."""
    clothes = np.clip(matte - 1.5 * skin, 0, 1)
    if random.random() < 0.75:
        picture = shifted(
            picture,
            clothes,
            random.uniform(-90, 90),
            random.uniform(0.1, 1.6),
            random.uniform(0.45, 1.9),
        )
    if (
        random.random() < 0.15
    ):  # plain white, black or grey: the whole range of clothes against products
        flat = np.full_like(picture, random.choice([15, 40, 128, 215, 245]))
        picture = blend(picture, flat, clothes * random.uniform(0.5, 0.85))
    if random.random() < 0.25:
        picture = blend(picture, ground(material, random), clothes * random.uniform(0.4, 0.8))
    if random.random() < 0.5:
        picture = _folded(picture, clothes, random)
    if random.random() < 0.6:
        skins = np.clip(matte * skin * 1.5, 0, 1)
        picture = shifted(
            picture,
            skins,
            random.uniform(-6, 6),
            random.uniform(0.7, 1.3),
            random.uniform(0.35, 1.25),
        )
    return picture


def _folded(picture: Image, clothes: Array, random: np.random.Generator) -> Image:
    """Folds of loose clothes: soft light and dark strokes, many of them in one direction."""
    light = np.zeros(clothes.shape, np.float32)
    main = random.uniform(0, np.pi)
    for _ in range(int(random.integers(6, 40))):
        turn = main + random.normal(0, 0.5)
        start, length = _anywhere(random), random.uniform(15, 90)
        along = np.array([np.cos(turn), np.sin(turn)])
        bend = random.normal(0, 0.15) * length * along[::-1] * (-1, 1)
        stroke = np.array([start, start + 0.5 * length * along + bend, start + length * along])
        mine = np.zeros_like(light)
        cv2.polylines(mine, [stroke.astype(np.int32)], False, 1.0, int(random.integers(1, 6)))
        light += random.choice([-1.0, 1.0]) * mine
    soft = cv2.GaussianBlur(light, (0, 0), random.uniform(1.2, 4))
    soft *= random.uniform(0.15, 0.5) / max(float(np.abs(soft).max()), 1e-3)
    return np.clip(picture * (1 + (soft * clothes)[..., None]), 0, 255).astype(np.uint8)


def _panel(
    picture: Image,
    matte: Array,
    skin: Array,
    hands: Sequence[Array],
    material: Material,
    random: np.random.Generator,
) -> Image:
    """An edge on the body that is no product's: yokes, collars, open jackets, cuffs, watches, strands of hair."""
    where = _band(random)
    clothes = np.clip(matte - 1.5 * skin, 0, 1)
    chance = random.random()
    if chance < 0.65:
        where *= clothes
    elif chance < 0.85:  # hair falls over clothes and face, not over hands
        free = 1 - cv2.dilate(draw_hands(hands), np.ones((9, 9), np.uint8))
        where *= matte * free
    else:  # sleeves, gloves, tattoos, straps: on skin
        where *= matte * np.clip(2 * skin, 0, 1)
    where = cv2.GaussianBlur(where, (3, 3), 0)
    flat = np.full_like(picture, random.integers(5, 250, 3))
    if chance >= 0.65:
        flat[:] = np.array([(25, 18, 15), (60, 40, 25), (150, 110, 60), (40, 40, 45)])[
            int(random.integers(4))
        ]
    other = flat if random.random() < 0.5 else ground(material, random)
    shade = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shade = np.clip(shade / max(float(np.median(shade)), 20.0), 0.4, 1.6)[..., None]
    lit = np.clip(other * shade, 0, 255).astype(np.uint8)
    return blend(picture, lit, where * random.uniform(0.6, 1))


def _band(random: np.random.Generator) -> Array:
    """(h,w) f32, 1 in a bent band of any width and direction that runs through the picture."""
    where = np.zeros((CROP_PX, CROP_PX), np.float32)
    start = _anywhere(random)
    turn = random.uniform(0, 2 * np.pi)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    width = CROP_PX * float(np.exp(random.uniform(np.log(0.04), np.log(1.5))))
    bend = random.uniform(-0.4, 0.4) * width
    corners = [
        start - 300 * along,
        start + bend * across,
        start + 300 * along,
        start + 300 * along + width * across,
        start + (width - bend) * across,
        start - 300 * along + width * across,
    ]
    cv2.fillPoly(where, [np.array(corners, np.int32)], 1.0)
    return where


def _on_ground(
    picture: Image, matte: Array, material: Material, random: np.random.Generator
) -> Image:
    """Another place, with things on shelves and tables."""
    if random.random() < 0.2:
        return picture
    plain = np.full_like(picture, random.integers(30, 256, 3))  # a studio wall
    room = plain if random.random() < 0.2 else ground(material, random)
    for _ in range(int(random.integers(0, 5))):
        size = random.uniform(25, 110)
        room, _ = paste(
            room, *sprite(material, random), _anywhere(random), size, random.uniform(-20, 20)
        )
    if random.random() < 0.5:
        room = cv2.GaussianBlur(room, (0, 0), random.uniform(0.5, 4))
    return blend(room, picture, cv2.GaussianBlur(matte, (3, 3), 0))


def _badge(
    picture: Image, hands: Sequence[Array], material: Material, random: np.random.Generator
) -> Image:
    """A thing on the body or in front of it that no hand touches, or that lies on a table below."""
    place = _anywhere(random)
    size = random.uniform(15, 70)
    if min(float(np.linalg.norm(h - place, axis=1).min()) for h in hands) < 0.75 * size + 8:
        return picture
    return paste(picture, *sprite(material, random), place, size, random.uniform(-15, 15))[0]


def _anywhere(random: np.random.Generator) -> Array:
    return random.uniform(0, CROP_PX, 2).astype(np.float32)


def _put_in_hand(
    picture: Image,
    held: Sequence[Array],
    skin: Array,
    material: Material,
    random: np.random.Generator,
) -> tuple[Image, Array]:
    """An object at the grasp, behind the fingers that close around it."""
    size = max(map(hand_size_px, held))
    grasps = [h[list(_GRASP)].mean(axis=0) for h in held]
    if len(held) == 2:
        apart = float(np.linalg.norm(grasps[0] - grasps[1]))
        centre = np.mean(grasps, axis=0) + random.normal(0, 0.15 * size, 2)
        length = max(apart * random.uniform(0.8, 1.5), 0.8 * size)
        angle = random.uniform(-20, 20)
    else:
        length = size * float(np.exp(random.uniform(np.log(0.45), np.log(4.2))))
        angle = random.uniform(-35, 35)
        away = random.uniform(0, 2 * np.pi)
        if random.random() < 0.2:  # hangs from the hand: bags, hangers, things held by a handle
            away = np.pi / 2 + random.normal(0, 0.25)
        reach = length * random.uniform(0, 0.42)
        centre = grasps[0] + reach * np.array([np.cos(away), np.sin(away)])
    rgb, alpha = placed(*sprite(material, random), np.asarray(centre, np.float32), length, angle)
    rgb = _roughened(rgb, random)
    front = _in_front(held, skin, random)
    picture = _shaded(picture, alpha, random)
    seen = alpha * (1 - front)
    if random.random() < 0.5:  # fingers throw a shadow on what they hold
        close = cv2.GaussianBlur(front, (0, 0), random.uniform(1.5, 4)) * random.uniform(0.2, 0.6)
        rgb = np.asarray(rgb * (1 - close[..., None]), np.uint8)
    strength = np.ones_like(alpha)
    if random.random() < 0.12:  # glass: the ground shows through, the outline less
        rim = alpha - cv2.erode(alpha, np.ones((5, 5), np.uint8))
        strength = np.clip(random.uniform(0.15, 0.5) + cv2.GaussianBlur(rim, (3, 3), 0) * 0.7, 0, 1)
    return blend(picture, rgb, seen * strength), seen


def _in_front(held: Sequence[Array], skin: Array, random: np.random.Generator) -> Array:
    """(N,N) 0..1: pixels of fingers, or of whole hands, that are before the object."""
    front = np.zeros((CROP_PX, CROP_PX), np.float32)
    solid = np.clip(2 * skin, 0, 1)
    for hand in held:
        chance = random.random()
        if chance < 0.35:
            mine = draw_hands([hand])
        elif chance < 0.85:
            mine = np.zeros_like(front)
            fingers = _IN_FRONT[int(random.integers(len(_IN_FRONT)))]
            for k in fingers:
                line = hand[list(_FINGERS[k])].astype(np.int32)
                cv2.polylines(mine, [line], False, 1.0, max(2, round(0.14 * hand_size_px(hand))))
            mine = cv2.GaussianBlur(mine, (3, 3), 0)
        else:
            continue
        front = np.maximum(front, np.minimum(mine, solid))
    return front


def _shaded(picture: Image, alpha: Array, random: np.random.Generator) -> Image:
    """The object's shadow on what is behind it."""
    if random.random() < 0.5:
        return picture
    shift = np.array([[1, 0, random.uniform(-6, 6)], [0, 1, random.uniform(0, 8)]], np.float32)
    shadow = cv2.warpAffine(alpha, shift, (CROP_PX, CROP_PX))
    shadow = cv2.GaussianBlur(shadow, (0, 0), random.uniform(2, 7)) * random.uniform(0.1, 0.45)
    return np.asarray(picture * (1 - shadow[..., None]), np.uint8)


def _shaken(hand: Array, random: np.random.Generator) -> Array:
    return np.asarray(hand + random.normal(0, 0.02 * hand_size_px(hand), hand.shape), np.float32)


def _earlier(mask: Array, random: np.random.Generator) -> Array:
    """What an earlier look may have found: nothing, nearly the truth, or something else."""
    chance = random.random()
    if chance < 0.45:
        return np.zeros_like(mask)
    width = int(random.integers(1, 9))
    kernel = np.ones((width, width), np.uint8)
    change = cv2.dilate if random.random() < 0.5 else cv2.erode
    shift = np.array([[1, 0, random.normal(0, 5)], [0, 1, random.normal(0, 5)]], np.float32)
    found = cv2.warpAffine(change(mask, kernel), shift, mask.shape[::-1])
    if random.random() < 0.4:  # a part is missing
        centre = tuple(int(v) for v in _anywhere(random))
        cv2.circle(found, centre, int(random.integers(15, 60)), 0, -1)
    if random.random() < 0.3:  # a part is too much
        centre = tuple(int(v) for v in _anywhere(random))
        cv2.circle(found, centre, int(random.integers(8, 40)), 1, -1)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), random.uniform(0.5, 2.5)))


def _cut_off(before: Array, hands: Sequence[Array], random: np.random.Generator) -> Array:
    """What a look at a closer square would have given: nothing beyond its edge."""
    x, y = hands[0].mean(axis=0) + random.normal(0, 8, 2)
    half = CROP_PX * random.uniform(0.25, 0.42)
    inside = np.zeros_like(before)
    corners = (int(x - half), int(y - half)), (int(x + half), int(y + half))
    cv2.rectangle(inside, *corners, 1, -1)
    return np.asarray(before * inside)


def _closer(
    picture: Image,
    drawn: Array,
    before: Array,
    mask: Array,
    random: np.random.Generator,
) -> tuple[Image, Array, Array, Array]:
    rows, cols = np.nonzero(mask > 0.5)
    extent = float(max(int(np.ptp(rows)), int(np.ptp(cols)), 24))
    side = float(np.clip(extent * random.uniform(1.4, 2.4), 60, CROP_PX))
    x, y = np.mean([cols.min(), cols.max()]), np.mean([rows.min(), rows.max()])
    crop = Crop(
        float(x + random.normal(0, 0.06 * side)), float(y + random.normal(0, 0.06 * side)), side
    )
    return crop.warp(picture), crop.warp(drawn), crop.warp(before), crop.warp(mask, outside=0)


def _camera(picture: Image, random: np.random.Generator) -> Image:
    """Light, white balance, focus, motion, noise, compression."""
    x = picture.astype(np.float32) * random.uniform(0.6, 1.35) + random.uniform(-25, 25)
    x *= random.uniform(0.87, 1.13, 3).astype(np.float32)
    chance = random.random()
    if chance < 0.45:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.4, 2.0))
    elif chance < 0.8:  # product videos are sharp, and sharpened
        soft = cv2.GaussianBlur(x, (0, 0), random.uniform(0.7, 1.8))
        x = x + random.uniform(0.3, 2.0) * (x - soft)
    if random.random() < 0.12:
        length = int(random.integers(3, 10))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D(
            (length / 2 - 0.5, length / 2 - 0.5), random.uniform(0, 180), 1
        )
        x = cv2.filter2D(x, -1, cv2.warpAffine(kernel, turn, (length, length)))
    x = x + random.normal(0, random.uniform(0, 7), (*x.shape[:2], 1)).astype(np.float32)
    out = np.clip(x, 0, 255).astype(np.uint8)
    if random.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 95))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return np.asarray(out)
