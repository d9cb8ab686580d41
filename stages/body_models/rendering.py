"""Offscreen rendering of a moving mesh: one persistent pyrender context, vertices updated in place.

One unlit pass gives everything. Each vertex carries three numbers as its colour: how lit it is, whether
it is a left hand, whether it is a right hand; the lighting itself is computed per vertex in numpy. So depth,
part labels and shading come out of the same 7 ms, where pyrender's own lit pass takes 17 ms and a new scene a
frame 160 ms (software Mesa, 480x832).

The OpenGL platform is fixed when PyOpenGL is first imported in a process. ``choose_platform`` picks it
before that: EGL where a graphics device is present, otherwise OSMesa (in software twice as fast as EGL),
otherwise EGL in software; ``PYOPENGL_PLATFORM`` in the environment wins over all.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.base import BackendRef
from schemas.errors import ConfigError
from stages.kit.arrays import F32, I32, I64, U8, Array

Platform = Literal["egl", "osmesa"]
AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)
_FLOAT_BYTES = 4
_HELP = (
    "install one of them (Debian: apt install libosmesa6, or libegl1 libgl1-mesa-dri); "
    "PYOPENGL_PLATFORM=osmesa|egl chooses by hand"
)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole that looks along -z with +y up; pixel (0,0) is the top left corner's pixel."""

    width_px: int
    height_px: int
    focal_px: float
    principal_px: tuple[float, float]
    near_m: float = 0.05
    far_m: float = 100.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """One frame, every array (H,W)."""

    depth_m: F32
    """Distance along the view axis; 0 where nothing is."""
    part: U8
    """0 nothing, 1 body, 2 left hand, 3 right hand."""
    shade: U8
    """Light on the surface, 255 facing the light; 0 where nothing is."""


@cache
def choose_platform() -> Platform:
    """Choose and fix this process's OpenGL platform.

    Raises:
        ConfigError: Neither EGL nor OSMesa is installed, or the environment asks for another.
    """
    asked = os.environ.get("PYOPENGL_PLATFORM", "")
    if asked:
        if asked not in ("egl", "osmesa"):
            raise ConfigError(f"PYOPENGL_PLATFORM={asked!r}: expected egl or osmesa")
        return "egl" if asked == "egl" else "osmesa"
    if "OpenGL.platform" in sys.modules:
        raise ConfigError(
            "OpenGL was imported before the renderer could choose a platform; "
            "set PYOPENGL_PLATFORM=osmesa (or egl) in the environment"
        )
    has_egl = ctypes.util.find_library("EGL") is not None
    has_osmesa = ctypes.util.find_library("OSMesa") is not None
    has_device = any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev/dri").glob("renderD*"))
    if not (has_egl or has_osmesa):
        raise ConfigError(f"no offscreen OpenGL: neither libEGL nor libOSMesa was found; {_HELP}")
    chosen: Platform = "egl" if has_egl and (has_device or not has_osmesa) else "osmesa"
    os.environ["PYOPENGL_PLATFORM"] = chosen
    return chosen


def _load_triton() -> None:
    """Load triton, where torch brought it, before Mesa.

    Both carry an LLVM of their own; torch imports triton with the first optimiser, and with Mesa's LLVM loaded before
    that import ends the process with a segmentation fault.
    """
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401


def check_renderer() -> None:
    """Raise ConfigError if meshes cannot be rendered here."""
    for module, package in (("pyrender", "pyrender-maintained"), ("OpenGL", "PyOpenGL")):
        if find_spec(module) is None:
            raise ConfigError(f"rendering needs {package}: pip install {package}")
    choose_platform()


def renderer_ref() -> BackendRef:
    """How reports name the renderer in use."""
    return BackendRef(
        name=f"pyrender-{choose_platform()}", version=version("pyrender-maintained"), licence="MIT"
    )


class FlatRenderer:
    """Draws one topology again and again with given vertex colours and no lighting.

    Not thread-safe; close it or let the process end.

    Args:
        faces: (F,3) triangles, counter-clockwise from outside.
        num_vertices: N.
        camera: Size and lens of every frame.

    Raises:
        ConfigError: No offscreen OpenGL works here.
    """

    def __init__(self, faces: NDArray[np.uint32], num_vertices: int, camera: Camera) -> None:
        self.camera = camera
        self._faces = faces
        self._data = np.ones((num_vertices, 7), np.float32)
        self._primitive, self._scene, self._renderer = self._open()

    def render(self, positions: F32, colours: F32) -> tuple[U8, F32]:
        """Draw one frame.

        Args:
            positions: (N,3) metres, in camera axes.
            colours: (N,3) 0 to 1, interpolated over triangles.

        Returns:
            RGB or RGBA picture (H,W,3|4) u8, black and transparent where nothing is, and depth (H,W)
            in metres along the view axis, 0 where nothing is.
        """
        self._data[:, :3] = positions
        self._data[:, 3:6] = colours
        self._upload()
        from pyrender.constants import RenderFlags

        flags = RenderFlags.FLAT | RenderFlags.RGBA
        colour, depth = self._renderer.render(self._scene, flags=flags)
        return np.asarray(colour), np.asarray(depth)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.delete()

    def _open(self) -> tuple[Any, Any, Any]:
        choose_platform()
        _load_triton()
        try:
            import pyrender

            primitive = pyrender.Primitive(
                positions=self._data[:, :3].copy(),
                color_0=self._data[:, 3:].copy(),
                indices=self._faces,
                mode=4,
            )
            scene = pyrender.Scene(bg_color=(0, 0, 0, 0))
            scene.add(pyrender.Mesh([primitive]))
            c = self.camera
            scene.add(
                pyrender.IntrinsicsCamera(
                    c.focal_px, c.focal_px, c.principal_px[0], c.principal_px[1], c.near_m, c.far_m
                ),
                pose=np.eye(4),
            )
            renderer = pyrender.OffscreenRenderer(c.width_px, c.height_px)
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"cannot open an offscreen OpenGL context with {choose_platform()}: {error}; {_HELP}"
            ) from error
        return primitive, scene, renderer

    def _upload(self) -> None:
        """Write positions and colours into the vertex buffer that the context holds."""
        # pyrender has no call for this; it keeps vertex data as one interleaved array in _buffers[0]
        # (positions, then colours), pinned by the version and checked by a test.
        from OpenGL import GL

        if not self._primitive._buffers:  # first frame: pyrender uploads on its own
            self._primitive.positions = self._data[:, :3]
            self._primitive.color_0 = self._data[:, 3:]
            self._primitive._is_transparent = False
            return
        self._renderer._platform.make_current()
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._primitive._buffers[0])
        GL.glBufferSubData(GL.GL_ARRAY_BUFFER, 0, self._data.size * _FLOAT_BYTES, self._data)


class MeshRenderer:
    """Depth, parts and shading of a moving body, from one unlit pass.

    Args:
        faces: (F,3) triangles, counter-clockwise from outside.
        part_labels: (V,) u8, 1 left hand, 2 right hand, anything else body.
        camera: Size and lens of every frame.
        light_direction: Towards the light, in camera axes.

    Raises:
        ConfigError: No offscreen OpenGL works here.
    """

    def __init__(
        self,
        faces: I32,
        part_labels: U8,
        camera: Camera,
        light_direction: tuple[float, float, float] = (-0.25, 0.45, 0.86),
    ) -> None:
        self.camera = camera
        self._faces = faces.astype(np.int64)
        self._source, split_faces, hands = split_by_part(faces, part_labels)
        self._light = np.asarray(light_direction, np.float32) / np.linalg.norm(light_direction)
        self._to_vertices = face_to_vertex(faces, len(part_labels))
        self._colours = np.ones((len(self._source), 3), np.float32)
        self._colours[:, 1:] = hands
        self._drawing = FlatRenderer(split_faces, len(self._source), camera)

    def render(self, vertices: F32) -> Rendered:
        """Render vertices (V,3) in camera axes, metres."""
        normals = vertex_normals(vertices, self._faces, self._to_vertices)
        self._colours[:, 0] = np.clip(normals @ self._light, 0.0, 1.0)[self._source]
        return _unpack(*self._drawing.render(vertices[self._source], self._colours))

    def empty(self) -> Rendered:
        """What an empty scene gives."""
        size = (self.camera.height_px, self.camera.width_px)
        return Rendered(
            np.zeros(size, np.float32), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        )

    def close(self) -> None:
        """Free the OpenGL context."""
        self._drawing.close()


def split_by_part(faces: I32, part_labels: U8) -> tuple[I64, NDArray[np.uint32], F32]:
    """Duplicate the vertices between parts so that no triangle mixes two parts.

    Returns:
        Source vertex of each new vertex (N,), triangles over new vertices (F,3), and (N,2) floats:
        is left hand, is right hand.
    """
    corner_part = part_labels[faces]
    face_part = np.where(
        corner_part[:, 0] == corner_part[:, 1], corner_part[:, 0], corner_part[:, 2]
    )
    hand = np.where(np.isin(face_part, (1, 2)), face_part, 0).astype(np.int64)
    keys = faces.astype(np.int64) * 3 + hand[:, None]
    unique, inverse = np.unique(keys, return_inverse=True)
    is_hand = np.stack([unique % 3 == 1, unique % 3 == 2], 1).astype(np.float32)
    return unique // 3, inverse.reshape(faces.shape).astype(np.uint32), is_hand


def vertex_normals(
    vertices: NDArray[AnyFloat], faces: NDArray[np.integer], to_vertices: Any
) -> NDArray[AnyFloat]:
    """Unit normals (V,3) as exact as the vertices (V,3): area-weighted mean of those of the faces around.

    Args:
        vertices: (V,3).
        faces: (F,3) triangles, counter-clockwise from outside.
        to_vertices: What ``face_to_vertex`` gives for them.
    """
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    u, v = b - a, c - a
    flat = np.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ],
        1,
    )
    summed = to_vertices @ flat
    length = np.sqrt((summed * summed).sum(1, keepdims=True))
    return np.asarray(summed / np.maximum(length, 1e-12), vertices.dtype)


def face_to_vertex(faces: Array, num_vertices: int) -> Any:
    """Sparse (V,F) matrix that sums over the faces around each vertex."""
    from scipy import sparse

    rows = faces.reshape(-1)
    columns = np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(len(rows), np.float32)
    return sparse.csr_array((ones, (rows, columns)), shape=(num_vertices, len(faces)))


def _unpack(colour: U8, depth: F32) -> Rendered:
    """Split a frame into depth, part and shade; multisampled edges count where half covered."""
    planes = cv2.split(np.ascontiguousarray(colour))
    covered = np.uint8(1) if len(planes) == 3 else planes[3] >> 7
    is_left, is_right = planes[1] >> 7, planes[2] >> 7
    covered = covered & (depth > 0).view(np.uint8)
    part = covered + covered * (is_left + is_right * 2 * (1 - is_left))
    clean = depth if len(planes) == 3 else depth * covered
    return Rendered(np.ascontiguousarray(clean, np.float32), part, planes[0] * covered)
