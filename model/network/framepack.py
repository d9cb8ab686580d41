"""FramePack: motion history as tokens, coarser the older it is.

Source: Wan2.2 wan/modules/s2v/motioner.py ``FramePackMotioner`` (equations only).
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

from model.network.config import DiTConfig
from model.network.functional import PatchEmbedding
from schemas.errors import ConfigError


class FramePacker(nn.Module):
    """Three patch embeddings: the nearest latent at 1x, the next two at 2x, the oldest sixteen at 4x."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.buckets = config.zip_frame_buckets
        self.drop_mode = config.framepack_drop_mode
        pt, ph, pw = config.patch_size
        dim, in_dim = config.dim, config.in_dim
        self.proj = PatchEmbedding(in_dim, dim, (pt, ph, pw))
        self.proj_2x = PatchEmbedding(in_dim, dim, (2 * pt, 2 * ph, 2 * pw))
        self.proj_4x = PatchEmbedding(in_dim, dim, (4 * pt, 4 * ph, 4 * pw))

    def kept_buckets(self, add_last_motion: int) -> int:
        """How many buckets, counted from the far one, give tokens."""
        return 3 if self.drop_mode == "padd" else 1 + add_last_motion

    def forward(
        self, motion: Float[Tensor, "b c f h w"], add_last_motion: int = 2
    ) -> Float[Tensor, "b n d"]:
        """Return motion tokens in the order near, 2x, 4x.

        Args:
            motion: Motion latents, oldest first. Fewer than the buckets hold are padded with zeros
                in front, more are cut to the newest.
            add_last_motion: 2 uses all buckets, 1 leaves out the nearest, 0 the nearest two.

        Raises:
            ConfigError: The latents are smaller than one 4x patch.
        """
        near, mid, far = self.buckets
        total = near + mid + far
        motion = motion[:, :, -total:]
        motion = nnf.pad(motion, (0, 0, 0, 0, total - motion.shape[2], 0))
        self._check_size(motion)
        silent = sum(self.buckets[: 2 - add_last_motion])
        if silent and self.drop_mode == "padd":
            motion = torch.cat(
                [motion[:, :, :-silent], torch.zeros_like(motion[:, :, -silent:])], dim=2
            )
        oldest, older, newest = torch.split(motion, [far, mid, near], dim=2)
        kept = self.kept_buckets(add_last_motion)
        packed = [(self.proj, newest), (self.proj_2x, older), (self.proj_4x, oldest)][3 - kept :]
        return torch.cat([proj(_whole_patches(x, proj.patch)) for proj, x in packed], dim=1)

    def _check_size(self, motion: Float[Tensor, "b c f h w"]) -> None:
        height, width = motion.shape[3:]
        _, ph, pw = self.proj_4x.patch
        if height < ph or width < pw:
            raise ConfigError(
                f"motion latents of {height}x{width} are smaller than one far FramePack patch {ph}x{pw}"
            )


def _whole_patches(
    x: Float[Tensor, "b c f h w"], patch: tuple[int, int, int]
) -> Float[Tensor, "b c f2 h2 w2"]:
    """Cut off the rows and columns that do not fill a patch, as a strided convolution does."""
    f, h, w = (size // step * step for size, step in zip(x.shape[2:], patch, strict=True))
    return x[:, :, :f, :h, :w]
