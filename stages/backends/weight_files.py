"""Weight files that the user gives: local, present, and the ones that were meant."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from schemas.errors import ConfigError


def check_weight_file(path: str, pinned_sha256: str, setting: str, what: str) -> None:
    """Check that a weight file is there and has its pinned content.

    Args:
        path: A local path.
        pinned_sha256: Expected digest, empty for any.
        setting: The recipe's key, for the message.
        what: What to put there, for the message.

    Raises:
        ConfigError: No such file, or another content.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{setting}: no weight file at {path!r}; set it to the path of {what}")
    if pinned_sha256 and sha256_of(path) != pinned_sha256.lower():
        raise ConfigError(
            f"{setting}: {path} has sha256 {sha256_of(path)}, but {pinned_sha256} is pinned; "
            "put the pinned file there or correct the pin"
        )


@functools.cache
def sha256_of(path: str) -> str:
    """Digest of a file, computed once per process."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
