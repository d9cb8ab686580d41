"""One storage primitive for local folders and object stores: create if absent.

Nothing is ever overwritten, and only ``vacuum`` deletes. Buckets go through obstore; credentials
come from the environment alone and never reach rows, logs or error messages.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import random
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError

from curation.log_lines import tell
from curation.root.addresses import SCHEMES, is_remote, join, redact
from curation.root.endpoints import endpoint_of, why_unreachable
from curation.root.store_backends import (
    CHUNK_BYTES,
    TMP_FOLDER,
    AccessDeniedError,
    Backend,
    BucketBackend,
    FolderBackend,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectMeta,
    StoreOptions,
)
from schemas.durable import written_whole
from schemas.errors import (
    ConfigError,
    HandloomError,
    InvariantError,
    ResumeMismatchError,
    TransientError,
)
from schemas.manifest import ROOT_MARKER

__all__ = [
    "AccessDeniedError",
    "ObjectArchivedError",
    "ObjectChangedError",
    "ObjectMeta",
    "Store",
    "StoreOptions",
    "is_remote",
    "join",
    "redact",
]

_MAX_TRIES = 5
log = logging.getLogger(__name__)
_METADATA_HOST = "169.254.169.254"
PROBE_FOLDER = "probe"
T = TypeVar("T")


class Store:
    """A folder or bucket prefix with create-if-absent writes.

    Args:
        uri: A local path or ``s3://bucket/prefix`` (also gs, az).
        options: Endpoint, region, anonymous access.
        may_begin: A folder or prefix that is no root yet may become one. A worker's store may not: what is
            no root where it runs is another disk than the driver's.

    Raises:
        ConfigError: Unknown scheme, or the address carries credentials.
    """

    def __init__(
        self, uri: str, options: StoreOptions | None = None, *, may_begin: bool = True
    ) -> None:
        self.options, self.may_begin = options or StoreOptions(), may_begin
        self._backend: Backend
        if is_remote(uri):
            if urlsplit(uri).username:
                raise ConfigError(
                    f"{redact(uri)}: credentials belong in the environment, not the address"
                )
            if not urlsplit(uri).netloc:
                raise ConfigError(f"{uri}: expected a bucket, such as s3://bucket/prefix")
            self.uri, self.local_root = uri.rstrip("/"), None
            self._backend = BucketBackend(self.uri, self.options)
        elif "://" in uri:
            raise ConfigError(f"{redact(uri)}: expected a local path or one of {SCHEMES}")
        else:
            self.local_root = Path(uri).absolute()
            self.uri = str(self.local_root)
            self._backend = FolderBackend(self.local_root, ROOT_MARKER if not may_begin else "")

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[str, StoreOptions]]:
        """Travel to workers as an address; connections, credentials and the right to begin stay behind."""
        return _travelled, (self.uri, self.options)

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Create an object whole or not at all.

        Returns:
            True if this call created it. False if there is one of that name, which is left alone; it
            may be this call's own, when the store's answer was lost on the way: see ``put_mine``.
        """
        return self._guard(f"write {name}", lambda: self._backend.put_new(name, data))

    def put_mine(self, name: str, data: bytes) -> bool:
        """Create an object whose content is this caller's alone, such as a random token.

        Returns:
            True if the object is ours, also when the answer to an earlier try was lost.
        """
        return self.put_new(name, data) or self.read(name) == data

    def read(self, name: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: There is none of that name.
        """
        return self._guard(f"read {name}", lambda: self._backend.read(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """Read an object in chunks, all of one version; each chunk is retried on its own.

        Raises:
            FileNotFoundError: There is none of that name.
            ObjectChangedError: It was replaced or removed meanwhile.
        """
        meta = self._guard(f"look up {name}", lambda: self._backend.head(name))
        for start in range(0, meta.num_bytes, CHUNK_BYTES):
            end = min(start + CHUNK_BYTES, meta.num_bytes)
            try:
                yield self._guard(
                    f"read {name}",
                    partial(self._backend.read_range, name, start, end, meta.version),
                )
            except FileNotFoundError as error:
                raise ObjectChangedError(f"{join(self.uri, name)} went away") from error

    def fetch(self, name: str, path: Path, sha256: str = "") -> None:
        """Copy an object to a local file, whole or not at all.

        Raises:
            FileNotFoundError: There is none of that name.
            InvariantError: Its content has another sha256 than the given one.
        """
        digest = hashlib.sha256()
        with written_whole(path) as partial:
            with partial.open("wb") as out:
                for chunk in self.stream(name):
                    digest.update(chunk)
                    out.write(chunk)
            if sha256 and digest.hexdigest() != sha256:
                raise InvariantError(f"{join(self.uri, name)} is damaged; run handloom verify")

    def exists(self, name: str) -> bool:
        """True if there is an object of that name."""
        return self.head(name) is not None

    def head(self, name: str) -> ObjectMeta | None:
        """Size and version of an object, None if there is none of that name."""
        try:
            return self._guard(f"look up {name}", lambda: self._backend.head(name))
        except FileNotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        """List objects below a folder-like prefix, sorted by name."""
        found = self._guard(f"list {prefix or 'objects'}", lambda: self._backend.list(prefix))
        return iter(sorted(found, key=lambda o: o.name))

    def delete(self, name: str) -> None:
        """Delete one object: for ``vacuum``, and for a run's own lease."""
        self._guard(f"delete {name}", lambda: self._backend.delete(name))

    def check_create_if_absent(self) -> None:
        """Prove that the store honours create-if-absent.

        Raises:
            ConfigError: It accepted the same new name twice: commits would not be safe here.
        """
        name, ours = f"{PROBE_FOLDER}/{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
        first, second = self.put_mine(name, ours), self.put_new(name, b"second")
        kept = self.read(name) == ours
        self.delete(name)
        if not first or second or not kept:
            raise ConfigError(
                f"{redact(self.uri)} ignores create-if-absent (If-None-Match): two runs could "
                "corrupt each other; use a store that honours it"
            )

    def _guard(self, what: str, call: Callable[[], T]) -> T:
        """Run one storage call with bounded retries and errors that name the store."""
        where = f"cannot {what} in {redact(self.uri)}"
        for attempt in range(_MAX_TRIES):
            try:
                return call()
            except (FileNotFoundError, HandloomError):
                raise
            except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
                raise self._denied(where, error) from error
            except OSError as error:
                if error.errno == errno.EROFS:
                    raise ConfigError(f"{where}: the file system is read-only") from error
                # disks do not heal by waiting
                raise HandloomError(f"{where}: {error.strerror or error}") from error
            except GenericError as error:
                if _status(error) in (401, 403):  # listings have no error types of their own
                    raise self._denied(where, error) from error
                if attempt == _MAX_TRIES - 1:
                    why = self._unreachable() or _first_line(error)
                    raise TransientError(f"{where} after {_MAX_TRIES} tries: {why}") from error
                told = f"{what} in {redact(self.uri)}"
                tell(log, "store_retry", what=told, attempt=attempt + 1, error=_first_line(error))
                time.sleep(min(8.0, 0.2 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311
            except BaseError as error:
                raise TransientError(f"{where}: {_first_line(error)}") from error
            except BaseException as error:
                if type(error).__name__ != "PanicException":  # obstore's, of no type of its own
                    raise
                raise HandloomError(f"{where}: {_first_line(error)}") from error
        raise AssertionError("unreachable")

    def _denied(self, where: str, error: Exception) -> HandloomError:
        """What a denial really says: so do archives, and machines that have no credentials."""
        if self.local_root:
            return AccessDeniedError(f"{where}: access denied; check the folder's permissions")
        if "InvalidObjectState" in str(error):
            return ObjectArchivedError(f"{where}: it lies in an archive; restore it and run again")
        unreachable = self._unreachable()
        if unreachable:
            return TransientError(f"{where}: {unreachable}")
        if _METADATA_HOST in str(error):
            return AccessDeniedError(
                f"{where}: there are no credentials in the environment, and this machine has none of its "
                "own; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --anon"
            )
        return AccessDeniedError(
            f"{where}: access denied; check the credentials in the environment and the policy of the bucket"
        )

    def _unreachable(self) -> str:
        is_s3 = urlsplit(self.uri).scheme == "s3"
        return why_unreachable(endpoint_of(self.options.endpoint_url)) if is_s3 else ""


def _travelled(uri: str, options: StoreOptions) -> Store:
    return Store(uri, options, may_begin=False)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error's text tells."""
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found.group(1)) if found else None


def _first_line(error: BaseException) -> str:
    return (
        redact(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
    )


def check_may_begin(store: Store) -> None:
    """Check that a place that is no root may become one.

    Raises:
        ConfigError: It holds something else.
    """
    # another driver, or a dead one, may be just here
    ours = (f"{PROBE_FOLDER}/", f"{TMP_FOLDER}/", ROOT_MARKER)
    if any(not meta.name.startswith(ours) for meta in store.list()):
        raise ConfigError(
            f"{store.uri} is not empty and is not a Handloom root; give an empty or new folder"
        )


def require_format(store: Store, created_by: str, version: int) -> None:
    """Mark a new output root, or check that an old one is ours and readable.

    Raises:
        ResumeMismatchError: The root was written by a newer format.
        ConfigError: The folder holds something else.
    """
    marker = json.dumps({"format": "handloom-root", "version": version, "created_by": created_by})
    try:
        found = json.loads(store.read(ROOT_MARKER))
    except FileNotFoundError:
        if not store.may_begin:
            raise ConfigError(
                f"{redact(store.uri)} is no Handloom root on {socket.gethostname()}: workers never make one"
            ) from None
        check_may_begin(store)
        try:
            store.check_create_if_absent()
            store.put_new(ROOT_MARKER, marker.encode())
        except HandloomError as error:
            raise ConfigError(f"the output root cannot be used: {error}") from error
        return
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{store.uri}/{ROOT_MARKER} is not readable: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("version"), int):
        raise ConfigError(f"{store.uri}/{ROOT_MARKER} is no marker of a Handloom root")
    if found.get("format") != "handloom-root" or found["version"] > version:
        raise ResumeMismatchError(
            f"{store.uri} has format {found.get('format')} v{found.get('version')}; this Handloom "
            f"reads handloom-root up to v{version}: upgrade Handloom or choose another root"
        )
