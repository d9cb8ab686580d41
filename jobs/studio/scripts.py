"""What happens in each clip: people, products, grips, moves and planted defects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jobs.studio.catalogue import Object3D
from jobs.studio.looks import Person
from jobs.studio.products import Colour, ProductKind
from schemas.errors import ConfigError

GripName = Literal["right", "left", "both", "none"]
Framing = Literal["upper", "full"]


@dataclass(frozen=True, slots=True)
class Key:
    """Where the product is at a frame: metres from the chest (+x the holder's left), turns in degrees."""

    frame: int
    x_m: float
    y_m: float
    z_m: float = 0.30
    yaw_deg: float = 0.0
    roll_deg: float = 0.0
    pitch_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class Take:
    """One uncut piece: a person moves a product."""

    num_frames: int
    person: Person
    product: ProductKind | Object3D | None
    """A built-in form in these colours, an object of a catalogue, or nothing."""
    base: Colour
    accent: Colour
    grip: GripName
    keys: tuple[Key, ...]
    framing: Framing = "upper"
    put_down_frame: int | None = None
    """From here the product stands on the table and the hand goes away."""
    room: int = 0
    pitch_hz: float = 120.0
    variant: int = 0
    """Added to the seed, so that takes of one run differ."""
    gestures: bool = False
    """Hands that hold nothing open, close and point while the person talks."""

    @property
    def sides(self) -> tuple[str, ...]:
        """The hands that hold, of "L" and "R"."""
        return {"right": ("R",), "left": ("L",), "both": ("L", "R"), "none": ()}[self.grip]


@dataclass(frozen=True, slots=True)
class ClipScript:
    """One file: takes joined by hard cuts, then the planted defects."""

    name: str
    takes: tuple[Take, ...]
    frozen: tuple[int, int] | None = None
    """Frames [start, end) show the picture of ``start``."""
    speaks: bool = True

    @property
    def num_frames(self) -> int:
        """Length of the whole clip."""
        return sum(t.num_frames for t in self.takes)

    @property
    def cut_frames(self) -> tuple[int, ...]:
        """First frame after each cut."""
        ends, at = [], 0
        for take in self.takes[:-1]:
            at += take.num_frames
            ends.append(at)
        return tuple(ends)


MIRA = Person(
    gender=1.0,
    height=0.45,
    weight=0.4,
    skin=(0.87, 0.67, 0.56),
    hair=(0.2, 0.12, 0.08),
    shirt=(0.78, 0.8, 0.84),
)
OMAR = Person(
    gender=0.0,
    height=0.6,
    weight=0.55,
    skin=(0.62, 0.43, 0.32),
    hair=(0.06, 0.05, 0.05),
    shirt=(0.2, 0.42, 0.36),
    long_sleeves=True,
    muscle=0.6,
)
JUNE = Person(
    gender=1.0,
    height=0.3,
    weight=0.75,
    skin=(0.93, 0.76, 0.68),
    hair=(0.5, 0.28, 0.12),
    shirt=(0.55, 0.2, 0.28),
    long_sleeves=True,
)
THEO = Person(
    gender=0.0,
    height=0.8,
    weight=0.35,
    skin=(0.82, 0.62, 0.5),
    hair=(0.35, 0.24, 0.15),
    shirt=(0.3, 0.3, 0.33),
)

_SHOW = (
    Key(0, -0.14, -0.16, yaw_deg=12), Key(30, -0.10, 0.02, yaw_deg=-8), Key(62, -0.13, 0.06, yaw_deg=30),
    Key(95, -0.06, 0.0, yaw_deg=-30), Key(130, -0.15, 0.08, yaw_deg=8, roll_deg=10),
    Key(165, -0.09, -0.03, yaw_deg=-12, roll_deg=-8), Key(200, -0.12, 0.03, yaw_deg=10),
    Key(240, -0.10, -0.05, yaw_deg=0),
)  # fmt: skip


def _mirrored(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    return tuple(replace(k, x_m=-k.x_m, yaw_deg=-k.yaw_deg, roll_deg=-k.roll_deg) for k in keys)


def _centred(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    return tuple(replace(k, x_m=k.x_m * 0.3 + 0.02, yaw_deg=k.yaw_deg * 0.6) for k in keys)


_BOTTLE = Take(
    200, MIRA, "bottle", (0.86, 0.55, 0.12), (0.45, 0.12, 0.1), "right", _SHOW, pitch_hz=205.0
)
_BOX = Take(
    110,
    OMAR,
    "box",
    (0.12, 0.35, 0.62),
    (0.9, 0.75, 0.2),
    "left",
    _mirrored(_SHOW),
    room=1,
    pitch_hz=115.0,
)

SCRIPTS: dict[str, ClipScript] = {
    s.name: s
    for s in (
        ClipScript("clean", (_BOTTLE,)),
        ClipScript(
            "cut_and_freeze", (_BOX, replace(_BOTTLE, num_frames=120, room=2)), frozen=(135, 230)
        ),
        ClipScript(
            "box_left", (replace(_BOX, num_frames=160, person=THEO, room=3, pitch_hz=105.0),)
        ),
        ClipScript(
            "jar_both",
            (
                Take(
                    160,
                    JUNE,
                    "jar",
                    (0.9, 0.9, 0.86),
                    (0.25, 0.5, 0.3),
                    "both",
                    _centred(_SHOW),
                    room=4,
                    pitch_hz=215.0,
                ),
            ),
        ),
        ClipScript(
            "bag_both",
            (
                Take(
                    160,
                    OMAR,
                    "bag",
                    (0.75, 0.15, 0.12),
                    (0.95, 0.85, 0.3),
                    "both",
                    _centred(_SHOW),
                    room=5,
                    pitch_hz=112.0,
                ),
            ),
        ),
        ClipScript(
            "tube_right",
            (
                Take(
                    160,
                    JUNE,
                    "tube",
                    (0.92, 0.6, 0.66),
                    (0.35, 0.2, 0.45),
                    "right",
                    _SHOW,
                    room=6,
                    pitch_hz=220.0,
                ),
            ),
        ),
        ClipScript(
            "card_right",
            (
                Take(
                    160,
                    THEO,
                    "card",
                    (0.15, 0.55, 0.45),
                    (0.9, 0.9, 0.8),
                    "right",
                    _SHOW,
                    room=7,
                    pitch_hz=108.0,
                ),
            ),
        ),
        ClipScript("put_down", (replace(_BOTTLE, num_frames=200, room=8, put_down_frame=120),)),
        ClipScript("full_body", (replace(_BOX, num_frames=160, framing="full", room=9),)),
        ClipScript("silent", (replace(_BOTTLE, num_frames=120, room=10),), speaks=False),
    )
}
DEFAULT_CLIPS = ("clean", "cut_and_freeze")


def find_scripts(names: list[str] | None) -> list[ClipScript]:
    """Scripts by name; None gives the default two, ``all`` gives all.

    Raises:
        ConfigError: Unknown name.
    """
    wanted = list(names or DEFAULT_CLIPS)
    if wanted == ["all"]:
        wanted = list(SCRIPTS)
    unknown = [n for n in wanted if n not in SCRIPTS]
    if unknown:
        raise ConfigError(f"no studio clip {unknown}: expected some of {sorted(SCRIPTS)}, or all")
    return [SCRIPTS[n] for n in wanted]
