"""Textured 3D objects of Debian's sweethome3d-furniture: which are used, and under which licence."""

from __future__ import annotations

import difflib
import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError

FOLDER = Path("/usr/share/sweethome3d/furniture")
_MAX_MODEL_BYTES = 3_000_000
_MAX_LIST_BYTES = 8_000_000
_LIST = "PluginFurnitureCatalog.properties"
_HELD_CM = 60.0
"""What is no longer than this is a thing that people hold up."""
_NOT_HELD = (
    "door", "window", "car", "fence", "rail", "building", "stair", "male", "female", "girl", "boy", "man",
    "woman", "mannequin", "person", "house", "truck", "wall", "socket", "roof",
)  # fmt: skip
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Object3D:
    """One model of a catalogue."""

    catalogue: Path
    model: str
    """Path of the .obj inside the catalogue."""
    name: str
    creator: str
    licence: str
    longest_cm: float
    turn: tuple[float, ...] = _UPRIGHT
    """Rows of the rotation (3,3) that sets the model upright."""

    @property
    def key(self) -> str:
        """What no other object is called: the catalogue and the model's file."""
        return f"{self.catalogue.stem}/{Path(self.model).stem}"

    @property
    def is_hand_sized(self) -> bool:
        """Whether people hold such a thing up."""
        return self.longest_cm <= _HELD_CM

    @property
    def is_validation(self) -> bool:
        """One object in eight is never trained with."""
        digest = hashlib.sha256(f"{self.catalogue.stem}/{self.model}".encode()).digest()
        return digest[0] % 8 == 0


def find_objects(folder: Path = FOLDER) -> Iterator[Object3D]:
    """All usable objects, catalogue by catalogue.

    Raises:
        ConfigError: The Debian package is not installed, or a catalogue is damaged.
    """
    catalogues = sorted(folder.glob("*.sh3f"))
    if not catalogues:
        raise ConfigError(
            f"no catalogue (*.sh3f) in {folder}: apt install sweethome3d-furniture (Debian, Ubuntu), "
            "or say where its files are (--catalogue DIR)"
        )
    for path in catalogues:
        yield from _of_catalogue(path)


def pick_objects(objects: Sequence[Object3D], wanted: Sequence[str]) -> list[Object3D]:
    """Objects by key (``Scopia/teapot``) or by name; upper and lower case are the same.

    Raises:
        ConfigError: No such object, or several of that name; the message names the nearest or all of them.
    """
    return [_pick(objects, name) for name in dict.fromkeys(wanted)]


def _pick(objects: Sequence[Object3D], name: str) -> Object3D:
    asked = name.casefold()
    found = [o for o in objects if o.key.casefold() == asked]
    found = found or [o for o in objects if o.name.casefold() == asked]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{len(found)} objects are called {name!r}: {[o.key for o in found]}")
    names = {n.casefold(): n for o in objects for n in (o.name, o.key)}
    near = [names[n] for n in difflib.get_close_matches(asked, names, n=5)]
    raise ConfigError(f"no object {name!r}; near: {near or 'none'} (--list-objects shows all)")


def _of_catalogue(path: Path) -> Iterator[Object3D]:
    try:
        fields, sizes = _read_list(path)
        yield from _objects(path, fields, sizes)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: not a furniture catalogue: {error!r}") from error


def _read_list(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The catalogue's properties, and the sizes of its files."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sizes[_LIST] > _MAX_LIST_BYTES:
            raise ValueError(f"a list of {sizes[_LIST]} bytes")
        text = archive.read(_LIST).decode("latin-1")
    lines = (_ESCAPE.sub(lambda e: chr(int(e[1], 16)), line) for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line), sizes


def _objects(path: Path, fields: dict[str, str], sizes: dict[str, int]) -> Iterator[Object3D]:
    for key, value in fields.items():
        if not key.startswith("model#"):
            continue
        number, model = key.removeprefix("model#"), value.lstrip("/")
        name = fields.get(f"name#{number}", model)
        words = f"{name} {model.rpartition('/')[2]}".lower()
        if not model.endswith(".obj") or sizes.get(model, _MAX_MODEL_BYTES + 1) > _MAX_MODEL_BYTES:
            continue
        if any(word in words for word in _NOT_HELD):
            continue
        yield Object3D(
            catalogue=path,
            model=model,
            name=name,
            creator=fields.get(f"creator#{number}", fields.get("provider", "")),
            licence=fields["license"],
            longest_cm=max(
                float(fields[f"{side}#{number}"]) for side in ("width", "depth", "height")
            ),
            turn=_turn(fields.get(f"modelRotation#{number}")),
        )


def _turn(text: str | None) -> tuple[float, ...]:
    if text is None:
        return _UPRIGHT
    turn = tuple(float(number) for number in text.split())
    if len(turn) != len(_UPRIGHT):
        raise ValueError(f"a rotation of {len(turn)} numbers, expected 9")
    return turn
