"""The contract of backends: implementations of one job that can stand for each other, chosen by name in a recipe.

A backend is a settings class with a name (``BackendConfig``) that builds an object (``Backend``). Whoever uses it asks
the object alone: what it is, what it needs, whether it can run here. The recipe's schema, ``handloom models``,
``handloom doctor`` and docs/stages.md are derived from the classes.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from schemas.base import BackendRef, Model
from schemas.settings import BESIDE, key_of

BY_HAND = "by hand"
"""Not among the extras: docs/install.md says how."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage holds. Neighbours with equal resources share a worker."""

    num_cpus: float = 0.5
    num_gpus: float = 0.0
    memory_bytes: int = 2_000_000_000


class ResourceSettings(Model):
    """What one worker of a stage asks Ray for, where the stage's own guess does not fit. Changes no result."""

    num_cpus: float | None = Field(default=None, gt=0)
    """CPU cores; a fraction lets workers share one."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs; a fraction lets workers share one."""
    memory_bytes: int | None = Field(default=None, gt=0)

    def over(self, guess: Resources) -> Resources:
        """The stage's guess with what is set in its place."""
        chosen = {k: v for k, v in dict(self).items() if v is not None}
        return Resources(**{k: chosen.get(k, getattr(guess, k)) for k in type(self).model_fields})


class About(NamedTuple):
    """What can be said of a backend without building it."""

    name: str
    package: str
    """The module that has to be importable."""
    licence: str
    weights: Literal["none needed", "in the package", "your file", "your files", "your folder"] = (
        "none needed"
    )
    extra: str = ""
    """The extra of ours that installs the package; empty where it comes with Handloom."""

    @property
    def is_installed(self) -> bool:
        """The package can be found; nothing is imported."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def remedy(self) -> str:
        """What to do where the package is missing."""
        if self.extra == BY_HAND:
            return "docs/install.md"
        return f"extra [{self.extra}]" if self.extra else "make setup"


class Backend(ABC):
    """One implementation, configured. Building it is cheap and happens on the driver; ``setup`` loads weights."""

    @property
    @abstractmethod
    def ref(self) -> BackendRef:
        """What facets and reports show: name, version, digest of the weights, licence."""

    @property
    def weights_sha256(self) -> str:
        """Digest over the content of the weights in use; empty where there are none of its own."""
        return ""

    @property
    def resources(self) -> Resources:
        """What a worker needs for it."""
        return Resources()

    def check(self) -> None:  # noqa: B027
        """Raise ConfigError, saying what to install or where to put a file, if it cannot run here."""

    def setup(self) -> None:  # noqa: B027
        """Load the weights. Called once per worker, before the first use."""


class BackendConfig(Model):
    """Settings of one backend, told from its neighbours' by ``name``."""

    about: ClassVar[About]
    name: str

    def build(self) -> Any:
        """The backend with these settings: an object of the class that its users name."""
        raise NotImplementedError


def by_name(default: str, *mixed: type[BackendConfig]) -> BeforeValidator:
    """Lets a backend be chosen by its name alone: ``backend: sam2`` for ``backend: {name: sam2}``.

    Args:
        default: The backend of settings without a name.
        mixed: Backends whose settings version 0.1 wrote into one mapping: those that only others know are left
            out, for they never counted.
    """
    known = {config.about.name: set(config.model_fields) for config in mixed}

    def read(value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping):
            return value
        named = {"name": default, **value}
        own = known.get(str(named["name"]), set())
        foreign = set().union(*known.values()) - own if own else set()
        return {key: setting for key, setting in named.items() if key not in foreign}

    return BeforeValidator(read)


def members(field: FieldInfo) -> tuple[type[BackendConfig], ...]:
    """The backends that a setting may choose among; none where it chooses no backend."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return tuple(k for k in kinds if isinstance(k, type) and issubclass(k, BackendConfig))


def choices(kind: type[Model]) -> Iterator[tuple[str, type[BackendConfig]]]:
    """All backends that settings may choose: the setting's name and the backend's settings."""
    for name, field in kind.model_fields.items():
        for member in members(field):
            yield name, member


def lifted(kind: type[Model], data: Any) -> Any:
    """Settings of backends that stand beside its name, as version 0.1 wrote them, moved to where they belong.

    Those of a backend that is not chosen are left out: they never counted.
    """
    if not isinstance(data, Mapping):
        return data
    out = dict(data)
    for name, field in kind.model_fields.items():
        if BESIDE not in field.metadata:
            continue
        chosen = _chosen(out.get(name), field)
        for member in members(field):
            keys = {key_of(n, info): n for n, info in member.model_fields.items() if n != "name"}
            for key in keys.keys() & data.keys() - kind.model_fields.keys():
                out.pop(key, None)
                if member.about.name == chosen["name"]:
                    chosen.setdefault(keys[key], data[key])
                    out[name] = chosen
    return out


def _chosen(value: object, field: FieldInfo) -> dict[str, Any]:
    """The settings that were given for a backend, with its name."""
    default = field.get_default(call_default_factory=True)
    name = getattr(default, "name", "")
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, BackendConfig):
        return dict(value)
    return {"name": name, **value} if isinstance(value, Mapping) else {"name": name}
