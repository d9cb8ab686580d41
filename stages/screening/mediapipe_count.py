"""Counting people with mediapipe: done by the graphs that find the landmarks, see ``people_count.py``."""

from __future__ import annotations

from typing import ClassVar, Literal

from schemas.backend import About, BackendConfig, Resources
from schemas.base import BackendRef
from stages.kit.arrays import Image
from stages.kit.mediapipe_package import ABOUT, MEDIAPIPE, check_mediapipe
from stages.screening.people import PeopleBackend


class MediapipeConfig(BackendConfig):
    """Faces, and a second body once the first is painted over."""

    about: ClassVar[About] = ABOUT
    name: Literal["mediapipe"] = "mediapipe"

    def build(self) -> MediapipeCount:
        """The counter."""
        return MediapipeCount()


class MediapipeCount(PeopleBackend):
    """Leaves counting to the landmarks' graphs."""

    @property
    def ref(self) -> BackendRef:
        """The package."""
        return MEDIAPIPE

    @property
    def resources(self) -> Resources:
        """Several graphs."""
        return Resources(memory_bytes=1_500_000_000)

    def check(self) -> None:
        """Check the package; ConfigError where it is missing."""
        check_mediapipe()

    def count(self, frame: Image) -> int | None:
        """None: see the class."""
        del frame
        return None
