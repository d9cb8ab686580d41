"""Rows: frozen references to content, with one facet per finished stage. Never frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, overload

from pydantic import Field, model_validator

from schemas import facets as f
from schemas.base import Id, Model, Sha256
from schemas.errors import InvariantError


class Row(Model):
    """What a stage takes and gives."""

    @property
    def row_id(self) -> str:
        """Identity from content, equal on every machine and every retry."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """How much video the row stands for, in seconds (0 while unknown)."""
        raise NotImplementedError

    def with_facet(self, name: str, facet: Model) -> Self:
        """Return a copy with one facet filled."""
        return self.replace(**{name: facet})


FORMER_FACETS = {"boxes": "detect"}
"""Facets that roots of earlier versions hold under another name."""


class SourceVideo(Row):
    """One object of the raw bucket."""

    uri: str
    """Absolute path or ``s3://bucket/key``; never carries credentials."""
    num_bytes: int = Field(ge=0)
    content_sha256: Sha256
    probe: f.ProbeFacet | None = None

    @property
    def row_id(self) -> str:
        """``source_id``: the first 16 hex digits of the content's sha256."""
        return self.content_sha256[:16]

    @property
    def seconds(self) -> float:
        """Duration of the video stream once probed."""
        return self.probe.duration_s if self.probe else 0.0


class Clip(Row):
    """A window of one shot of one source: the target frames and the motion context before them.

    It names its source by content. Where that lies is a fact of a run: see the run's ``sources``.
    """

    clip_id: Id
    source_id: Id
    start_s: float = Field(ge=0)
    end_s: float
    """The target frames' window ``[start_s, end_s)`` on the source's clock."""
    motion_start_s: float = Field(ge=0)
    media: f.MediaFacet
    quality: f.QualityFacet | None = None
    speech: f.SpeechFacet | None = None
    detect: f.DetectFacet | None = None
    objects: f.ObjectsFacet | None = None
    references: f.ReferencesFacet | None = None
    triplets: f.TripletsFacet | None = None
    body: f.BodyFacet | None = None
    structure: f.StructureFacet | None = None
    caption: f.CaptionFacet | None = None
    latents: f.LatentsFacet | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, data: Any) -> Any:
        """Take what they wrote: the source's address of that day, and a facet by its former name."""
        if isinstance(data, Mapping):
            kept = {key: value for key, value in data.items() if key != "source_uri"}
            return {FORMER_FACETS.get(key, key): value for key, value in kept.items()}
        return data

    @property
    def row_id(self) -> str:
        """The clip's id."""
        return self.clip_id

    @property
    def seconds(self) -> float:
        """Length of the target window."""
        return self.end_s - self.start_s

    @overload
    def need(self, name: Literal["quality"]) -> f.QualityFacet: ...

    @overload
    def need(self, name: Literal["speech"]) -> f.SpeechFacet: ...

    @overload
    def need(self, name: Literal["detect"]) -> f.DetectFacet: ...

    @overload
    def need(self, name: Literal["objects"]) -> f.ObjectsFacet: ...

    @overload
    def need(self, name: Literal["references"]) -> f.ReferencesFacet: ...

    @overload
    def need(self, name: Literal["triplets"]) -> f.TripletsFacet: ...

    @overload
    def need(self, name: Literal["body"]) -> f.BodyFacet: ...

    @overload
    def need(self, name: Literal["structure"]) -> f.StructureFacet: ...

    @overload
    def need(self, name: Literal["caption"]) -> f.CaptionFacet: ...

    @overload
    def need(self, name: Literal["latents"]) -> f.LatentsFacet: ...

    def need(self, name: str) -> Any:
        """A facet that an earlier stage has filled: one of the reader's ``needs``, or its own.

        Raises:
            InvariantError: It is not there: the engine runs the stages that fill it first.
        """
        facet = getattr(self, name)
        if facet is None:
            raise InvariantError(
                f"clip {self.clip_id} has no {name!r}: its stage has not run before this one"
            )
        return facet
