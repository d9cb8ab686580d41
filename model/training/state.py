"""Checkpoints of a training run: a folder that is there whole or not at all. No pickles.

step-00000200/
    model.safetensors        weights, with the network's configuration in the metadata
    ema.safetensors          moving average, where it is kept
    optimiser.safetensors    AdamW moments by parameter name
    state.json               step, configuration, data and feature spaces

Tensors that are larger together than ``shard_bytes`` become ``model-00001-of-0000N.safetensors`` and
``model.safetensors.index.json``; every reader goes through ``tensor_files.find_tensors`` and takes both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.network.config import DiTConfig
from model.network.dit import CoGenDiT
from model.network.inputs import Attention
from model.training.shard_reader import SampleIndex
from model.weights.checkpoint import load_weights, save_weights
from model.weights.tensor_files import (
    MODEL_FILE,
    STATE_FILE,
    find_tensors,
    read_tensors,
    save_tensors,
)
from schemas.base import Model
from schemas.durable import sync
from schemas.errors import ConfigError, ResumeMismatchError
from schemas.facets import ChannelStatistics

STATE_VERSION = 1
EMA_FILE, OPTIMISER_FILE = "ema.safetensors", "optimiser.safetensors"


class FeatureSpaces(Model):
    """Which latents and features a network was trained on."""

    codec: str
    rgb_statistics: ChannelStatistics
    hoi_statistics: ChannelStatistics
    text_encoder: str
    audio_encoder: str | None
    latent_shape: tuple[int, int, int]
    """(n, h, w) of the most frequent training clip, as the network saw it."""
    num_motion_latents: int


class TrainState(Model):
    """Everything about a checkpoint that is not a tensor."""

    version: int = STATE_VERSION
    step: int
    network: DiTConfig
    resume_key: dict[str, Any]
    dataset_sha256: str
    spaces: FeatureSpaces

    @property
    def attention(self) -> Attention:
        """Rule of the last step that was trained: ``full`` while stage 2 has not begun."""
        return "full" if self.step <= int(self.resume_key["steps_full"]) else "asymmetric"

    @property
    def hears(self) -> bool:
        """Whether sound makes a difference to the network."""
        return self.network.has_audio and self.spaces.audio_encoder is not None


def dataset_digest(index: Sequence[SampleIndex]) -> str:
    """Identity of the training set: its clip ids and feature spaces."""
    text = json.dumps([[e.clip_id, e.codec, e.text_encoder, e.audio_encoder] for e in index])
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(
    folder: Path,
    state: TrainState,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: dict[str, Tensor] | None,
    shard_bytes: int,
) -> Path:
    """Write ``folder/step-<8 digits>``, whole or not at all; an existing one is kept.

    Returns:
        The checkpoint's folder.
    """
    target = folder / f"step-{state.step:08d}"
    if target.exists():
        return target
    partial = folder / f".{target.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(model, partial / MODEL_FILE, config=state.network, max_shard_bytes=shard_bytes)
    save_tensors(optimiser_tensors(model, optimiser), partial / OPTIMISER_FILE, shard_bytes)
    if ema is not None:
        save_tensors(ema, partial / EMA_FILE, shard_bytes)
    (partial / STATE_FILE).write_text(state.model_dump_json(indent=1))
    for file in partial.iterdir():
        sync(file)
    partial.replace(target)
    sync(folder)
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step, or None."""
    found = sorted(p for p in folder.glob("step-*") if (p / STATE_FILE).is_file())
    return found[-1] if found else None


def find_checkpoint(path: Path) -> Path:
    """A checkpoint folder, or the latest one of a training folder.

    Raises:
        ConfigError: There is none.
    """
    if (path / STATE_FILE).is_file():
        return path
    found = latest_checkpoint(path) if path.is_dir() else None
    if found is None:
        raise ConfigError(
            f"{path} holds no checkpoint; make one with: handloom train ROOT --out {path}"
        )
    return found


def load_network(
    checkpoint: Path, *, use_ema: bool, device: torch.device | str = "cpu"
) -> CoGenDiT:
    """Build a checkpoint's network with its weights in float32; the moving average where there is one.

    Raises:
        ConfigError: Not a checkpoint, or its weights are missing or do not fit.
    """
    state = read_state(checkpoint)
    weights = find_tensors(checkpoint, EMA_FILE) if use_ema else None
    with torch.device("meta"):
        model = CoGenDiT(state.network)
    load_weights(model, [weights or checkpoint], device=device, dtype=torch.float32)
    return model


def read_state(checkpoint: Path) -> TrainState:
    """Read a checkpoint's state.

    Raises:
        ConfigError: No such checkpoint, or not readable.
    """
    try:
        return TrainState.model_validate_json((checkpoint / STATE_FILE).read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"{checkpoint} is not a checkpoint: it has no {STATE_FILE}") from error
    except ValueError as error:
        raise ConfigError(f"{checkpoint / STATE_FILE} is not readable: {error}") from error


def check_resume(found: TrainState, wanted: TrainState) -> None:
    """Refuse to go on from a checkpoint of another run.

    Raises:
        ResumeMismatchError: Names the settings that differ.
    """
    if found.dataset_sha256 != wanted.dataset_sha256:
        raise ResumeMismatchError(
            "the checkpoint was trained on other clips than the dataset holds now: train into a new "
            "folder, or give the snapshot that it was trained on"
        )
    differing = _differences(found.resume_key, wanted.resume_key)
    if found.network != wanted.network:
        differing.append("network")
    if differing:
        raise ResumeMismatchError(
            f"the checkpoint was made with other settings: {', '.join(differing)}; resume with the same "
            "recipe, or train into a new folder"
        )


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    out: list[str] = []
    for key in sorted(set(a) | set(b)):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            out += _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            out.append(f"{prefix}{key} was {left}, is {right}")
    return out


def restore(
    checkpoint: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: dict[str, Tensor] | None,
) -> None:
    """Load weights, moments and the moving average of a checkpoint in place."""
    load_weights(model, [checkpoint])
    load_optimiser(model, optimiser, read_tensors(_need(checkpoint, OPTIMISER_FILE)))
    if ema is not None:
        stored = dict(read_tensors(_need(checkpoint, EMA_FILE)))
        lost = sorted(set(ema) - set(stored))
        if lost:
            raise ConfigError(f"{checkpoint} has no moving average of {lost[:4]}: it is damaged")
        for name, tensor in ema.items():
            tensor.copy_(stored[name])


def _need(checkpoint: Path, file: str) -> Path:
    found = find_tensors(checkpoint, file)
    if found is None:
        raise ConfigError(f"{checkpoint} has no {file}, in one piece or in shards: it is damaged")
    return found


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by parameter name: ``<name>/exp_avg``, ``<name>/exp_avg_sq``, ``<name>/step``."""
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser(
    model: nn.Module, optimiser: torch.optim.Optimizer, stored: Iterable[tuple[str, Tensor]]
) -> None:
    """Put AdamW's state back.

    Raises:
        ConfigError: State of parameters that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for key, value in stored:
        name, _, field = key.rpartition("/")
        if name not in parameters:
            raise ConfigError(
                f"the checkpoint has optimiser state of {name}, the network has no such part"
            )
        place = "cpu" if field == "step" else parameters[name].device
        optimiser.state[parameters[name]][field] = value.clone().to(place)
