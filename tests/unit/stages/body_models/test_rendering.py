from __future__ import annotations

import ctypes.util
import subprocess
import sys

import numpy as np
import pytest

from schemas.errors import ConfigError
from stages.body_models import rendering
from stages.body_models.rendering import Camera, MeshRenderer, split_by_part

CAMERA = Camera(120, 90, 100.0, (59.5, 44.5))
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))], np.int32)


@pytest.fixture(scope="module")
def renderer():
    built = MeshRenderer(FACES, np.zeros(8, np.uint8), CAMERA)
    yield built
    built.close()


def cube_at(x: float = 0.0, y: float = 0.0, z: float = -5.0, size: float = 0.5) -> np.ndarray:
    return (CUBE * size + np.array([x, y, z])).astype(np.float32)


def test_depth_and_extent_are_those_of_a_pinhole(renderer: MeshRenderer) -> None:
    out = renderer.render(cube_at())
    assert out.depth_m[45, 60] == pytest.approx(4.5, abs=0.01)
    rows, columns = np.nonzero(out.part)
    width = 100.0 * 1.0 / 4.5
    assert columns.max() - columns.min() + 1 == pytest.approx(width, abs=1.5)
    assert rows.max() - rows.min() + 1 == pytest.approx(width, abs=1.5)
    assert columns.mean() == pytest.approx(59.5, abs=0.6)
    assert rows.mean() == pytest.approx(44.5, abs=0.6)


def test_up_is_up_and_right_is_right(renderer: MeshRenderer) -> None:
    rows, columns = np.nonzero(renderer.render(cube_at(x=1.0, y=0.7)).part)
    assert rows.mean() < 44.5
    assert columns.mean() > 59.5


def test_vertices_updated_in_place_equal_a_fresh_renderer(renderer: MeshRenderer) -> None:
    renderer.render(cube_at(x=-1.0))
    moved = renderer.render(cube_at(x=0.8, y=-0.4, size=0.3))
    fresh = MeshRenderer(FACES, np.zeros(8, np.uint8), CAMERA)
    again = fresh.render(cube_at(x=0.8, y=-0.4, size=0.3))
    fresh.close()
    assert np.array_equal(moved.part, again.part)
    assert np.array_equal(moved.shade, again.shade)
    assert np.array_equal(moved.depth_m, again.depth_m)


def test_parts_keep_their_label_and_the_nearer_one_wins() -> None:
    faces = np.concatenate([FACES, FACES + 8, FACES + 16])
    labels = np.repeat([0, 1, 2], 8).astype(np.uint8)
    near_left = cube_at(x=-0.4, z=-3.0, size=0.2)
    vertices = np.concatenate([cube_at(size=0.8), near_left, cube_at(x=0.5, z=-3.5, size=0.2)])
    built = MeshRenderer(faces, labels, CAMERA)
    part = built.render(vertices).part
    built.close()
    assert set(np.unique(part)) == {0, 1, 2, 3}
    assert part[45, int(59.5 - 100 * 0.4 / 3.0)] == 2
    assert part[45, int(59.5 + 100 * 0.5 / 3.5)] == 3


def test_faces_towards_the_light_are_brighter() -> None:
    built = MeshRenderer(FACES, np.zeros(8, np.uint8), CAMERA, light_direction=(0, 0, 1))
    facing = built.render(cube_at(size=0.2)).shade.max()
    built.close()
    away = MeshRenderer(FACES, np.zeros(8, np.uint8), CAMERA, light_direction=(0, 0, -1))
    hidden = away.render(cube_at(size=0.2)).shade.max()
    away.close()
    assert facing > hidden


def test_empty_is_empty(renderer: MeshRenderer) -> None:
    behind = renderer.render(cube_at(z=3.0))
    assert not behind.part.any()
    assert not renderer.empty().part.any()
    assert renderer.empty().part.shape == behind.part.shape


def test_no_triangle_mixes_parts_after_the_split() -> None:
    labels = np.array([0, 0, 1, 1, 0, 0, 2, 2], np.uint8)
    source, faces, hands = split_by_part(FACES, labels)
    assert (CUBE[source][faces] == CUBE[FACES]).all()
    corners = hands[faces]
    assert (corners == corners[:, :1]).all()


def test_no_opengl_at_all_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.delitem(rendering.sys.modules, "OpenGL.platform", raising=False)
    rendering.choose_platform.cache_clear()
    with pytest.raises(ConfigError, match="neither libEGL nor libOSMesa"):
        rendering.choose_platform()
    monkeypatch.undo()
    rendering.choose_platform.cache_clear()


def test_an_unknown_platform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOPENGL_PLATFORM", "wgl")
    rendering.choose_platform.cache_clear()
    with pytest.raises(ConfigError, match="expected egl or osmesa"):
        rendering.choose_platform()
    monkeypatch.undo()
    rendering.choose_platform.cache_clear()


def test_an_optimiser_can_be_made_after_a_picture_was_drawn():
    """Mesa and triton each carry an LLVM: in the wrong order the process dies."""
    code = """
import numpy as np
from stages.body_models.rendering import Camera, MeshRenderer
faces = np.array([[0, 1, 2]], np.int32)
drawn = MeshRenderer(faces, np.zeros(3, np.uint8), Camera(64, 64, 64.0, (32.0, 32.0)))
drawn.render(np.array([[0, 0, -2], [1, 0, -2], [0, 1, -2]], np.float32))
import torch
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-500:]
