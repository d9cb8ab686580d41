"""What recovers a body over a clip: the contract of the ``body`` stage's backends."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from schemas.backend import Backend
from schemas.rows import Clip
from stages.base import Dropped
from stages.body.detections import Detections
from stages.files import Files
from stages.kit.arrays import F32, F64, Arrays, Flags
from stages.kit.landmarks import Landmarks


class Scored(Protocol):
    """What the scores are computed from."""

    @property
    def is_valid(self) -> Flags:
        """(T,)."""

    @property
    def joints_px(self) -> F32:
        """(T,J,2)."""

    @property
    def body_error_head(self) -> F64:
        """(T,K), NaN where nothing was seen."""

    @property
    def hand_error_head(self) -> F64:
        """(T,42), likewise."""


@dataclass(frozen=True)
class BodyView:
    """A clip as backends see it."""

    row: Clip
    files: Files
    landmarks: Landmarks
    """What ``detect`` has found."""
    seen: Detections
    """The same, read."""


@dataclass(frozen=True)
class Recovered:
    """A body over a clip."""

    arrays: Arrays
    """What is stored: see ``schemas.facets.BodyFacet``."""
    scored: Scored


class BodyBackend(Backend):
    """Gives a clip its body."""

    @abstractmethod
    def recover(self, view: BodyView) -> Recovered | Dropped:
        """The body in every frame, or why there is none.

        Raises:
            DataError: ``fit_failed`` if a fit gives no finite numbers, ``no_results`` or ``bad_result`` if saved
                results are missing or broken.
        """
