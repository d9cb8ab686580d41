"""Takes the arrays out of an old body model's pickle without running what the pickle asks for.

A pickle names functions to call. Here it may name only those that put a numpy array together; scipy's sparse
matrices and chumpy's arrays become bags of their fields, and anything else refuses the file. What slips through
would meet an address space and a clock of its own: this runs in a child process (``stages.kit.isolate``).
"""

from __future__ import annotations

import io
import pickle  # the restricted Unpickler below
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy._core import multiarray, numeric

from schemas.errors import ConfigError
from stages.kit.arrays import Array, Arrays

_REFUSALS = (
    pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError, ImportError,
    ArithmeticError, RecursionError, OSError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What broken pickles and archives raise."""


class Bag:
    """Stands for an object of a library that is not imported: keeps its fields, runs nothing."""

    def __init__(self, *_: Any) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """Keep the pickled fields."""
        self.fields = state if isinstance(state, dict) else {}


class SparseBag(Bag):
    """Stands for scipy's ``csc_matrix``."""

    def dense(self, key: str) -> Array:
        """The matrix (rows, columns)."""
        names = ("data", "indices", "indptr")
        parts = [self.fields.get(name) for name in names]
        shape = self.fields.get("_shape", self.fields.get("shape"))
        if not all(isinstance(p, np.ndarray) and p.ndim == 1 for p in parts) or shape is None:
            raise ConfigError(f"{key}: a sparse matrix without {', '.join(names)} and shape")
        from scipy.sparse import csc_array

        matrix = csc_array(tuple(parts), shape=tuple(int(n) for n in shape))
        matrix.check_format(full_check=True)  # before C code walks the indices
        return np.asarray(matrix.toarray())


class ChumpyBag(Bag):
    """Stands for ``chumpy.Ch``, whose values are its field ``x``."""

    def array(self, key: str) -> Array:
        """The values."""
        values = self.fields.get("x")
        if isinstance(values, ChumpyBag):
            return values.array(key)
        if not isinstance(values, np.ndarray):
            raise ConfigError(
                f"{key}: a chumpy expression, not an array; evaluate it in chumpy first"
            )
        return values


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """What Python 2's protocol calls for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _rebuild(kind: type, *_: Any) -> Bag:
    """``copyreg._reconstructor`` for the stand-ins alone."""
    if not (isinstance(kind, type) and issubclass(kind, Bag)):
        raise pickle.UnpicklingError(f"an object of {kind!r}")
    return kind()


def _known_names() -> dict[tuple[str, str], Any]:
    """What a pickle of arrays may name, under the names of old and new Pythons and packages."""
    known: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): OrderedDict,
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = multiarray._reconstruct
        known[f"{core}.multiarray", "scalar"] = multiarray.scalar
        known[f"{core}.numeric", "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined]
    for copyreg in ("copyreg", "copy_reg"):
        known[copyreg, "_reconstructor"] = _rebuild
    for builtins in ("builtins", "__builtin__"):
        known[builtins, "object"] = object
        known[builtins, "set"] = set  # chumpy keeps one beside its values
    for module in ("scipy.sparse.csc", "scipy.sparse._csc"):
        known[module, "csc_matrix"] = SparseBag
    return known


class ArrayUnpickler(pickle.Unpickler):
    """Knows arrays and the stand-ins, nothing else."""

    _known: ClassVar[dict[tuple[str, str], Any]] = _known_names()

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name that the pickle asks for.

        Raises:
            UnpicklingError: It is none of those above.
        """
        if module == "chumpy" or module.startswith("chumpy."):
            return ChumpyBag
        if (module, name) in self._known:
            return self._known[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which builds no array")


def read_arrays(path: Path, keys: tuple[str, ...]) -> Arrays:
    """Read named arrays from a pickled dictionary, or from an npz that has pickled ones.

    Raises:
        ConfigError: The file is no such thing, asks for anything but arrays, or misses a key.
    """
    try:
        table = _read_npz(path, keys) if zipfile.is_zipfile(path) else _read_pickle(path)
        missing = sorted(set(keys) - set(table))
        if missing:
            raise ConfigError(f"{path} has no {missing}; it has {sorted(map(str, table))[:40]}")
        return {key: plain(key, table[key]) for key in keys}
    except _REFUSALS as error:
        raise ConfigError(f"{path} is refused: {type(error).__name__}: {error}") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as source:
        table = _load(source)
    if not isinstance(table, dict):
        raise pickle.UnpicklingError(f"a {type(table).__name__}, not a dictionary of arrays")
    return table


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for key in set(keys) & {name.removesuffix(".npy") for name in archive.namelist()}:
            data = io.BytesIO(archive.read(f"{key}.npy"))
            version = np.lib.format.read_magic(data)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            _, _, dtype = read_header(data)
            if dtype.hasobject:
                table[key] = _load(data)
            else:
                data.seek(0)
                table[key] = np.lib.format.read_array(data, allow_pickle=False)
    return table


def _load(source: BinaryIO) -> Any:
    return ArrayUnpickler(source, encoding="latin1").load()


def plain(key: str, value: Any) -> Array:
    """A value as a numeric array.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.reshape(-1)[0]  # npz wraps single objects
    if isinstance(value, SparseBag):
        value = value.dense(key)
    elif isinstance(value, ChumpyBag):
        value = value.array(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise ConfigError(f"{key} is no array of numbers but {type(value).__name__}")
    if not np.isfinite(value).all():
        raise ConfigError(f"{key} has values that are not finite")
    return np.ascontiguousarray(value, np.float32 if value.dtype.kind == "f" else np.int64)


def convert(payload: dict[str, Any]) -> dict[str, Any]:
    """The child's side: read ``source``, write ``target`` with ``keys`` as plain arrays; returns shapes."""
    arrays = read_arrays(Path(payload["source"]), tuple(payload["keys"]))
    np.savez_compressed(payload["target"], **arrays)  # type: ignore[arg-type]
    return {"shapes": {key: list(array.shape) for key, array in arrays.items()}}
