"""The Anny body (anny 0.6.2, code Apache-2.0, assets CC0): distilled once, then small and fast.

``AnnyBody`` is what the body stage fits and what the studio renders. Axes, units and the pose convention
are those of ``stages.body_models.linear_body``: metres, +y up, facing +z, left at +x.

The package needs about a minute and 800 MB of cache to assemble its model from text files. We do that
once per user in a temporary folder and keep adult shapes as 5 local proportions and 24 principal directions:
a table of 11 MB in ``$HANDLOOM_CACHE_DIR`` or ``~/.cache/handloom``. The package is never loaded again.
Default topology only: the package's SMPL topologies need a non-commercial archive.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from scipy.interpolate import RegularGridInterpolator

from schemas.errors import ConfigError
from stages.body_models.anny_package import TABLE_VERSION, anny_version
from stages.body_models.body_tables import BodyTables
from stages.body_models.linear_body import LinearBody
from stages.kit.arrays import F32, F64


class AnnyBody(LinearBody):
    """Anny as a linear body. Build it once per process with ``load_anny``.

    ``faces`` (27420,3), ``num_vertices`` 13718, ``bone_names`` 104 (``root``, ``upperarm01.L``,
    ``finger2-3.R``, ``head`` ...), ``part_labels``; ``forward(rotations, translation, shape)``
    gives vertices and joints, ``landmarks`` the named points (nose, eyes, ears, mouth corners,
    chin, fingertips, knuckles, heels, toes).
    """

    def __init__(
        self,
        tables: BodyTables,
        phenotypes: Mapping[str, F64],
        shapes: F32,
    ) -> None:
        super().__init__(tables)
        self.phenotype_names = tuple(phenotypes)
        self._interpolate = RegularGridInterpolator(tuple(phenotypes.values()), shapes)

    def shape_of(self, **phenotypes: float) -> torch.Tensor:
        """Shape numbers (S,) of an adult given by phenotypes.

        Args:
            phenotypes: ``gender`` 0 male to 1 female; ``age`` 0.667 young to 0.8 middle-aged; ``muscle``,
                ``weight``, ``height``, ``proportions`` 0 to 1. What is left out is the middle.

        Raises:
            ValueError: Unknown name, or a value outside the range above.
        """
        unknown = set(phenotypes) - set(self.phenotype_names)
        if unknown:
            raise ValueError(f"unknown {sorted(unknown)}, expected {self.phenotype_names}")
        axes = dict(zip(self.phenotype_names, self._interpolate.grid, strict=True))
        point = [phenotypes.get(name, (axis[0] + axis[-1]) / 2) for name, axis in axes.items()]
        return torch.from_numpy(self._interpolate(point)[0].astype(np.float32))


def cache_folder() -> Path:
    """Per-user folder of tables made from installed packages."""
    return Path(os.environ.get("HANDLOOM_CACHE_DIR", Path.home() / ".cache" / "handloom"))


@cache
def load_anny() -> AnnyBody:
    """Return the process's one AnnyBody; the first call per user builds the table (about a minute).

    Raises:
        ConfigError: The package is not installed or the cache folder cannot be written.
    """
    path = cache_folder() / f"anny-{anny_version()}-table{TABLE_VERSION}.safetensors"
    if not path.is_file():
        _build(path)
    with safe_open(path, framework="numpy") as source:
        arrays = {key: source.get_tensor(key) for key in source.keys()}  # noqa: SIM118
        names = source.metadata()
    tables = BodyTables(
        bone_names=tuple(names["bone_names"].split(" ")),
        landmark_names=tuple(names["landmark_names"].split(" ")),
        **{key: arrays[key] for key in BodyTables.__dataclass_fields__ if key in arrays},
    )
    axes = {name: arrays[f"axis_{name}"] for name in names["phenotypes"].split(" ")}
    return AnnyBody(tables, axes, arrays["grid_shapes"])


def _build(path: Path) -> None:
    """Distil the package's model into one file, whole or not at all."""
    from stages.body_models.anny_tables import distil

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="anny-build-") as scratch:
            arrays, names = distil(Path(scratch))
            part = Path(scratch) / "table"
            part.write_bytes(save(arrays, metadata=names))
            part.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write the body table to {path.parent}: {error}; "
            "set HANDLOOM_CACHE_DIR to a folder that can be written"
        ) from error
