"""Listing raw sources and naming them by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curation.storage import Store, StoreOptions, is_remote, join, redact
from schemas.errors import ConfigError
from schemas.rows import SourceVideo

_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class SourceList:
    """What was found: one row per distinct content, and the objects that repeat one."""

    rows: tuple[SourceVideo, ...]
    duplicates: tuple[tuple[SourceVideo, str], ...]
    """(object, address of the object whose content it repeats)."""


def list_sources(
    addresses: Sequence[str],
    options: StoreOptions,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SourceList:
    """Find every object below the given files, folders and bucket prefixes, and hash its content.

    Raises:
        ConfigError: A path is missing or unreadable, or nothing was found.
    """
    objects = sorted(
        {o.uri: o for a in addresses for o in _expand(a, options)}.values(), key=lambda o: o.uri
    )
    if not objects:
        raise ConfigError(f"no files in {[redact(a) for a in addresses]}; expected raw videos")
    rows: list[SourceVideo] = []
    with ThreadPoolExecutor(4) as pool:
        for done, row in enumerate(pool.map(_hash_object, objects), 1):
            rows.append(row)
            progress(done, len(objects))
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.content_sha256, row.uri)
    return SourceList(
        rows=tuple(r for r in rows if first[r.content_sha256] == r.uri),
        duplicates=tuple(
            (r, first[r.content_sha256]) for r in rows if first[r.content_sha256] != r.uri
        ),
    )


@dataclass(frozen=True, slots=True)
class _Object:
    uri: str
    num_bytes: int
    read: Callable[[], Iterator[bytes]]


def _expand(address: str, options: StoreOptions) -> Iterator[_Object]:
    if is_remote(address):
        yield from _expand_remote(address, options)
        return
    path = Path(address)
    if not path.exists():
        raise ConfigError(
            f"{address} does not exist; give a video file, a folder or a bucket address"
        )
    for file in [path] if path.is_file() else _files_below(path):
        if not os.access(file, os.R_OK):
            raise ConfigError(f"{file} is not readable; check its permissions")
        absolute = file.absolute()
        yield _Object(str(absolute), absolute.stat().st_size, partial(_chunks, absolute))


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files in a tree, hidden ones left out; links that leave the tree are not followed."""
    root = folder.resolve()
    for current, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(current) / name
            if not name.startswith(".") and path.is_file() and path.resolve().is_relative_to(root):
                yield path


def _expand_remote(address: str, options: StoreOptions) -> Iterator[_Object]:
    parent, _, _name = address.rstrip("/").rpartition("/")
    store = Store(address, options)
    found = [m for m in store.list() if m.name]
    if found:
        for meta in found:
            yield _Object(
                join(address, meta.name), meta.num_bytes, partial(store.stream, meta.name)
            )
        return
    single = Store(parent, options)
    for meta in single.list():
        if join(parent, meta.name) == address:
            yield _Object(address, meta.num_bytes, partial(single.stream, meta.name))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            yield chunk


def _hash_object(item: _Object) -> SourceVideo:
    digest = hashlib.sha256()
    num_bytes = 0
    for chunk in item.read():
        digest.update(chunk)
        num_bytes += len(chunk)
    return SourceVideo(uri=item.uri, num_bytes=num_bytes, content_sha256=digest.hexdigest())
