"""What a stage may do with files: open by reference, write by content, decode once."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import load_file, save_file

from schemas.base import FileRef
from schemas.clock import FPS
from schemas.durable import written_whole
from schemas.rows import SourceVideo
from stages.kit import media
from stages.kit.arrays import Array, Arrays, Frames


class Blobs(Protocol):
    """Content-named storage as a worker sees it."""

    def fetch(self, ref: FileRef) -> Path:
        """Return a local, complete, read-only copy of a blob."""

    def fetch_source(self, source: SourceVideo) -> Path:
        """Return a local, complete, read-only copy of a source object, checked against its sha256."""

    def store(self, path: Path, ref: FileRef) -> None:
        """Put a local file under its content name, unless it is there already."""


class Files:
    """File access of one worker.

    Args:
        blobs: Where content-named files live.
        scratch_root: A local folder for temporary files; nothing in it outlives ``row_scope``.
        max_cached_frames_bytes: Budget of the decoded-frames cache shared by the worker's stages.
    """

    def __init__(
        self, blobs: Blobs, scratch_root: Path, max_cached_frames_bytes: int = 800_000_000
    ) -> None:
        self._blobs = blobs
        self._scratch_root = scratch_root
        self._max_cached = max_cached_frames_bytes
        self._frames: OrderedDict[str, Frames] = OrderedDict()
        self._scratch: Path | None = None
        self._written: list[FileRef] = []

    @contextmanager
    def row_scope(self) -> Iterator[list[FileRef]]:
        """Give one row an empty scratch folder; yields the list of files that the row writes."""
        self._scratch_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch_root, prefix="row-") as folder:
            self._scratch, self._written = Path(folder), []
            try:
                yield self._written
            finally:
                self._scratch = None

    @property
    def scratch(self) -> Path:
        """An empty local folder that lives as long as the current row's work."""
        if self._scratch is None:
            raise RuntimeError("files.scratch is only available inside row_scope()")
        return self._scratch

    def local(self, ref: FileRef) -> Path:
        """Return a local read-only path of a blob."""
        return self._blobs.fetch(ref)

    def source(self, source: SourceVideo) -> Path:
        """Return a local read-only path of a source video, named by us, never by its key."""
        return self._blobs.fetch_source(source)

    def put(self, path: Path, suffix: str | None = None) -> FileRef:
        """Store a finished local file under its content's name."""
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        ref = FileRef(sha256=digest, suffix=suffix or path.suffix, num_bytes=path.stat().st_size)
        self._blobs.store(path, ref)
        self._written.append(ref)
        return ref

    def put_bytes(self, data: bytes, suffix: str) -> FileRef:
        """Store bytes under their content's name."""
        path = self.scratch / f"bytes-{len(self._written)}{suffix}"
        path.write_bytes(data)
        return self.put(path, suffix)

    def put_arrays(self, arrays: Mapping[str, Array]) -> FileRef:
        """Store named arrays as one safetensors file (deterministic bytes, keys sorted)."""
        path = self.scratch / f"arrays-{len(self._written)}.safetensors"
        save_file({k: np.ascontiguousarray(arrays[k]) for k in sorted(arrays)}, path)
        return self.put(path, ".safetensors")

    def arrays(self, ref: FileRef) -> Arrays:
        """Read the named arrays of one safetensors file."""
        return dict(load_file(self.local(ref)))

    def put_png(self, image: Frames) -> FileRef:
        """Store an RGB or RGBA image (H,W,3|4) u8 as PNG."""
        path = self.scratch / f"image-{len(self._written)}.png"
        media.write_png(path, image)
        return self.put(path, ".png")

    def image(self, ref: FileRef) -> Frames:
        """Read a PNG as (H,W,3|4) u8 RGB."""
        return media.read_png(self.local(ref))

    def frames(self, ref: FileRef) -> Frames:
        """Decode one of our own clips: (T,H,W,3) u8 RGB, read-only, decoded once per worker."""
        if ref.sha256 in self._frames:
            self._frames.move_to_end(ref.sha256)
            return self._frames[ref.sha256]
        frames = media.read_video(self.local(ref))
        frames.flags.writeable = False
        self._frames[ref.sha256] = frames
        while len(self._frames) > 1 and (
            sum(f.nbytes for f in self._frames.values()) > self._max_cached
        ):
            self._frames.popitem(last=False)
        return frames

    def put_video(self, frames: Frames, *, fps: int = FPS, crf: int = 12) -> FileRef:
        """Encode (T,H,W,3) u8 RGB as H.264 with a constant rate and store it."""
        path = self.scratch / f"video-{len(self._written)}.mp4"
        media.write_video(path, frames, fps=fps, crf=crf)
        return self.put(path, ".mp4")


class FolderBlobs:
    """Blobs in a local folder: for tests, benchmarks and single-machine tools."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, ref: FileRef) -> Path:
        """Return the blob's path inside the folder."""
        return self.root / ref.name

    def fetch_source(self, source: SourceVideo) -> Path:
        """Return the source's own path."""
        return Path(source.uri)

    def store(self, path: Path, ref: FileRef) -> None:
        """Link or copy the file in, whole or not at all."""
        target = self.root / ref.name
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as partial:
            partial.write_bytes(path.read_bytes())
