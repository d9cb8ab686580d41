"""Decoding to RGB: frames per second of our reader in its child process beside the usual ways.

    python -m benchmarks.decode VIDEO... [--seconds 60] [--repeats 3]

Each video is repeated to ``--seconds`` by copying its packets, so that the start of a process weighs what it
weighs for a real source. Every way delivers each frame as an RGB (or, cv2, BGR) array in memory and is allowed two
decoder threads; they take turns, the median of the repeats counts.

    child      what the stages do: sniffed, allow-listed, checked, in a limited process of its own
    reader     the same reader inside this process: the difference is the child's cost
    pyav       av.open, decode, to_ndarray(rgb24)
    cv2        cv2.VideoCapture
    pipe       ffmpeg -f rawvideo -pix_fmt rgb24 pipe:1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from stages.kit.isolate import ChildBudget, run_isolated
from stages.source.opening import ReadBudget
from stages.source.video_reader import VideoReader, to_rgb

THREADS = 2
BUDGET = ReadBudget(max_frame_pixels=4096 * 2304, max_frames=432_000)


def read_all(payload: dict[str, Any]) -> dict[str, Any]:
    """Read every frame to RGB; also what the child runs."""
    count = sum(
        int(to_rgb(f).shape[2] == 3) for _, f in VideoReader(Path(payload["path"]), BUDGET).frames()
    )
    return {"num_frames": count}


def by_child(path: Path) -> int:
    budget = ChildBudget(600, 6_000_000_000)
    return int(
        run_isolated("benchmarks.decode:read_all", {"path": str(path)}, budget)["num_frames"]
    )


def by_reader(path: Path) -> int:
    return int(read_all({"path": str(path)})["num_frames"])


def by_pyav(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        return sum(
            int(f.to_ndarray(format="rgb24").shape[2] == 3) for f in container.decode(stream)
        )


def by_cv2(path: Path) -> int:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"threads;{THREADS}"
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def by_pipe(path: Path) -> int:
    with av.open(str(path)) as container:
        size = container.streams.video[0].width * container.streams.video[0].height * 3
    argv = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-threads",
        str(THREADS),
        "-i",
        f"file:{path}",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-fps_mode",
        "passthrough",
        "pipe:1",
    ]
    count = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=size) as child:
        assert child.stdout is not None
        while data := child.stdout.read(size):
            count += int(np.frombuffer(data, np.uint8).size == size)
    return count


WAYS: dict[str, Callable[[Path], int]] = {
    "child": by_child,
    "reader": by_reader,
    "pyav": by_pyav,
    "cv2": by_cv2,
    "pipe": by_pipe,
}


def repeated(video: Path, seconds: float, folder: Path) -> Path:
    """The video's packets over and over until it lasts ``seconds``, without sound."""
    long = folder / f"{video.stem}.mkv"
    argv = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-stream_loop",
        "-1",
        "-i",
        f"file:{video}",
        "-t",
        str(seconds),
        "-an",
        "-c",
        "copy",
        f"file:{long}",
    ]
    subprocess.run(argv, check=True)
    return long


def measure(video: Path, repeats: int) -> dict[str, object]:
    """Frames per second of each way, and what the child adds."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    counts = {}
    for _ in range(repeats):
        for name, way in WAYS.items():
            started = time.perf_counter()
            counts[name] = way(video)
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "video": video.name,
        "num_frames": counts,
        "fps": {name: round(counts[name] / s, 1) for name, s in median.items()},
        "child_costs": f"{100 * (median['child'] / median['reader'] - 1):.1f} %",
        "child_costs_s": round(median["child"] - median["reader"], 2),
    }


def main() -> None:
    """Print one JSON line per video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for video in args.videos:
            long = repeated(video, args.seconds, Path(folder))
            print(json.dumps(measure(long, args.repeats)), flush=True)


if __name__ == "__main__":
    main()
