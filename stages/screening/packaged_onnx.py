"""ONNX networks that lie in a wheel: where they are, and a session that keeps to one thread."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError


def packaged_file(package: str, version: str, file: str, otherwise: str = "") -> Path:
    """Where a wheel put a network.

    Args:
        package: Name of the distribution.
        version: The pinned one, for the message.
        file: Path within site-packages.
        otherwise: What a user may do instead of installing it.

    Raises:
        ConfigError: The package or the file is missing.
    """
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError as error:
        raise ConfigError(
            f"stage speech needs the package: pip install --no-deps {package}=={version}{otherwise}"
        ) from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing; reinstall {package}=={version}")
    return path


def one_thread_session(path: Path) -> Any:
    """An onnxruntime session on the CPU: workers are the parallelism."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
