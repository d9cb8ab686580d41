"""Mean and deviation of every latent channel per stream: python benchmarks/latent_statistics.py VIDEO...

Windows of the videos go through the stages that make the structure stream, without gates. Prints what
``model/codecs/dct.py`` keeps as constants, and the deviation of each stream after normalisation by the
committed constants of its own kind and by those of RGB for both. Unit deviation is what the network's noise
levels assume.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import numpy as np
from numpy.typing import NDArray

from curation.chain import Chain, build_chain
from curation.recipe import Recipe
from model.codecs.dct import DCT_BAND, DctCodec
from model.codecs.pixels import Stream
from model.codecs.video import encode_frames
from schemas.rows import SourceVideo
from stages.base import Kept
from stages.files import Files, FolderBlobs

MAKERS = ("probe", "segment", "detect", "objects", "body", "structure")
STREAMS: tuple[Stream, ...] = ("rgb", "hoi")


class Moments:
    """Running count, sum and sum of squares of every channel, before normalisation."""

    def __init__(self, stream: Stream) -> None:
        self._codec = DctCodec(stream)
        statistics = self._codec.statistics
        self._mean, self._std = (np.array(x)[:, None] for x in (statistics.mean, statistics.std))
        self._count, self._sum, self._squares = 0, np.zeros(len(DCT_BAND)), np.zeros(len(DCT_BAND))

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Count the latents of a clip's frames."""
        latents = encode_frames(self._codec, frames[: 1 + (len(frames) - 1) // 4 * 4])
        raw = latents.numpy().astype(np.float64).reshape(len(DCT_BAND), -1) * self._std + self._mean
        self._count += raw.shape[1]
        self._sum += raw.sum(axis=1)
        self._squares += np.square(raw).sum(axis=1)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Per channel."""
        return self._sum / self._count

    @property
    def std(self) -> NDArray[np.float64]:
        """Per channel, around the mean."""
        return np.sqrt(self._squares / self._count - np.square(self.mean))


def clips_of(
    chain: Chain, files: Files, video: Path, num_windows: int
) -> Iterator[tuple[str, Any]]:
    """Rows of a video's first windows with their structure stream; says where one is lost."""
    data = video.read_bytes()
    digest = sha256(data).hexdigest()
    rows: Sequence[Any] = [
        SourceVideo(uri=str(video.absolute()), num_bytes=len(data), content_sha256=digest)
    ]
    for name in MAKERS:
        following: list[Any] = []
        for row in rows:
            with files.row_scope():
                done = chain[name].process(row, files)
            if isinstance(done, Kept):
                following += done.rows
            else:
                print(f"{video.name} is lost at {name}: {done.reason}", file=sys.stderr)
        rows = following[:num_windows]
    for row in rows:
        yield video.name, row


def main() -> None:
    """Print the constants and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--windows", type=int, default=1, help="windows of every video")
    args = parser.parse_args()
    chain = build_chain(Recipe(name="statistics", stages={}))
    for name in MAKERS:
        chain[name].setup()
    measured = {stream: Moments(stream) for stream in STREAMS}
    num_clips = 0
    with tempfile.TemporaryDirectory(prefix="handloom-bench-") as folder:
        files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
        for video in args.videos:
            for name, row in clips_of(chain, files, video, args.windows):
                num_clips += 1
                print(f"{name} {row.start_s:.2f} s", file=sys.stderr)
                with files.row_scope():
                    measured["rgb"].add(files.frames(row.media.video))
                    measured["hoi"].add(files.frames(row.structure.video))
    show(measured, num_clips)


def show(measured: dict[Stream, Moments], num_clips: int) -> None:
    """Print the constants, rounded, and the deviations after normalisation."""
    for stream, moments in measured.items():
        print(f"{stream} of {num_clips} clips")
        print("  mean=(" + ", ".join(f"{round(x, 2) + 0.0:g}" for x in moments.mean) + ")")
        print("  std=(" + ", ".join(f"{x:.3g}" for x in moments.std) + ")")
    own = {s: np.array(DctCodec(s).statistics.std) for s in measured}
    rgb, hoi = measured["rgb"].std, measured["hoi"].std
    columns = (rgb / own["rgb"], hoi / own["rgb"], hoi / own["hoi"])
    print("| channel (colour, time, row, column) | RGB | HOI by RGB's constants | HOI by its own |")
    print("|---|---|---|---|")
    for i, band in enumerate(DCT_BAND):
        print(f"| {i} {band} | " + " | ".join(f"{column[i]:.2f}" for column in columns) + " |")
    print("| all | " + " | ".join(f"{np.sqrt(np.square(c).mean()):.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
