"""Pure tensor functions of the network. Shape letters: b batch, n tokens, d width, h heads, e head width."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as nnf
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from schemas.errors import ConfigError


def sinusoid(t: Float[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """Embed timesteps as [cos | sin] at frequencies 10000^(-i / (dim/2)), computed in float64.

    Source: Wan2.2 wan/modules/model.py ``sinusoidal_embedding_1d``.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=t.device) / half
    angles = torch.outer(t.double(), torch.pow(10_000.0, -exponents))
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def linear_fp32(layer: nn.Linear, x: Float[Tensor, "... d"]) -> Float[Tensor, "... o"]:
    """Apply a linear layer in float32 whatever its weights' type and whatever autocast says."""
    device = x.device.type
    available = torch.amp.autocast_mode.is_autocast_available(device)  # not on the meta device
    with torch.autocast(device, enabled=False) if available else nullcontext():
        bias = None if layer.bias is None else layer.bias.float()
        return nnf.linear(x.float(), layer.weight.float(), bias)


def layer_norm(x: Float[Tensor, "... d"], eps: float) -> Float[Tensor, "... d"]:
    """Normalise over the width in float32, without affine parameters."""
    return nnf.layer_norm(x.float(), (x.shape[-1],), eps=eps)


def modulate(
    x: Float[Tensor, "b n d"],
    shifts: Sequence[Float[Tensor, "b d"]],
    scales: Sequence[Float[Tensor, "b d"]],
    lengths: Sequence[int],
) -> Float[Tensor, "b n d"]:
    """Return x (1 + scale) + shift with one shift and scale per run of ``lengths`` tokens.

    Applied run by run: a per-token modulation tensor would cost as much memory as the tokens.
    """
    runs = torch.split(x, list(lengths), dim=1)
    parts = [
        run * (1 + scale[:, None]) + shift[:, None]
        for run, shift, scale in zip(runs, shifts, scales, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def gate(
    y: Float[Tensor, "b n d"], gates: Sequence[Float[Tensor, "b d"]], lengths: Sequence[int]
) -> Float[Tensor, "b n d"]:
    """Return y * gate with one gate per run of ``lengths`` tokens."""
    parts = [
        run * g[:, None] for run, g in zip(torch.split(y, list(lengths), dim=1), gates, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def rotate(
    x: Float[Tensor, "b n h e"],
    cos: Float[Tensor, "#b n e2"],
    sin: Float[Tensor, "#b n e2"],
) -> Float[Tensor, "b n h e"]:
    """Rotate neighbouring channel pairs by the token's angles, in float32 (RoPE)."""
    even, odd = rearrange(
        x.float(), "b n h (e p) -> p b n h e", p=2
    ).unbind()  # (b, n, h, e/2) each
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def attend(
    q: Float[Tensor, "b nq h e"],
    k: Float[Tensor, "b nk h e"],
    v: Float[Tensor, "b nk h e"],
) -> Float[Tensor, "b nq d"]:
    """Softmax attention without a mask, scale 1/sqrt(e), heads joined."""
    q, k, v = (rearrange(a, "b n h e -> b h n e") for a in (q, k, v))
    return rearrange(nnf.scaled_dot_product_attention(q, k, v), "b h n e -> b n (h e)")


def patchify(x: Float[Tensor, "b c t h w"], patch: tuple[int, int, int]) -> Float[Tensor, "b n cp"]:
    """Cut latents into patches; tokens run over time, row, column. The inverse order of a Conv3d weight.

    Raises:
        ConfigError: The latent size is not divisible by the patch.
    """
    sizes = tuple(x.shape[2:])
    if any(size % step for size, step in zip(sizes, patch, strict=True)):
        raise ConfigError(
            f"latent size (time, height, width) = {sizes} is not divisible by the patch {patch}"
        )
    pt, ph, pw = patch
    return rearrange(x, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatchify(
    x: Float[Tensor, "b n pc"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Float[Tensor, "b c t h w"]:
    """Put predicted patches back; within a token the channel runs fastest (head's order)."""
    (t, h, w), (pt, ph, pw) = grid, patch
    return rearrange(
        x, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw
    )


def mask_rows(
    x: Float[Tensor, "b l d"], lengths: Int[Tensor, " b"] | None, pad_to: int | None
) -> Float[Tensor, "b L d"]:
    """Zero the rows past each sample's length and append zero rows up to ``pad_to``.

    Raises:
        ConfigError: More rows than ``pad_to``, or a length outside 0..rows.
    """
    rows = x.shape[1]
    if pad_to is not None and rows > pad_to:
        raise ConfigError(f"text has {rows} rows but the model takes at most text_len={pad_to}")
    if lengths is not None:
        if int(lengths.min()) < 0 or int(lengths.max()) > rows:
            raise ConfigError(f"text lengths {lengths.tolist()} must lie within 0..{rows} rows")
        keep = torch.arange(rows, device=x.device)[None] < lengths.to(x.device)[:, None]  # (b, l)
        x = torch.where(keep[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))
    return x if pad_to is None else nnf.pad(x, (0, 0, 0, pad_to - rows))


class PatchEmbedding(nn.Module):
    """A Conv3d whose kernel equals its stride, as one matrix product; parameters as in Conv3d."""

    def __init__(self, in_dim: int, dim: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.weight = nn.Parameter(torch.empty(dim, in_dim, *patch))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.weight.flatten(1))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """Embed every patch."""
        return nnf.linear(
            patchify(x, self.patch).to(self.weight.dtype), self.weight.flatten(1), self.bias
        )
