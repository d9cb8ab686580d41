"""The hold-out split: neighbours of one source, and copies of it, stay on one side."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.shard_reader import ShardReader
from model.training.split import leak_groups, split_holdout
from schemas.errors import ConfigError
from tests.support.shards import make_shards


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    return ShardReader(make_shards(tmp_path_factory.mktemp("root"), 1)).index[0]


def entries(entry, *clips: tuple[str, str | None]):
    return [
        dataclasses.replace(entry, clip_id=f"c{i}", source_id=source, picture_hash=picture_hash)
        for i, (source, picture_hash) in enumerate(clips)
    ]


FAR, NEAR, OTHER = "0" * 64, "0" * 60 + "00ff", "f" * 64


def test_clips_of_a_source_and_copies_in_any_chain_are_one_group(entry) -> None:
    clips = entries(
        entry, ("a", FAR), ("a", OTHER), ("b", NEAR), ("c", "5" * 64), ("d", None), ("e", "0" * 16)
    )
    assert leak_groups(clips) == ["a", "a", "a", "c", "d", "e"]
    chained = entries(entry, ("x", FAR), ("y", NEAR), ("y", OTHER), ("z", "f" * 60 + "ff00"))
    assert leak_groups(chained) == ["x", "x", "x", "x"]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=40), st.integers(0, 12))
def test_no_group_stands_on_both_sides(groups, num_holdout) -> None:
    if num_holdout and (num_holdout >= len(groups) or len(set(groups)) == 1):
        with pytest.raises(ConfigError, match="leaves none"):
            split_holdout(groups, num_holdout)
        return
    train, held = split_holdout(groups, num_holdout)
    assert sorted(train + held) == list(range(len(groups)))
    assert not {groups[i] for i in train} & {groups[i] for i in held}
    assert train
    assert bool(held) == bool(num_holdout)
    sizes = [groups.count(g) for g in set(groups)]
    assert len(held) <= max(num_holdout, min(sizes))
