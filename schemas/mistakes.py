"""What is wrong with settings, in words: the key, what was given, and what was probably meant."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from schemas.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def parse_settings(kind: type[M], settings: object, where: str = "", source: str = "") -> M:
    """Check settings that somebody wrote.

    Args:
        kind: What they are.
        settings: As they were read.
        where: Put before each key in messages.
        source: The file that they are from, if any; messages begin with it.

    Raises:
        ConfigError: Unknown keys, or values that do not fit: each is named.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        told = explain_validation(error, where, kind)
        raise ConfigError(f"{source}: {told}" if source else told) from error


def explain_validation(error: ValidationError, where: str, kind: type[BaseModel]) -> str:
    """Turn pydantic's errors into lines that name the key, what was wrong and what was given.

    Args:
        error: What validation said.
        where: Put before each key.
        kind: The model that was validated: its fields are what a mistyped key may have meant.
    """
    lines = []
    for item in error.errors():
        path = _without_tags(kind, item["loc"])
        key = ".".join(str(part) for part in (where, *path) if part != "")
        if item["type"] == "extra_forbidden":
            hint = suggest(str(item["loc"][-1]), _fields_at(kind, item["loc"][:-1]))
            lines.append(f"{key}: unknown key{hint}")
        elif item["type"] == "union_tag_invalid":
            tag, known = item["ctx"]["tag"], item["ctx"]["expected_tags"]
            hint = suggest(tag, [name.strip("'") for name in known.split(", ")])
            lines.append(f"{key}: there is no {tag!r}{hint}")
        elif item["type"] == "missing":
            lines.append(f"{key}: {item['msg']}")
        else:
            lines.append(f"{key}: {item['msg']} (got {reprlib.repr(item['input'])})")
    return "; ".join(lines)


def _without_tags(kind: type[BaseModel], path: Sequence[str | int]) -> list[str | int]:
    """A path as a recipe spells it: pydantic puts the name of a chosen backend after the setting that chose it."""
    kept: list[str | int] = []
    for part in path:
        tags = {tag for model in _kinds_at(kind, kept) for tag in _names(model)} if kept else set()
        if part not in tags:
            kept.append(part)
    return kept


def suggest(key: str, known: Collection[str]) -> str:
    """A hint for a typo.

    >>> suggest("segmnt", {"segment", "probe"})
    '; did you mean segment?'
    """
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {sorted(known)}"


def _fields_at(kind: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """Names of the fields of the group of settings that a path leads to."""
    return {name for model in _kinds_at(kind, path) for name in model.model_fields}


def _kinds_at(kind: type[BaseModel], path: Sequence[str | int]) -> list[type[BaseModel]]:
    """The models that a path may lead to."""
    kinds = [kind]
    for part in path:
        inner = [k.model_fields[part].annotation for k in kinds if part in k.model_fields]
        named = [k for k in kinds if part in _names(k)]
        # a part that is no field is an index, or says which of several models was meant
        kinds = [model for a in inner for model in _models(a)] or named or kinds
    return kinds


def _names(kind: type[BaseModel]) -> tuple[Any, ...]:
    """What a model is told from its neighbours by."""
    return get_args(kind.model_fields["name"].annotation) if "name" in kind.model_fields else ()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
