"""Listing buckets in which a key is none that obstore can name, such as ``a//b.mp4``.

obstore gives up on the whole page of such a listing. pyarrow's client takes keys as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector, FileType, S3FileSystem

from curation.root.endpoints import endpoint_of
from schemas.errors import ConfigError


def list_as_they_are(
    uri: str, prefix: str, *, endpoint: str | None, region: str | None, anonymous: bool
) -> Iterator[tuple[str, int, float]]:
    """Name below ``uri``, size in bytes and time of each object below a folder-like prefix.

    Raises:
        ConfigError: The store is none of S3's kind.
        OSError: It does not answer, or denies access.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        raise ConfigError(
            f"{uri} has keys with empty, '.' or '..' parts or control characters, which cannot be "
            f"listed on {parts.scheme}://: copy them to other keys"
        )
    address = urlsplit(endpoint_of(endpoint))
    options: dict[str, object] = {"anonymous": anonymous}
    if address.scheme:
        options |= {"scheme": address.scheme, "endpoint_override": address.netloc}
    named = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    base = f"{parts.netloc}{parts.path}".rstrip("/")
    filesystem = S3FileSystem(**options, **({"region": named} if named else {}))
    selector = FileSelector(f"{base}/{prefix}".rstrip("/"), recursive=True, allow_not_found=True)
    found = filesystem.get_file_info(selector)
    files = [info for info in found if info.type is FileType.File]
    for info in files:
        yield info.path[len(base) + 1 :], info.size, (info.mtime_ns or 0) / 1e9
    parents = {info.path.rpartition("/")[0] for info in found}
    folders = {info.path for info in found if info.type is FileType.Directory}
    for folder in sorted(folders - parents):  # of which there is nothing but the marker
        yield folder[len(base) + 1 :], 0, 0.0
