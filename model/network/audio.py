"""Causal audio encoder and audio injection of Wan2.2-S2V.

Source: Wan2.2 wan/modules/s2v/{audio_utils,auxi_blocks}.py (equations only).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from model.network.attention import MultiHeadAttention
from model.network.config import DiTConfig
from model.network.functional import layer_norm
from schemas.clock import FRAMES_PER_LATENT
from schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AudioTokens:
    """Audio per latent frame: ``local`` tokens are attended, the ``summary`` one modulates (AdaIN)."""

    local: Float[Tensor, "b t k d"]
    summary: Float[Tensor, "b t d"] | None


class CausalConv1d(nn.Module):
    """Convolution of width 3 over the past only; the first frame is repeated in front."""

    def __init__(self, in_dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, out_dim, 3, stride=stride)

    def forward(self, x: Float[Tensor, "b c f"]) -> Float[Tensor, "b o g"]:
        """Convolve; the output has ceil(f / stride) frames."""
        out: Tensor = self.conv(nnf.pad(x, (2, 0), mode="replicate"))
        return out


class AudioConvEncoder(nn.Module):
    """Audio features at video rate to tokens at latent rate: convolutions of stride 1, 2, 2."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, quarter = config.dim, config.dim // 4
        self.num_tokens = config.num_audio_tokens
        self.eps = config.audio_eps
        self.conv1_local = CausalConv1d(config.audio_dim, quarter * self.num_tokens, stride=1)
        self.conv2 = CausalConv1d(quarter, dim // 2, stride=2)
        self.conv3 = CausalConv1d(dim // 2, dim, stride=2)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.has_summary = config.enable_adain
        if self.has_summary:
            self.conv1_global = CausalConv1d(config.audio_dim, quarter, stride=1)
            self.final_linear = nn.Linear(dim, dim)

    def _norm_act(self, x: Float[Tensor, "b c f"]) -> Float[Tensor, "b c f"]:
        normed = layer_norm(rearrange(x, "b c f -> b f c"), self.eps)
        return rearrange(nnf.silu(normed).to(x.dtype), "b f c -> b c f")

    def _downsample(self, x: Float[Tensor, "b c f"]) -> Float[Tensor, "b g d"]:
        x = self._norm_act(self.conv2(self._norm_act(x)))
        return rearrange(self._norm_act(self.conv3(x)), "b d g -> b g d")

    def forward(self, x: Float[Tensor, "b f c"]) -> AudioTokens:
        """Encode features of all frames."""
        x = rearrange(x, "b f c -> b c f")
        local = rearrange(self.conv1_local(x), "b (k c) f -> (b k) c f", k=self.num_tokens)
        tokens = rearrange(self._downsample(local), "(b k) g d -> b g k d", k=self.num_tokens)
        padding = self.padding_tokens.to(tokens.dtype).expand(*tokens.shape[:2], 1, -1)
        tokens = torch.cat([tokens, padding], dim=2)  # (b, g, k + 1, d)
        if not self.has_summary:
            return AudioTokens(tokens, None)
        return AudioTokens(tokens, self.final_linear(self._downsample(self.conv1_global(x))))


class CausalAudioEncoder(nn.Module):
    """Weighted mean over the speech model's layers, then the convolutional encoder."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.motion_frames = config.motion_frames
        self.weights = nn.Parameter(torch.full((1, config.num_audio_layers, 1, 1), 0.01))
        self.encoder = AudioConvEncoder(config)

    def forward(self, features: Float[Tensor, "b layers f c"], num_latents: int) -> AudioTokens:
        """Encode the clip's features behind a stand-in for the motion frames.

        Args:
            features: One feature per video frame of the target, 4 * num_latents frames.
            num_latents: Target latents.

        Raises:
            ConfigError: Frames or layers do not match.
        """
        layers, frames = features.shape[1], features.shape[2]
        if layers != self.weights.shape[1] or frames != FRAMES_PER_LATENT * num_latents:
            raise ConfigError(
                f"audio has {layers} layers and {frames} frames; the model needs {self.weights.shape[1]}"
                f" layers and {FRAMES_PER_LATENT} frames per target latent = {FRAMES_PER_LATENT * num_latents}"
            )
        lead_frames, lead_latents = self.motion_frames
        lead = repeat(features[:, :, 0], "b l c -> b l f c", f=lead_frames)
        features = torch.cat([lead, features], dim=2).to(self.weights.dtype)
        weights = nnf.silu(self.weights)
        mean = (features * weights / weights.sum(dim=1, keepdim=True)).sum(dim=1)  # (b, f, c)
        tokens = self.encoder(mean)
        summary = None if tokens.summary is None else tokens.summary[:, lead_latents:]
        return AudioTokens(tokens.local[:, lead_latents:], summary)


class AdaLayerNorm(nn.Module):
    """Layer norm whose shift and scale come from the frame's audio summary."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(
        self, x: Float[Tensor, "bt n d"], condition: Float[Tensor, "bt d"]
    ) -> Float[Tensor, "bt n d"]:
        """Normalise and modulate."""
        shift, scale = self.linear(nnf.silu(condition)).chunk(2, dim=1)
        modulated: Tensor = layer_norm(x, self.eps) * (1 + scale[:, None]) + shift[:, None]
        return modulated


class AudioInjector(nn.Module):
    """Cross-attention from the target tokens of a latent frame to that frame's audio tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.slots = {layer: slot for slot, layer in enumerate(config.audio_inject_layers)}
        self.injector = nn.ModuleList(
            MultiHeadAttention(config.dim, config.num_heads, config.eps) for _ in self.slots
        )
        if config.enable_adain:
            self.injector_adain_layers = nn.ModuleList(
                AdaLayerNorm(config.dim, config.adain_eps) for _ in self.slots
            )

    def forward(
        self,
        layer: int,
        target: Float[Tensor, "b n d"],
        audio: AudioTokens,
        mask: Float[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b n d"]:
        """Return the residual that block ``layer``'s target tokens receive.

        Args:
            layer: A block of ``audio_inject_layers``.
            target: Target tokens after the block.
            audio: Audio tokens of the clip.
            mask: Weight of the residual per token, or None.
        """
        slot, frames = self.slots[layer], audio.local.shape[1]
        x = rearrange(target, "b (t n) d -> (b t) n d", t=frames)
        if audio.summary is None:
            x = layer_norm(x, self.eps)
        else:
            x = self.injector_adain_layers[slot](x, rearrange(audio.summary, "b t d -> (b t) d"))
        attention = self.injector[slot]
        assert isinstance(attention, MultiHeadAttention)
        residual = attention.cross(x, rearrange(audio.local, "b t k d -> (b t) k d"))
        residual = rearrange(residual, "(b t) n d -> b (t n) d", t=frames)
        return residual if mask is None else residual * mask[..., None].to(residual.dtype)
