"""Weights on disk: safetensors only, sharded or not, loaded tensor by tensor.

    with torch.device("meta"):
        model = CoGenDiT(config)
    load_weights(model, [folder], allow_missing=COGEN_PARTS)

A tensor goes from the memory-mapped file straight to its place, so a model is never held twice.
Nothing is skipped in silence: keys that are missing or unknown are listed and refused unless a
pattern allows them, and so are NaNs, wrong shapes and pickles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.network.config import DiTConfig
from model.network.initialise import initialise
from model.weights.names import Naming, from_own, is_cogen, is_diffusers, lora_part, to_own
from model.weights.tensor_files import find_shards, open_weights, save_tensors
from schemas.errors import ConfigError

COGEN_PARTS: tuple[str, ...] = ("*depth_*", "*.router.*", "*_expert.*")
"""Patterns of what a speech-to-video backbone lacks; pass as ``allow_missing``."""

CONFIG_KEY = "handloom_config"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What happened to every key. ``missing`` were initialised anew, ``unexpected`` left on disk."""

    loaded: tuple[str, ...]
    merged: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def read_config(source: Path) -> DiTConfig | None:
    """Return the configuration stored with the weights, or None in foreign files."""
    with open_weights(find_shards(source)[0]) as weights:
        stored = (weights.metadata() or {}).get(CONFIG_KEY)
    return None if stored is None else DiTConfig.model_validate_json(stored)


def load_weights(
    model: nn.Module,
    sources: Sequence[Path],
    *,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    lora_scale: float = 1.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> LoadReport:
    """Load weights under Wan, CoInteract or diffusers T2V names, and merge LoRA tensors.

    Sources are read in order; LoRA tensors are merged after all full tensors, W += scale * B A.

    Args:
        model: A ``CoGenDiT``, on the meta device or not.
        sources: Files, indices or folders, such as a backbone followed by a CoInteract checkpoint.
        allow_missing: Patterns of parameters that may be absent; they are initialised anew.
        allow_unexpected: Patterns of stored keys that may be left out.
        lora_scale: alpha / rank.
        device: Where parameters on the meta device are created.
        dtype: Type of parameters on the meta device; None keeps the stored type.

    Returns:
        What became of every key.

    Raises:
        ConfigError: Missing or unknown keys, wrong shapes, NaNs or infinities, halves of a LoRA pair,
            a pickle. The model may then be partly loaded.
    """
    has_moe = any("ffn_base" in name for name, _ in model.named_parameters())
    parameters = dict(model.named_parameters())
    place = _Placer(model, torch.device(device), dtype)
    unexpected: list[str] = []
    lora: dict[str, dict[str, Tensor]] = {}
    for file in [file for source in sources for file in find_shards(source)]:
        with open_weights(file) as weights:
            keys = list(weights.keys())
            naming: Naming = "diffusers" if any(map(is_diffusers, keys)) else "wan"
            for key in keys:
                part = lora_part(key)
                own = to_own(part[0] if part else key, naming=naming, has_moe=has_moe)
                if own not in parameters:
                    unexpected.append(key)
                elif part is not None:
                    lora.setdefault(own, {})[part[1]] = _finite(key, weights.get_tensor(key))
                else:
                    place(own, _finite(key, weights.get_tensor(key)))
    missing = [name for name in parameters if name not in place.done]
    _refuse(missing, unexpected, allow_missing, allow_unexpected)
    place.empty(missing)
    initialise(model, missing)
    for name, pair in lora.items():
        merge_lora(model, name, pair, lora_scale)
    return LoadReport(tuple(place.done), tuple(lora), tuple(missing), tuple(unexpected))


@torch.no_grad()
def merge_lora(
    model: nn.Module, name: str, pair: dict[str, Float[Tensor, "..."]], scale: float
) -> None:
    """Add scale * B A to one weight, in float32. A negative scale takes it out again.

    Raises:
        ConfigError: Half a pair, or shapes that do not fit the weight.
    """
    if set(pair) != {"A", "B"}:
        raise ConfigError(f"LoRA of {name} has only {sorted(pair)}: both A and B are needed")
    weight = model.get_parameter(name)
    a, b = (pair[k].to(weight.device, torch.float32) for k in ("A", "B"))
    if (b.shape[0], a.shape[1]) != tuple(weight.shape) or a.shape[0] != b.shape[1]:
        shapes = (tuple(b.shape), tuple(a.shape), tuple(weight.shape))
        raise ConfigError("LoRA of {} is B {} times A {} for a weight {}".format(name, *shapes))
    weight.copy_((weight.float() + scale * (b @ a)).to(weight.dtype))


class _Placer:
    """Puts tensors into a model one at a time."""

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self.done: dict[str, None] = {}

    @torch.no_grad()
    def __call__(self, name: str, tensor: Tensor) -> None:
        old = self.model.get_parameter(name)
        if old.shape != tensor.shape:
            raise ConfigError(
                f"{name} has shape {tuple(tensor.shape)} on disk, {tuple(old.shape)} in the model"
            )
        if old.is_meta:
            self._replace(name, tensor.to(self.device, self.dtype))
        else:
            old.copy_(tensor)
        self.done[name] = None

    def empty(self, names: Sequence[str]) -> None:
        """Create those of the named parameters that are still on the meta device."""
        for name in names:
            old = self.model.get_parameter(name)
            if old.is_meta:
                dtype = self.dtype or old.dtype
                self._replace(name, torch.empty(old.shape, device=self.device, dtype=dtype))

    def _replace(self, name: str, tensor: Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(owner), leaf, nn.Parameter(tensor))


def _finite(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and tensor.numel():
        low, high = torch.aminmax(tensor)  # one pass; a NaN anywhere makes both NaN
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            return tensor
        bad = int((~torch.isfinite(tensor)).sum())
        raise ConfigError(f"{name} holds {bad} NaN or infinite values of {tensor.numel()}")
    return tensor


def _refuse(
    missing: list[str],
    unexpected: list[str],
    allow_missing: Sequence[str],
    allow_unexpected: Sequence[str],
) -> None:
    lost = [n for n in missing if not any(fnmatchcase(n, p) for p in allow_missing)]
    foreign = [n for n in unexpected if not any(fnmatchcase(n, p) for p in allow_unexpected)]
    if lost or foreign:
        lines = [f"weights do not fit: {len(lost)} missing and {len(foreign)} unknown keys"]
        lines += [f"  missing {name}" for name in lost]
        lines += [f"  unknown {name}" for name in foreign]
        raise ConfigError("\n".join(lines))


def save_weights(
    model: nn.Module,
    path: Path,
    *,
    config: DiTConfig | None = None,
    naming: Naming | None = None,
    max_shard_bytes: int = 8 << 30,
) -> list[Path]:
    """Write weights as one safetensors file, or as shards with an index beside it.

    Args:
        model: Any module whose parameter names are our own.
        path: File to write; shards are named ``<stem>-00001-of-0000N.safetensors``.
        config: Stored in the metadata, read back by ``read_config``.
        naming: None writes all parameters under their own names. ``wan`` and ``diffusers`` write the
            plain backbone alone: HOI branch, routers and experts are left out.
        max_shard_bytes: Largest shard; a single larger tensor gets a shard of its own.

    Returns:
        Files written; the index comes last.

    Raises:
        ConfigError: ``path`` is no .safetensors name, or the naming lacks a word for a parameter.
    """
    named = {
        name if naming is None else from_own(name, naming=naming): parameter.detach()
        for name, parameter in model.named_parameters()
        if naming is None or not is_cogen(name)
    }
    metadata = {"format": "pt"}
    if config is not None:
        metadata[CONFIG_KEY] = config.model_dump_json()
    return save_tensors(named, path, max_shard_bytes, metadata)
