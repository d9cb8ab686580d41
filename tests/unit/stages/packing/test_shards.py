"""Stage shards: same clips, same bytes; one more clip changes one shard."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError
from schemas.sample import ShardPlan
from schemas.shard_columns import KEYED_COLUMNS, SAMPLE_SCHEMA, SCHEMA_VERSION
from stages.files import Files, FolderBlobs
from stages.packing.latents import LatentsConfig, LatentsStage
from stages.packing.shards import ShardsConfig, ShardsStage, plan_shards
from tests.support import clips
from tests.support.shards import shard_path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def rows(root):
    files = Files(FolderBlobs(root), root / "scratch")
    stage = LatentsStage(LatentsConfig())
    stage.setup()
    with files.row_scope():
        return [
            stage.process(
                clips.make_clip(
                    files, f"clip{i}", num_motion=5 * (i % 2), has_audio=i != 2, seed=i
                ),
                files,
            ).rows[0]
            for i in range(5)
        ]


def write(root, rows, max_samples=3, config=None):
    files = Files(FolderBlobs(root), root / "scratch")
    stage = ShardsStage(config or ShardsConfig())
    with files.row_scope():
        return [stage.process(p, files).rows[0] for p in plan_shards(rows, max_samples)]


def test_order_of_clips_does_not_matter_and_bytes_repeat(root, rows) -> None:
    first = write(root, rows)
    second = write(root, list(reversed(rows)))
    assert [p.shard for p in first] == [p.shard for p in second]
    assert [p.row_id for p in first] == [p.row_id for p in second]
    for plan in first:
        data = shard_path(plan, root).read_bytes()
        assert hashlib.sha256(data).hexdigest() == plan.shard.file.sha256


def test_shard_holds_what_the_schema_says(root, rows) -> None:
    (plan,) = write(root, rows, max_samples=9, config=ShardsConfig(row_group_samples=2))
    file = pq.ParquetFile(shard_path(plan, root))
    assert file.schema_arrow.equals(SAMPLE_SCHEMA)
    assert file.schema_arrow.metadata == SAMPLE_SCHEMA.metadata
    assert file.num_row_groups == 3
    records = file.read().to_pylist()
    assert [r["clip_id"] for r in records] == sorted(r.clip_id for r in rows)
    record = records[1]
    for name in KEYED_COLUMNS:
        keys = [pair["key"] for pair in record[name]]
        assert keys == sorted(set(keys)), name
    assert {"key": "latents.codec", "value": "dct@2"} in record["backends"]
    made_of = {"key": "latents.arrays", "value": rows[1].latents.arrays.sha256}
    assert made_of in record["fingerprints"]
    assert {"key": "structure.matte_iou", "value": 0.9} in record["scores"]
    assert record["right_hand_boxes_frame"] == [None] * 9
    assert len(record["left_hand_boxes_latent"]) == 2
    assert record["rgb_motion_latent"]["shape"] == [16, 2, 8, 12]
    assert records[0]["rgb_motion_latent"] is None
    assert records[2]["audio_features"] is None
    assert plan.shard.schema_version == SCHEMA_VERSION


def test_row_id_ignores_the_shard_but_not_the_clips(root, rows) -> None:
    (plan,) = write(root, rows, max_samples=9)
    bare = ShardPlan(clips=plan.clips)
    assert plan.row_id == bare.row_id
    changed = plan.clips[0].replace(caption=plan.clips[0].caption.replace(prompt="Other."))
    assert ShardPlan(clips=(changed, *plan.clips[1:])).row_id != bare.row_id
    assert ShardPlan.model_validate_json(plan.model_dump_json()) == plan


def test_one_more_clip_changes_at_most_one_shard(rows) -> None:
    many = [rows[0].replace(clip_id=f"c{i:03d}") for i in range(60)]
    before = {tuple(c.clip_id for c in p.clips) for p in plan_shards(many[:-1], 8)}
    after = {tuple(c.clip_id for c in p.clips) for p in plan_shards(many, 8)}
    assert len(before - after) <= 1
    assert max(map(len, after)) <= 8
    assert sorted(i for part in after for i in part) == [c.clip_id for c in many]


def test_planning_refuses_nonsense(rows) -> None:
    with pytest.raises(ValueError, match="twice"):
        plan_shards([rows[0], rows[0]], 4)
    with pytest.raises(ValueError, match="at least 1"):
        plan_shards(rows, 0)
    assert plan_shards([], 4) == []


def test_clip_without_latents_fails(root, rows) -> None:
    with pytest.raises(DataError, match="latents_missing"):
        write(root, [rows[0].replace(latents=None)])


def test_arrays_that_break_the_contract_fail(root, rows) -> None:
    files = Files(FolderBlobs(root), root / "scratch")
    with files.row_scope():
        arrays = files.arrays(rows[0].latents.arrays)
        arrays["hoi_latent"] = np.ascontiguousarray(arrays["hoi_latent"][:, :1])
        facet = rows[0].latents.replace(arrays=files.put_arrays(arrays))
    with pytest.raises(DataError, match="hoi_latent has shape"):
        write(root, [rows[0].replace(latents=facet)])
