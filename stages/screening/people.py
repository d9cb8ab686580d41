"""What counts the people of a frame: the contract of the ``detect`` stage's backends."""

from __future__ import annotations

from abc import abstractmethod

from schemas.backend import Backend
from stages.kit.arrays import Image


class PeopleBackend(Backend):
    """Counts people; landmarks are mediapipe's whatever counts."""

    @abstractmethod
    def count(self, frame: Image) -> int | None:
        """People in one frame (H,W,3) RGB; None leaves it to the landmarks' own graphs.

        Raises:
            ModelOutputError: ``no_person`` if the model returns no numbers.
        """
