"""Which Anny is installed: what can be said of it without loading it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from schemas.base import BackendRef
from schemas.errors import ConfigError

TABLE_VERSION = 5
"""Of the table that ``anny_body`` builds from the package."""
_INSTALL = "pip install anny==0.6.2"


def check_anny() -> None:
    """Raise ConfigError if the package is not installed (without importing it)."""
    if find_spec("anny") is None:
        raise ConfigError(f"the body backend 'anny' needs the anny package: {_INSTALL}")


def anny_version() -> str:
    """Version of the installed package."""
    try:
        return version("anny")
    except PackageNotFoundError as error:
        raise ConfigError(f"the body backend 'anny' needs the anny package: {_INSTALL}") from error


@cache
def anny_weights_sha256() -> str:
    """Digest over the package's own model data (mesh, rig, skinning weights) and our table version."""
    spec = find_spec("anny")
    if spec is None or spec.origin is None:
        raise ConfigError(f"the body backend 'anny' needs the anny package: {_INSTALL}")
    data = Path(spec.origin).parent / "data"
    digest = hashlib.sha256(f"{anny_version()}/{TABLE_VERSION}".encode())
    for name in (
        "mpfb2/3dobjs/base.obj",
        "mpfb2/rigs/standard/rig.default.json",
        "mpfb2/rigs/standard/weights.default.json",
        "keypoints/coco.pth",
    ):
        digest.update((data / name).read_bytes())
    return digest.hexdigest()


def anny_ref() -> BackendRef:
    """How reports name this backend."""
    return BackendRef(
        name="anny",
        version=anny_version(),
        weights_sha256=anny_weights_sha256(),
        licence="Apache-2.0 (code), CC0-1.0 (assets)",
    )
