"""One configuration for every size of the network, from ``smoke`` to ``s2v-14b``.

Two named modes set the switches in which the published code departs from the paper:
``paper`` turns every quirk off, ``official`` reproduces the published network digit by digit, because
the released weights were trained with it. Each switch can also be set alone.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from schemas.base import Model
from schemas.clock import FRAMES_PER_LATENT
from schemas.errors import ConfigError

Mode: TypeAlias = Literal["paper", "official"]
Segment: TypeAlias = Literal["target", "person", "product", "motion"]
ExpertName: TypeAlias = Literal["head", "hand", "base"]

RGB_SEGMENTS: tuple[Segment, ...] = ("target", "person", "product", "motion")

ROUTER_CLASSES: tuple[ExpertName, ...] = ("base", "hand", "head")
"""Order of the router's logits in both modes (published order; ``head`` is ``face`` there)."""


class DiTConfig(Model):
    """Everything that shapes the network. Frozen; unknown keys are refused.

    Args:
        dim: Token width d.
        num_heads: Attention heads; ``dim / num_heads`` must be even and at least 6.
        ffn_dim: Hidden width of the shared FFN.
        text_len: Text is padded with zero rows to this length and all rows are attended;
            None attends to the rows as given.
        speech: Speech-to-video parts: pose encoder, type embeddings, FramePack and audio. False is
            the plain Wan text-to-video backbone.
        motion_frames: (pixel frames, latent frames) of the motion history.
        add_last_motion: How many of FramePack's near buckets carry content: 2 all, 1 without the
            nearest frame, 0 without the nearest three.
        experts: Experts added to the shared FFN; empty means a plain FFN without router.
        hoi_branch: Adds the HOI patch embedding, head, type embedding and block modulation.
        rope_rows: Rows of the rotary table; no position may reach it.
        person_time_index: Rotary time index of the person reference.
        product_time_index: Rotary time index of the product reference.
        mode: Preset that was used for the switches below (see ``for_mode``).
        hoi_width: HOI width positions: ``shift`` is -W .. -1, ``official_wrap`` the last W rows of
            the table (a negative index in the published code).
        hoi_time: Modulation of HOI tokens: ``own`` at the HOI timestep, ``zero`` at t = 0.
        hoi_visible: RGB segments that HOI queries see under asymmetric attention.
        expert_gate_t: Experts are multiplied by 0 at and above this timestep (0..1000); None never.
        gate_unconditional: Experts are multiplied by 0 where ``is_conditional`` is False. Neither training nor
            sampling says so of any pass, as in the published code.
        framepack_drop_mode: What happens to near buckets without content: ``padd`` keeps tokens that
            hold only the convolution's bias, ``drop`` removes them.
        pose_bias_always: Add the pose encoder's bias even when no pose is given.

    Raises:
        ConfigError: Fields that do not fit together; the message carries the numbers.
    """

    dim: int = Field(ge=8)
    num_heads: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    ffn_dim: int = Field(ge=1)
    in_dim: int = Field(default=16, ge=1)
    out_dim: int = Field(default=16, ge=1)
    patch_size: tuple[int, int, int] = (1, 2, 2)
    text_dim: int = Field(default=4096, ge=1)
    text_len: int | None = Field(default=512, ge=1)
    freq_dim: int = Field(default=256, ge=2)
    eps: float = Field(default=1e-6, gt=0)

    speech: bool = True
    cond_dim: int = Field(default=16, ge=1)
    audio_dim: int = Field(default=1024, ge=1)
    num_audio_layers: int = Field(default=25, ge=1)
    num_audio_tokens: int = Field(default=4, ge=1)
    audio_inject_layers: tuple[int, ...] = ()
    enable_adain: bool = True
    audio_eps: float = 1e-6
    adain_eps: float = 1e-5
    motion_frames: tuple[int, int] = (73, 19)
    zip_frame_buckets: tuple[int, int, int] = (1, 2, 16)
    add_last_motion: Literal[0, 1, 2] = 2

    experts: tuple[ExpertName, ...] = ()
    expert_hidden_dim: int = Field(default=256, ge=1)
    router_eps: float = 1e-5
    hoi_branch: bool = False

    rope_theta: float = 10_000.0
    rope_rows: int = 1024
    person_time_index: int = Field(default=30, ge=1)
    product_time_index: int = Field(default=31, ge=1)

    mode: Mode = "paper"
    hoi_width: Literal["shift", "official_wrap"] = "shift"
    hoi_time: Literal["own", "zero"] = "own"
    hoi_visible: tuple[Segment, ...] = RGB_SEGMENTS
    expert_gate_t: float | None = None
    gate_unconditional: bool = False
    framepack_drop_mode: Literal["padd", "drop"] = "drop"
    pose_bias_always: bool = False

    @classmethod
    def for_mode(cls, mode: Mode, **fields: Any) -> Self:
        """Build a configuration whose switches follow ``mode`` unless given in ``fields``.

        Raises:
            ConfigError: ``mode`` or a field is unknown, mistyped or does not fit the others.
        """
        if mode not in MODE_SWITCHES:
            raise ConfigError(f"model.mode={mode!r} is unknown: use one of {sorted(MODE_SWITCHES)}")
        try:
            return cls.model_validate({**MODE_SWITCHES[mode], "mode": mode, **fields})
        except ValidationError as error:
            raise ConfigError(f"model configuration is invalid: {error}") from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_widths()
        self._check_speech()
        if len(set(self.experts)) != len(self.experts):
            raise ConfigError(f"model.experts={self.experts} names an expert twice")
        if "target" not in self.hoi_visible or len(set(self.hoi_visible)) != len(self.hoi_visible):
            raise ConfigError(
                f"model.hoi_visible={self.hoi_visible} must list 'target' and name no segment twice"
            )
        return self

    def _check_widths(self) -> None:
        if self.dim % self.num_heads:
            raise ConfigError(
                f"model.dim={self.dim} is not divisible by num_heads={self.num_heads}"
            )
        if self.head_dim % 2 or self.head_dim < 6:
            raise ConfigError(
                f"head width {self.head_dim} = dim {self.dim} / num_heads {self.num_heads} must be even"
                " and at least 6: rotary positions need a pair of channels for each of three axes"
            )
        if self.freq_dim % 2:
            raise ConfigError(f"model.freq_dim={self.freq_dim} must be even (cosines and sines)")
        if self.speech and self.dim % 4:
            raise ConfigError(f"model.dim={self.dim} must be divisible by 4 for the audio encoder")
        if min(self.patch_size) < 1 or self.patch_size[0] != 1:
            raise ConfigError(
                f"model.patch_size={self.patch_size} must be positive and 1 in time: references are one latent "
                "long, and audio and boxes belong to single latents"
            )
        if self.in_dim != self.out_dim:
            raise ConfigError(
                f"model.in_dim={self.in_dim} must equal out_dim={self.out_dim}: velocities are those of the input"
            )

    def _check_speech(self) -> None:
        layers = self.audio_inject_layers
        wrong = [i for i in layers if not 0 <= i < self.num_layers]
        if wrong or list(layers) != sorted(set(layers)):
            raise ConfigError(
                f"model.audio_inject_layers={layers} must rise strictly within 0..{self.num_layers - 1}"
            )
        if layers and not self.speech:
            raise ConfigError("model.audio_inject_layers needs speech=True")
        if self.hoi_branch and not self.speech:
            raise ConfigError("model.hoi_branch needs speech=True")
        near, mid, far = self.zip_frame_buckets
        if near < 1 or mid < 2 or far < 4 or mid % 2 or far % 4:
            raise ConfigError(
                f"model.zip_frame_buckets={self.zip_frame_buckets}: the second must be divisible by 2 and"
                " the third by 4 (FramePack's temporal strides), none may be empty"
            )
        last = max(self.person_time_index, self.product_time_index, near + mid + far)
        if self.speech and last >= self.rope_rows:
            raise ConfigError(
                f"model.rope_rows={self.rope_rows} must exceed the reference times and the motion history: {last}"
            )
        pixels, latents = self.motion_frames
        if -(-pixels // FRAMES_PER_LATENT) != latents:
            raise ConfigError(
                f"model.motion_frames={self.motion_frames}: {pixels} frames give {-(-pixels // FRAMES_PER_LATENT)} latents"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def has_moe(self) -> bool:
        """Whether blocks have a router and experts."""
        return bool(self.experts)

    @property
    def has_audio(self) -> bool:
        """Whether any block takes audio."""
        return bool(self.audio_inject_layers)


MODE_SWITCHES: dict[Mode, dict[str, Any]] = {
    "paper": {
        "hoi_width": "shift",
        "hoi_time": "own",
        "hoi_visible": RGB_SEGMENTS,
        "expert_gate_t": None,
        "gate_unconditional": False,
        "framepack_drop_mode": "drop",
        "pose_bias_always": False,
    },
    "official": {
        "hoi_width": "official_wrap",
        "hoi_time": "zero",
        "hoi_visible": ("target", "product"),
        "expert_gate_t": 900.0,
        "gate_unconditional": True,
        "framepack_drop_mode": "padd",
        "pose_bias_always": True,
    },
}
"""The quirks of the published code, one switch each. Source: facts on CoInteract@fbd744e."""

MODE_EXPERTS: dict[Mode, tuple[ExpertName, ...]] = {
    "paper": ("head", "hand", "base"),
    "official": ("hand", "head"),
}

_SMOKE: dict[str, Any] = {
    "dim": 144,
    "num_heads": 6,
    "num_layers": 6,
    "ffn_dim": 384,
    "text_dim": 64,
    "text_len": 64,
    "freq_dim": 64,
    "audio_dim": 64,
    "num_audio_layers": 1,
    "audio_inject_layers": (0, 3),
    "expert_hidden_dim": 32,
}
_WAN_1_3B: dict[str, Any] = {
    "dim": 1536,
    "num_heads": 12,
    "num_layers": 30,
    "ffn_dim": 8960,
    "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27),
}
_S2V_14B: dict[str, Any] = {
    "dim": 5120,
    "num_heads": 40,
    "num_layers": 40,
    "ffn_dim": 13824,
    "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
}
PRESETS: dict[str, dict[str, Any]] = {"smoke": _SMOKE, "1.3b": _WAN_1_3B, "s2v-14b": _S2V_14B}
"""Sizes. ``s2v-14b`` alone is the published Wan2.2-S2V-14B network: 1260 tensors."""


def preset(name: str, mode: Mode = "paper", *, cogen: bool = True, **overrides: Any) -> DiTConfig:
    """Return a named size in a named mode.

    Args:
        name: A key of ``PRESETS``.
        mode: ``paper`` or ``official``.
        cogen: Add the HOI branch and the mode's experts. False is the bare speech-to-video backbone.
        overrides: Fields that replace the preset's.

    Raises:
        ConfigError: Unknown name or field, or fields that do not fit together.

    >>> preset("s2v-14b", "official").experts
    ('hand', 'head')
    """
    if name not in PRESETS:
        raise ConfigError(f"model preset {name!r} is unknown: use one of {sorted(PRESETS)}")
    if mode not in MODE_SWITCHES:
        raise ConfigError(f"model.mode={mode!r} is unknown: use one of {sorted(MODE_SWITCHES)}")
    parts = {"hoi_branch": cogen, "experts": MODE_EXPERTS[mode] if cogen else ()}
    return DiTConfig.for_mode(mode, **{**PRESETS[name], **parts, **overrides})
