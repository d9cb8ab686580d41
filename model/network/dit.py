"""The co-generation diffusion transformer: RGB and HOI structure video denoised by shared blocks.

    RGB   [target | person | product | motion] --+-- blocks --> head -------> RGB velocity
    HOI   [hoi] ---------------------------------+-- blocks --> depth_head -> HOI velocity

Module names are the published ones (``depth_*`` is the HOI branch, ``casual_audio_encoder`` is
spelt so), hence a state dict loads by name.
Sources: paper arXiv 2604.19636 sections 3.1-3.3; Wan2.2 wan/modules/s2v/model_s2v.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.network.attention import Rotary, visible_runs
from model.network.audio import AudioInjector, AudioTokens, CausalAudioEncoder
from model.network.block import BlockCondition, DiTBlock, Head, StreamCondition
from model.network.checks import check_inputs
from model.network.config import ROUTER_CLASSES, DiTConfig
from model.network.framepack import FramePacker
from model.network.functional import PatchEmbedding, linear_fp32, mask_rows, sinusoid, unpatchify
from model.network.initialise import initialise
from model.network.inputs import Attention, DiTInputs, DiTOutputs
from model.network.moe import Routing
from model.network.positions import Grid, positions, rotary_angles

__all__ = ["CoGenDiT", "DiTInputs", "DiTOutputs"]


@dataclass(frozen=True, slots=True)
class TimeEmbedding:
    """Time embedding ``e`` (for heads) and its projection ``e0`` (for blocks), float32."""

    e: Float[Tensor, "b d"]
    e0: Float[Tensor, "b 6 d"]


class CoGenDiT(nn.Module):
    """Two-stream video transformer; one class from ``smoke`` to ``s2v-14b``.

    Args:
        config: Sizes, parts and mode switches.

    Attributes:
        checkpoint_blocks: Recompute blocks in the backward pass to save memory.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False
        dim = config.dim
        self.patch_embedding = PatchEmbedding(config.in_dim, dim, config.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.num_layers))
        self.head = Head(config)
        if config.speech:
            self.cond_encoder = PatchEmbedding(config.cond_dim, dim, config.patch_size)
            self.trainable_cond_mask = _embedding(3, dim)
            self.frame_packer = FramePacker(config)
        if config.has_audio:
            self.casual_audio_encoder = CausalAudioEncoder(config)
            self.audio_injector = AudioInjector(config)
        if config.hoi_branch:
            self.depth_patch_embedding = PatchEmbedding(config.in_dim, dim, config.patch_size)
            self.depth_head = Head(config)
            self.depth_cond_mask = _embedding(1, dim)
        initialise(self)

    def forward(self, inputs: DiTInputs, *, attention: Attention) -> DiTOutputs:
        """Predict the velocity of both streams, or of RGB alone when no HOI latent is given.

        Args:
            inputs: One batch; any batch size, one timestep per sample.
            attention: ``full`` (stage 1) or ``asymmetric`` (stage 2, inference).

        Returns:
            Velocities in float32 and router logits. Under ``asymmetric`` the RGB velocity does not
            depend on the HOI stream, bit for bit in eager mode on one device.

        Raises:
            ConfigError: The batch does not fit the configuration.
        """
        check_inputs(self.config, inputs, attention)
        time = self.embed_time(inputs.t)
        rgb, lengths = self.embed_rgb(inputs)
        hoi = None if inputs.hoi_latent is None else self.embed_hoi(inputs.hoi_latent)
        on = self._conditions(inputs, attention, time, lengths, hoi)
        audio = self.embed_audio(inputs)

        logits: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            rgb, hoi, routing = self._run(block, rgb, hoi, on)
            if routing is not None:
                logits.append(routing.logits)
            if audio is not None and layer in self.audio_injector.slots:
                rgb = self._inject(layer, rgb, audio, inputs, routing, on.num_target)

        velocity = self.head(rgb[:, : on.num_target], time.e)
        grid = self._grid(inputs.rgb_latent)
        return DiTOutputs(
            rgb_velocity=unpatchify(velocity, grid, self.config.patch_size),
            hoi_velocity=None if hoi is None else self._hoi_velocity(hoi, inputs),
            router_logits=tuple(logits),
        )

    def embed_time(self, t: Float[Tensor, " b"]) -> TimeEmbedding:
        """Embed timesteps 0..1000 in float32."""
        e = linear_fp32(_linear(self.time_embedding[0]), sinusoid(t, self.config.freq_dim))
        e = linear_fp32(_linear(self.time_embedding[2]), nn.functional.silu(e))
        e0 = linear_fp32(_linear(self.time_projection[1]), nn.functional.silu(e))
        return TimeEmbedding(e, rearrange(e0, "b (m d) -> b m d", m=6))

    def embed_text(
        self, text: Float[Tensor, "b l c"], lens: Tensor | None = None
    ) -> Float[Tensor, "b L d"]:
        """Zero the rows past ``lens``, pad with zero rows to ``text_len``, embed all rows."""
        rows = mask_rows(text, lens, self.config.text_len)
        embedded: Tensor = self.text_embedding(
            rows.to(_linear(self.text_embedding[0]).weight.dtype)
        )
        return embedded

    def embed_audio(self, inputs: DiTInputs) -> AudioTokens | None:
        """Encode audio to tokens per target latent, or None when no audio is given."""
        if inputs.audio is None:
            return None
        tokens: AudioTokens = self.casual_audio_encoder(inputs.audio, inputs.rgb_latent.shape[2])
        return tokens

    def embed_rgb(self, inputs: DiTInputs) -> tuple[Float[Tensor, "b n d"], dict[str, int]]:
        """Return RGB tokens in segment order, float32, and the length of every segment."""
        config = self.config
        target = self.patch_embedding(inputs.rgb_latent).float()
        if not config.speech:
            return target, {"target": target.shape[1], "person": 0, "product": 0, "motion": 0}
        if inputs.pose_latent is not None:
            target = target + self.cond_encoder(inputs.pose_latent)
        elif config.pose_bias_always:
            batch, _, *size = inputs.rgb_latent.shape  # published: no pose is an all-zero pose
            target = target + self.cond_encoder(
                inputs.rgb_latent.new_zeros(batch, config.cond_dim, *size)
            )
        types = self.trainable_cond_mask.weight.float()  # target, reference, motion
        segments = {"target": target + types[0]}
        for name, latent in (("person", inputs.person_latent), ("product", inputs.product_latent)):
            if latent is not None:
                segments[name] = self.patch_embedding(latent) + types[1]
        if inputs.motion_latent is not None:
            packed = self.frame_packer(inputs.motion_latent, config.add_last_motion)
            segments["motion"] = packed + types[2]
        names = ("target", "person", "product", "motion")
        lengths = {name: segments[name].shape[1] if name in segments else 0 for name in names}
        return torch.cat([segments[name] for name in names if name in segments], dim=1), lengths

    def embed_hoi(self, hoi: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b nh d"]:
        """Return HOI tokens, float32."""
        tokens: Tensor = self.depth_patch_embedding(hoi) + self.depth_cond_mask.weight.float()[0]
        return tokens

    def rgb_rotary(self, inputs: DiTInputs) -> Rotary:
        """Rotary angles of the RGB stream; independent of the HOI stream."""
        config, rows = self.config, self.config.rope_rows
        grid = self._grid(inputs.rgb_latent)
        parts = [positions("rgb", grid, table_rows=rows)[None]]
        if inputs.person_latent is not None:
            person, at = self._grid(inputs.person_latent), config.person_time_index
            parts.append(positions("person", person, time_index=at, table_rows=rows)[None])
        if inputs.product_latent is not None:
            product, at = self._grid(inputs.product_latent), config.product_time_index
            scaled = [
                positions("product", product, time_index=at, scale=scale, table_rows=rows)
                for scale in _scales(inputs.product_scale)
            ]
            parts.append(torch.stack(scaled))
        if inputs.motion_latent is not None:
            kept = self.frame_packer.kept_buckets(config.add_last_motion)
            buckets = config.zip_frame_buckets
            motion = positions("motion", grid, buckets=buckets, kept_buckets=kept, table_rows=rows)
            parts.append(motion[None])
        samples = max(part.shape[0] for part in parts)
        joined = torch.cat([part.expand(samples, -1, -1) for part in parts], dim=1)
        joined = joined.to(inputs.rgb_latent.device)
        return Rotary(*rotary_angles(joined, config.head_dim, config.rope_theta))

    def hoi_rotary(self, hoi: Float[Tensor, "b c t h w"]) -> Rotary:
        """Rotary angles of the HOI stream."""
        config = self.config
        where = positions(
            "hoi", self._grid(hoi), hoi_width=config.hoi_width, table_rows=config.rope_rows
        )
        return Rotary(
            *rotary_angles(where[None].to(hoi.device), config.head_dim, config.rope_theta)
        )

    def _conditions(
        self,
        inputs: DiTInputs,
        attention: Attention,
        time: TimeEmbedding,
        lengths: dict[str, int],
        hoi: Float[Tensor, "b nh d"] | None,
    ) -> BlockCondition:
        num_target, num_rgb = lengths["target"], sum(lengths.values())
        still = self.embed_time(torch.zeros_like(inputs.t)).e0  # references and motion are clean
        more = num_rgb > num_target
        rgb = StreamCondition(
            rotary=self.rgb_rotary(inputs),
            text=self.embed_text(inputs.text, inputs.text_lens),
            times=(time.e0, still) if more else (time.e0,),
            lengths=(num_target, num_rgb - num_target) if more else (num_target,),
        )
        return BlockCondition(
            rgb=rgb,
            hoi=None if hoi is None else self._hoi_condition(inputs, still, hoi.shape[1]),
            attention=attention,
            visible=visible_runs(lengths, self.config.hoi_visible),
            num_target=num_target,
            expert_gate=self._expert_gate(inputs),
        )

    def _hoi_condition(
        self, inputs: DiTInputs, still: Float[Tensor, "b 6 d"], num_tokens: int
    ) -> StreamCondition:
        assert inputs.hoi_latent is not None
        assert inputs.hoi_text is not None
        own = self.config.hoi_time == "own"
        return StreamCondition(
            rotary=self.hoi_rotary(inputs.hoi_latent),
            text=self.embed_text(inputs.hoi_text, inputs.hoi_text_lens),
            times=(self.embed_time(_hoi_t(inputs)).e0 if own else still,),
            lengths=(num_tokens,),
        )

    def _expert_gate(self, inputs: DiTInputs) -> Float[Tensor, " b"]:
        gate = torch.ones_like(inputs.t)
        if self.config.expert_gate_t is not None:
            gate = gate * (inputs.t < self.config.expert_gate_t)
        if self.config.gate_unconditional:
            gate = gate * inputs.is_conditional
        return gate

    def _run(
        self, block: nn.Module, rgb: Tensor, hoi: Tensor | None, on: BlockCondition
    ) -> tuple[Tensor, Tensor | None, Routing | None]:
        recompute = self.checkpoint_blocks and torch.is_grad_enabled()
        result: Any = (
            checkpoint(block, rgb, hoi, on, use_reentrant=False)
            if recompute
            else block(rgb, hoi, on)
        )
        rgb_out, hoi_out, routing = result
        return rgb_out, hoi_out, routing

    def _inject(
        self,
        layer: int,
        rgb: Float[Tensor, "b n d"],
        audio: AudioTokens,
        inputs: DiTInputs,
        routing: Routing | None,
        num_target: int,
    ) -> Float[Tensor, "b n d"]:
        mask = inputs.audio_face_mask
        if isinstance(mask, str):
            assert routing is not None
            mask = routing.weights[..., ROUTER_CLASSES.index("head")].detach()
        target = rgb[:, :num_target]
        residual = self.audio_injector(layer, target, audio, mask)
        return torch.cat([target + residual, rgb[:, num_target:]], dim=1)

    def _hoi_velocity(
        self, hoi: Float[Tensor, "b nh d"], inputs: DiTInputs
    ) -> Float[Tensor, "b c t h w"]:
        assert inputs.hoi_latent is not None
        velocity = self.depth_head(hoi, self.embed_time(_hoi_t(inputs)).e)
        return unpatchify(velocity, self._grid(inputs.hoi_latent), self.config.patch_size)

    def _grid(self, latent: Float[Tensor, "b c t h w"]) -> Grid:
        (t, h, w), (pt, ph, pw) = latent.shape[2:], self.config.patch_size
        return t // pt, h // ph, w // pw


def _hoi_t(inputs: DiTInputs) -> Float[Tensor, " b"]:
    return inputs.t if inputs.hoi_t is None else inputs.hoi_t


def _scales(scale: float | Tensor) -> list[float]:
    return [float(s) for s in scale] if isinstance(scale, Tensor) else [scale]


def _embedding(rows: int, dim: int) -> nn.Embedding:
    # a ready weight: drawing random numbers on the meta device would import a compiler
    return nn.Embedding(rows, dim, _weight=torch.empty(rows, dim))


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module
