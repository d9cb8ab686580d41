"""What of a configuration decides a result: marks on settings that do not, and the rest as plain data.

A setting is content unless it is marked: a forgotten mark computes too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class NotContent:
    """Marks a setting that says nothing about the result: ``Annotated[float, LIMIT]``."""

    kind: str
    """For people: ``limit``, ``place``, ``pin`` or ``machine``."""


LIMIT = NotContent("limit")
"""What a row may cost. It decides whether there is a result, never what it is."""
PLACE = NotContent("place")
"""Where a file lies today. What counts is its content, by the digest of the weights in use."""
PIN = NotContent("pin")
"""What a file has to be: checked before anything runs."""
MACHINE = NotContent("machine")
"""What a worker holds while it works."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Marks a chosen backend whose settings stand beside its name in a fingerprint, not in a group of their own."""


BESIDE = Beside()


@dataclass(frozen=True, slots=True)
class KnownAs:
    """Marks a setting that fingerprints know under another name: ``Annotated[float, KnownAs("old_name")]``."""

    key: str


@dataclass(frozen=True, slots=True)
class UsedWhen:
    """Marks a setting that is read under a condition on its neighbours only."""

    is_used: Callable[[Any], bool]
    """Takes the settings that hold the marked one."""


def used_by(choice: str, *values: str) -> UsedWhen:
    """Mark a setting that is read only where the setting ``choice`` has one of some values."""
    return UsedWhen(lambda settings: getattr(settings, choice) in values)


def content_of(settings: BaseModel) -> dict[str, Any]:
    """The settings that decide a result, as JSON data; groups of settings inside are searched too.

    >>> from typing import Annotated
    >>> class Reader(BaseModel):
    ...     backend: str = "fast"
    ...     size: Annotated[int, used_by("backend", "good")] = 3
    ...     timeout_s: Annotated[float, LIMIT] = 9.0
    >>> content_of(Reader()), content_of(Reader(backend="good"))
    ({'backend': 'fast'}, {'backend': 'good', 'size': 3})
    """
    plain = settings.model_dump(mode="json")
    content: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        if not all(_counts(mark, settings) for mark in field.metadata):
            continue
        value = getattr(settings, name)
        found = content_of(value) if isinstance(value, BaseModel) else plain[name]
        if BESIDE in field.metadata:
            content[name] = found.pop("name")
            content |= found
        else:
            content[key_of(name, field)] = found
    return content


def key_of(name: str, field: FieldInfo) -> str:
    """The name under which fingerprints know a setting."""
    return next((m.key for m in field.metadata if isinstance(m, KnownAs)), name)


def limits_of(settings: BaseModel) -> dict[str, float | None]:
    """The limits among the settings, by name; None where there is none."""
    fields = type(settings).model_fields.items()
    return {name: getattr(settings, name) for name, field in fields if LIMIT in field.metadata}


def kind_of(field: FieldInfo) -> str | None:
    """``limit``, ``place``, ``pin`` or ``machine``; None for content."""
    return next((m.kind for m in field.metadata if isinstance(m, NotContent)), None)


def _counts(mark: object, settings: BaseModel) -> bool:
    if isinstance(mark, UsedWhen):
        return mark.is_used(settings)
    return not isinstance(mark, NotContent)
