"""Reading shards: order, batches, masks, transcoding; whatever breaks the contract is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.codecs.dct import DctCodec
from model.codecs.transcode import Transcode
from model.network.config import preset
from model.training.batch_order import BatchOrder
from model.training.data import ClipStore, clip_from_sample, collate, token_masks
from model.training.handshake import check_buckets, handshake
from model.training.shard_reader import ShardReader, check_shard, shard_paths
from schemas.errors import ConfigError, DataError
from schemas.sample import sample_from_record, sample_to_record
from schemas.shard_columns import (
    KEYED_COLUMNS,
    METADATA_VERSION_KEY,
    SAMPLE_SCHEMA,
    SCHEMA_VERSION,
)
from tests.support.clips import square_x
from tests.support.shards import TINY_NETWORK, make_shards


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def paths(root):
    return make_shards(root)


@pytest.fixture(scope="module")
def reader(paths):
    return ShardReader(paths)


@pytest.fixture(scope="module")
def network():
    return preset("smoke", **TINY_NETWORK)


def number_of(reader, clip_id: str) -> int:
    return [e.clip_id for e in reader.index].index(clip_id)


def test_samples_come_back_as_written(reader) -> None:
    sample = reader[number_of(reader, "clip1")]
    clip = clip_from_sample(sample)
    assert clip.rgb.shape == (16, 2, 8, 12)
    assert clip.motion.shape == (16, 2, 8, 12)
    assert clip.rgb.dtype == torch.float32
    frames = DctCodec("hoi").decode_blocks(clip.hoi[None])
    assert (frames[0, :, 0, 0, 0] < -0.9).all()  # black ground
    assert clip_from_sample(reader[number_of(reader, "clip2")]).audio is None


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 3)
)
def test_an_epoch_holds_every_clip_once_and_no_mixed_batch(buckets, size, seed) -> None:
    order = BatchOrder(buckets, size, seed)
    for epoch in range(2):
        batches = order.epoch(epoch)
        assert sorted(i for b in batches for i in b) == list(range(len(buckets)))
        assert len(batches) == order.batches_per_epoch
        assert all(len({buckets[i] for i in b}) == 1 and len(b) <= size for b in batches)
    assert order.epoch(0) == BatchOrder(buckets, size, seed).epoch(0)


def test_ranks_share_one_sequence() -> None:
    order = BatchOrder(["a"] * 10, 1, 0)
    alone = [order.batch(s) for s in range(20)]
    together = [order.batch(s, r, 2) for s in range(10) for r in range(2)]
    assert alone == together
    assert order.epoch(0) != order.epoch(1)


def test_collate_pads_text_and_gives_silence_to_soundless_clips(reader, network) -> None:
    store = ClipStore(reader)
    numbers = [number_of(reader, name) for name in ("clip0", "clip2")]
    assert store.bucket(numbers[0]) == store.bucket(numbers[1])
    batch = collate([store[i] for i in numbers], network)
    assert batch.rgb.shape == (2, 16, 2, 8, 12)
    assert batch.motion is None
    assert batch.audio.shape == (2, 1, 8, 64)
    assert (batch.audio[1] == 0).all()
    assert (batch.audio[0] != 0).any()
    assert batch.text_lens.tolist() == [len(store[i].text) for i in numbers]
    assert batch.hand_mask.shape == (2, 2 * 4 * 6)


def test_token_masks_mark_the_square(reader) -> None:
    clip = ClipStore(reader)[number_of(reader, "clip0")]
    head, hand = (mask.view(2, 4, 6) for mask in token_masks(clip, (1, 2, 2)))
    for k in range(2):
        x = [square_x(4 * k + j, 96) for j in range(4)]
        columns = list(range(min(x) // 16, min((max(x) + 16) // 16, 5) + 1))
        assert torch.nonzero(hand[k].any(dim=0)).flatten().tolist() == columns
        assert torch.nonzero(hand[k].any(dim=1)).flatten().tolist() == [1, 2]
    assert head.any()


def test_transcoding_keeps_pictures_and_boxes(reader) -> None:
    number = number_of(reader, "clip1")
    full = ClipStore(reader)[number]
    small = ClipStore(reader, Transcode(height_px=32, width_px=48))[number]
    assert small.rgb.shape == (16, 2, 4, 6)
    assert small.motion.shape == (16, 2, 4, 6)
    codec = DctCodec()
    wanted = torch.nn.functional.avg_pool2d(codec.decode_blocks(full.rgb[None])[0], 2)
    got = codec.decode_blocks(small.rgb[None])[0]
    assert (got - wanted).abs().mean() < 0.05
    box, small_box = full.hands[0][0], small.hands[0][0]
    np.testing.assert_allclose(np.array(box) / 2, small_box)


def test_transcoding_keeps_the_structure_stream_in_its_own_units(reader) -> None:
    number = number_of(reader, "clip1")
    full = ClipStore(reader)[number]
    small = ClipStore(reader, Transcode(height_px=32, width_px=48))[number]
    codec = DctCodec("hoi")
    wanted = torch.nn.functional.avg_pool2d(codec.decode_blocks(full.hoi[None])[0], 2)
    assert (codec.decode_blocks(small.hoi[None])[0] - wanted).abs().mean() < 0.05


def test_handshake_refuses_other_statistics(reader, network) -> None:
    """The codec's name is the same; the numbers that normalised the latents are not."""
    import dataclasses

    first = reader.index[0]
    assert first.rgb_statistics == DctCodec("rgb").statistics
    assert first.hoi_statistics == DctCodec("hoi").statistics
    other = first.hoi_statistics.replace(std=(9.0,) * 16)
    foreign = [dataclasses.replace(entry, hoi_statistics=other) for entry in reader.index]
    with pytest.raises(ConfigError, match="other channel statistics than this version"):
        handshake(foreign, network)
    with pytest.raises(ConfigError, match="2 different channel statistics"):
        handshake([*reader.index[1:], foreign[0]], network)


def test_shapes_that_cannot_run_are_refused_before_the_first_step(network) -> None:
    check_buckets([((16, 2, 8, 8), True), ((16, 2, 4, 6), False)], network)
    with pytest.raises(ConfigError, match="4x6 latents with motion context"):
        check_buckets([((16, 2, 4, 6), True)], network)
    with pytest.raises(ConfigError, match="patches of 2x2"):
        check_buckets([((16, 2, 7, 6), False)], network)


def test_transcoding_never_enlarges(reader) -> None:
    with pytest.raises(ConfigError, match="not larger than the clip"):
        ClipStore(reader, Transcode())[0]


def test_portrait_and_landscape_are_turned() -> None:
    assert Transcode().size_for(832, 480) == (160, 96)
    assert Transcode().size_for(480, 832) == (96, 160)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"text_dim": 32}, "text_dim is 64 in the shard"),
        ({"audio_dim": 32}, "audio_dim is 64"),
        ({"num_audio_layers": 3}, "num_audio_layers is 1"),
        ({"text_len": 4}, "text tokens"),
    ],
)
def test_handshake_refuses_a_network_that_does_not_fit(reader, overrides, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        handshake(reader.index, preset("smoke", **{**TINY_NETWORK, **overrides}))


def test_handshake_refuses_mixed_latent_spaces(reader, network) -> None:
    import dataclasses

    other = dataclasses.replace(reader.index[0], codec="wan2.1-vae@1")
    with pytest.raises(ConfigError, match="mix codec spaces"):
        handshake([*reader.index, other], network)


def rewrite(path: Path, out: Path, change) -> Path:
    table = change(pq.read_table(path))
    pq.write_table(table, out)
    return out


def test_another_schema_version_is_refused(paths, tmp_path) -> None:
    meta = {METADATA_VERSION_KEY: b"99"}
    bad = rewrite(paths[0], tmp_path / "a.parquet", lambda t: t.replace_schema_metadata(meta))
    with pytest.raises(ConfigError, match="schema version 99"):
        check_shard(bad)


def test_a_shard_of_version_2_with_its_maps_says_what_to_do(paths, tmp_path) -> None:
    def change(table: pa.Table) -> pa.Table:
        for name in KEYED_COLUMNS:
            pairs = [[(p["key"], p["value"]) for p in row] for row in table[name].to_pylist()]
            kind = pa.map_(pa.string(), pa.float64() if name == "scores" else pa.string())
            number = table.schema.get_field_index(name)
            table = table.set_column(number, name, pa.array(pairs, kind))
        return table.replace_schema_metadata({METADATA_VERSION_KEY: b"2"})

    old = rewrite(paths[0], tmp_path / "old.parquet", change)
    with pytest.raises(ConfigError, match=r"schema version 2, .* reads 3: curate again"):
        ShardReader([old])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a.b", 1.0), ("a.b", 2.0)], "scores holds the key 'a.b' twice"),
        ([None], "scores holds null"),
        (None, "scores holds null"),
        ([("a.b", None)], "valid number"),
        ([(None, 1.0)], "valid string"),
    ],
)
def test_pairs_without_one_value_per_key_are_refused(reader, pairs, message) -> None:
    record = sample_to_record(reader[0])
    record["scores"] = pairs and [p and {"key": p[0], "value": p[1]} for p in pairs]
    with pytest.raises(DataError, match=message):
        sample_from_record(record, "x.parquet row 0")


def test_missing_foreign_and_retyped_columns_are_refused(paths, tmp_path) -> None:
    def change(table: pa.Table) -> pa.Table:
        table = table.drop_columns(["hoi_latent"]).append_column(
            "extra", pa.array([1] * len(table))
        )
        index = table.schema.get_field_index("fps")
        return table.set_column(index, "fps", table["fps"].cast(pa.int64()))

    bad = rewrite(paths[0], tmp_path / "b.parquet", change)
    with pytest.raises(ConfigError, match=r"hoi_latent.*extra.*fps is int64"):
        check_shard(bad)


def test_broken_values_fail_with_the_row(paths, tmp_path) -> None:
    def change(table: pa.Table) -> pa.Table:
        records = table.to_pylist()
        records[0]["rgb_latent"]["shape"] = [16, 2, 8, 99]
        return pa.Table.from_pylist(records, schema=SAMPLE_SCHEMA)

    bad = ShardReader([rewrite(paths[0], tmp_path / "c.parquet", change)])
    with pytest.raises(DataError, match="sample_invalid"):
        bad[0]


def test_damaged_and_foreign_files_are_refused(paths, tmp_path) -> None:
    data = bytearray(paths[0].read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / paths[0].name
    damaged.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        check_shard(damaged)
    text = tmp_path / "d.parquet"
    text.write_bytes(b"not parquet at all")
    with pytest.raises(ConfigError, match="not a readable Parquet"):
        check_shard(text)
    with pytest.raises(ConfigError, match="missing"):
        shard_paths([tmp_path / "none.parquet"])


def test_snapshot_of_a_root_is_resolved(root, paths) -> None:
    shards = [
        {
            "file": {"sha256": p.stem, "suffix": ".parquet", "num_bytes": p.stat().st_size},
            "num_samples": pq.ParquetFile(p).metadata.num_rows,
            "clip_ids": pq.read_table(p, columns=["clip_id"])["clip_id"].to_pylist(),
        }
        for p in paths
    ]
    manifest = {
        "snapshot": 1,
        "schema_version": SCHEMA_VERSION,
        "shards": shards,
        "dataset_card": {},
    }
    (root / "dataset").mkdir(exist_ok=True)
    (root / "dataset" / f"{1:020d}.json").write_text(json.dumps(manifest))
    assert shard_paths(root) == paths
    (root / "dataset" / f"{2:020d}.json").write_text(
        json.dumps({**manifest, "schema_version": "7"})
    )
    with pytest.raises(ConfigError, match="schema version 7"):
        shard_paths(root)


def test_root_without_snapshot_says_what_to_run(tmp_path) -> None:
    with pytest.raises(ConfigError, match="handloom curate"):
        shard_paths(tmp_path)


@pytest.mark.parametrize("column", ["rgb_latent", "hoi_latent", "text_features"])
def test_a_shard_with_values_that_are_not_finite_is_refused(paths, tmp_path, column) -> None:
    def change(table: pa.Table) -> pa.Table:
        records = table.to_pylist()
        tensor = records[0][column]
        values = np.frombuffer(tensor["data"], tensor["dtype"]).copy()
        values[len(values) // 2] = np.nan
        tensor["data"] = values.tobytes()
        return pa.Table.from_pylist(records, schema=SAMPLE_SCHEMA)

    bad = ShardReader([rewrite(paths[0], tmp_path / "nan.parquet", change)])
    with pytest.raises(DataError, match=rf"clip {bad.index[0].clip_id}: .*NaN"):
        ClipStore(bad)[0]


@pytest.mark.parametrize("clip_id", ["../x", "", "a\x1b[31m", "nan/1"])
def test_a_clip_id_that_is_none_is_refused_when_a_shard_is_opened(paths, tmp_path, clip_id) -> None:
    def change(table: pa.Table) -> pa.Table:
        records = table.to_pylist()
        records[0]["clip_id"] = clip_id
        return pa.Table.from_pylist(records, schema=SAMPLE_SCHEMA)

    with pytest.raises(DataError, match="is no clip id"):
        ShardReader([rewrite(paths[0], tmp_path / "id.parquet", change)])


def test_a_shard_with_other_clips_than_its_snapshot_names_is_refused(root, paths) -> None:
    entry = {
        "file": {"sha256": paths[0].stem, "suffix": ".parquet", "num_bytes": 1},
        "num_samples": 1,
        "clip_ids": ["somebody-else"],
    }
    manifest = {
        "snapshot": 9,
        "schema_version": SCHEMA_VERSION,
        "shards": [entry],
        "dataset_card": {},
    }
    path = root / "dataset" / f"{9:020d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(manifest))
    try:
        with pytest.raises(ConfigError, match="does not hold the clips that the snapshot names"):
            shard_paths(root)
    finally:
        path.unlink()
