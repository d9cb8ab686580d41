"""The user's local model folders: found, digested, never downloaded."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import ConfigError


def model_folder(folder: str | None, key: str, what: str) -> Path:
    """Return the user's local model folder.

    Raises:
        ConfigError: Not set, or it has no ``config.json`` or no safetensors weights.
    """
    if not folder:
        raise ConfigError(f"{key} is not set: put the {what} into a local folder and name it there")
    path = Path(folder)
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise ConfigError(
            f"{key}={folder}: expected a folder with config.json and *.safetensors ({what}); "
            "Handloom downloads nothing and reads no pickles"
        )
    return path


def weights_digest(folder: Path) -> str:
    """Digest of a model folder: sha256 over the names and digests of its json, model and text files."""
    names = sorted(
        p for p in folder.iterdir() if p.suffix in {".safetensors", ".json", ".model", ".txt"}
    )
    digests = {p.name: _file_sha256(p) for p in names}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_package(name: str, why: str) -> None:
    """Check that an optional package is installed, without importing it.

    Raises:
        ConfigError: It is not; the message says how to install it.
    """
    if find_spec(name) is None:
        raise ConfigError(f"{why} needs the package {name}: pip install 'handloom[wan]'")
