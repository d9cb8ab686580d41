"""An output root as a Python object: its clips, samples, frames and report."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import options

if TYPE_CHECKING:  # pydantic's models, pyarrow and torch wait until something is read
    from types import TracebackType

    from curation.root.blobs import StoreBlobs
    from curation.root.store import Store
    from handloom.decoding import Decoded
    from handloom.samples import Samples
    from schemas.base import FileRef
    from schemas.manifest import DatasetManifest, RunRecord
    from schemas.report import RunReport
    from schemas.rows import Clip
    from schemas.sample import Sample


def open_root(
    root: str | Path,
    *,
    run: str = "",
    snapshot: int = 0,
    endpoint_url: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
) -> Root:
    """Open what ``handloom curate`` made. Reads little and writes nothing.

    Args:
        root: A folder or an ``s3://bucket/prefix`` address (also gs, az).
        run: Whose clips and report to read: a run's id (``Root.runs``), the newest by default.
        snapshot: Whose samples to read: a snapshot's number. By default that of ``run`` where one was named,
            else the newest.
        endpoint_url: Endpoint of an S3-compatible store.
        region: Region of the store.
        anonymous: Access the store without credentials; else they come from the environment.

    Raises:
        ConfigError: It is no root, no run has finished in it, or it has no such run.
        InvariantError: Its history is not whole.
    """
    access = options.store_options(endpoint_url, region, anonymous)
    store, record = options.open_run(str(root), access, run)
    return Root(store, record, snapshot or (record.snapshot if run else None), is_pinned=bool(run))


class Root:
    """An opened output root, seen through one of its runs. Made by ``handloom.open``.

    Files of a remote root are copied to a temporary folder when they are needed, checked against their
    names; ``close``, or leaving a ``with``, removes it.
    """

    def __init__(
        self, store: Store, record: RunRecord, snapshot: int | None, *, is_pinned: bool
    ) -> None:
        self._store, self._record = store, record
        self._snapshot, self._is_pinned = snapshot, is_pinned
        self._cache: tempfile.TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        return f"handloom.open({self.uri!r}, run={self.run_id!r})"

    def __enter__(self) -> Root:
        """Use it; files that were copied for it live until the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove them."""
        self.close()

    def close(self) -> None:
        """Remove files that were copied from a remote root."""
        self.__dict__.pop("_blobs", None)
        if self._cache is not None:
            self._cache.cleanup()
            self._cache = None

    @property
    def uri(self) -> str:
        """Where it is: an absolute path or an address."""
        return self._store.uri

    @property
    def run_id(self) -> str:
        """The run whose clips and report are read."""
        return self._record.run_id

    def runs(self) -> tuple[str, ...]:
        """Ids of all finished runs, oldest first; any of them can be opened."""
        from curation.root.ledger import Ledger

        return tuple(run.run_id for run in Ledger(self._store).runs())

    def clips(self) -> tuple[Clip, ...]:
        """Every clip of the run, by id, each with the facets of the stages that it reached.

        Clips that were dropped are among them; ``report().kept_clip_ids`` names those that became samples.
        """
        return self._clips

    @cached_property
    def _clips(self) -> tuple[Clip, ...]:
        from curation.root.tables import read_models
        from schemas.rows import Clip

        return tuple(read_models(self._store, self._record.clips, Clip))

    def samples(self) -> Samples:
        """The training samples of the snapshot, read one by one when they are asked for.

        Raises:
            ConfigError: Nothing was published, or by a version with other columns.
        """
        return self._samples

    @cached_property
    def _samples(self) -> Samples:
        from handloom.samples import Samples

        return Samples(self._manifest(), self.local, self.uri)

    def _manifest(self) -> DatasetManifest:
        from curation.root.ledger import Ledger
        from schemas.errors import ConfigError

        ledger = Ledger(self._store)
        if self._snapshot:
            return ledger.dataset(self._snapshot)
        newest = None if self._is_pinned else ledger.latest_dataset()
        if newest is None:
            which = f"run {self.run_id} of {self.uri}" if self._is_pinned else self.uri
            raise ConfigError(f"{which} has no shards: no clip was kept")
        return newest

    def decode(self, item: Sample | Clip) -> Decoded:
        """Turn a sample or a clip into target frames, structure frames and sound.

        Frame i of both shows the same moment. A clip is read from its own video and has 4n + 1 frames; a
        sample's 4n frames come out of its latents, by the codec that wrote them. Loads torch for samples.

        Raises:
            ConfigError: The codec that wrote the latents is not the one that the run names, or cannot run here.
            DataError: A tensor holds NaN or infinity, or a video cannot be decoded.
        """
        from handloom.decoding import decode_clip
        from schemas.rows import Clip

        if isinstance(item, Clip):
            return decode_clip(item, self.local)
        from handloom.latents import decode_sample

        stages = {s.name: s.config for s in self._record.stages}
        return decode_sample(item, stages.get("latents", {}).get("codec", {}), self.local)

    def report(self) -> RunReport:
        """The run's report: verdict, gates, counts per stage. Written into the root if it is not there yet."""
        from curation.report.write import report_inputs, write_report

        with report_inputs(self._store, self._record) as inputs:
            return write_report(self._store, inputs)[0]

    def local(self, file: FileRef) -> Path:
        """A local, read-only path of a file that a facet names, such as ``clip.media.video``.

        Raises:
            InvariantError: The root has lost it, or it is damaged.
        """
        return self._blobs.fetch(file)

    @cached_property
    def _blobs(self) -> StoreBlobs:
        from curation.root.blobs import StoreBlobs

        if self._store.local_root is None:
            self._cache = tempfile.TemporaryDirectory(prefix="handloom-open-")
        cache = Path(self._cache.name) if self._cache else Path()
        return StoreBlobs(self._store, self._store.options, cache)
