"""Recipes: a YAML file plus ``--set`` changes, parsed once into typed stage configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from schemas.base import Model
from schemas.errors import ConfigError
from schemas.mistakes import explain_validation, suggest

_MAX_RECIPE_BYTES = 1_000_000


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
    """Read a recipe by name (from ``folder``) or path and apply ``a.b=c`` changes.

    Raises:
        ConfigError: No such recipe, not YAML, an unknown key, or a malformed change.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        path = folder / f"{source}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ConfigError(f"no recipe {str(source)!r}: expected a .yaml file or one of {known}")
    settings = parse_yaml_mapping(path)
    for change in changes:
        apply_change(settings, change)
    known_keys = {"name", "description", "run", *stage_names}
    for key in settings:
        if key not in known_keys:
            raise ConfigError(f"{path.name}: unknown key {key!r}{suggest(key, known_keys)}")
    stages = {n: _as_mapping(settings.get(n), f"{path.name}: {n}") for n in stage_names}
    try:
        return Recipe(
            name=str(settings.get("name", path.stem)),
            description=str(settings.get("description", "")),
            run=RunConfig.model_validate(settings.get("run") or {}),
            stages=stages,
        )
    except ValidationError as error:
        raise ConfigError(explain_validation(error, f"{path.name}: run", RunConfig)) from error


def parse_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a small YAML mapping with the safe loader.

    Raises:
        ConfigError: Too large, not YAML, or not a mapping.
    """
    if path.stat().st_size > _MAX_RECIPE_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_RECIPE_BYTES} bytes: not a recipe")
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return _as_mapping(data, str(path))


def parse_yaml(text: str) -> Any:
    """Parse one YAML document with the safe loader, unless its aliases make much of little.

    Raises:
        ValueError: Not YAML, or with its aliases written out it is longer than a recipe may be.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _num_chars(node, {}) > _MAX_RECIPE_BYTES:
            raise ValueError(f"with its aliases written out it is over {_MAX_RECIPE_BYTES} bytes")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError("it is nested too deeply, or holds itself") from None


def _num_chars(node: yaml.Node, known: dict[int, int]) -> int:
    """Length of a node with its aliases written out; ``known`` holds the lengths of nodes seen."""
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        known[id(node)] = 1 + own + sum(_num_chars(part, known) for part in parts)
    return known[id(node)]


def apply_change(settings: dict[str, Any], change: str) -> None:
    """Apply one ``a.b.c=value`` change in place; the value is YAML.

    Raises:
        ConfigError: No ``=``, an empty key, or a path through something that is not a mapping.

    >>> s = {"segment": {"num_frames": 81}}
    >>> apply_change(s, "segment.num_frames=33"); s
    {'segment': {'num_frames': 33}}
    """
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {change!r}: expected stage.key=value, for example segment.num_frames=81"
        )
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"--set {change!r}: the value is not YAML: {error}") from error
    node = settings
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change!r}: {key!r} is not a group of settings")
    node[keys[-1]] = value


def _as_mapping(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a group of settings, got {type(value).__name__}")
    return dict(value)
