"""Requests that do not fit are refused with the numbers that disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.network.config import DiTConfig, preset
from model.weights.interop import config_from_reference
from schemas.errors import ConfigError
from tests.unit.model.network.dit_cases import batch, network, tiny


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": 145}, r"dim=145 is not divisible by num_heads=6"),
        ({"dim": 24, "num_heads": 6}, r"head width 4 = dim 24 / num_heads 6"),
        ({"freq_dim": 33}, r"freq_dim=33 must be even"),
        ({"audio_inject_layers": (0, 6)}, r"within 0\.\.5"),
        ({"audio_inject_layers": (3, 0)}, r"rise strictly"),
        ({"zip_frame_buckets": (1, 3, 16)}, r"\(1, 3, 16\)"),
        ({"motion_frames": (73, 18)}, r"73 frames give 19 latents"),
        ({"experts": ("hand", "hand")}, r"twice"),
        ({"hoi_visible": ("person",)}, r"must list 'target'"),
        ({"speech": False}, r"needs speech=True"),
        ({"expert_hiden_dim": 8}, r"expert_hiden_dim"),
        ({"num_layers": 0}, r"num_layers"),
    ],
)
def test_configurations_that_do_not_fit(fields, message):
    with pytest.raises(ConfigError, match=message):
        preset("smoke", **fields)


def test_unknown_names():
    with pytest.raises(ConfigError, match="'huge' is unknown"):
        preset("huge")
    with pytest.raises(ConfigError, match="'fast' is unknown"):
        preset("smoke", "fast")
    with pytest.raises(ConfigError, match="'fast' is unknown"):
        DiTConfig.for_mode("fast")
    with pytest.raises(ConfigError, match="adain_mode='after_attn' is not supported"):
        config_from_reference({"adain_mode": "after_attn"})
    with pytest.raises(ConfigError, match="flash_mode"):
        config_from_reference(
            {"dim": 48, "num_heads": 2, "num_layers": 1, "ffn_dim": 8, "flash_mode": 1}
        )


def odd_batches(config):
    good = batch(config)
    cut = good.rgb_latent[..., :7, :]
    yield (
        {"rgb_latent": cut, "pose_latent": None, "motion_latent": None},
        r"\(3, 7, 12\).*\(1, 2, 2\)",
    )
    yield {"rgb_latent": good.rgb_latent[0]}, r"expected 5 dimensions"
    yield {"rgb_latent": good.rgb_latent[:, :8]}, r"\(2, 8, 3, 8, 12\): expected \(2, 16"
    yield {"t": good.t[:1]}, r"t has shape \(1,\): expected \(2\)"
    yield {"t": good.t.bfloat16()}, r"bfloat16: timesteps stay in float32"
    yield {"text": good.text[..., :5]}, r"text has shape \(2, 7, 5\): expected \(2, any, 24\)"
    yield {"text": torch.zeros(2, 13, 24)}, r"13 rows but the model takes at most text_len=12"
    yield {"text_lens": torch.tensor([1, 8])}, r"\[1, 8\] must lie within 0\.\.7"
    yield {"audio": good.audio[:, :, :11]}, r"3 layers and 11 frames.*= 12"
    yield {"audio": good.audio[:, :2]}, r"2 layers and 12 frames; the model needs 3 layers"
    yield {"person_latent": good.rgb_latent}, r"person_latent.*expected \(2, 16, 1, any, any\)"
    yield {"motion_latent": good.motion_latent[..., :4]}, r"motion_latent"
    yield {"pose_latent": good.pose_latent[:, :, :2]}, r"pose_latent"
    yield {"hoi_text": None}, r"without hoi_text"
    yield {"product_scale": 1.2}, r"product scale 1.2 must lie in \(0, 1\]"
    yield {"product_scale": torch.ones(3)}, r"product_scale has shape \(3,\)"
    yield {"is_conditional": torch.ones(3, dtype=torch.bool)}, r"is_conditional has shape \(3,\)"


CASES = list(odd_batches(tiny()))


@pytest.mark.parametrize(("change", "message"), CASES, ids=[m for _, m in CASES])
def test_batches_that_do_not_fit(change, message):
    config = tiny()
    with pytest.raises(ConfigError, match=message):
        network(config)(replace(batch(config), **change), attention="full")


def test_more_frames_than_the_rotary_table_or_the_reference_slot():
    config = tiny(rope_rows=33, audio_inject_layers=())
    inputs = batch(config, size=1, frames=34, audio=None, person_latent=None, product_latent=None)
    with pytest.raises(ConfigError, match=r"rgb needs rotary time position 33.*33 rows"):
        network(config)(inputs, attention="full")
    inputs = batch(tiny(), size=1, frames=31)
    with pytest.raises(ConfigError, match=r"31 target latents reach rotary time 30"):
        network(tiny())(inputs, attention="full")


def test_parts_that_the_network_lacks():
    plain = tiny(cogen=False)
    with pytest.raises(ConfigError, match="no HOI branch"):
        network(plain)(batch(plain), attention="full")
    silent = tiny(audio_inject_layers=())
    with pytest.raises(ConfigError, match="no audio_inject_layers"):
        network(silent)(batch(silent), attention="full")
    with pytest.raises(ConfigError, match="needs a model with experts"):
        network(plain)(
            replace(batch(plain), hoi_latent=None, audio_face_mask="router"), attention="full"
        )
    text = tiny(cogen=False, speech=False, audio_inject_layers=())
    bare = replace(batch(text), hoi_latent=None, audio=None)
    with pytest.raises(
        ConfigError, match="person_latent, product_latent, motion_latent, pose_latent"
    ):
        network(text)(bare, attention="full")
    with pytest.raises(ConfigError, match="'half' is unknown"):
        network(tiny())(batch(tiny()), attention="half")


def test_motion_smaller_than_a_far_patch():
    config = tiny()
    small = batch(config, edge=4)
    with pytest.raises(ConfigError, match="4x8 are smaller than one far FramePack patch 8x8"):
        network(config)(small, attention="full")
