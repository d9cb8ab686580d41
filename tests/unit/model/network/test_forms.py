"""Every form of network that the configuration accepts also trains and samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.network.config import DiTConfig, preset
from model.sampler import SampleConfig, SampleRequest, sample
from model.training.trainer import train
from schemas.errors import ConfigError
from tests.support.clips import square_frames
from tests.support.shards import TINY_NETWORK, make_shards
from tests.support.train_recipes import train_recipe

REQUEST = SampleRequest(
    person=square_frames(1, 80, 70)[0],
    product=np.full((20, 30, 3), 200, np.uint8),
    prompt="A person holds a red box.",
    hoi_prompt="Black background, a body.",
)
SOUND = np.sin(np.arange(30_000) / 20).astype(np.float32) * 0.1
FORMS = {
    "no structure branch": {"hoi_branch": False},
    "no sound": {"audio_inject_layers": ()},
    "neither": {"hoi_branch": False, "audio_inject_layers": ()},
    "no experts": {"experts": ()},
    "one expert": {"experts": ("base",)},
    "two experts": {"experts": ("hand", "head")},
    "text to video": {
        "speech": False,
        "hoi_branch": False,
        "audio_inject_layers": (),
        "experts": (),
    },
    "sound in all blocks": {"audio_inject_layers": (0, 1), "enable_adain": False},
    "structure at t = 0": {"hoi_time": "zero", "hoi_visible": ("target",)},
    "wrapped positions": {"hoi_width": "official_wrap", "pose_bias_always": True},
    "text as it is": {"text_len": None},
    "silent experts": {"expert_gate_t": 500.0, "gate_unconditional": True},
    "near motion left out": {"add_last_motion": 0},
    "near motion padded": {"add_last_motion": 1, "framepack_drop_mode": "padd"},
    "no stand-in for motion": {"motion_frames": (0, 0)},
    "other motion buckets": {"zip_frame_buckets": (2, 4, 8), "motion_frames": (53, 14)},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, one_thread):
    return make_shards(tmp_path_factory.mktemp("root"))


def trained(paths, out, mode="paper", **overrides):
    config = train_recipe(
        "smoke",
        {
            "network": {"mode": mode, "overrides": {**TINY_NETWORK, **overrides}},
            "data": {"transcode": None},
            "steps_full": 1,
            "steps_asymmetric": 1,
            "eval_every": 9,
            "eval_sigmas": (0.5,),
            "eval_clips": 1,
        },
    )
    return train(config, paths, out)


@pytest.mark.parametrize("form", FORMS)
def test_form_trains_and_samples(paths, tmp_path, form: str) -> None:
    result = trained(paths, tmp_path, **FORMS[form])
    config = preset("smoke", **{**TINY_NETWORK, **FORMS[form]})
    terms = {key for key in ("rgb", "hoi", "router") if key in result.last_eval}
    wanted = {"rgb": True, "hoi": config.hoi_branch, "router": bool(config.experts)}
    assert terms == {key for key, is_there in wanted.items() if is_there}
    given = SampleRequest(
        REQUEST.person,
        REQUEST.product,
        REQUEST.prompt,
        REQUEST.hoi_prompt,
        audio=SOUND if config.has_audio else None,
    )
    settings = SampleConfig(steps=1, num_clips=2, with_hoi=config.hoi_branch)
    video = sample(result.checkpoint, given, settings)
    assert video.rgb.shape == (16, 64, 96, 3)
    assert (video.hoi is not None) == config.hoi_branch


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"out_dim": 8, "hoi_branch": False}, "out_dim"),
        ({"patch_size": (2, 2, 2)}, "patch_size"),
        ({"zip_frame_buckets": (1, 0, 16)}, "zip_frame_buckets"),
        ({"num_audio_tokens": 0}, "num_audio_tokens"),
        ({"text_len": 0}, "text_len"),
        ({"rope_rows": 8}, "rope_rows"),
        ({"experts": ("hand", "hand")}, "twice"),
    ],
)
def test_form_that_cannot_run_is_refused_at_once(fields, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiTConfig.for_mode("paper", **{**TINY_SIZES, **fields})


TINY_SIZES = {
    **TINY_NETWORK,
    "hoi_branch": True,
    "text_dim": 64,
    "audio_dim": 64,
    "num_audio_layers": 1,
}


def test_only_a_part_may_learn_and_a_step_without_it_learns_nothing(paths, tmp_path) -> None:
    """Motion context is dropped in every step: nothing that learns is in use."""
    config = train_recipe(
        "smoke",
        {
            "network": {"overrides": TINY_NETWORK},
            "data": {"transcode": None},
            "dropout": {"motion": 1.0},
            "optimiser": {"trainable": ("frame_packer.*",)},
            "steps_full": 2,
            "steps_asymmetric": 0,
            "eval_every": 9,
            "eval_clips": 1,
        },
    )
    assert train(config, paths, tmp_path).step == 2


def test_the_null_pass_of_official_keeps_its_experts(paths, tmp_path) -> None:
    """Text guidance 0 follows the null pass alone: without its experts it would be another video."""
    checkpoint = trained(paths, tmp_path / "a", "official").checkpoint
    videos = []
    for expert_scale in (1.0, 0.0):
        from model.sampler import Sampler

        sampler = Sampler(checkpoint, SampleConfig(steps=2, text_guidance=0.0))
        torch.nn.init.normal_(
            sampler.model.head.head.weight, std=0.05, generator=torch.Generator().manual_seed(1)
        )
        for block in sampler.model.blocks:
            for expert in block.ffn.experts():
                torch.nn.init.constant_(expert.fc2.bias, expert_scale)
        videos.append(sampler.run(REQUEST).rgb)
    assert not np.array_equal(*videos)
