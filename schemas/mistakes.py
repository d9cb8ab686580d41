"""What is wrong with settings, in words: the key, what was given, and what was probably meant."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain_validation(error: ValidationError, where: str, kind: type[BaseModel]) -> str:
    """Turn pydantic's errors into lines that name the key, what was wrong and what was given.

    Args:
        error: What validation said.
        where: Put before each key.
        kind: The model that was validated: its fields are what a mistyped key may have meant.
    """
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in (where, *item["loc"]) if part != "")
        if item["type"] == "extra_forbidden":
            hint = suggest(str(item["loc"][-1]), _fields_at(kind, item["loc"][:-1]))
            lines.append(f"{key}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{key}: {item['msg']}")
        else:
            lines.append(f"{key}: {item['msg']} (got {reprlib.repr(item['input'])})")
    return "; ".join(lines)


def suggest(key: str, known: Collection[str]) -> str:
    """A hint for a typo.

    >>> suggest("segmnt", {"segment", "probe"})
    '; did you mean segment?'
    """
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {sorted(known)}"


def _fields_at(kind: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """Names of the fields of the group of settings that a path leads to."""
    kinds = [kind]
    for (
        part
    ) in path:  # a part that is no field is an index, or says which of several models was meant
        inner = [k.model_fields[part].annotation for k in kinds if part in k.model_fields]
        kinds = [model for a in inner for model in _models(a)] or kinds
    return {name for model in kinds for name in model.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
