"""The shipped recipes of training, changed by nested mappings instead of words of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.options import TRAIN_RECIPES
from model.training.config import TrainConfig
from schemas.mistakes import parse_settings
from schemas.recipes import read_recipe


def train_recipe(name: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """A shipped recipe with nested changes, such as ``{"optimiser": {"grad_clip": 2}}``."""
    raw = read_recipe(name, TRAIN_RECIPES)
    return parse_settings(TrainConfig, merged(raw.settings, changes or {}), source=raw.label)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; ``changes`` wins."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        out[key] = merged(old, value) if both else value
    return out
