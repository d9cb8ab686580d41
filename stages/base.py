"""The stage contract: a small frozen config, closed reasons, declared resources, a pure function.

A stage computes a facet once (``process``, expensive, cached by content) and judges it as often as
thresholds change (``gate``, cheap, pure). It never sees Ray, a bucket or a clock.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import Field, model_validator

from schemas.backend import About, Backend, Resources, ResourceSettings, choices, lifted
from schemas.base import Model
from schemas.errors import ConfigError
from schemas.rows import Row
from schemas.settings import MACHINE, content_of
from stages.files import Files

InT = TypeVar("InT", bound=Row)
OutT = TypeVar("OutT", bound=Row)
ConfigT = TypeVar("ConfigT", bound="StageConfig")


class GateConfig(Model):
    """Thresholds. They never enter a fingerprint: changing one re-decides without recomputing."""


class StageConfig(Model):
    """Parameters of one stage. All enter the fingerprint but ``gate`` and what is marked (schemas/settings.py)."""

    resources: Annotated[ResourceSettings, MACHINE] = ResourceSettings()
    gate: GateConfig = Field(default_factory=GateConfig)

    @model_validator(mode="before")
    @classmethod
    def _take_flat(cls, data: Any) -> Any:
        """Take backends' settings as earlier records and recipes have them, see ``lifted``."""
        return lifted(cls, data)


@dataclass(frozen=True, slots=True)
class Kept(Generic[OutT]):
    """The row goes on: one row for most stages, several for a fan-out."""

    rows: tuple[OutT, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A decision against a row, with a reason from the stage's closed set."""

    reason: str
    detail: str = ""
    kept_id: str = field(default="", repr=False)
    """The row that stands for this one, where ``gate_all`` chose among several."""


class Stage(ABC, Generic[ConfigT, InT, OutT]):
    """One step of the chain.

    Subclasses set the class variables and implement ``process``. Construction is cheap and happens
    on the driver; ``setup`` loads weights once per worker.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it when the same input and config would give another result."""
    facet: ClassVar[str]
    """The field of the row that this stage fills; empty for a fan-out stage."""
    config_type: ClassVar[type[StageConfig]]
    row_in: ClassVar[type[Row]]
    row_out: ClassVar[type[Row]]
    needs: ClassVar[tuple[str, ...]] = ()
    """Names of the earlier stages whose facets ``process`` reads: its closure is made of theirs."""
    reasons: ClassVar[frozenset[str]]
    """Every reason that ``process`` and ``gate`` may give, DataError codes included."""

    fixed_backends: ClassVar[tuple[About, ...]] = ()
    """What it uses besides the backends that its settings choose."""

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.backends: tuple[Backend, ...] = ()
        """What the settings chose; subclasses that have backends build them here."""

    @classmethod
    def known_backends(cls) -> list[tuple[str, About, bool]]:
        """All that its settings may choose and what it uses besides: (setting, about, is it the default)."""
        default = cls.config_type()
        found = [
            (name, member.about, getattr(default, name).name == member.about.name)
            for name, member in choices(cls.config_type)
        ]
        return found + [("", about, True) for about in cls.fixed_backends]

    @property
    def resources(self) -> Resources:
        """What one worker holds: the recipe's word, or else the stage's guess."""
        return self.config.resources.over(self.needed)

    @property
    def needed(self) -> Resources:
        """The guess: the most that one of the backends needs, of each kind."""
        guesses = [backend.resources for backend in self.backends] or [Resources()]
        return Resources(
            max(g.num_cpus for g in guesses),
            max(g.num_gpus for g in guesses),
            max(g.memory_bytes for g in guesses),
        )

    @property
    def weights_sha256(self) -> str:
        """Digests of the backends' weights; empty where there are none outside the packages."""
        return "+".join(b.weights_sha256 for b in self.backends if b.weights_sha256)

    def check(self) -> None:
        """Raise ConfigError, saying what to install or where to put a file, if this cannot run here."""
        for backend in self.backends:
            backend.check()

    def setup(self) -> None:
        """Load the backends' weights. Called once per worker, before the first row."""
        for backend in self.backends:
            backend.setup()

    @abstractmethod
    def process(self, row: InT, files: Files) -> Kept[OutT] | Dropped:
        """Compute the facet (or the emitted rows). Depends on the row and the config alone.

        Raises:
            DataError: This row's data is bad; the row becomes ``failed`` with the error's code.
            ChildCrashError: Its child process died; the row becomes ``quarantined``.
        """

    def gate(self, row: OutT) -> Dropped | None:
        """Judge a computed row by ``config.gate``: None keeps it. Cheap, pure, reads facets only."""
        del row
        return None

    def gate_all(self, rows: Sequence[OutT]) -> dict[str, Dropped]:
        """Judge the rows of a run that passed their group's gates, together: what falls, by row id.

        Runs on the driver; pure, reads facets only, and gives the same for any order of the rows. A row that stands
        for others (``Dropped.kept_id``) and does not come through the later stages is left out when it is asked again.
        """
        del rows
        return {}

    @property
    def fingerprint(self) -> str:
        """16 hex digits over name, version, the settings that decide results, and the weights' content."""
        config = {k: v for k, v in content_of(self.config).items() if k != "gate"}
        text = json.dumps([self.name, self.version, config, self.weights_sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_chain(stages: Sequence[Stage[Any, Any, Any]]) -> None:
    """Check that neighbours fit and that every need is met by an earlier stage.

    Raises:
        ConfigError: A stage takes another row type than its predecessor gives, or needs a later one.
    """
    done: set[str] = set()
    for before, after in pairwise(stages):
        if not issubclass(before.row_out, after.row_in):
            raise ConfigError(
                f"stage {after.name!r} takes {after.row_in.__name__} rows but {before.name!r} "
                f"gives {before.row_out.__name__}"
            )
    for stage in stages:
        missing = set(stage.needs) - done
        if missing:
            raise ConfigError(
                f"stage {stage.name!r} needs {sorted(missing)} to run before it; "
                f"the recipe's order is {[s.name for s in stages]}"
            )
        done.add(stage.name)
