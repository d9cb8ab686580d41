import torch

from model.codecs.dct import DctCodec
from model.network.config import DiTConfig
from schemas.clock import (
    FPS,
    FRAMES_PER_LATENT,
    PX_PER_LATENT,
    PX_PER_TOKEN,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
)


def test_no_frame_begins_between_two_samples():
    assert SAMPLES_PER_FRAME * FPS == SAMPLE_RATE_HZ


def test_a_codec_shrinks_by_the_grid_and_a_patch_by_the_token():
    pixels = torch.zeros(1, 3, 1 + 2 * FRAMES_PER_LATENT, 2 * PX_PER_TOKEN, 3 * PX_PER_TOKEN)
    latent = DctCodec().encode(pixels)
    assert latent.shape[2:] == (
        3,
        2 * PX_PER_TOKEN // PX_PER_LATENT,
        3 * PX_PER_TOKEN // PX_PER_LATENT,
    )
    patch = DiTConfig.model_fields["patch_size"].default
    assert [side * PX_PER_LATENT for side in patch[1:]] == [PX_PER_TOKEN] * 2
