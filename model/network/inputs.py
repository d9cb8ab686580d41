"""What goes into the network and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.network.config import DiTConfig

Attention: TypeAlias = Literal["full", "asymmetric"]
"""``full``: stage 1, every token sees every token. ``asymmetric``: stage 2, HOI sees RGB, not back."""


@dataclass(frozen=True, slots=True)
class DiTInputs:
    """One batch. Latents are (batch, channel, time, height, width) in the codec's normalised units.

    Presence is a property of the batch: an optional input is given for all samples or for none.

    Attributes:
        rgb_latent: Noisy RGB target latents (without any reference slot).
        t: Timestep of the RGB stream per sample, 0..1000, float32.
        text: Text features of the RGB prompt.
        text_lens: Valid rows of ``text`` per sample; later rows are replaced by zeros. None: all rows.
        audio: Audio features per video frame, (batch, layers, 4 * time, audio_dim), without the
            leading repeats. None skips audio injection; the trained null condition is zeros.
        person_latent: Clean person reference.
        product_latent: Clean product reference.
        product_scale: Spatial rotary scale of the product in (0, 1], one number or one per sample.
        motion_latent: Clean motion history, oldest first; shorter than 19 is padded with zeros.
        pose_latent: Pose condition on the target's grid.
        hoi_latent: Noisy HOI structure latents. None runs the RGB stream alone.
        hoi_t: Timestep of the HOI stream; None means ``t``.
        hoi_text: Text features of the HOI prompt; required with ``hoi_latent``.
        hoi_text_lens: Valid rows of ``hoi_text``.
        is_conditional: False marks the unconditional pass of guidance (whole batch or per sample).
        audio_face_mask: Weight of the audio residual per target token: a tensor (boxes), or
            ``router`` for the block's own detached head weight; None leaves it at 1.
    """

    rgb_latent: Float[Tensor, "b c t h w"]
    t: Float[Tensor, " b"]
    text: Float[Tensor, "b l text_dim"]
    text_lens: Int[Tensor, " b"] | None = None
    audio: Float[Tensor, "b layers frames audio_dim"] | None = None
    person_latent: Float[Tensor, "b c 1 h w"] | None = None
    product_latent: Float[Tensor, "b c 1 hp wp"] | None = None
    product_scale: float | Float[Tensor, " b"] = 1.0
    motion_latent: Float[Tensor, "b c tm h w"] | None = None
    pose_latent: Float[Tensor, "b cond_dim t h w"] | None = None
    hoi_latent: Float[Tensor, "b c th h w"] | None = None
    hoi_t: Float[Tensor, " b"] | None = None
    hoi_text: Float[Tensor, "b lh text_dim"] | None = None
    hoi_text_lens: Int[Tensor, " b"] | None = None
    is_conditional: bool | Bool[Tensor, " b"] = True
    audio_face_mask: Literal["router"] | Float[Tensor, "b n"] | None = None


@dataclass(frozen=True, slots=True)
class DiTOutputs:
    """Predicted velocities (noise minus clean) and what the routers said.

    Attributes:
        rgb_velocity: On the grid of ``rgb_latent``, float32.
        hoi_velocity: On the grid of ``hoi_latent``; None when the RGB stream ran alone.
        router_logits: One per block in ``ROUTER_CLASSES`` order, for target tokens; empty without MoE.
    """

    rgb_velocity: Float[Tensor, "b c t h w"]
    hoi_velocity: Float[Tensor, "b c th h w"] | None
    router_logits: tuple[Float[Tensor, "b n classes"], ...]


def fit_to(config: DiTConfig, inputs: DiTInputs) -> DiTInputs:
    """Leave out the inputs that a network has no part for, so that one batch serves every configuration."""
    if not config.has_audio:
        inputs = replace(inputs, audio=None, audio_face_mask=None)
    if not config.hoi_branch:
        inputs = replace(inputs, hoi_latent=None, hoi_t=None, hoi_text=None, hoi_text_lens=None)
    if not config.speech:
        inputs = replace(
            inputs, person_latent=None, product_latent=None, motion_latent=None, pose_latent=None
        )
    return inputs
