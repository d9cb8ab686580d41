"""Which clips are kept out of training: whole sources, and whole groups of near-duplicates.

Windows of one recording show the same person, product and room; a re-upload shows the same pictures. If one
is trained on and its neighbour evaluated, the evaluation measures memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from model.flow import seeded
from model.training.shard_reader import SampleIndex
from schemas.errors import ConfigError

ALIKE_SHARE = 1 / 8
"""Hashes that differ in at most this share of their bits are near-duplicates here. Wider than what curation
drops: joining too many clips costs nothing, separating two copies spoils the evaluation."""


def leak_groups(index: Sequence[SampleIndex]) -> list[str]:
    """Name the group of every clip: equal names are never separated.

    Clips of one source are one group, and so are sources that hold near-duplicate clips, in any chain. The
    name is the smallest source id of the group.
    """
    parents = {entry.source_id: entry.source_id for entry in index}

    def root(source: str) -> str:
        while parents[source] != source:
            parents[source] = source = parents[parents[source]]
        return source

    for a, b in _alike(index):
        low, high = sorted((root(index[a].source_id), root(index[b].source_id)))
        parents[high] = low
    return [root(entry.source_id) for entry in index]


def _alike(index: Sequence[SampleIndex]) -> Iterator[tuple[int, int]]:
    """Pairs of clips whose hashes are near each other; only hashes of as many frames are comparable."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for number, entry in enumerate(index):
        if entry.picture_hash:
            lengths[len(entry.picture_hash)].append(number)
    for length, numbers in lengths.items():
        words = np.array([_words(index[n].picture_hash or "") for n in numbers], np.uint64)
        for i in range(len(numbers) - 1):
            bits = np.bitwise_count(words[i + 1 :] ^ words[i]).sum(axis=1)
            for j in np.flatnonzero(bits <= ALIKE_SHARE * 4 * length):
                yield numbers[i], numbers[i + 1 + int(j)]


def _words(picture_hash: str) -> list[int]:
    return [int(picture_hash[i : i + 16], 16) for i in range(0, len(picture_hash), 16)]


def split_holdout(groups: Sequence[str], num_holdout: int) -> tuple[list[int], list[int]]:
    """Choose held-out clips: whole groups in the order of their names' hashes, while they fit.

    Growth of the set moves few of them. Where every group is larger than ``num_holdout``, the smallest one is
    held out.

    Args:
        groups: Group of every clip.
        num_holdout: Clips to hold out, at most.

    Returns:
        Numbers of the clips to train on, and of the clips held out.

    Raises:
        ConfigError: Nothing would be left to train on.
    """
    if not num_holdout:
        return list(range(len(groups))), []
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    if num_holdout >= len(groups) or len(members) == 1:
        raise ConfigError(
            f"data.num_holdout={num_holdout} leaves none of {len(groups)} clips to train on: they come from "
            f"{len(members)} sources without common pictures"
        )
    ranked = sorted(members, key=lambda name: seeded("holdout", name).initial_seed())
    held: list[int] = []
    for name in ranked:
        if len(held) + len(members[name]) <= num_holdout:
            held += members[name]
    held = held or members[min(ranked, key=lambda name: len(members[name]))]
    kept_out = set(held)
    return [i for i in range(len(groups)) if i not in kept_out], sorted(kept_out)
