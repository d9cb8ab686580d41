"""Arrow schemas derived from row models: nested structs, one column per field."""

from __future__ import annotations

import types
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

_SCALARS: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
}


def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """Return the Arrow schema of a model; fields keep their order, optional ones are nullable.

    Raises:
        TypeError: A field's type has no Arrow counterpart here.
    """
    return pa.schema(
        [_field(name, info.annotation, info.metadata) for name, info in model.model_fields.items()]
    )


def _field(name: str, annotation: Any, _metadata: Any = None) -> pa.Field:
    inner, nullable = strip_optional(annotation)
    return pa.field(name, _data_type(inner), nullable=nullable)


def strip_optional(annotation: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into X and True; anything else into itself and False."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return annotation, False


def _data_type(annotation: Any) -> pa.DataType:
    annotation, _ = strip_optional(annotation)
    origin = get_origin(annotation)
    if isinstance(annotation, type):
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        if issubclass(annotation, Enum):
            return pa.string()
        if issubclass(annotation, BaseModel):
            return pa.struct(list(arrow_schema(annotation)))
    if origin in (tuple, list):
        return pa.list_(_field("element", get_args(annotation)[0]))
    if origin is dict:
        key, value = get_args(annotation)
        return pa.map_(_data_type(key), _data_type(value))
    raise TypeError(f"no Arrow type for {annotation!r}")
