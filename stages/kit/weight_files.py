"""Weight files that the user gives: local, present, and the ones that were meant."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


def fill_net(
    net: Any, read: Callable[[str], Mapping[str, Any]], weights_file: str, setting: str
) -> None:
    """Give a torch module the arrays of a file.

    Args:
        net: The module; its counters of batches may be missing in the file.
        read: Gives a file's tensors by name.
        weights_file: A local path.
        setting: The recipe's key, for messages.

    Raises:
        ConfigError: The file cannot be read, or its arrays are not this module's.
    """
    try:
        missing, unknown = net.load_state_dict(read(weights_file), strict=False)
    except Exception as error:
        raise ConfigError(f"{setting}: {weights_file}: {error}") from error
    lost = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lost or unknown:
        raise ConfigError(
            f"{setting}: {weights_file} is of another network: missing {lost[:3]}, unknown {unknown[:3]}"
        )
