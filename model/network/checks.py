"""Refusal of inputs that do not fit a configuration, with the numbers that disagree."""

from __future__ import annotations

import torch
from torch import Tensor

from model.network.config import DiTConfig
from model.network.inputs import DiTInputs
from schemas.errors import ConfigError


def check_inputs(config: DiTConfig, inputs: DiTInputs, attention: str) -> None:
    """Check that one batch fits the network.

    Raises:
        ConfigError: What was given, what was expected.
    """
    if attention not in ("full", "asymmetric"):
        raise ConfigError(f"attention={attention!r} is unknown: use 'full' or 'asymmetric'")
    _check_branches(config, inputs)
    batch, _, frames, height, width = _shape("rgb_latent", inputs.rgb_latent, 5)
    _expect("rgb_latent", inputs.rgb_latent, (batch, config.in_dim, frames, height, width))
    _check_times(inputs, batch)
    _expect("text", inputs.text, (batch, None, config.text_dim))
    for name in ("person_latent", "product_latent"):
        latent: Tensor | None = getattr(inputs, name)
        if latent is not None:
            _expect(name, latent, (batch, config.in_dim, 1, None, None))
    if inputs.motion_latent is not None:
        _expect("motion_latent", inputs.motion_latent, (batch, config.in_dim, None, height, width))
    if inputs.pose_latent is not None:
        _expect("pose_latent", inputs.pose_latent, (batch, config.cond_dim, frames, height, width))
    if inputs.audio is not None:
        _expect("audio", inputs.audio, (batch, None, None, config.audio_dim))
    if inputs.hoi_latent is not None:
        _expect("hoi_latent", inputs.hoi_latent, (batch, config.in_dim, None, None, None))
    if inputs.hoi_text is not None:
        _expect("hoi_text", inputs.hoi_text, (batch, None, config.text_dim))
    _check_reference_times(config, inputs)


def _check_branches(config: DiTConfig, inputs: DiTInputs) -> None:
    if inputs.hoi_latent is not None:
        if not config.hoi_branch:
            raise ConfigError(
                "hoi_latent is given but the model has no HOI branch (hoi_branch=False)"
            )
        if inputs.hoi_text is None:
            raise ConfigError(
                "hoi_latent is given without hoi_text: the HOI stream has its own prompt"
            )
    if inputs.audio is not None and not config.has_audio:
        raise ConfigError("audio is given but the model has no audio_inject_layers")
    if inputs.audio_face_mask == "router" and not config.has_moe:
        raise ConfigError("audio_face_mask='router' needs a model with experts")
    speech_only = ("person_latent", "product_latent", "motion_latent", "pose_latent")
    given = [name for name in speech_only if getattr(inputs, name) is not None]
    if given and not config.speech:
        raise ConfigError(f"{', '.join(given)} given to a text-to-video model (speech=False)")


def _check_times(inputs: DiTInputs, batch: int) -> None:
    for name in ("t", "hoi_t"):
        t: Tensor | None = getattr(inputs, name)
        if t is None:
            continue
        _expect(name, t, (batch,))
        if t.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"{name} is {t.dtype}: timesteps stay in float32 (bfloat16 holds 294 of 1000 values)"
            )
    if isinstance(inputs.is_conditional, Tensor):
        _expect("is_conditional", inputs.is_conditional, (batch,))
    if isinstance(inputs.product_scale, Tensor):
        _expect("product_scale", inputs.product_scale, (batch,))


def _check_reference_times(config: DiTConfig, inputs: DiTInputs) -> None:
    frames = inputs.rgb_latent.shape[2] // config.patch_size[0]
    for name, index in (
        ("person_latent", config.person_time_index),
        ("product_latent", config.product_time_index),
    ):
        if getattr(inputs, name) is not None and frames > index:
            raise ConfigError(
                f"{frames} target latents reach rotary time {index}, where {name} sits: use a shorter clip"
            )


def _shape(name: str, x: Tensor, rank: int) -> tuple[int, ...]:
    if x.ndim != rank:
        raise ConfigError(f"{name} has shape {tuple(x.shape)}: expected {rank} dimensions")
    return tuple(x.shape)


def _expect(name: str, x: Tensor, expected: tuple[int | None, ...]) -> None:
    shape = _shape(name, x, len(expected))
    if any(want is not None and want != got for want, got in zip(expected, shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in expected)
        raise ConfigError(f"{name} has shape {shape}: expected ({wanted})")
