"""A catalogue of 3D objects like Debian's sweethome3d-furniture, small enough to write in a test."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

HEAD = "id=test\nname=Tiny\nlicense=Public domain\nprovider=nobody\n"
TILE_MTL = "newmtl print\nKd 1 1 1\nmap_Kd print.png\n"
CUP_MTL = "newmtl blue\nKd 0.1 0.2 0.8\n"


def write_catalogue(path: Path, extra: dict[str, bytes] | None = None) -> Path:
    """``Tiny.sh3f`` below a folder: a tile, red and green on its upper side, that lies; a blue cup; a wardrobe."""
    path.mkdir(parents=True, exist_ok=True)
    files = {
        "tiny/tile/tile.obj": _box((0.2, 0.012, 0.15), "tile.mtl", "print").encode(),
        "tiny/tile/tile.mtl": TILE_MTL.encode(),
        "tiny/tile/print.png": _print(),
        "tiny/cup/cup.obj": _cup().encode(),
        "tiny/cup/cup.mtl": CUP_MTL.encode(),
        "tiny/wardrobe/wardrobe.obj": _box((1.2, 2.0, 0.6), "wardrobe.mtl", "oak").encode(),
        "tiny/wardrobe/wardrobe.mtl": b"newmtl oak\nKd 0.6 0.4 0.2\n",
    } | (extra or {})
    rows = [
        ("Tile", "tile", (20.0, 15.0, 1.2), "Ann"),
        ("Cup", "cup", (8.0, 8.0, 10.0), "Ben"),
        ("Wardrobe", "wardrobe", (120.0, 60.0, 200.0), "Cho"),
    ]
    lines = [HEAD]
    for number, (name, model, (width, depth, height), author) in enumerate(rows, 1):
        lines.append(
            f"name#{number}={name}\nmodel#{number}=/tiny/{model}/{model}.obj\nwidth#{number}={width}\n"
            f"depth#{number}={depth}\nheight#{number}={height}\ncreator#{number}={author}\n"
        )
    with zipfile.ZipFile(path / "Tiny.sh3f", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines))
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _box(size: tuple[float, float, float], library: str, material: str) -> str:
    """A box; the texture's left half is on its left."""
    mesh = trimesh.creation.box(size)
    uv = (mesh.vertices / np.array(size))[:, [0, 2]] + 0.5
    return _obj(mesh, uv, library, material)


def _cup() -> str:
    """An open cup: a wall and a floor without thickness."""
    profile = np.array([(0.0, 0.0), (0.035, 0.0), (0.04, 0.1)])
    mesh = trimesh.creation.revolve(profile, sections=32)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    return _obj(mesh, np.zeros((len(mesh.vertices), 2)), "cup.mtl", "blue")


def _obj(mesh: trimesh.Trimesh, uv: np.ndarray, library: str, material: str) -> str:
    lines = [f"mtllib {library}"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uv]
    lines += [f"usemtl {material}"]
    lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in mesh.faces]
    return "\n".join(lines) + "\n"


def _print() -> bytes:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32] = (220, 30, 30)
    picture[:, 32:] = (30, 200, 30)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()
