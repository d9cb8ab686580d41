"""Pictures of single objects with alpha, from several sides and in several lights.

    python -m training.held_product.sprites --work WORK [--minutes 18]

Writes ``WORK/sprites/<split>/*.png`` (RGBA, 224 x 224) and ``WORK/sprites/objects.csv``, the list of what was used
with names and licences. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import os
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jobs.studio.catalogue import Object3D, find_objects

SIZE_PX = 224
_VIEWS, _VIEWS_OF_FURNITURE = 8, 3
_MIN_AREA_SHARE = 0.03
_OBJECTS_PER_CONTEXT = 20


def main() -> None:
    """Render what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=18)
    given = parser.parse_args()
    os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")
    import pyrender

    folder = given.work / "sprites"
    deadline = time.monotonic() + 60 * given.minutes
    objects = sorted(find_objects(), key=lambda o: (not o.is_hand_sized, _digest(o)))
    renderer = pyrender.OffscreenRenderer(SIZE_PX, SIZE_PX)
    for done, item in enumerate(objects):
        if time.monotonic() > deadline:
            break
        if done % _OBJECTS_PER_CONTEXT == 0:  # textures stay in a context's memory until it goes
            renderer.delete()
            renderer = pyrender.OffscreenRenderer(SIZE_PX, SIZE_PX)
        split = "validation" if item.is_validation else "training"
        stem = folder / split / _digest(item)
        if not stem.with_suffix(".done").exists():
            stem.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Exception):  # broken models are left out
                _render(item, stem, renderer)
            stem.with_suffix(".done").touch()
    write_list(folder, objects)
    print(f"{done + 1} of {len(objects)} objects, {len(list(folder.glob('*/*.png')))} pictures")


def write_list(folder: Path, objects: list[Object3D]) -> None:
    """The objects of which there are pictures, with their licences."""
    with (folder / "objects.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["catalogue", "model", "name", "creator", "licence", "split", "longest_cm"])
        for item in sorted(objects, key=lambda o: (o.catalogue.stem, o.model)):
            split = "validation" if item.is_validation else "training"
            if any((folder / split).glob(f"{_digest(item)}-*.png")):
                out.writerow(
                    [
                        item.catalogue.stem,
                        item.model,
                        item.name,
                        item.creator,
                        item.licence,
                        split,
                        item.longest_cm,
                    ]
                )


def _digest(item: Object3D) -> str:
    return hashlib.sha256(f"{item.catalogue.stem}/{item.model}".encode()).hexdigest()[:16]


def _render(item: Object3D, stem: Path, renderer: Any) -> None:
    import pyrender

    random = np.random.default_rng(int(_digest(item), 16))
    meshes, centre, extent = _load(item)
    prefix = "h" if item.is_hand_sized else "f"
    for view in range(_VIEWS if item.is_hand_sized else _VIEWS_OF_FURNITURE):
        scene = pyrender.Scene(
            bg_color=[0, 0, 0, 0], ambient_light=np.ones(3) * random.uniform(0.25, 0.6)
        )
        pose = _turn(random) @ np.diag([1 / extent] * 3 + [1]) @ _move(-centre)
        for mesh, at in meshes:
            scene.add(mesh, pose=pose @ at)
        scene.add(pyrender.PerspectiveCamera(yfov=0.6), pose=_move([0, 0, 2.1]))
        for _ in range(int(random.integers(1, 3))):
            light = pyrender.DirectionalLight(
                color=random.uniform(0.8, 1, 3), intensity=random.uniform(1.5, 4.5)
            )
            scene.add(light, pose=_euler(random.uniform(-1, 0.3), random.uniform(-1.2, 1.2), 0))
        flags = pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SKIP_CULL_FACES
        colour, depth = renderer.render(scene, flags=flags)
        alpha = (depth > 0).astype(np.uint8) * 255
        if (alpha > 0).mean() > _MIN_AREA_SHARE:
            picture = np.dstack([colour[..., 2::-1], alpha])
            cv2.imwrite(str(stem.parent / f"{stem.name}-{prefix}{view}.png"), picture)


def _load(item: Object3D) -> tuple[list[tuple[Any, Any]], Any, float]:
    import pyrender
    import trimesh

    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(item.catalogue) as archive:
        folder = item.model.rpartition("/")[0] + "/"
        for member in archive.namelist():
            if member.startswith(folder) and not member.endswith("/"):
                archive.extract(member, name)
        scene = trimesh.load(Path(name) / item.model, force="scene")
        meshes = []
        for node in scene.graph.nodes_geometry:
            at, geometry = scene.graph[node]
            meshes.append(
                (pyrender.Mesh.from_trimesh(scene.geometry[geometry].copy(), smooth=False), at)
            )
    extent = float(max(scene.extents))
    if not np.isfinite(extent) or extent <= 0:
        raise ValueError(f"{item.model} has no size")
    return meshes, np.asarray(scene.centroid), extent


def _turn(random: np.random.Generator) -> Any:
    import trimesh.transformations as tf

    if random.random() < 0.25:
        return tf.random_rotation_matrix(random.random(3))
    return _euler(
        random.uniform(-0.5, 0.9), random.uniform(0, 2 * np.pi), random.uniform(-0.5, 0.5)
    )


def _euler(x: float, y: float, z: float) -> Any:
    import trimesh.transformations as tf

    return tf.euler_matrix(x, y, z, "ryxz")


def _move(by: Any) -> Any:
    import trimesh.transformations as tf

    return tf.translation_matrix(by)


if __name__ == "__main__":
    main()
