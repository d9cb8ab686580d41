"""Which clips make up which batch: deterministic, resumable, every clip once an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from model.flow import seeded
from schemas.errors import ConfigError


class BatchOrder:
    """Which clips make up which batch, for all epochs.

    Args:
        buckets: Bucket of every clip; clips of one bucket may share a batch.
        batch_size: Largest batch.
        seed: Seed of all orders.
    """

    def __init__(self, buckets: Sequence[object], batch_size: int, seed: int) -> None:
        if not buckets:
            raise ConfigError("the dataset has no samples")
        self._buckets, self._batch_size, self._seed = tuple(buckets), batch_size, seed
        self.batches_per_epoch = len(self.epoch(0))

    def epoch(self, number: int) -> list[tuple[int, ...]]:
        """All batches of an epoch: every clip exactly once."""
        order = torch.randperm(len(self._buckets), generator=seeded(self._seed, "clips", number))
        groups: dict[object, list[int]] = defaultdict(list)
        for index in order.tolist():
            groups[self._buckets[index]].append(index)
        size = self._batch_size
        batches = [
            tuple(group[start : start + size])
            for group in groups.values()
            for start in range(0, len(group), size)
        ]
        shuffled = torch.randperm(len(batches), generator=seeded(self._seed, "batches", number))
        return [batches[i] for i in shuffled.tolist()]

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[int, ...]:
        """The batch of a rank at a global step; ranks take turns in one endless sequence of epochs."""
        epoch, number = divmod(step * world_size + rank, self.batches_per_epoch)
        return self.epoch(epoch)[number]
