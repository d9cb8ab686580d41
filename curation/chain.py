"""The chain of stages: built from a recipe, grouped by cost, keyed by content."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.recipe import Recipe
from curation.stage_list import GROUPS, STAGE_CLASSES
from schemas.backend import About
from schemas.manifest import StageRecord
from schemas.mistakes import parse_settings
from schemas.rows import Row, SourceVideo
from stages.base import Stage, check_chain

AnyStage = Stage[Any, Any, Any]


@dataclass(frozen=True)
class Chain:
    """The configured stages with their closure fingerprints.

    A stage's closure is the stage and all that it reads, directly and through other stages.
    """

    stages: tuple[AnyStage, ...]
    closures: dict[str, str]

    def __getitem__(self, name: str) -> AnyStage:
        """Return a stage by name."""
        return next(s for s in self.stages if s.name == name)

    def groups(self) -> list[tuple[AnyStage, ...]]:
        """The stages, grouped by cost class."""
        present = [[n for n in group if n in self.closures] for group in GROUPS]
        return [tuple(self[name] for name in names) for names in present if names]

    def records(self) -> tuple[StageRecord, ...]:
        """What reports and run records say about the stages."""
        return tuple(
            StageRecord(
                name=s.name,
                facet=s.facet,
                version=s.version,
                fingerprint=s.fingerprint,
                closure_fingerprint=self.closures[s.name],
                needs=s.needs,
                reasons=tuple(sorted(s.reasons)),
                config=s.config.model_dump(mode="json"),
            )
            for s in self.stages
        )


def build_chain(recipe: Recipe) -> Chain:
    """Build all stages from a recipe and check that they fit and can run here.

    Raises:
        ConfigError: A wrong setting, a missing package or weight file, or stages that do not fit.
    """
    stages = tuple(_build_stage(name, recipe.stages.get(name, {})) for name in STAGE_CLASSES)
    check_chain(stages[:-1])  # the driver plans shards from what the chain keeps
    for stage in stages:
        stage.check()
    return Chain(stages, closure_fingerprints(stages))


def _build_stage(name: str, settings: dict[str, Any]) -> AnyStage:
    kind = stage_class(name)
    return kind(parse_settings(kind.config_type, settings, name))


def stage_class(name: str) -> type[AnyStage]:
    """The class of a stage, imported at its first use."""
    module_name, _, class_name = STAGE_CLASSES[name].partition(":")
    return getattr(importlib.import_module(module_name), class_name)


def known_backends() -> list[tuple[str, str, About, bool]]:
    """Every backend of every stage: (stage, setting or "", about, is it the default)."""
    return [
        (name, setting, about, is_default)
        for name in STAGE_CLASSES
        for setting, about, is_default in stage_class(name).known_backends()
    ]


def closure_fingerprints(stages: Sequence[AnyStage]) -> dict[str, str]:
    """Fingerprint of each stage together with all it reads, directly and through others: its closure."""
    closures: dict[str, str] = {}
    for stage in stages:
        parts = [stage.fingerprint, *(closures[need] for need in sorted(stage.needs))]
        closures[stage.name] = hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
    return closures


def unit_key(row: Row, closure: str) -> str:
    """Identity of one unit of work: the row's content and the stage's closure."""
    content = row.content_sha256 if isinstance(row, SourceVideo) else row.row_id
    return hashlib.sha256(f"{content}/{closure}".encode()).hexdigest()[:32]


def plan_spans(stages: Sequence[AnyStage]) -> list[tuple[int, int]]:
    """Fuse neighbours with equal resources into one operator: half-open ranges of indices.

    Fused stages share a worker and its decoded frames.
    """
    spans: list[tuple[int, int]] = []
    for index, stage in enumerate(stages):
        if spans and stages[spans[-1][0]].resources == stage.resources:
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
    return spans
