"""Content-named files of an output root, as workers see them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from curation.storage import Store, StoreOptions, is_remote
from schemas.base import FileRef
from schemas.errors import DataError
from schemas.rows import SourceVideo

_CHUNK_BYTES = 8 << 20


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

    def fetch(self, ref: FileRef) -> Path:
        """Return a local copy of a blob."""
        if self._store.local_root:
            return self._store.local_root / ref.name
        path = self._cache / f"{ref.sha256}{ref.suffix}"
        if not path.exists():
            self._make_room(ref.num_bytes)
            self._store.fetch(ref.name, path)
        return path

    def fetch_source(self, source: SourceVideo) -> Path:
        """Copy a source under a name of our own, checking that it is what was listed.

        Raises:
            DataError: ``source_changed`` or ``source_missing``.
        """
        path = self._cache / f"source-{source.content_sha256}"
        if path.exists():
            return path
        self._make_room(source.num_bytes)
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self._cache, delete=False) as temp:
            for chunk in self._read_source(source):
                digest.update(chunk)
                temp.write(chunk)
        if digest.hexdigest() != source.content_sha256:
            Path(temp.name).unlink()
            raise DataError("source_changed", f"{source.uri} is not what was listed; run again")
        Path(temp.name).replace(path)
        return path

    def _read_source(self, source: SourceVideo) -> Iterator[bytes]:
        try:
            if is_remote(source.uri):
                parent, _, name = source.uri.rpartition("/")
                yield from Store(parent, self._source_options).stream(name)
            else:
                with Path(source.uri).open("rb") as handle:
                    while chunk := handle.read(_CHUNK_BYTES):
                        yield chunk
        except FileNotFoundError as error:
            raise DataError("source_missing", f"{source.uri} is gone") from error

    def store(self, path: Path, ref: FileRef) -> None:
        """Put a file under its content name unless it is there."""
        self._store.put_new(ref.name, path)

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
