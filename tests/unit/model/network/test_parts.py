"""Patches, text rows, audio and FramePack."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.network.functional import PatchEmbedding, mask_rows, patchify, sinusoid, unpatchify
from tests.unit.model.network.dit_cases import max_abs, network, tiny


@given(st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(1, 2)] * 3))
def test_unpatchify_undoes_patchify(grid, patch):
    x = torch.randn(2, 5, *(g * p for g, p in zip(grid, patch, strict=True)))
    tokens = patchify(x, patch)
    size = tokens.shape[-1] // 5
    swapped = (
        tokens.unflatten(-1, (5, size)).transpose(-1, -2).flatten(-2)
    )  # head order: channel last
    assert torch.equal(unpatchify(swapped, grid, patch), x)


def test_patch_embedding_is_the_strided_convolution():
    embed = PatchEmbedding(4, 10, (1, 2, 2))
    conv = torch.nn.Conv3d(4, 10, (1, 2, 2), stride=(1, 2, 2))
    conv.load_state_dict(embed.state_dict())
    x = torch.randn(2, 4, 3, 6, 8)
    assert max_abs(embed(x), conv(x).flatten(2).transpose(1, 2)) < 1e-5


def test_text_rows_past_the_length_are_zero():
    rows = mask_rows(torch.ones(2, 3, 4), torch.tensor([1, 3]), 5)
    assert rows.sum(-1).tolist() == [[4, 0, 0, 0, 0], [4, 4, 4, 0, 0]]
    assert mask_rows(torch.ones(1, 3, 4), None, None).shape == (1, 3, 4)


def test_text_after_masked_rows_cannot_leak():
    model = network(tiny())
    text, lens = torch.randn(2, 7, 24), torch.tensor([3, 7])
    changed = text.clone()
    changed[0, 3:] = 99
    assert torch.equal(model.embed_text(text, lens), model.embed_text(changed, lens))


def test_sinusoid_is_cosine_then_sine():
    out = sinusoid(torch.tensor([0.0, 1.0]), 8)
    assert out[0].tolist() == [1.0] * 4 + [0.0] * 4
    assert out[1, 4].item() == pytest.approx(0.8414709848)
    assert out[1, 7].item() == pytest.approx(1e-3, rel=1e-4)  # sin(10000^(-3/4))


@torch.no_grad()
def test_audio_is_causal_and_one_token_set_per_latent():
    model = network(tiny())
    features = torch.randn(1, 3, 20, 20)
    before = model.casual_audio_encoder(features, 5)
    changed = features.clone()
    changed[:, :, 12:] += 1  # frames of latents 3 and 4
    after = model.casual_audio_encoder(changed, 5)
    assert before.local.shape == (1, 5, 4 + 1, 48)
    assert torch.equal(before.local[:, :3], after.local[:, :3])
    assert torch.equal(before.summary[:, :3], after.summary[:, :3])
    assert max_abs(before.local[:, 3], after.local[:, 3]) > 1e-3


@torch.no_grad()
def test_audio_of_a_frame_reaches_that_latent_alone():
    model = network(tiny(num_layers=1))
    audio = model.casual_audio_encoder(torch.randn(1, 3, 8, 20), 2)
    target = torch.randn(1, 2 * 6, 48)
    before = model.audio_injector(0, target, audio, None)
    audio.local[:, 1] += 1
    after = model.audio_injector(0, target, audio, None)
    assert torch.equal(before[:, :6], after[:, :6])
    assert max_abs(before[:, 6:], after[:, 6:]) > 1e-4


@torch.no_grad()
def test_frame_pack_drops_or_pads_silent_buckets():
    motion = torch.randn(1, 16, 19, 8, 12)
    near, mid, far = 24, 6, 4
    for mode, lengths in (
        ("paper", {2: 34, 1: mid + far, 0: far}),
        ("official", {2: 34, 1: 34, 0: 34}),
    ):
        packer = network(tiny(mode)).frame_packer
        for last, length in lengths.items():
            assert packer(motion, last).shape[1] == length, (mode, last)
    bias_only = packer(motion, 0)[:, : near + mid]
    assert torch.equal(bias_only[0, 0], packer.proj.bias)
    assert torch.equal(bias_only[0, -1], packer.proj_2x.bias)
    short = packer(motion[:, :, -6:])
    padded = torch.cat([torch.zeros_like(motion[:, :, :13]), motion[:, :, -6:]], dim=2)
    assert torch.equal(short, packer(padded))
    assert torch.equal(packer(torch.cat([motion[:, :, :1], motion], dim=2)), packer(motion))


@pytest.mark.parametrize("last", [0, 1, 2])
def test_network_runs_with_fewer_motion_buckets(last):
    from tests.unit.model.network.dit_cases import batch

    for mode in ("paper", "official"):
        config = tiny(mode, add_last_motion=last)
        out = network(config)(batch(config), attention="asymmetric")
        assert out.rgb_velocity.isfinite().all()


TYPED = """
from jaxtyping import install_import_hook
names = ["network.attention", "network.audio", "network.block", "network.dit", "flow", "network.framepack",
         "network.functional", "network.inputs", "training.losses", "network.moe", "network.positions"]
with install_import_hook([f"model.{n}" for n in names], "beartype.beartype"):
    import torch
    from model.network.functional import rotate
    from tests.unit.model.network.dit_cases import batch, network, tiny
    for mode in ("paper", "official"):
        config = tiny(mode)
        for attention in ("full", "asymmetric"):
            network(config)(batch(config), attention=attention)
    try:
        rotate(torch.zeros(1, 4, 2, 6), torch.zeros(1, 5, 3), torch.zeros(1, 5, 3))
    except Exception as error:
        print(type(error).__name__)
"""


def test_declared_shapes_hold_at_run_time():
    done = subprocess.run(
        [sys.executable, "-c", TYPED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "TypeCheckError"
