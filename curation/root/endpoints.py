"""What is wrong with an endpoint, in words: its address, or that nothing answers there."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from urllib.parse import urlsplit

from schemas.errors import ConfigError

_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_CONNECT_S = 3.0


def endpoint_of(given: str | None) -> str:
    """The endpoint of S3 requests: the given one, else the environment's, else empty.

    Raises:
        ConfigError: It is no ``http://`` or ``https://`` address, or carries credentials.
    """
    named = {"--endpoint-url": given or ""} | {v: os.environ.get(v, "") for v in _VARIABLES}
    for origin, endpoint in named.items():
        if endpoint:
            _check(origin, endpoint)
            return endpoint
    return ""


def _check(origin: str, endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.username or parts.password:
        raise ConfigError(f"{origin}: credentials belong in the environment, not the address")
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or parts.query:
        raise ConfigError(
            f"{origin} is {endpoint[:200]!r}: expected http://host:port or https://host"
        )


def why_unreachable(endpoint: str) -> str:
    """Say why no connection to an endpoint can be made; empty if one can, or if it goes through a proxy."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    is_proxied = urllib.request.getproxies().get(parts.scheme) is not None
    if not host or (is_proxied and not urllib.request.proxy_bypass(host)):
        return ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError as error:
        return f"nothing answers at {endpoint}: {error.strerror or error}"
    return ""
