"""Tensors in safetensors files, one or several with an index: found, read one at a time, written whole.

No pickles: what the safetensors reader does not take is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from schemas.durable import written_whole
from schemas.errors import ConfigError

INDEX_SUFFIX = ".safetensors.index.json"
STATE_FILE, MODEL_FILE = "state.json", "model.safetensors"
"""What marks a folder as a checkpoint of the trainer, and its weights in it."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_PICKLE_TEXT = (
    "{} looks like a pickle, which can run code when read: convert it to safetensors first"
)


def find_shards(source: Path) -> list[Path]:
    """List the safetensors files of a file, an index or a folder.

    A checkpoint of the trainer stands for its weights; moments and moving average lie beside them.

    Raises:
        ConfigError: Nothing there, a pickle, or an index that names an absent file.
    """
    if (source / STATE_FILE).is_file():
        weights = find_tensors(source, MODEL_FILE)
        if weights is None:
            raise ConfigError(f"{source} has no {MODEL_FILE}, in one piece or in shards")
        return find_shards(weights)
    if source.is_dir():
        indices = sorted(source.glob("*" + INDEX_SUFFIX))
        if len(indices) > 1:
            raise ConfigError(f"{source} holds {len(indices)} indices: name one of them")
        if indices:
            return find_shards(indices[0])
        files = sorted(source.glob("*.safetensors"))
        if not files:
            raise ConfigError(f"{source} holds no .safetensors file")
        return files
    if not source.exists():
        raise ConfigError(f"weights {source} do not exist")
    if source.name.endswith(INDEX_SUFFIX):
        files = [source.parent / name for name in sorted(_indexed_names(source))]
        absent = [file.name for file in files if not file.exists()]
        if absent:
            raise ConfigError(f"{source} names {len(absent)} absent files: {absent}")
        return files
    return [source]


def _indexed_names(index: Path) -> set[str]:
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        is_flat = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index} is no index of safetensors files: {error!r}") from error
    if not names or not is_flat:
        raise ConfigError(f"{index} must name files beside it, it names {sorted(names)[:4]}")
    return names


def find_tensors(folder: Path, file: str) -> Path | None:
    """The file of that name, or the index of its shards; None where neither is."""
    index = folder / (file.removesuffix(".safetensors") + INDEX_SUFFIX)
    return next((p for p in (folder / file, index) if p.is_file()), None)


def read_tensors(source: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a file or of an index's shards, one at a time.

    Raises:
        ConfigError: See ``find_shards`` and ``open_weights``.
    """
    for file in find_shards(source):
        with open_weights(file) as weights:
            for key in weights.keys():  # noqa: SIM118
                yield key, weights.get_tensor(key)


@contextmanager
def open_weights(file: Path) -> Iterator[Any]:
    """Open a safetensors file for reading by key.

    The reader alone decides what is safetensors: a file starts with the length of its header, which may be
    any number, the first bytes of a pickle or of an archive too.

    Raises:
        ConfigError: A pickle or another format.
    """
    if file.suffix in _PICKLES:
        raise ConfigError(_PICKLE_TEXT.format(file))
    try:
        with safe_open(file, framework="pt") as weights:
            yield weights
    except SafetensorError as error:
        with file.open("rb") as stream:
            start = stream.read(4)
        if start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in _PICKLE_PROTOCOLS):
            raise ConfigError(_PICKLE_TEXT.format(file)) from error
        raise ConfigError(f"{file} is not a readable safetensors file: {error}") from error


def save_tensors(
    named: dict[str, Tensor],
    path: Path,
    max_shard_bytes: int = 8 << 30,
    metadata: dict[str, str] | None = None,
) -> list[Path]:
    """Write tensors as one safetensors file, or as shards with an index beside it; see ``save_weights``."""
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path} must end in .safetensors")
    metadata = metadata or {"format": "pt"}
    shards = _split(named, max_shard_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(shards) == 1:
        _write(named, path, metadata)
        return [path]
    files = [
        path.with_name(f"{path.stem}-{i:05d}-of-{len(shards):05d}.safetensors")
        for i in range(1, len(shards) + 1)
    ]
    for file, names in zip(files, shards, strict=True):
        _write({name: named[name] for name in names}, file, metadata)
    total = sum(_num_bytes(t) for t in named.values())
    where = {n: f.name for f, names in zip(files, shards, strict=True) for n in names}
    index = path.with_name(path.stem + INDEX_SUFFIX)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1)
    with written_whole(index) as partial:
        partial.write_text(text)
    return [*files, index]


def _split(named: dict[str, Tensor], max_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    used = 0
    for name, tensor in named.items():
        if shards[-1] and used + _num_bytes(tensor) > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += _num_bytes(tensor)
    return shards


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _write(named: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    with written_whole(file) as partial:
        save_file({n: t.contiguous().cpu() for n, t in named.items()}, partial, metadata=metadata)
