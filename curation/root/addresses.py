"""Addresses of sources and roots as text: nothing is opened, and nothing heavy is imported."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import ConfigError

SCHEMES = ("s3", "gs", "az")
_MAX_LIST_BYTES = 1 << 30


def is_remote(uri: str) -> bool:
    """True for s3://, gs:// and az:// addresses."""
    return urlsplit(uri).scheme in SCHEMES


def redact(text: str) -> str:
    """Hide what may be a secret in an address or an error text.

    >>> redact("s3://key:secret@bucket/x?X-Amz-Signature=abc&a=1")
    's3://***@bucket/x?X-Amz-Signature=***&a=1'
    """
    text = re.sub(r"(?<=://)[^/@\s]+:[^/@\s]+(?=@)", "***", text)
    secret = r"X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|token"  # noqa: S105 - names, not values
    return re.sub(rf"((?:{secret})=)[^&\s\"']+", r"\1***", text, flags=re.IGNORECASE)


def join(base: str, name: str) -> str:
    """Join an address and a relative name."""
    return f"{base.rstrip('/')}/{name}" if name else base


def printable(text: str) -> str:
    r"""Write the bytes of a file name that are no UTF-8 as ``\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def read_address_list(source: str) -> list[str]:
    """Read addresses from a text file, one a line; blank lines and lines that begin with ``#`` are skipped.

    Args:
        source: Path of the file, UTF-8, or ``-`` for standard input. Relative paths in it are relative to where
            the command runs.

    Raises:
        ConfigError: It cannot be read, is no text, holds nothing, or names a local file that is not there.
    """
    name = "standard input" if source == "-" else printable(source)
    try:
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            data = file.read(_MAX_LIST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} cannot be read as a list of files: {error}") from error
    if len(data) > _MAX_LIST_BYTES or "\0" in text:
        raise ConfigError(f"{name} is no list of files: over {_MAX_LIST_BYTES} bytes, or not text")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        address = line.strip()
        if not address or address.startswith("#"):
            continue
        if not is_remote(address) and not Path(address).exists():
            raise ConfigError(f"{name}, line {number}: {printable(address)} does not exist")
        found.append(address)
    if not found:
        raise ConfigError(f"{name} names no file: expected an address a line")
    return found


def require_paths(addresses: Sequence[str]) -> None:
    """Check that local addresses are there.

    Raises:
        ConfigError: One is not.
    """
    for address in addresses:
        if not is_remote(address) and not Path(address).exists():
            raise ConfigError(
                f"{printable(address)} does not exist; give a video file, a folder or a bucket address"
            )
