"""Textured 3D objects of Debian's sweethome3d-furniture: which are used, and under which licence."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/usr/share/sweethome3d/furniture")
_MAX_MODEL_BYTES = 3_000_000
_HELD_CM = 60.0
"""What is no longer than this is a thing that people hold up."""
_NOT_HELD = (
    "door", "window", "car", "fence", "rail", "building", "stair", "male", "female", "girl", "boy", "man",
    "woman", "mannequin", "person", "house", "truck", "wall", "socket", "roof",
)  # fmt: skip


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
    turn: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
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
        FileNotFoundError: The Debian package is not installed.
    """
    catalogues = sorted(folder.glob("*.sh3f"))
    if not catalogues:
        raise FileNotFoundError(f"no catalogue in {folder}: apt-get install sweethome3d-furniture")
    for path in catalogues:
        yield from _of_catalogue(path)


def _of_catalogue(path: Path) -> Iterator[Object3D]:
    with zipfile.ZipFile(path) as archive:
        text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        sizes = {info.filename: info.file_size for info in archive.infolist()}
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
    return tuple(float(n) for n in text.split()) if text else Object3D.turn
