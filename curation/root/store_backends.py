"""What a store does underneath: a local folder through the file system, a bucket through obstore.

Both create objects whole or not at all, and never overwrite.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    InvalidPathError,
    PreconditionError,
)
from obstore.store import ObjectStore, from_url

from curation.root.endpoints import endpoint_of
from curation.root.odd_keys import list_as_they_are
from schemas.base import Model
from schemas.durable import sync
from schemas.errors import ConfigError, HandloomError

TMP_FOLDER = "tmp"
"""Where a local store keeps files that are still being written; ``vacuum`` clears it."""
CHUNK_BYTES = 8 << 20
_CONNECT_S, _LARGE_PUT_S = 10.0, 900.0


class StoreOptions(Model):
    """How to reach an object store. Credentials are not options: they come from the environment."""

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    timeout_s: float = 60.0
    """One request of at most 8 MiB that takes longer is tried again."""


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One listed object: name below the store's root, size, and the store's version tag."""

    name: str
    num_bytes: int
    version: str
    modified_s: float


class ObjectChangedError(HandloomError):
    """An object was replaced while it was read."""


def check_name(name: str) -> str:
    """Refuse a name that would lead out of its store.

    Raises:
        ConfigError: It is empty or absolute, or has ``..`` among its parts.
    """
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ConfigError(f"{name!r} is no name of an object below a root: it was refused")
    return name


class ObjectArchivedError(HandloomError):
    """An object lies in an archive and must be restored before it can be read."""


class AccessDeniedError(ConfigError):
    """The store or the file system denies access."""


class Backend(Protocol):
    """The operations that a store needs. A missing object is ``FileNotFoundError``."""

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Create an object whole; False if there is one of that name already."""

    def head(self, name: str) -> ObjectMeta:
        """Size and version of an object."""

    def read_range(self, name: str, start: int, end: int, version: str) -> bytes:
        """Bytes ``[start, end)`` of a version, or ObjectChangedError."""

    def read(self, name: str) -> bytes:
        """A whole object."""

    def list(self, prefix: str) -> list[ObjectMeta]:
        """Every object below a folder-like prefix."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is no error."""


class FolderBackend:
    """Objects as files below a folder. An object appears by a hard link, after its bytes are on disk.

    Args:
        root: The folder; nothing is created before the first write.
        marker: A file of this name must be in the folder before anything is written; empty: none need be.
    """

    def __init__(self, root: Path, marker: str = "") -> None:
        self._root, self._marker = root, marker

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Create a file whole; False if there is one of that name already."""
        final = self._root / check_name(name)
        if self._marker and not (self._root / self._marker).exists():
            raise ConfigError(
                f"{self._root} is no Handloom root on {socket.gethostname()}: nothing was written; use a "
                "mount that all nodes share, or a bucket"
            )
        if final.exists():
            return False
        folder = self._root / TMP_FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # /proc and the like
            raise ConfigError(f"{folder} cannot be created") from error
        temp = folder / uuid.uuid4().hex
        try:
            if isinstance(data, Path):
                shutil.copyfile(data, temp)
            else:
                temp.write_bytes(data)
            sync(temp)
            _link_new(temp, final)
        except FileExistsError:
            return False
        finally:
            temp.unlink(missing_ok=True)
        sync(final.parent)
        return True

    def head(self, name: str) -> ObjectMeta:
        """Size and version of a file."""
        stat = (self._root / check_name(name)).stat()
        return ObjectMeta(
            name, stat.st_size, f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}", stat.st_mtime
        )

    def read_range(self, name: str, start: int, end: int, version: str) -> bytes:
        """Bytes ``[start, end)`` of a version."""
        with (self._root / check_name(name)).open("rb") as handle:
            handle.seek(start)
            data = handle.read(end - start)
        if self.head(name).version != version or len(data) != end - start:
            raise ObjectChangedError(f"{self._root / name} changed while it was read")
        return data

    def read(self, name: str) -> bytes:
        """A whole file."""
        return (self._root / check_name(name)).read_bytes()

    def list(self, prefix: str) -> list[ObjectMeta]:
        """Every file below a folder."""
        found = []
        for current, _, names in os.walk(self._root / (prefix and check_name(prefix))):
            below = Path(current).relative_to(self._root)
            for name in names:
                try:
                    found.append(self.head(str(below / name)))
                except FileNotFoundError:
                    continue  # it went away between the listing and the look
        return found

    def delete(self, name: str) -> None:
        """Remove a file, and its folder once that is empty."""
        path = self._root / check_name(name)
        path.unlink(missing_ok=True)
        folder = path.parent
        while folder != self._root and folder.is_relative_to(self._root):
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or gone
            folder = folder.parent


class BucketBackend:
    """Objects of an S3, Google or Azure bucket prefix.

    Args:
        uri: ``s3://bucket/prefix`` (also gs, az).
        options: Endpoint, region, anonymous access, request timeout.

    Raises:
        ConfigError: The options do not fit the scheme, or the client refuses them.
    """

    def __init__(self, uri: str, options: StoreOptions) -> None:
        self._uri, self._options = uri, options
        self._store = _open(uri, options, options.timeout_s)
        # one request carries a whole object: create-if-absent does not go with multipart uploads
        self._large = _open(uri, options, max(options.timeout_s, _LARGE_PUT_S))

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Create an object whole; False if there is one of that name already."""
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        store = self._store if size <= CHUNK_BYTES else self._large
        try:
            obstore.put(store, check_name(name), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except FileNotFoundError as error:
            raise ConfigError(f"cannot write to {self._uri}: there is no such bucket") from error
        return True

    def head(self, name: str) -> ObjectMeta:
        """Size and version of an object."""
        return _meta(dict(obstore.head(self._store, check_name(name))))

    def read_range(self, name: str, start: int, end: int, version: str) -> bytes:
        """Bytes ``[start, end)`` of a version."""
        options: Any = {"range": (start, end)}
        if version:
            options["if_match"] = version
        try:
            result = obstore.get(self._store, check_name(name), options=options)
            data = bytes(result.bytes())
        except PreconditionError as error:
            raise ObjectChangedError(f"{self._uri}/{name} changed while it was read") from error
        if len(data) != end - start or (result.meta["e_tag"] or "") != version:
            raise ObjectChangedError(f"{self._uri}/{name} changed while it was read")
        return data

    def read(self, name: str) -> bytes:
        """A whole object."""
        return bytes(obstore.get(self._store, check_name(name)).bytes())

    def _list_odd(self, prefix: str) -> list[ObjectMeta]:
        options = self._options
        return [
            ObjectMeta(name, num_bytes, "", modified_s)
            for name, num_bytes, modified_s in list_as_they_are(
                self._uri, prefix, endpoint=options.endpoint_url, region=options.region,
                anonymous=options.anonymous,
            )
        ]  # fmt: skip

    def list(self, prefix: str) -> list[ObjectMeta]:
        """Every object below a folder-like prefix."""
        try:
            batches = list(obstore.list(self._store, (prefix and check_name(prefix)) or None))
        except InvalidPathError:
            return self._list_odd(prefix)
        except (FileNotFoundError, GenericError) as error:
            if isinstance(error, GenericError) and "NoSuchBucket" not in str(error):
                raise
            raise ConfigError(f"cannot list {self._uri}: there is no such bucket") from error
        found = [_meta(dict(item)) for batch in batches for item in batch]
        # obstore drops slashes at the ends of keys: two keys may have become one
        return found if len({m.name for m in found}) == len(found) else self._list_odd(prefix)

    def delete(self, name: str) -> None:
        """Remove an object."""
        try:
            obstore.delete(self._store, check_name(name))
        except FileNotFoundError:
            return  # an earlier try whose answer was lost


def _meta(item: dict[str, Any]) -> ObjectMeta:
    return ObjectMeta(
        item["path"], item["size"], item["e_tag"] or "", item["last_modified"].timestamp()
    )


def _open(uri: str, options: StoreOptions, timeout_s: float) -> ObjectStore:
    scheme = urlsplit(uri).scheme
    if scheme != "s3" and (options.endpoint_url or options.region):
        raise ConfigError(f"{uri}: an endpoint and a region can only be chosen for s3://")
    config: dict[str, Any] = {"skip_signature": True} if options.anonymous else {}
    if options.region:
        config["region"] = options.region
    if options.endpoint_url:
        config |= {"endpoint": options.endpoint_url, "virtual_hosted_style_request": False}
    endpoint = endpoint_of(options.endpoint_url) if scheme == "s3" else ""
    client = {
        "allow_http": endpoint.startswith("http://"),
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
    }
    retry = {"max_retries": 2, "retry_timeout": timedelta(seconds=2 * timeout_s)}
    try:
        return from_url(uri, config=config, client_options=client, retry_config=retry)  # type: ignore[call-overload]
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise ConfigError(f"{uri}: {str(error).strip().splitlines()[0]}") from error


def _link_new(temp: Path, final: Path) -> None:
    """Give a complete file its name; its folder may be tidied away under our hands."""
    for is_last in (False, False, True):
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temp, final)
        except FileNotFoundError:
            if is_last:
                raise
        else:
            return
