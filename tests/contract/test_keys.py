"""What changes the key of a stage's work, and what does not: every setting of every stage has its line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curation.chain import STAGE_CLASSES, build_chain
from curation.recipe import Recipe
from stages.base import Stage
from stages.body_models.sam3d_results import folder_digest

CONTENT, LIMIT, PLACE, PIN = "content", "limit", "place", "pin"


@dataclass(frozen=True)
class Only:
    """Content in some of a stage's worlds, nothing in the others."""

    worlds: set[str]


FITTED, SAM3D = Only({"default", "smplx"}), Only({"sam3d-results", "sam3d-package"})
KINDS: dict[str, dict[str, Any]] = {
    "probe": {
        "max_bytes": LIMIT, "max_frame_pixels": LIMIT, "max_frames": LIMIT, "timeout_s": LIMIT,
        "memory_bytes": LIMIT, "salvage": CONTENT,
    },
    "segment": {
        "detector": CONTENT, "transnetv2_threshold": Only({"default"}),
        "pyscenedetect_threshold": Only({"pyscenedetect"}), "cut_margin_frames": CONTENT,
        "max_gap_s": CONTENT, "num_frames": CONTENT, "max_motion_frames": CONTENT,
        "stride_frames": CONTENT, "max_clips_per_source": CONTENT, "buckets": CONTENT,
        "max_upscale": CONTENT, "crop_black_bars": CONTENT, "crf": CONTENT,
        "max_frame_pixels": LIMIT, "max_frames": LIMIT, "timeout_s": LIMIT, "memory_bytes": LIMIT,
    },
    "detect": {
        "backend": CONTENT, "weights_file": PLACE, "weights_sha256": PIN,
        "min_person_area": Only({"ultralytics"}), "every": CONTENT, "count_every": CONTENT,
        "min_confidence": CONTENT, "max_gap_frames": CONTENT, "min_run_frames": CONTENT,
    },
    "quality": {"read_text": CONTENT},
    "speech": {
        "voice_threshold": CONTENT, "score_sound": CONTENT, "sync_backend": CONTENT,
        "sync_weights_file": PLACE, "sync_weights_sha256": PIN,
    },
    "objects": {
        "backend": CONTENT, "weights_file": PLACE, "weights_sha256": PIN,
        "max_prompts": Only({"sam2", "sam3"}), "prompts": Only({"sam2", "sam3"}), "sam2_config": Only({"sam2"}),
        "sam2_image_size_px": Only({"sam2"}), "sam2_chunk_frames": Only({"sam2"}),
        "sam2_device": Only({"sam2"}), "sam3_prompt": Only({"sam3"}), "sam3_bpe_file": PLACE,
        "sam3_chunk_frames": Only({"sam3"}), "short_side_px": CONTENT, "every": CONTENT,
        "reach_hands": Only({"cues", "sam2", "sam3"}),
    },
    "references": {
        "backend": CONTENT, "every": CONTENT, "num_donors": CONTENT, "num_tries": CONTENT,
        "look_again": CONTENT,
        "weights_file": PLACE, "weights_sha256": PIN, "margin_share": CONTENT,
        "padding_share": CONTENT,
    },
    "triplets": {"backend": CONTENT, "num_frames": CONTENT},
    "body": {
        "backend": CONTENT, "model_file": PLACE, "results_dir": PLACE, "faces_file": PLACE,
        "checkpoint_file": PLACE, "checkpoint_sha256": PIN, "mhr_file": PLACE, "mhr_sha256": PIN,
        "max_gap_frames": SAM3D, "smooth_frames": SAM3D,
        "focal_ratio": Only({"default", "smplx", "sam3d-package"}), "rounds": FITTED,
        "steps": FITTED, "finger_steps": FITTED, "num_shape": FITTED, "outline_frames": FITTED, "grasp": FITTED,
    },
    "structure": {
        "style": CONTENT, "contact_reach_head": CONTENT, "band_head": CONTENT,
        "max_gap_frames": CONTENT, "max_hand_gap_frames": CONTENT, "min_area_share": CONTENT,
        "smplx_model_file": PLACE,
        "crf": CONTENT,
    },
    "caption": {"backend": CONTENT, "hoi_prefix": CONTENT},
    "latents": {
        "codec.name": CONTENT, "codec.folder": PLACE, "codec.weights_sha256": PIN,
        "codec.device": Only({"encoders"}), "text_encoder.name": CONTENT,
        "text_encoder.dim": Only({"default"}), "text_encoder.max_tokens": CONTENT,
        "text_encoder.folder": PLACE, "audio_encoder.name": CONTENT,
        "audio_encoder.num_mels": Only({"default"}), "audio_encoder.folder": PLACE,
        "target_lufs": CONTENT,
    },
    "shards": {"zstd_level": CONTENT, "row_group_samples": CONTENT},
}  # fmt: skip
"""A new setting fails the first test below until it is written down here. Devices count: rounding differs."""


@dataclass(frozen=True)
class World:
    """Settings under which a backend is chosen, with its files made in a folder."""

    stage: str
    name: str
    settings: Callable[[Path], dict[str, Any]] = lambda folder: {}
    uses: dict[str, str] = field(default_factory=dict)
    """Settings that name a file or folder in use, and a file whose content then counts."""


def _objects(folder: Path) -> dict[str, Any]:
    return {"weights_file": str(folder / "w.pt"), "sam3_bpe_file": str(folder / "bpe.gz")}


def _latents(folder: Path) -> dict[str, Any]:
    names = {"codec": "wan2.1-vae", "text_encoder": "umt5", "audio_encoder": "wav2vec2"}
    return {key: {"name": name, "folder": str(folder / key)} for key, name in names.items()}


def _sam3d_package(folder: Path) -> dict[str, Any]:
    files = {"checkpoint_file": str(folder / "model.ckpt"), "mhr_file": str(folder / "mhr.pt")}
    return {"backend": "sam3d-body"} | files


WORLDS = [
    *(World(name, "default") for name in STAGE_CLASSES if name not in ("objects", "references")),
    World(
        "references", "held", lambda f: {"weights_file": str(f / "w.pt")}, {"weights_file": "w.pt"}
    ),
    World("segment", "pyscenedetect", lambda f: {"detector": "pyscenedetect"}),
    World(
        "detect", "ultralytics",
        lambda f: {"backend": "ultralytics", "weights_file": str(f / "w.pt")},
        {"weights_file": "w.pt"},
    ),
    World("objects", "cues", lambda f: {"backend": "cues"}),
    World(
        "objects", "held",
        lambda f: {"backend": "held", "weights_file": str(f / "w.pt")}, {"weights_file": "w.pt"},
    ),
    World(
        "speech", "syncnet",
        lambda f: {"sync_backend": "syncnet", "sync_weights_file": str(f / "w.pt")},
        {"sync_weights_file": "w.pt"},
    ),
    World("objects", "sam2", lambda f: {"backend": "sam2"} | _objects(f), {"weights_file": "w.pt"}),
    World(
        "objects", "sam3", lambda f: {"backend": "sam3"} | _objects(f),
        {"weights_file": "w.pt", "sam3_bpe_file": "bpe.gz"},
    ),
    World(
        "body", "smplx", lambda f: {"backend": "smplx", "model_file": str(f / "w.pt")},
        {"model_file": "w.pt"},
    ),
    World(
        "body", "sam3d-results",
        lambda f: {"backend": "sam3d-body", "results_dir": str(f / "res"), "faces_file": str(f / "w.pt")},
        {"results_dir": "res/c/000000.npz", "faces_file": "w.pt"},
    ),
    World(
        "body", "sam3d-package", _sam3d_package,
        {"checkpoint_file": "model.ckpt", "mhr_file": "mhr.pt", "results_dir": "model_config.yaml"},
    ),  # set, results_dir would be the other world
    World(
        "latents", "encoders", _latents,
        {
            "codec.folder": "codec/w.safetensors", "text_encoder.folder": "text_encoder/tokenizer.json",
            "audio_encoder.folder": "audio_encoder/config.json",
        },
    ),
]  # fmt: skip
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{w.stage}-{w.name}")


def write_weights(folder: Path) -> Path:
    """The same files in any folder."""
    for name in ("w.pt", "bpe.gz", "model.ckpt", "mhr.pt", "model_config.yaml"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "res" / "c").mkdir(parents=True)
    np.savez(folder / "res" / "c" / "000000.npz", a=np.arange(3))
    for name in ("codec", "text_encoder", "audio_encoder"):
        (folder / name).mkdir()
        for file in ("config.json", "w.safetensors", "tokenizer.json"):
            (folder / name / file).write_text(f"{name} {file}")
    return folder


def stage_of(world: World, folder: Path) -> Stage[Any, Any, Any]:
    module, _, name = STAGE_CLASSES[world.stage].partition(":")
    stage_class = getattr(importlib.import_module(module), name)
    config = stage_class.config_type.model_validate(world.settings(folder))
    return stage_class(config)


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    """Every setting but the thresholds, with its path and value."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            if name != "gate":
                yield from leaves(value, f"{name}.")
        else:
            yield prefix + name, info, value


def another(info: FieldInfo, value: Any) -> Any:
    """A value that is not the one there is."""
    if get_origin(info.annotation) is Literal:
        return next(v for v in get_args(info.annotation) if v != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 1
    if isinstance(value, tuple):
        return value[:1]
    if value is None and "str" not in str(info.annotation):
        return 512
    return f"{value or ''}x"


def changed(stage: Stage[Any, Any, Any], path: str, value: Any) -> Stage[Any, Any, Any]:
    """The same stage with one setting changed."""
    group, _, name = path.rpartition(".")
    update = {name: value}
    if group:
        update = {group: getattr(stage.config, group).model_copy(update=update)}
    return type(stage)(stage.config.model_copy(update=update))


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_every_setting_is_classified(name: str, tmp_path: Path) -> None:
    stage = stage_of(World(name, "default"), tmp_path)
    found = {path for path, _, _ in leaves(stage.config)}
    assert found == set(KINDS[name]), "say in KINDS what a new setting does to the key"


@each_world
def test_a_setting_changes_the_key_if_it_decides_the_result_and_else_not(
    world: World, tmp_path: Path
) -> None:
    stage = stage_of(world, write_weights(tmp_path / "weights"))
    for path, info, value in leaves(stage.config):
        kind = KINDS[world.stage][path]
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        if (
            path in world.uses
            or len(choices) == 1
            or path.endswith(("backend", "detector", "name"))
        ):
            continue  # see the tests below
        counts = world.name in kind.worlds if isinstance(kind, Only) else kind == CONTENT
        other = changed(stage, path, another(info, value))
        assert (other.fingerprint != stage.fingerprint) == counts, path


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_thresholds_change_no_key(name: str, tmp_path: Path) -> None:
    stage = stage_of(World(name, "default"), tmp_path)
    gate = stage.config.gate
    update = {path: another(info, value) for path, info, value in leaves(gate)}
    other = type(stage)(stage.config.model_copy(update={"gate": gate.model_copy(update=update)}))
    assert other.fingerprint == stage.fingerprint


@each_world
def test_the_same_weights_elsewhere_are_the_same_key_and_others_another(
    world: World, tmp_path: Path
) -> None:
    here = stage_of(world, write_weights(tmp_path / "here"))
    assert stage_of(world, write_weights(tmp_path / "there")).fingerprint == here.fingerprint
    for index, (setting, file) in enumerate(world.uses.items()):
        folder = write_weights(tmp_path / f"other-{index}")
        if file.endswith(".npz"):
            np.savez(folder / file, a=np.arange(4))
        else:
            (folder / file).write_bytes(b"other")
        assert stage_of(world, folder).fingerprint != here.fingerprint, setting
    folder_digest.cache_clear()


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_another_backend_is_another_key(name: str, tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "weights")
    prints = [stage_of(w, folder).fingerprint for w in WORLDS if w.stage == name]
    assert len(prints) == len(set(prints))


@pytest.mark.parametrize("name", ["codec", "text_encoder", "audio_encoder"])
def test_each_encoder_counts_alone(name: str, tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "weights")
    alone = World("latents", name, lambda f: {name: _latents(f)[name]})
    prints = {stage_of(w, folder).fingerprint for w in (alone, *WORLDS) if w.stage == "latents"}
    assert len(prints) == 3


def test_the_record_of_a_run_keeps_paths_and_limits(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "weights")
    stages = {"latents": _latents(folder), "probe": {"timeout_s": 77.0}}
    records = {s.name: s for s in build_chain(Recipe(name="t", stages=stages)).records()}
    kept = {s.name: dict(s.config) for s in records.values()}
    again = {s.name: s for s in build_chain(Recipe(name="t", stages=kept)).records()}
    assert again == records
    assert records["probe"].config["timeout_s"] == 77.0
    for group, value in _latents(folder).items():
        assert records["latents"].config[group]["folder"] == value["folder"]
