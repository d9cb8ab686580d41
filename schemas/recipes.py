"""Recipes are YAML files: found by name or path, read safely, changed by ``--set``.

What a recipe may hold is the reader's business: curation and training have types of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import ConfigError

_MAX_RECIPE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class RawRecipe:
    """A recipe's settings, not yet checked, and what to call it in messages."""

    label: str
    settings: dict[str, Any]


def read_recipe(source: str | Path, folder: Path, changes: Sequence[str] = ()) -> RawRecipe:
    """Read a recipe by name (from ``folder``) or path and apply ``a.b=c`` changes.

    A recipe without a name is called as its file.

    Raises:
        ConfigError: No such recipe, not a YAML mapping, or a malformed change.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        path = folder / f"{source}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ConfigError(f"no recipe {str(source)!r}: expected a .yaml file or one of {known}")
    settings = {"name": path.stem, **parse_yaml_mapping(path)}
    for change in changes:
        apply_change(settings, change)
    return RawRecipe(path.name, settings)


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
    return as_group(data, str(path))


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

    What was chosen by its name alone takes settings of its own.

    >>> s = {"objects": {"backend": "sam2"}}
    >>> apply_change(s, "objects.backend.device=cuda"); s
    {'objects': {'backend': {'name': 'sam2', 'device': 'cuda'}}}
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
        elif isinstance(node[key], str) and node is not settings:
            node[key] = {"name": node[key]}
        node = node[key]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change!r}: {key!r} is not a group of settings")
    node[keys[-1]] = value


def as_group(value: object, where: str) -> dict[str, Any]:
    """A group of settings; an absent one is empty.

    Raises:
        ConfigError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a group of settings, got {type(value).__name__}")
    return dict(value)
