"""Reading what public code wrote: configuration names, and batches under public argument names.

    config = config_from_reference(json.load(f)["config"])
    model = CoGenDiT(config)
    load_weights(model, [path])                                   # model.weights.checkpoint
    inputs, attention = wan_s2v_inputs(tensors)

Every function takes public names as documented by the public model functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from einops import rearrange
from torch import Tensor

from model.network.config import MODE_EXPERTS, DiTConfig, Mode
from model.network.inputs import Attention, DiTInputs
from schemas.errors import ConfigError

_RENAMED = {
    "num_audio_token": "num_audio_tokens",
    "num_attention_heads": "num_heads",
    "in_channels": "in_dim",
    "out_channels": "out_dim",
    "rope_max_seq_len": "rope_rows",
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "qk_norm": (True, "rms_norm_across_heads"),
    "cross_attn_norm": (True,),
    "zero_timestep": (True,),
    "enable_motioner": (False,),
    "enable_framepack": (True,),
    "adain_mode": ("attn_norm",),
    "model_type": ("s2v", "t2v"),
    "enable_tsm": (False,),
    "trainable_token_pos_emb": (False,),
    "window_size": ((-1, -1), [-1, -1]),
    "image_dim": (None,),
    "added_kv_proj_dim": (None,),
    "pos_embed_seq_len": (None,),
}
"""Public options with one supported value (or several names of it)."""
_IGNORED = {"zero_init", "attention_head_dim"}
"""Initialisation only, or implied by other fields. Names with a leading underscore are bookkeeping."""


def config_from_reference(
    reference: Mapping[str, Any], *, mode: Mode = "official", **overrides: Any
) -> DiTConfig:
    """Turn a public configuration (Wan2.2, CoInteract or diffusers Wan T2V) into ours.

    Args:
        reference: Public names and values. A configuration with ``audio_inject_layers`` is
            speech-to-video, one with ``expert_hidden_dim`` has the mode's experts.
        mode: Preset of the switches.
        overrides: Fields of ``DiTConfig`` that replace what was read.

    Raises:
        ConfigError: An unknown option, or a value that this network does not implement.

    >>> config_from_reference({"dim": 48, "num_heads": 2, "num_layers": 1, "ffn_dim": 8}).speech
    False
    """
    fields: dict[str, Any] = {}
    for name, value in reference.items():
        if name in _FIXED:
            if value not in _FIXED[name]:
                raise ConfigError(f"{name}={value!r} is not supported: only {_FIXED[name]}")
        elif name not in _IGNORED and not name.startswith("_"):
            fields[_RENAMED.get(name, name)] = value
    if "attention_head_dim" in reference:
        fields.setdefault("dim", reference["attention_head_dim"] * fields["num_heads"])
    fields["speech"] = "audio_inject_layers" in reference
    if not fields["speech"]:
        fields.setdefault("text_len", None)  # plain backbones attend to the rows as given
    if isinstance(fields.get("add_last_motion"), bool):
        fields["add_last_motion"] = 2 if fields["add_last_motion"] else 0
    if "expert_hidden_dim" in fields:
        fields["experts"] = MODE_EXPERTS[mode]
    return DiTConfig.for_mode(mode, **{**fields, **overrides})


def wan_t2v_inputs(tensors: Mapping[str, Tensor]) -> tuple[DiTInputs, Attention]:
    """Batch of Wan's text-to-video ``forward``: x, t, context."""
    return DiTInputs(rgb_latent=tensors["x"], t=tensors["t"], text=tensors["context"]), "asymmetric"


def wan_s2v_inputs(
    tensors: Mapping[str, Tensor], *, drop_motion_frames: bool = False
) -> tuple[DiTInputs, Attention]:
    """Batch of Wan2.2 ``WanModel_S2V.forward``.

    Args:
        tensors: x, t, context, context_lens, ref_latents, motion_latents, audio_input and, where
            there is a pose, cond_states.
        drop_motion_frames: Leave out motion tokens (first clip).
    """
    inputs = DiTInputs(
        rgb_latent=tensors["x"],
        t=tensors["t"],
        text=tensors["context"],
        text_lens=tensors.get("context_lens"),
        audio=rearrange(tensors["audio_input"], "b layers c f -> b layers f c"),
        person_latent=tensors["ref_latents"],
        motion_latent=None if drop_motion_frames else tensors["motion_latents"],
        pose_latent=tensors.get("cond_states"),
    )
    return inputs, "asymmetric"


def cointeract_inputs(
    tensors: Mapping[str, Tensor],
    *,
    timestep: Tensor,
    hoi_timestep: Tensor | None = None,
    product_scale: float = 1.0,
    drop_motion_frames: bool = False,
    mutual_visible: bool = False,
    is_conditional: bool = True,
    audio_face_mask: str | None = None,
) -> tuple[DiTInputs, Attention]:
    """Batch of CoInteract's ``model_fn_wans2v``.

    Args:
        tensors: latents (slot 0 is the person reference), context, audio_embeds, motion_latents and,
            where given, s2v_pose_latents, product_image_latents, depth_latents, depth_context.
        timestep: RGB timestep per sample.
        hoi_timestep: HOI timestep per sample.
        product_scale: Rotary scale of the product.
        drop_motion_frames: Leave out motion tokens.
        mutual_visible: Stage 1 (``depth_mutual_visible``).
        is_conditional: False for the unconditional pass.
        audio_face_mask: ``router`` or None.

    Raises:
        ConfigError: Unknown ``audio_face_mask``.
    """
    if audio_face_mask not in (None, "router"):
        raise ConfigError(f"audio_face_mask={audio_face_mask!r} is unknown: use 'router' or None")
    latents = tensors["latents"]
    inputs = DiTInputs(
        rgb_latent=latents[:, :, 1:],
        t=timestep,
        text=tensors["context"],
        audio=rearrange(tensors["audio_embeds"], "b layers c f -> b layers f c"),
        person_latent=latents[:, :, :1],
        product_latent=tensors.get("product_image_latents"),
        product_scale=product_scale,
        motion_latent=None if drop_motion_frames else tensors["motion_latents"],
        pose_latent=tensors.get("s2v_pose_latents"),
        hoi_latent=tensors.get("depth_latents"),
        hoi_t=hoi_timestep,
        hoi_text=tensors.get("depth_context"),
        is_conditional=is_conditional,
        audio_face_mask="router" if audio_face_mask == "router" else None,
    )
    return inputs, "full" if mutual_visible else "asymmetric"
