"""The base of all row and manifest models, and references to content-named files."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Id = Annotated[str, Field(pattern=ID_PATTERN)]
"""A name that becomes part of paths: it holds no separator and does not begin with a dot."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Model(BaseModel):
    """Frozen, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    def replace(self, **changes: object) -> Self:
        """Return a validated copy with some fields changed."""
        return type(self).model_validate({**dict(self), **changes})


class FileRef(Model):
    """A file named by its content. The name is relative to the output root.

    >>> FileRef(sha256="ab" + "0" * 62, suffix=".mp4", num_bytes=7).name[:10]
    'blobs/ab/a'
    """

    sha256: Sha256
    suffix: str = Field(pattern=r"^\.[a-z0-9.]{1,16}$")
    num_bytes: int = Field(ge=0)

    @property
    def name(self) -> str:
        """Path below the output root: ``blobs/<2 hex>/<sha256><suffix>``."""
        return f"blobs/{self.sha256[:2]}/{self.sha256}{self.suffix}"


class BackendRef(Model):
    """Which implementation produced a facet. Reports always show it."""

    name: str
    version: str
    weights_sha256: str = ""
    licence: str
