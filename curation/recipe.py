"""Recipes of curation: settings of a run, and raw ones per stage that the stages' own types check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from schemas.base import Model
from schemas.errors import ConfigError
from schemas.mistakes import parse_settings, suggest
from schemas.recipes import as_group, read_recipe


class RunGates(Model):
    """Quality gates of a whole run: exit code 3 when one fails."""

    min_kept_clips: int = Field(default=1, ge=0)
    max_failed_share: float = Field(default=0.5, ge=0, le=1)
    """Of the sources. Inputs that are no video, or were left out on purpose, do not count."""
    max_quarantined_share: float = Field(default=0.1, ge=0, le=1)
    """Of the sources."""
    max_failed_clip_share: float = Field(default=0.5, ge=0, le=1)
    """Of the clips that sources were split into."""
    max_quarantined_clip_share: float = Field(default=0.1, ge=0, le=1)
    """Of the clips."""


class RunConfig(Model):
    """How a run is executed. None of it changes a result."""

    runner: Literal["auto", "ray", "here"] = "auto"
    """``ray``: Ray Data. ``here``: one row after the other in the driver's own process, where a stage that
    crashes ends the run. ``auto``: here if the work is known to be a few seconds, else Ray Data."""
    max_workers: int | None = Field(default=None, ge=1)
    """Worker processes per group of stages; None: one per CPU."""
    commit_every_rows: int = Field(default=64, ge=1)
    commit_every_s: float = Field(default=120.0, gt=0)
    max_attempts_per_row: int = Field(default=3, ge=1)
    """A row whose worker died this often is quarantined."""
    max_samples_per_shard: int = Field(default=64, ge=1)
    gates: RunGates = RunGates()


class Recipe(Model):
    """A resolved recipe: raw settings per stage, checked against each stage's config type."""

    name: str
    description: str = ""
    run: RunConfig = RunConfig()
    stages: dict[str, dict[str, Any]]


def load_recipe(
    source: str | Path, changes: Sequence[str], stage_names: Sequence[str], folder: Path
) -> Recipe:
    """Read a recipe of curation by name (from ``folder``) or path and apply ``a.b=c`` changes.

    Raises:
        ConfigError: No such recipe, not YAML, an unknown key, or a malformed change.
    """
    raw = read_recipe(source, folder, changes)
    known_keys = {"name", "description", "run", *stage_names}
    for key in raw.settings:
        if key not in known_keys:
            raise ConfigError(f"{raw.label}: unknown key {key!r}{suggest(key, known_keys)}")
    return Recipe(
        name=str(raw.settings["name"]),
        description=str(raw.settings.get("description", "")),
        run=parse_settings(RunConfig, raw.settings.get("run") or {}, "run", raw.label),
        stages={n: as_group(raw.settings.get(n), f"{raw.label}: {n}") for n in stage_names},
    )
