"""A backend of the detect stage, whole: what somebody writes who adds one. It sees the same number of people everywhere."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.backend import About, BackendConfig, Resources
from schemas.base import BackendRef
from stages.screening.people import PeopleBackend

_ABOUT = About("toy", "numpy", "Apache-2.0")


class ToyConfig(BackendConfig):
    """Always as many people."""

    about: ClassVar[About] = _ABOUT
    name: Literal["toy"] = "toy"
    num_people: int = Field(default=1, ge=0)
    """How many."""

    def build(self) -> ToyPeople:
        """The counter."""
        return ToyPeople(self.num_people)


class ToyPeople(PeopleBackend):
    """Counts."""

    def __init__(self, num_people: int) -> None:
        self._num_people = num_people

    @property
    def ref(self) -> BackendRef:
        """What facets show."""
        return BackendRef(name=_ABOUT.name, version="1", licence=_ABOUT.licence)

    @property
    def resources(self) -> Resources:
        """Next to nothing."""
        return Resources(memory_bytes=1_600_000_000)

    def count(self, frame: NDArray[np.uint8]) -> int | None:
        """The same everywhere."""
        return self._num_people
