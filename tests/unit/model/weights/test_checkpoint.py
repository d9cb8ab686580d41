"""Weights: names both ways, shards, LoRA, and everything that must be refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.network.config import PRESETS, preset
from model.network.dit import CoGenDiT
from model.weights.checkpoint import COGEN_PARTS, load_weights, read_config, save_weights
from model.weights.names import from_own, is_cogen, to_own
from model.weights.tensor_files import find_shards, read_tensors
from schemas.errors import ConfigError
from tests.unit.model.network.dit_cases import batch, max_abs, network, tiny


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def small():
    return network(tiny("official"))


@pytest.mark.parametrize("max_shard_bytes", [1 << 30, 60_000, 1])
def test_shards_round_trip_through_the_meta_device(tmp_path, small, max_shard_bytes):
    files = save_weights(
        small, tmp_path / "w.safetensors", config=small.config, max_shard_bytes=max_shard_bytes
    )
    assert (len(files) > 1) == (max_shard_bytes < 1 << 30)
    assert read_config(tmp_path) == small.config
    with torch.device("meta"):
        loaded = CoGenDiT(small.config)
    report = load_weights(loaded, [tmp_path])
    assert same(loaded, small)
    assert set(report.loaded) == set(small.state_dict())
    assert not report.missing
    assert not report.unexpected
    assert not list(tmp_path.glob("*.partial"))


def test_all_1260_published_patterns_exist_at_reduced_width():
    sizes = {
        "dim": 64,
        "num_heads": 2,
        "ffn_dim": 32,
        "text_dim": 16,
        "freq_dim": 16,
        "audio_dim": 8,
    }
    layers = PRESETS["s2v-14b"]["audio_inject_layers"]
    config = tiny(
        "official", **sizes, num_layers=40, num_audio_layers=25, audio_inject_layers=layers
    )
    plain = config.replace(hoi_branch=False, experts=())
    with torch.device("meta"):
        base, full = CoGenDiT(plain), CoGenDiT(config)
    names = list(base.state_dict())
    assert set(names) == set(published_names())
    assert len(names) == 1260
    own = set(full.state_dict())
    for name in names:
        translated = to_own(name, has_moe=True)
        assert translated in own, name
        assert from_own(translated) == name
        assert to_own("diffusion_model." + name, has_moe=True) == translated
        assert to_own(translated, has_moe=False) == name
    cogen = own - {to_own(name, has_moe=True) for name in names}
    assert all(map(is_cogen, cogen))
    assert cogen == set(cointeract_names())


def published_names():
    """The list of facts section 15, spelt out."""
    attention = [f"{p}.{k}" for p in "qkvo" for k in ("weight", "bias")]
    attention += ["norm_q.weight", "norm_k.weight"]
    for i in range(40):
        yield from (f"blocks.{i}.{a}.{x}" for a in ("self_attn", "cross_attn") for x in attention)
        yield from (f"blocks.{i}.{x}" for x in ("norm3.weight", "norm3.bias", "modulation"))
        yield from (f"blocks.{i}.ffn.{j}.{k}" for j in (0, 2) for k in ("weight", "bias"))
    for part in ("patch_embedding", "cond_encoder", "text_embedding.0", "text_embedding.2"):
        yield from (f"{part}.weight", f"{part}.bias")
    for part in ("time_embedding.0", "time_embedding.2", "time_projection.1", "head.head"):
        yield from (f"{part}.weight", f"{part}.bias")
    yield from ("head.modulation", "trainable_cond_mask.weight")
    encoder = "casual_audio_encoder.encoder"
    yield from ("casual_audio_encoder.weights", f"{encoder}.padding_tokens")
    for part in (
        "conv1_local.conv",
        "conv1_global.conv",
        "conv2.conv",
        "conv3.conv",
        "final_linear",
    ):
        yield from (f"{encoder}.{part}.weight", f"{encoder}.{part}.bias")
    for i in range(12):
        yield from (f"audio_injector.injector.{i}.{x}" for x in attention)
        yield from (
            f"audio_injector.injector_adain_layers.{i}.linear.{k}" for k in ("weight", "bias")
        )
    for part in ("proj", "proj_2x", "proj_4x"):
        yield from (f"frame_packer.{part}.weight", f"frame_packer.{part}.bias")


def cointeract_names():
    for i in range(40):
        yield f"blocks.{i}.depth_modulation"
        yield from (f"blocks.{i}.ffn.router.{j}.{k}" for j in (0, 2, 3) for k in ("weight", "bias"))
        for expert in ("hand_expert", "face_expert"):
            yield from (
                f"blocks.{i}.ffn.{expert}.{fc}.{k}"
                for fc in ("fc1", "fc2")
                for k in ("weight", "bias")
            )
    for part in ("depth_patch_embedding", "depth_head.head"):
        yield from (f"{part}.weight", f"{part}.bias")
    yield from ("depth_head.modulation", "depth_cond_mask.weight")


def test_moe_and_hoi_can_be_added_and_removed(tmp_path, small):
    save_weights(small, tmp_path / "base.safetensors", naming="wan")
    stored = load_file(tmp_path / "base.safetensors")
    assert not [name for name in stored if is_cogen(name) or "ffn_base" in name]
    plain = CoGenDiT(small.config.replace(hoi_branch=False, experts=()))
    load_weights(plain, [tmp_path / "base.safetensors"])
    again = CoGenDiT(small.config)
    load_weights(again, [tmp_path / "base.safetensors"], allow_missing=COGEN_PARTS)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(again.get_parameter(to_own(name, has_moe=True)), tensor), name
    # a co-generation file loads into a plain network only when the left-out keys are named
    save_weights(small, tmp_path / "full.safetensors")
    with pytest.raises(ConfigError, match=r"unknown blocks\.0\.depth_modulation"):
        load_weights(plain, [tmp_path / "full.safetensors"])
    report = load_weights(plain, [tmp_path / "full.safetensors"], allow_unexpected=COGEN_PARTS)
    assert set(report.unexpected) == {name for name in small.state_dict() if is_cogen(name)}


def test_backbone_then_cointeract_adapter_with_prefix_and_lora(tmp_path, small):
    save_weights(small, tmp_path / "base.safetensors", naming="wan")
    rank, adapter, expected = 4, {}, {}
    for name, tensor in small.state_dict().items():
        if is_cogen(name):
            adapter["diffusion_model." + name] = tensor + 1
            expected[name] = tensor + 1
    for name in ("blocks.1.self_attn.q", "blocks.0.ffn.ffn_base.2", "audio_injector.injector.0.o"):
        weight = small.get_parameter(name + ".weight").detach()
        a, b = torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)
        stem = "diffusion_model." + name
        adapter[f"{stem}.lora_A.default.weight"], adapter[f"{stem}.lora_B.default.weight"] = a, b
        expected[name + ".weight"] = weight + 0.5 * (b @ a)
    save_file(adapter, tmp_path / "adapter.safetensors")
    with torch.device("meta"):
        model = CoGenDiT(small.config)
    sources = [tmp_path / "base.safetensors", tmp_path / "adapter.safetensors"]
    report = load_weights(model, sources, lora_scale=0.5)
    assert len(report.merged) == 3
    for name, tensor in {**small.state_dict(), **expected}.items():
        assert max_abs(model.get_parameter(name), tensor) < 1e-6, name
    # and out again
    from model.weights.checkpoint import merge_lora

    pair = {
        k: adapter[f"diffusion_model.blocks.1.self_attn.q.lora_{k}.default.weight"] for k in "AB"
    }
    merge_lora(model, "blocks.1.self_attn.q.weight", pair, -0.5)
    back = model.get_parameter("blocks.1.self_attn.q.weight")
    assert max_abs(back, small.get_parameter("blocks.1.self_attn.q.weight")) < 1e-5


def test_diffusers_names_both_ways_and_equal_outputs(tmp_path):
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        text_dim=20,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=True)
    from model.weights.interop import config_from_reference

    ours = CoGenDiT(config_from_reference(dict(theirs.config)))
    load_weights(ours, [tmp_path / "theirs"])
    x, t, text = torch.randn(2, 16, 3, 8, 12), torch.tensor([30.0, 800.0]), torch.randn(2, 6, 20)
    from model.network.dit import DiTInputs

    with torch.no_grad():
        want = theirs(x, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
        got = ours(DiTInputs(rgb_latent=x, t=t, text=text), attention="full").rgb_velocity
    assert max_abs(got, want) < 1e-4
    save_weights(ours, tmp_path / "back.safetensors", naming="diffusers")
    back, original = load_file(tmp_path / "back.safetensors"), theirs.state_dict()
    assert back.keys() == original.keys()
    assert all(torch.equal(back[k], original[k]) for k in back)


def test_speech_parts_have_no_diffusers_name(tmp_path, small):
    with pytest.raises(ConfigError, match="no counterpart"):
        save_weights(small, tmp_path / "x.safetensors", naming="diffusers")


def broken(state, what):
    if what == "missing":
        del state["head.head.bias"]
    elif what == "foreign":
        state["vision_tower.weight"] = torch.zeros(2)
    elif what == "nan":
        state["head.head.weight"][3, 5] = torch.nan
    elif what == "inf":
        state["blocks.0.modulation"][0, 0, 0] = torch.inf
    elif what == "shape":
        state["head.head.bias"] = torch.zeros(5)
    elif what == "half a LoRA":
        state["blocks.0.self_attn.q.lora_A.default.weight"] = torch.zeros(2, 48)
    elif what == "LoRA shape":
        state["blocks.0.self_attn.q.lora_A.default.weight"] = torch.zeros(2, 47)
        state["blocks.0.self_attn.q.lora_B.default.weight"] = torch.zeros(48, 2)
    return state


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"1 missing and 0 unknown keys\n  missing head.head.bias"),
        ("foreign", r"0 missing and 1 unknown keys\n  unknown vision_tower.weight"),
        ("nan", r"head.head.weight holds 1 NaN or infinite values of 3072"),
        ("inf", r"blocks.0.modulation holds 1 NaN"),
        ("shape", r"head.head.bias has shape \(5,\) on disk, \(64,\) in the model"),
        ("half a LoRA", r"blocks.0.self_attn.q.weight has only \['A'\]"),
        ("LoRA shape", r"B \(48, 2\) times A \(2, 47\) for a weight \(48, 48\)"),
    ],
)
def test_bad_weights_are_refused_with_the_numbers(tmp_path, small, what, message):
    state = {k: v.clone() for k, v in small.state_dict().items()}
    save_file(broken(state, what), tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match=message):
        load_weights(CoGenDiT(small.config), [tmp_path / "bad.safetensors"])


def test_pickles_and_other_files_are_refused(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "w.pth")
    torch.save(small.state_dict(), tmp_path / "renamed.safetensors")
    (tmp_path / "old.safetensors").write_bytes(pickle.dumps({"a": 1}))
    for name in ("w.pth", "renamed.safetensors", "old.safetensors"):
        with pytest.raises(ConfigError, match="pickle"):
            load_weights(small, [tmp_path / name])
    (tmp_path / "text.safetensors").write_text("hello, this is no tensor file")
    with pytest.raises(ConfigError, match="not a readable safetensors file"):
        load_weights(small, [tmp_path / "text.safetensors"])
    (tmp_path / "empty").mkdir()
    for gone, message in ((tmp_path / "gone", "do not exist"), (tmp_path / "empty", "holds no")):
        with pytest.raises(ConfigError, match=message):
            find_shards(gone)
    index = {"weight_map": {"a": "a.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="1 absent files"):
        find_shards(tmp_path / "m.safetensors.index.json")
    for text, message in (
        ("{", "is no index"),
        ('{"weight_map": 3}', "is no index"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "must name files beside it"),
    ):
        (tmp_path / "m.safetensors.index.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            find_shards(tmp_path / "m.safetensors.index.json")


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"])
def test_a_file_whose_header_length_looks_like_a_pickle_is_read(tmp_path, start):
    """The first eight bytes are a length: one in some thousands of files starts like this."""
    path = tmp_path / "w.safetensors"
    for pad in range(0, 1 << 15, 8):
        save_file({"a": torch.ones(3)}, path, metadata={"pad": "x" * pad})
        found = path.read_bytes()[:2]
        if found == start:
            break
    assert found == start
    assert [(k, v.tolist()) for k, v in read_tensors(path)] == [("a", [1.0, 1.0, 1.0])]


def test_a_dtype_can_be_chosen_while_loading(tmp_path, small):
    save_weights(small, tmp_path / "w.safetensors")
    with torch.device("meta"):
        half = CoGenDiT(small.config)
    load_weights(half, [tmp_path / "w.safetensors"], dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half(batch(half.config), attention="full").rgb_velocity.isfinite().all()


MEASURE = """
import sys, torch
from pathlib import Path
from model.weights.checkpoint import load_weights
from model.network.dit import CoGenDiT
from model.weights.checkpoint import read_config
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith(key))
folder = Path(sys.argv[1])
with torch.device("meta"):
    model = CoGenDiT(read_config(folder))
before = status("VmRSS")
load_weights(model, [folder])
size = sum(p.numel() * 4 for p in model.parameters())
print((status("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux /proc")
def test_loading_never_holds_the_model_twice(tmp_path):
    config = preset("smoke", dim=768, num_heads=8, ffn_dim=2048, num_layers=6)
    with torch.device("meta"):
        model = CoGenDiT(config)
    model.to_empty(device="cpu").requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.zero_()
    assert sum(p.numel() for p in model.parameters()) > 60e6
    save_weights(model, tmp_path / "w.safetensors", config=config, max_shard_bytes=48 << 20)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert 0.9 < float(done.stdout) < 1.4  # model, plus one shard's mapped pages
