"""Who shows a catalogue's object, where and how: takes drawn at random, the same for the same seed."""

from __future__ import annotations

import colorsys

import numpy as np

from jobs.studio.catalogue import Object3D
from jobs.studio.looks import Person
from jobs.studio.meshes import held_size_m, load_product
from jobs.studio.products import Colour, Product, make_product
from jobs.studio.scripts import ClipScript, GripName, Key, Take

_NUM_FRAMES = 150
_SKINS: tuple[Colour, ...] = (
    (0.96, 0.80, 0.71), (0.90, 0.72, 0.60), (0.82, 0.62, 0.48), (0.70, 0.50, 0.37), (0.55, 0.37, 0.26),
    (0.40, 0.26, 0.18), (0.28, 0.18, 0.13),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (0.06, 0.05, 0.05), (0.2, 0.12, 0.08), (0.35, 0.24, 0.15), (0.5, 0.28, 0.12), (0.75, 0.6, 0.35),
    (0.6, 0.58, 0.56),
)  # fmt: skip


def cast_object(item: Object3D, seed: int) -> ClipScript:
    """A clip in which somebody holds up an object."""
    rng = np.random.default_rng([seed, *item.key.encode()])
    longest = held_size_m(item.longest_cm / 100)
    share = 0.0 if longest < 0.12 else 0.3 if longest < 0.22 else 0.8
    grip: GripName = (
        "both" if rng.random() < share else ("right" if rng.random() < 0.55 else "left")
    )
    name = f"{item.key.replace('/', '-')}-{seed}"
    return ClipScript(name, (_take(item, grip, rng),))


def cast_empty(index: int, seed: int) -> ClipScript:
    """A clip in which somebody talks with empty hands."""
    rng = np.random.default_rng([seed, index])
    return ClipScript(f"empty-{index}-{seed}", (_take(None, "none", rng),))


def _take(item: Object3D | None, grip: GripName, rng: np.random.Generator) -> Take:
    person = _person(rng)
    return Take(
        _NUM_FRAMES,
        person,
        item,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        grip,
        _keys(grip, rng),
        room=int(rng.integers(10_000)),
        variant=int(rng.integers(10_000)),
        gestures=True,
        pitch_hz=float(105 + 100 * person.gender + rng.uniform(-10, 15)),
    )


def _person(rng: np.random.Generator) -> Person:
    return Person(
        gender=float(rng.random() < 0.5),
        height=float(rng.uniform(0.2, 0.85)),
        weight=float(rng.uniform(0.2, 0.85)),
        muscle=float(rng.uniform(0.3, 0.7)),
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
        shirt=_cloth_colour(rng),
        long_sleeves=bool(rng.random() < 0.5),
    )


def _cloth_colour(rng: np.random.Generator) -> Colour:
    """Mostly muted, from black to white."""
    hue, saturation, value = rng.random(), rng.beta(1.3, 2.5), rng.uniform(0.06, 0.92)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return red, green, blue


def _keys(grip: GripName, rng: np.random.Generator) -> tuple[Key, ...]:
    """A path of its own: up from below, shown, turned, moved about."""
    side = {"right": -1.0, "left": 1.0}.get(grip, 0.0)
    keys = []
    for frame in range(0, _NUM_FRAMES + 31, 30):
        x = side * rng.uniform(0.05, 0.17) if side else rng.normal(0, 0.03)
        y = rng.uniform(-0.16, 0.10) if frame else -0.17
        keys.append(
            Key(
                frame,
                float(x),
                float(y),
                float(rng.uniform(0.26, 0.34)),
                yaw_deg=float(rng.uniform(-32, 32) * (1 if side else 0.6)),
                roll_deg=float(rng.normal(0, 8)),
                pitch_deg=float(rng.normal(0, 7)),
            )
        )
    return tuple(keys)


def product_for(take: Take, seed: int) -> Product | None:
    """What is held in a take; a catalogue's object mostly faces the camera or turns its back to it."""
    if take.product is None:
        return None
    if isinstance(take.product, Object3D):
        rng = np.random.default_rng(seed)
        about = rng.choice([0.0, np.pi, rng.uniform(0, 2 * np.pi)], p=[0.6, 0.2, 0.2])
        return load_product(take.product, float(about + rng.normal(0, 0.25)))
    return make_product(take.product, take.base, take.accent, seed)
