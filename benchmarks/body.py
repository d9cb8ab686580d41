"""Time the body fit on a real clip: python benchmarks/body.py VIDEO [--frames 81] [--repeat 3].

Detection runs first and is not counted. Prints median wall seconds (CPU seconds in brackets, for busy
machines) and the fit's errors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray sets it for a worker with one CPU

import cv2
import numpy as np
import torch

from jobs.bench.rows import row_of
from stages.body.detections import read_detections
from stages.body.fit import fit_body
from stages.body_models.anny import load_anny
from stages.body_models.rig import anny_roles
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks
from stages.kit.media import read_video
from stages.screening.detect import DetectConfig, DetectStage


def clip_of(files: Files, video: Path, num_frames: int, size: tuple[int, int]):
    """A clip row over the first frames of a video, resized."""
    frames = np.stack(
        [cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in read_video(video)[:num_frames]]
    )
    return row_of(frames, files, "bench")


def detected(files: Files, video: Path, num_frames: int, size: tuple[int, int]):
    """The clip with its boxes facet."""
    stage = DetectStage(DetectConfig())
    stage.setup()
    return stage.process(clip_of(files, video, num_frames, size), files).rows[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=832)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/handloom-bench"))
    return parser.parse_args()


def timed(work, repeat: int) -> tuple[float, float, object]:
    """Median wall seconds, median CPU seconds (children included) and the last result."""
    walls, cpus, result = [], [], None
    for _ in range(repeat):
        start, busy = time.perf_counter(), sum(os.times()[:4])
        result = work()
        walls.append(time.perf_counter() - start)
        cpus.append(sum(os.times()[:4]) - busy)
    return statistics.median(walls), statistics.median(cpus), result


def main() -> None:
    args = arguments()
    torch.set_num_threads(2)
    files = Files(FolderBlobs(args.scratch / "blobs"), args.scratch / "scratch")
    body = load_anny()
    with files.row_scope():
        row = detected(files, args.video, args.frames, (args.width, args.height))
        landmarks = Landmarks.read(files.arrays(row.detect.arrays))
    roles = anny_roles(body.bone_names)
    seen = read_detections(landmarks, args.width, args.height)
    seconds, busy, fit = timed(lambda: fit_body(body.tables, roles, seen), args.repeat)
    pose = [torch.from_numpy(a) for a in (fit.rotations, fit.translation, fit.shape)]
    with torch.inference_mode():
        skin_s, skin_cpu, _ = timed(lambda: body.forward(*pose), args.repeat)
    print(
        f"{args.video.name}: {len(fit.rotations)} frames {args.width}x{args.height}, "
        f"median of {args.repeat}"
    )
    print(f"  fit          {seconds:6.2f} s  ({busy:.2f} s CPU)")
    print(f"  skinning     {skin_s:6.2f} s  ({skin_cpu:.2f} s CPU)")
    print(f"  body error   {np.nanmedian(fit.body_error_head):6.3f} head heights (median)")
    print(f"  hand error   {np.nanmedian(fit.hand_error_head):6.3f} head heights (median)")
    print(f"  valid frames {fit.is_valid.mean():6.3f}")


if __name__ == "__main__":
    main()
