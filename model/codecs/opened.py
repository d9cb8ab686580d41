"""Backends that are opened whole: codecs and encoders, the embedded ones and those of the user's folders."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from model.codecs.weight_folders import model_folder, require_package, weights_digest
from schemas.backend import Backend
from schemas.base import BackendRef


class HasRef(Protocol):
    """What is opened says what it is."""

    @property
    def ref(self) -> BackendRef:
        """Name, version, digest of the weights, licence."""


T = TypeVar("T", bound=HasRef)


class OpenedBackend(Backend, Generic[T]):
    """Holds a codec or an encoder, opened at its first use."""

    @abstractmethod
    def _open(self) -> T:
        """Load it."""

    @cached_property
    def opened(self) -> T:
        """The codec or encoder itself, after a check.

        Raises:
            ConfigError: See ``check``.
        """
        self.check()
        return self._open()

    @property
    def ref(self) -> BackendRef:
        """What facets show: told by what is opened, so it opens it."""
        return self.opened.ref

    def setup(self) -> None:
        """Open it."""
        _ = self.opened


class FolderBackend(OpenedBackend[T]):
    """One whose weights lie in a local folder of the user's.

    Args:
        folder: With ``config.json`` and safetensors.
        key: The recipe's key of the folder, for messages.
        what: What to put there, for messages.
        package: What reads it.
    """

    def __init__(self, folder: str | None, key: str, what: str, package: str) -> None:
        self._given, self._key, self._what, self._package = folder, key, what, package

    @property
    def folder(self) -> Path:
        """Where it is; ConfigError if it is not."""
        return model_folder(self._given, self._key, self._what)

    @property
    def weights_sha256(self) -> str:
        """Digest over the folder's files."""
        return weights_digest(self.folder)

    def check(self) -> None:
        """Check folder and package.

        Raises:
            ConfigError: One is missing; the message says what to do.
        """
        _ = self.folder
        require_package(self._package, self._key)
