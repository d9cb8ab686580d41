"""A film of one clip: what the stages saw and made, side by side."""

from __future__ import annotations

import numpy as np

from curation.report.strips import draw_boxes, media_arrays, tint_product
from schemas.errors import ConfigError
from schemas.rows import Clip
from stages.files import Blobs
from stages.kit import media
from stages.kit.arrays import Frames


def panels(clip: Clip, blobs: Blobs) -> dict[str, Frames]:
    """What there is of a clip, each (T,H,W,3) u8: ``rgb``, ``boxes``, ``mask``, ``structure``.

    A clip that ended early has fewer panels. Motion context is part of all.
    """
    rgb = media.read_video(blobs.fetch(clip.media.video))
    out = {"rgb": rgb}
    if clip.detect is not None:
        out["boxes"] = draw_boxes(rgb, clip, blobs)
    if clip.objects is not None:
        out["mask"] = tint_product(rgb, clip, blobs)
    if clip.structure is not None:
        out["structure"] = media.read_video(blobs.fetch(clip.structure.video))
    return out


def decoded_panels(clip: Clip, blobs: Blobs, codec_config: object) -> dict[str, Frames]:
    """What a trainer sees of a kept clip: its latents decoded, each (T,H,W,3) u8: ``rgb``, ``structure``.

    Raises:
        ConfigError: The clip has no latents, or its codec is another one than the run's settings name.
    """
    import torch

    from model.codecs.codec_choice import codec_id
    from model.codecs.video import codec_that_wrote, decode_frames

    if clip.latents is None:
        raise ConfigError(f"clip {clip.clip_id} has no latents: it ended before that stage")
    wanted = codec_id(clip.latents.codec)
    codec = codec_that_wrote(wanted, codec_config, f"clip {clip.clip_id}")
    arrays = media_arrays(blobs, clip.latents.arrays)
    streams = {"rgb": ("rgb_latent", codec), "structure": ("hoi_latent", codec.for_stream("hoi"))}
    return {
        name: np.concatenate(
            [part for _, part in decode_frames(own, torch.from_numpy(arrays[key]).float())]
        )
        for name, (key, own) in streams.items()
    }


def side_by_side(shown: dict[str, Frames]) -> Frames:
    """Join panels (T,H,W,3) of equal size to (T,H,n*W,3)."""
    return np.concatenate(list(shown.values()), axis=2)
