"""Content-named files of an output root, as workers see them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from curation.failpoints import hit
from curation.root.store import (
    ObjectArchivedError,
    ObjectChangedError,
    Store,
    StoreOptions,
    is_remote,
)
from schemas.base import FileRef
from schemas.durable import written_whole
from schemas.errors import DataError, InvariantError, TransientError
from schemas.rows import SourceVideo


class StoreBlobs:
    """Blobs over a Store: read in place when local, through a bounded cache folder when remote.

    Args:
        store: The output root.
        source_options: How to reach remote sources.
        cache: A local folder of this worker's own.
        max_cache_bytes: Oldest files go first when the cache outgrows this.
    """

    def __init__(
        self,
        store: Store,
        source_options: StoreOptions,
        cache: Path,
        max_cache_bytes: int = 8 << 30,
    ) -> None:
        self._store = store
        self._source_options = source_options
        self._cache = cache
        self._max_cache_bytes = max_cache_bytes
        self._sources: dict[str, Store] = {}

    def fetch(self, ref: FileRef) -> Path:
        """Return a local copy of a blob.

        Raises:
            InvariantError: The root has lost it, or it is damaged.
        """
        path = self._cache / f"{ref.sha256}{ref.suffix}"
        if self._store.local_root:
            path = self._store.local_root / ref.name
        if path.exists():
            return path
        try:
            self._make_room(ref.num_bytes)
            self._store.fetch(ref.name, path, ref.sha256)
        except FileNotFoundError as error:
            raise InvariantError(
                f"{self._store.uri}/{ref.name} is missing; run handloom verify"
            ) from error
        return path

    def fetch_source(self, source: SourceVideo) -> Path:
        """Copy a source under a name of our own, checking that it is what was listed.

        Raises:
            DataError: ``source_changed``, ``source_missing``, ``archived`` or ``unreadable``.
        """
        path = self._cache / f"source-{source.content_sha256}"
        if path.exists():
            return path
        self._make_room(source.num_bytes)
        detail = f"{source.uri} is not what was listed; run again"
        with written_whole(path) as partial:
            try:
                found = self._copy(source, partial)
            except FileNotFoundError as error:
                raise DataError("source_missing", f"{source.uri} is gone") from error
            except ObjectChangedError as error:
                raise DataError("source_changed", detail) from error
            except ObjectArchivedError as error:
                raise DataError("archived", str(error)) from error
            except TransientError as error:
                raise DataError("unreadable", str(error)) from error
            if found != source.content_sha256:
                raise DataError("source_changed", detail)
        return path

    def _copy(self, source: SourceVideo, target: Path) -> str:
        """Copy a source's bytes; returns their sha256."""
        digest = hashlib.sha256()
        with target.open("wb") as out:
            for chunk in self._read_source(source):
                digest.update(chunk)
                out.write(chunk)
        return digest.hexdigest()

    def _read_source(self, source: SourceVideo) -> Iterator[bytes]:
        """Read a source, local or remote, by the same retried and version-checked calls."""
        parent, _, name = source.uri.rpartition("/")
        if parent not in self._sources:
            options = self._source_options if is_remote(source.uri) else StoreOptions()
            self._sources = {parent: Store(parent or "/", options)}  # the last one is enough
        yield from self._sources[parent].stream(name)

    def store(self, path: Path, ref: FileRef) -> None:
        """Put a file under its content name unless it is there."""
        hit("worker.blob.before")
        self._store.put_new(ref.name, path)
        hit("worker.blob.after")

    def _make_room(self, num_bytes: int) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        files = sorted(
            (p for p in self._cache.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime
        )
        total = sum(p.stat().st_size for p in files) + num_bytes
        for path in files:
            if total <= self._max_cache_bytes:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
