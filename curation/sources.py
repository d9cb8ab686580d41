"""Listing raw sources and naming them by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curation.storage import ObjectChangedError, Store, StoreOptions, is_remote, join, redact
from schemas.errors import ConfigError
from schemas.rows import SourceVideo

_THREADS = 8


@dataclass(frozen=True, slots=True)
class SourceList:
    """What was found: one row per distinct content, and the objects that repeat one."""

    rows: tuple[SourceVideo, ...]
    duplicates: tuple[tuple[SourceVideo, str], ...]
    """(object, address of the object whose content it repeats)."""
    unreadable: tuple[tuple[SourceVideo, str, str], ...] = ()
    """(object, reason code, detail): it changed or went away while it was read, twice. Its content is
    unknown, so its id comes from its address."""


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
    unreadable: list[tuple[SourceVideo, str, str]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, found in enumerate(pool.map(_hash_object, objects), 1):
            if isinstance(found, SourceVideo):
                rows.append(found)
            else:
                unreadable.append(found)
            progress(done, len(objects))
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.content_sha256, row.uri)
    return SourceList(
        rows=tuple(r for r in rows if first[r.content_sha256] == r.uri),
        duplicates=tuple(
            (r, first[r.content_sha256]) for r in rows if first[r.content_sha256] != r.uri
        ),
        unreadable=tuple(unreadable),
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
    address = address.rstrip("/")
    store = Store(address, options)
    found = False
    for meta in store.list():
        found = True
        uri = join(address, meta.name)
        yield _Object(uri, meta.num_bytes, partial(store.stream, meta.name))
    bucket, _, key = address.partition("://")[2].partition("/")
    if found or not key:
        return
    parent, _, name = address.rpartition("/")
    single = Store(parent, options)
    one = single.head(name)
    if one is None:
        raise ConfigError(f"{redact(address)}: bucket {bucket!r} has no such object or prefix")
    yield _Object(address, one.num_bytes, partial(single.stream, name))


def _chunks(path: Path) -> Iterator[bytes]:
    yield from Store(str(path.parent)).stream(path.name)


def _hash_object(item: _Object) -> SourceVideo | tuple[SourceVideo, str, str]:
    """Name an object by its content; one that changes under our hands gets a second chance."""
    reason, detail = "", ""
    for _ in range(2):
        digest, num_bytes = hashlib.sha256(), 0
        try:
            for chunk in item.read():
                digest.update(chunk)
                num_bytes += len(chunk)
        except FileNotFoundError:
            reason, detail = "source_missing", f"{item.uri} went away while it was listed"
        except ObjectChangedError:
            reason, detail = "source_changed", f"{item.uri} changed while it was read, twice"
        else:
            return SourceVideo(uri=item.uri, num_bytes=num_bytes, content_sha256=digest.hexdigest())
    unknown = hashlib.sha256(b"unreadable " + item.uri.encode()).hexdigest()
    return (
        SourceVideo(uri=item.uri, num_bytes=item.num_bytes, content_sha256=unknown),
        reason,
        detail,
    )
