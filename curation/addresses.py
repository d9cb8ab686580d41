"""Addresses of sources and roots as text: nothing is opened, and nothing heavy is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import ConfigError

SCHEMES = ("s3", "gs", "az")


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
