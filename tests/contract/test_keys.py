"""What changes the key of a stage's work, and what does not: every setting of every stage has its line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from curation.chain import build_chain
from curation.recipe import Recipe
from curation.stage_list import STAGE_CLASSES
from schemas.backend import BackendConfig, choices
from stages.base import Stage
from stages.body_models.sam3d_results import folder_digest

CONTENT, LIMIT, PLACE, PIN, MACHINE = "content", "limit", "place", "pin", "machine"


@dataclass(frozen=True)
class Only:
    """Content in some of a stage's worlds, nothing in the others."""

    worlds: set[str]


KINDS: dict[str, dict[str, Any]] = {
    "probe": {
        "max_bytes": LIMIT, "max_frame_pixels": LIMIT, "max_frames": LIMIT, "timeout_s": LIMIT,
        "memory_bytes": LIMIT, "salvage": CONTENT,
    },
    "segment": {
        "cut_margin_frames": CONTENT,
        "max_gap_s": CONTENT, "num_frames": CONTENT, "max_motion_frames": CONTENT,
        "stride_frames": CONTENT, "max_clips_per_source": CONTENT, "buckets": CONTENT,
        "max_upscale": CONTENT, "crop_black_bars": CONTENT, "crf": CONTENT,
        "max_frame_pixels": LIMIT, "max_frames": LIMIT, "timeout_s": LIMIT, "memory_bytes": LIMIT,
    },
    "detect": {
        "every": CONTENT, "count_every": CONTENT,
        "min_confidence": CONTENT, "max_gap_frames": CONTENT, "min_run_frames": CONTENT,
    },
    "quality": {"read_text": CONTENT},
    "speech": {"voice_threshold": CONTENT, "score_sound": CONTENT},
    "objects": {"short_side_px": CONTENT, "every": CONTENT},
    "references": {
        "backend": CONTENT, "every": CONTENT, "num_donors": CONTENT, "num_tries": CONTENT,
        "look_again": CONTENT,
        "weights_file": PLACE, "weights_sha256": PIN, "margin_share": CONTENT,
        "padding_share": CONTENT,
    },
    "triplets": {"backend": CONTENT, "num_frames": CONTENT},
    "body": {},
    "structure": {
        "style": CONTENT, "contact_reach_head": CONTENT, "band_head": CONTENT,
        "max_gap_frames": CONTENT, "max_hand_gap_frames": CONTENT, "min_area_share": CONTENT,
        "smplx_model_file": PLACE,
        "crf": CONTENT,
    },
    "caption": {"backend": CONTENT, "hoi_prefix": CONTENT},
    "latents": {"target_lufs": CONTENT},
    "shards": {"zstd_level": CONTENT, "row_group_samples": CONTENT},
}  # fmt: skip
WEIGHTS = {"weights_file": PLACE, "weights_sha256": PIN}
CARRIED = WEIGHTS | dict.fromkeys(
    ("prompts", "reach_hands", "max_prompts", "chunk_frames"), CONTENT
)
FITTED = dict.fromkeys(
    ("focal_ratio", "rounds", "steps", "finger_steps", "num_shape", "outline_frames", "grasp"),
    CONTENT,
)
BACKENDS: dict[str, dict[str, dict[str, Any]]] = {
    "segment.detector": {"transnetv2": {"threshold": CONTENT}, "pyscenedetect": {"threshold": CONTENT}},
    "detect.backend": {
        "mediapipe": {}, "ultralytics": WEIGHTS | {"min_confidence": CONTENT, "min_person_area": CONTENT},
    },
    "speech.sync_backend": {"none": {}, "syncnet": WEIGHTS},
    "objects.backend": {
        "held": WEIGHTS, "cues": {"reach_hands": CONTENT},
        "sam2": CARRIED | dict.fromkeys(("config", "image_size_px", "device"), CONTENT),
        "sam3": CARRIED | {"prompt": CONTENT, "bpe_file": PLACE},
    },
    "body.backend": {
        "anny": FITTED, "smplx": FITTED | {"model_file": PLACE},
        "sam3d-body": {
            "results_dir": PLACE, "faces_file": PLACE, "checkpoint_file": PLACE, "checkpoint_sha256": PIN,
            "mhr_file": PLACE, "mhr_sha256": PIN, "max_gap_frames": CONTENT, "smooth_frames": CONTENT,
            "focal_ratio": Only({"sam3d-package"}),
        },
    },
    "latents.codec": {
        "dct": {}, "wan2.1-vae": {"folder": PLACE, "weights_sha256": PIN, "device": CONTENT},
    },
    "latents.text_encoder": {
        "bytes": {"dim": CONTENT, "max_tokens": CONTENT}, "umt5": {"max_tokens": CONTENT, "folder": PLACE},
    },
    "latents.audio_encoder": {"log-mel": {"num_mels": CONTENT}, "wav2vec2": {"folder": PLACE}},
}  # fmt: skip
RESOURCES = dict.fromkeys(("num_cpus", "num_gpus", "memory_bytes"), MACHINE)
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
    return {"weights_file": str(folder / "w.pt")}


def _latents(folder: Path) -> dict[str, Any]:
    names = {"codec": "wan2.1-vae", "text_encoder": "umt5", "audio_encoder": "wav2vec2"}
    return {key: {"name": name, "folder": str(folder / key)} for key, name in names.items()}


def _sam3d_package(folder: Path) -> dict[str, Any]:
    files = {"checkpoint_file": str(folder / "model.ckpt"), "mhr_file": str(folder / "mhr.pt")}
    return {"backend": {"name": "sam3d-body"} | files}


WORLDS = [
    *(World(name, "default") for name in STAGE_CLASSES if name not in ("objects", "references")),
    World(
        "references", "held", lambda f: {"weights_file": str(f / "w.pt")}, {"weights_file": "w.pt"}
    ),
    World("segment", "pyscenedetect", lambda f: {"detector": "pyscenedetect"}),
    World(
        "detect", "ultralytics",
        lambda f: {"backend": {"name": "ultralytics", "weights_file": str(f / "w.pt")}},
        {"backend.weights_file": "w.pt"},
    ),
    World("objects", "cues", lambda f: {"backend": "cues"}),
    World(
        "objects", "held",
        lambda f: {"backend": {"weights_file": str(f / "w.pt")}}, {"backend.weights_file": "w.pt"},
    ),
    World(
        "speech", "syncnet",
        lambda f: {"sync_backend": {"name": "syncnet", "weights_file": str(f / "w.pt")}},
        {"sync_backend.weights_file": "w.pt"},
    ),
    World(
        "objects", "sam2", lambda f: {"backend": {"name": "sam2"} | _objects(f)},
        {"backend.weights_file": "w.pt"},
    ),
    World(
        "objects", "sam3",
        lambda f: {"backend": {"name": "sam3", "bpe_file": str(f / "bpe.gz")} | _objects(f)},
        {"backend.weights_file": "w.pt", "backend.bpe_file": "bpe.gz"},
    ),
    World(
        "body", "smplx", lambda f: {"backend": {"name": "smplx", "model_file": str(f / "w.pt")}},
        {"backend.model_file": "w.pt"},
    ),
    World(
        "body", "sam3d-results",
        lambda f: {"backend": {
            "name": "sam3d-body", "results_dir": str(f / "res"), "faces_file": str(f / "w.pt"),
        }},
        {"backend.results_dir": "res/c/000000.npz", "backend.faces_file": "w.pt"},
    ),
    World(
        "body", "sam3d-package", _sam3d_package,
        {
            "backend.checkpoint_file": "model.ckpt", "backend.mhr_file": "mhr.pt",
            "backend.results_dir": "model_config.yaml",
        },
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


def kinds_of(stage: str, config: BaseModel) -> dict[str, Any]:
    """What each setting of a configured stage is."""
    kinds = KINDS[stage] | {f"resources.{name}": kind for name, kind in RESOURCES.items()}
    for name, value in config:
        if isinstance(value, BackendConfig):
            own = BACKENDS[f"{stage}.{name}"][value.name]
            kinds |= {f"{name}.name": CONTENT} | {
                f"{name}.{key}": kind for key, kind in own.items()
            }
    return kinds


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_every_setting_is_classified(name: str, tmp_path: Path) -> None:
    config = stage_of(World(name, "default"), tmp_path).config
    found = {path for path, _, _ in leaves(config)}
    assert found == set(kinds_of(name, config)), "say in KINDS what a new setting does to the key"


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_every_backends_settings_are_classified(name: str, tmp_path: Path) -> None:
    config_type = type(stage_of(World(name, "default"), tmp_path).config)
    for setting, member in choices(config_type):
        own = BACKENDS[f"{name}.{setting}"][member.about.name]
        assert set(member.model_fields) - {"name"} == set(own), member


@each_world
def test_a_setting_changes_the_key_if_it_decides_the_result_and_else_not(
    world: World, tmp_path: Path
) -> None:
    stage = stage_of(world, write_weights(tmp_path / "weights"))
    kinds = kinds_of(world.stage, stage.config)
    for path, info, value in leaves(stage.config):
        is_one = get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1
        if path in world.uses or is_one:
            continue  # see the tests below
        kind = kinds[path]
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


FLAT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "segment": (
        {"detector": "pyscenedetect", "pyscenedetect_threshold": 4.0, "transnetv2_threshold": 0.4},
        {"detector": {"name": "pyscenedetect", "threshold": 4.0}},
    ),
    "objects": (
        {"backend": "sam2", "weights_file": "w.pt", "sam2_chunk_frames": 9, "sam3_prompt": "box", "every": 3},
        {"backend": {"name": "sam2", "weights_file": "w.pt", "chunk_frames": 9}, "every": 3},
    ),
    "body": ({"rounds": 2, "grasp": False}, {"backend": {"rounds": 2, "grasp": False}}),
    "speech": (
        {"sync_backend": "syncnet", "sync_weights_file": "s.pt"},
        {"sync_backend": {"name": "syncnet", "weights_file": "s.pt"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAT)
def test_a_backends_settings_beside_its_name_are_read_as_version_0_1_wrote_them(name: str) -> None:
    module, _, attribute = STAGE_CLASSES[name].partition(":")
    config_type = getattr(importlib.import_module(module), attribute).config_type
    flat, grouped = (config_type.model_validate(settings) for settings in FLAT[name])
    assert flat == grouped
    with pytest.raises(ValidationError, match="tpyo"):
        config_type.model_validate(FLAT[name][0] | {"tpyo": 1})
