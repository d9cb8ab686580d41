"""One storage primitive for local folders and object stores: create if absent.

Nothing is ever overwritten, and only ``vacuum`` deletes. Blobs and control files go through obstore;
credentials come from the environment alone and never reach rows, logs or error messages.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, ObjectStore, from_url

from schemas.base import Model
from schemas.errors import ConfigError, HandloomError, ResumeMismatchError, TransientError

_SCHEMES = ("s3", "gs", "az")
_MAX_TRIES = 5
_CHUNK_BYTES = 8 << 20
T = TypeVar("T")


class StoreOptions(Model):
    """How to reach an object store. Credentials are not options: they come from the environment."""

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One listed object: name below the store's root, size, and the store's version tag."""

    name: str
    num_bytes: int
    version: str
    modified_s: float


def is_remote(uri: str) -> bool:
    """True for s3://, gs:// and az:// addresses."""
    return urlsplit(uri).scheme in _SCHEMES


def redact(text: str) -> str:
    """Hide what may be a secret in an address or an error text.

    >>> redact("s3://key:secret@bucket/x?X-Amz-Signature=abc&a=1")
    's3://***@bucket/x?X-Amz-Signature=***&a=1'
    """
    text = re.sub(r"(?<=://)[^/@\s]+:[^/@\s]+(?=@)", "***", text)
    secret = r"X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|token"  # noqa: S105 - names, not values
    return re.sub(rf"((?:{secret})=)[^&\s\"']+", r"\1***", text, flags=re.IGNORECASE)


class Store:
    """A folder or bucket prefix with create-if-absent writes.

    Args:
        uri: A local path or ``s3://bucket/prefix`` (also gs, az).
        options: Endpoint, region, anonymous access.

    Raises:
        ConfigError: Unknown scheme, or the address carries credentials.
    """

    def __init__(self, uri: str, options: StoreOptions | None = None) -> None:
        self.options = options or StoreOptions()
        if is_remote(uri):
            if urlsplit(uri).username:
                raise ConfigError(
                    f"{redact(uri)}: credentials belong in the environment, not the address"
                )
            self.uri, self.local_root = uri.rstrip("/"), None
            self._store: ObjectStore = _open_remote(self.uri, self.options)
        elif "://" in uri:
            raise ConfigError(f"{redact(uri)}: expected a local path or one of {_SCHEMES}")
        else:
            self.local_root = Path(uri).absolute()
            self.uri = str(self.local_root)
            self._store = LocalStore("/")

    def __reduce__(self) -> tuple[type[Store], tuple[str, StoreOptions]]:
        """Travel to workers as an address; connections and credentials stay behind."""
        return Store, (self.uri, self.options)

    def _path(self, name: str) -> str:
        """Name inside obstore: local stores are rooted at ``/`` so that opening creates nothing."""
        return f"{self.uri[1:]}/{name}" if self.local_root else name

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Create an object whole or not at all.

        Returns:
            True if this call created it, False if it was there already (it is not touched).
        """

        def attempt() -> bool:
            try:
                obstore.put(self._store, self._path(name), data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        created = self._guard(f"write {name}", attempt)
        if created and self.local_root:
            _fsync(self.local_root / name)
        return created

    def read(self, name: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: There is none of that name.
        """
        return self._guard(
            f"read {name}", lambda: bytes(obstore.get(self._store, self._path(name)).bytes())
        )

    def stream(self, name: str) -> Iterator[bytes]:
        """Read an object in chunks."""
        result = self._guard(f"read {name}", lambda: obstore.get(self._store, self._path(name)))
        for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object to a local file, whole or not at all."""

        def attempt() -> None:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temp:
                for chunk in self.stream(name):
                    temp.write(chunk)
            Path(temp.name).replace(path)

        self._guard(f"fetch {name}", attempt)

    def exists(self, name: str) -> bool:
        """True if there is an object of that name."""
        try:
            self._guard(f"look up {name}", lambda: obstore.head(self._store, self._path(name)))
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        """List objects below a folder-like prefix, sorted by name."""
        found: list[ObjectMeta] = []
        strip = len(self._path("")) if self.local_root else 0
        batches = self._guard(
            f"list {prefix}", lambda: list(obstore.list(self._store, self._path(prefix) or None))
        )
        for batch in batches:
            found.extend(
                ObjectMeta(
                    o["path"][strip:], o["size"], o["e_tag"] or "", o["last_modified"].timestamp()
                )
                for o in batch
            )
        return iter(sorted(found, key=lambda o: o.name))

    def delete(self, name: str) -> None:
        """Delete one object. Only ``vacuum`` calls this."""
        self._guard(f"delete {name}", lambda: obstore.delete(self._store, self._path(name)))

    def check_create_if_absent(self) -> None:
        """Prove that the store honours create-if-absent.

        Raises:
            ConfigError: It accepted the same new name twice: commits would not be safe here.
        """
        name = f"probe/{uuid.uuid4().hex}"
        first, second = self.put_new(name, b"1"), self.put_new(name, b"2")
        self.delete(name)
        if not first or second:
            raise ConfigError(
                f"{redact(self.uri)} ignores create-if-absent (If-None-Match): two runs could "
                "corrupt each other; use a store that honours it"
            )

    def _guard(self, what: str, call: Callable[[], T]) -> T:
        """Run one storage call with bounded retries and errors that name the store."""
        for attempt in range(_MAX_TRIES):
            try:
                return call()
            except FileNotFoundError:
                raise
            except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
                raise ConfigError(
                    f"cannot {what} in {redact(self.uri)}: access denied; check the credentials "
                    "in the environment and the policy of the bucket"
                ) from error
            except GenericError as error:
                if self.local_root:  # disks do not heal by waiting
                    raise HandloomError(
                        f"cannot {what} in {self.uri}: {_first_line(error)}"
                    ) from error
                if attempt == _MAX_TRIES - 1:
                    raise TransientError(
                        f"cannot {what} in {redact(self.uri)} after {_MAX_TRIES} tries: "
                        f"{_first_line(error)}"
                    ) from error
                time.sleep(min(8.0, 0.2 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311
            except BaseError as error:
                raise TransientError(
                    f"cannot {what} in {redact(self.uri)}: {_first_line(error)}"
                ) from error
        raise AssertionError("unreachable")


def join(base: str, name: str) -> str:
    """Join an address and a relative name."""
    return f"{base.rstrip('/')}/{name}" if name else base


def _open_remote(uri: str, options: StoreOptions) -> ObjectStore:
    if urlsplit(uri).scheme != "s3":
        return from_url(uri)
    config: dict[str, Any] = {}
    if options.region:
        config["region"] = options.region
    if options.endpoint_url:
        config |= {"endpoint": options.endpoint_url, "virtual_hosted_style_request": False}
    if options.anonymous:
        config["skip_signature"] = True
    endpoint = options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "")
    return from_url(  # type: ignore[call-overload]
        uri, config=config, client_options={"allow_http": endpoint.startswith("http://")}
    )


def _fsync(path: Path) -> None:
    """Make a new file and its directory entry survive a power cut."""
    for target in (path, path.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _first_line(error: Exception) -> str:
    return (
        redact(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
    )


def require_format(store: Store, created_by: str, version: int) -> None:
    """Mark a new output root, or check that an old one is ours and readable.

    Raises:
        ResumeMismatchError: The root was written by a newer format.
        ConfigError: The folder holds something else.
    """
    import json

    marker = json.dumps({"format": "handloom-root", "version": version, "created_by": created_by})
    try:
        found = json.loads(store.read("_format.json"))
    except FileNotFoundError:
        if any(True for _ in store.list()):
            raise ConfigError(
                f"{store.uri} is not empty and is not a Handloom root; give an empty or new folder"
            ) from None
        try:
            store.check_create_if_absent()
            store.put_new("_format.json", marker.encode())
        except HandloomError as error:
            raise ConfigError(f"the output root cannot be used: {error}") from error
        return
    except ValueError as error:
        raise ConfigError(f"{store.uri}/_format.json is not readable: {error}") from error
    if found.get("format") != "handloom-root" or int(found.get("version", 0)) > version:
        raise ResumeMismatchError(
            f"{store.uri} has format {found.get('format')} v{found.get('version')}; this Handloom "
            f"reads handloom-root up to v{version}: upgrade Handloom or choose another root"
        )
