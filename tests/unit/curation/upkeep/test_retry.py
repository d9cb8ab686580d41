"""``retry`` finds the weights of the run that it repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.chain import build_chain
from curation.recipe import Recipe, RunConfig
from curation.root.store import Store, StoreOptions, require_format
from curation.root.tables import models_to_parquet, put_blob_bytes
from curation.upkeep.retry import replay
from schemas.errors import ConfigError
from schemas.manifest import ROOT_FORMAT_VERSION, RunRecord
from schemas.rows import SourceVideo


def write_folder(folder: Path) -> str:
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return str(folder)


def record_of(store: Store, recipe: Recipe) -> RunRecord:
    """What a run with this recipe leaves, read back from its file."""
    empty = put_blob_bytes(store, models_to_parquet([], SourceVideo), ".parquet")
    record = RunRecord.model_validate(
        {
            "run_id": "r",
            "recipe": {"name": recipe.name, "run": RunConfig().model_dump(mode="json")},
            "stages": build_chain(recipe).records(),
            "sources": empty,
            "clips": empty,
            "decisions": empty,
            "num_stage_calls": {},
            "wall_s": 0,
            "started_at": "",
            "versions": {},
        }
    )
    return RunRecord.model_validate_json(record.model_dump_json())


@pytest.mark.parametrize(
    ("group", "name", "package"),
    [
        ("codec", "wan2.1-vae", "diffusers"),
        ("text_encoder", "umt5", "transformers"),
        ("audio_encoder", "wav2vec2", "transformers"),
    ],
)
def test_weights_in_folders_are_found_again(tmp_path, group: str, name: str, package: str) -> None:
    pytest.importorskip(package)
    folder = write_folder(tmp_path / group)
    store = Store(str(tmp_path / "root"))
    require_format(store, "test", ROOT_FORMAT_VERSION)
    recipe = Recipe(name="t", stages={"latents": {group: {"name": name, "folder": folder}}})
    record = record_of(store, recipe)
    again = replay(store, record, StoreOptions())
    assert getattr(again.chain["latents"].config, group).folder == folder
    (tmp_path / group / "model.safetensors").write_text("others")
    with pytest.raises(ConfigError, match=r"\['latents', 'shards'\] are not what they were"):
        replay(store, record, StoreOptions())
