"""Objects of a catalogue as products: read with care, scaled to what a hand holds, painted, measured for fingers."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from jobs.studio.baking import Piece, Surface, bake
from jobs.studio.catalogue import Object3D
from jobs.studio.products import Product
from jobs.studio.solids import solid_of
from schemas.errors import ConfigError
from stages.kit.arrays import F64

_MAX_MEMBER_BYTES, _MAX_MODEL_BYTES = 16_000_000, 96_000_000
_MAX_FACES = 120_000
_HELD_M = (0.08, 0.35)
_LARGE_M = (0.18, 3.0)
"""A thing that nobody can hold is shown as a model: so long, if it is as long as a room."""
_FLAT, _STICK, _BROAD = 0.35, 0.45, 1.3


def held_size_m(longest_m: float) -> float:
    """Longest side in the hand: the real one from 8 to 35 cm; furniture becomes a model of 18 to 35 cm.

    >>> held_size_m(0.2), held_size_m(0.02), round(held_size_m(3.0), 2)
    (0.2, 0.08, 0.18)
    """
    low, high = _HELD_M
    if longest_m <= high:
        return max(low, longest_m)
    share = np.log(longest_m / high) / np.log(_LARGE_M[1] / high)
    return float(high + (_LARGE_M[0] - high) * min(share, 1.0))


def load_product(item: Object3D, yaw_rad: float = 0.0) -> Product:
    """Load one object.

    Flat things that lie are stood up, with their upper side to the camera; lying sticks stand upright.

    Args:
        item: From ``catalogue.find_objects``.
        yaw_rad: Turn about the upright axis.

    Raises:
        ConfigError: The model is damaged, empty or larger than a held thing may be.
    """
    pieces = _read(item)
    upright = np.array(item.turn).reshape(3, 3)
    turn = _yaw(yaw_rad) @ _stand(_extents(pieces, upright)) @ upright
    pieces = _placed(pieces, turn, held_size_m(item.longest_cm / 100))
    surface = bake(pieces)
    return product_of(surface)


def product_of(surface: Surface) -> Product:
    """A painted surface as something to hold; both sides of each triangle are drawn."""
    both = np.concatenate([surface.faces, surface.faces[:, ::-1]])
    half = np.abs(surface.vertices[np.unique(surface.faces)]).max(0)
    return Product(
        "object",
        surface.vertices,
        both,
        surface.colours,
        (float(half[0]), float(half[1]), float(half[2])),
        surface.normals,
        solid_of(surface.vertices, surface.faces),
    )


def _read(item: Object3D) -> list[Piece]:
    """The model's pieces in its own axes and units."""
    import trimesh

    try:
        with zipfile.ZipFile(item.catalogue) as archive:
            files = _files(archive, item.model)
        scene = trimesh.load_scene(
            io.BytesIO(files[PurePosixPath(item.model).name]),
            file_type="obj",
            resolver=_Files(files),
            process=False,
        )
        pieces = [_piece(scene, node) for node in scene.graph.nodes_geometry]
    except (ValueError, KeyError, IndexError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{item.key}: cannot read {item.model}: {error!r}") from error
    pieces = [p for p in pieces if len(p.corners) and np.isfinite(p.corners).all()]
    faces = sum(len(p.corners) for p in pieces)
    if not 0 < faces <= _MAX_FACES:
        raise ConfigError(f"{item.key}: {faces} triangles, expected 1 to {_MAX_FACES}")
    return pieces


def _files(archive: zipfile.ZipFile, model: str) -> dict[str, bytes]:
    """What lies beside a model, by name below its folder; nothing is written to disk.

    Raises:
        ConfigError: More or larger files than a model has.
    """
    folder = model.rpartition("/")[0] + "/"
    infos = [i for i in archive.infolist() if i.filename.startswith(folder) and not i.is_dir()]
    sizes = [i.file_size for i in infos]
    if max(sizes, default=0) > _MAX_MEMBER_BYTES or sum(sizes) > _MAX_MODEL_BYTES:
        raise ConfigError(
            f"{model}: files of {max(sizes)}, in all {sum(sizes)} bytes: at most "
            f"{_MAX_MEMBER_BYTES} and {_MAX_MODEL_BYTES}"
        )
    return {i.filename.removeprefix(folder): archive.read(i) for i in infos}


class _Files:
    """What trimesh asks for textures and materials: names below the model's folder only.

    Of a path on somebody else's disk the last part counts, as in Sweet Home 3D.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def get(self, name: str) -> bytes:
        path = PurePosixPath(name.replace("\\", "/"))
        return self._files[str(path) if str(path) in self._files else path.name]

    __getitem__ = get


def _piece(scene: Any, node: str) -> Piece:
    at, name = scene.graph[node]
    mesh = scene.geometry[name]
    points = mesh.vertices @ at[:3, :3].T + at[:3, 3]
    uv = getattr(mesh.visual, "uv", None)
    return Piece(
        np.asarray(points[mesh.faces], np.float64),
        None if uv is None else np.asarray(uv, np.float64)[mesh.faces],
        getattr(mesh.visual, "material", None),
    )


def _extents(pieces: list[Piece], turn: F64) -> F64:
    points = np.concatenate([p.corners.reshape(-1, 3) for p in pieces]) @ turn.T
    return np.asarray(np.ptp(points, axis=0))


def _placed(pieces: list[Piece], turn: F64, longest_m: float) -> list[Piece]:
    """Turned, scaled and centred."""
    turned = [p.corners @ turn.T for p in pieces]
    points = np.concatenate([t.reshape(-1, 3) for t in turned])
    low, high = points.min(0), points.max(0)
    longest = float((high - low).max())
    if longest <= 0:
        raise ConfigError("a model without size")
    scale, centre = longest_m / longest, (low + high) / 2
    return [
        Piece((t - centre) * scale, p.uv, p.material) for t, p in zip(turned, pieces, strict=True)
    ]


def _stand(extents: F64) -> F64:
    """Turn (3,3) that stands up what lies, and shows the camera the broad side of what stands."""
    x, y, z = extents
    if y < _FLAT * min(x, z):  # a plate, a book: the upper side faces the camera
        upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        return np.asarray(upright)
    longest = max(x, z)
    if max(y, min(x, z)) < _STICK * longest:  # a pen, a knife
        if x >= z:
            return np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        return np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return _yaw(np.pi / 2) if z > _BROAD * x else np.eye(3)


def _yaw(angle: float) -> F64:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
