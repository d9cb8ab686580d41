"""The samples of a snapshot as a sequence: shards are opened when one of their samples is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import overload

from model.training.shard_reader import ShardReader, check_clip_ids, check_snapshot
from schemas.base import FileRef
from schemas.manifest import DatasetManifest
from schemas.sample import Sample


class Samples(Sequence[Sample]):
    """Typed samples in the snapshot's order: by shard, within a shard by clip id.

    Its length and ids come from the snapshot alone. A shard is checked as a trainer checks it when it is
    first opened: content against name, schema, sizes, ids against the snapshot. Read in order: samples of
    one row group are decompressed together.

    Args:
        manifest: The snapshot.
        local: Gives a local path of a shard.
        where: The root, for messages.

    Raises:
        ConfigError: The snapshot has the columns of another version.
    """

    def __init__(
        self, manifest: DatasetManifest, local: Callable[[FileRef], Path], where: str
    ) -> None:
        check_snapshot(manifest, f"snapshot {manifest.snapshot} of {where}")
        self.snapshot = manifest.snapshot
        self.clip_ids = tuple(i for shard in manifest.shards for i in shard.clip_ids)
        self._shards, self._local = manifest.shards, local
        self._ends = list(accumulate(len(shard.clip_ids) for shard in manifest.shards))
        self._readers: dict[int, ShardReader] = {}

    def __repr__(self) -> str:
        return f"<{len(self)} samples in {len(self._shards)} shards of snapshot {self.snapshot}>"

    def __len__(self) -> int:
        return len(self.clip_ids)

    @overload
    def __getitem__(self, number: int) -> Sample: ...
    @overload
    def __getitem__(self, number: slice) -> list[Sample]: ...
    def __getitem__(self, number: int | slice) -> Sample | list[Sample]:
        """Read one sample, or several.

        Raises:
            ConfigError: Its shard does not keep the contract.
            DataError: ``sample_invalid``: its values do not.
            IndexError: There are fewer.
        """
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        shard = bisect_right(self._ends, place)
        reader = self._reader(shard)
        ids = [entry.clip_id for entry in reader.index]
        return reader[ids.index(self.clip_ids[place])]

    def of(self, clip_id: str) -> Sample:
        """Read the sample of a clip.

        Raises:
            KeyError: The snapshot has none.
        """
        if clip_id not in self.clip_ids:
            raise KeyError(f"clip {clip_id} is not in snapshot {self.snapshot}")
        return self[self.clip_ids.index(clip_id)]

    def _reader(self, shard: int) -> ShardReader:
        entry = self._shards[shard]
        path = self._local(entry.file)  # a copy of a remote one may have had to make room
        if shard not in self._readers:
            check_clip_ids(path, entry)
            self._readers[shard] = ShardReader([path])
        return self._readers[shard]
