"""Shot detectors against known transitions, and their speed beside the ``scenedetect`` command.

    python -m benchmarks.shots FOLDER [--scenes N] [--seed S]

FOLDER holds videos, each a single take unless listed in TRUTH. Two measurements:

truth file   ``real_psd_testvideo_cuts.mp4``, if present: two hard cuts, two fades to black, one dissolve.
composed     N scenes of 2 to 4 s drawn from the single takes, joined by hard cuts, dissolves and fades
             through black in equal parts (made on thumbnails: exact truth, real content).

A transition counts as found if a detected one touches it within 2 frames, one to one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.segment import build_detector
from stages.segment_config import SegmentConfig
from stages.segment_passes import scan_source
from stages.shots import Span

DETECTORS = ("transnetv2", "pyscenedetect")
TOLERANCE = 2
TRUTH = {
    "real_psd_testvideo_cuts.mp4": [
        Span(30, 30), Span(180, 239), Span(339, 416), Span(524, 556), Span(668, 720),
    ]
}  # fmt: skip
"""Seen by eye: cut from black, cut to black and fade in, fade out and in, dissolve, fade out. Both
published lists of this file (cut frames 30, 180, 394 and scene starts 201, 382) lie inside them."""


def f1(found: list[Span], truth: list[Span]) -> dict[str, float]:
    """Precision, recall and F1 of transitions, matched one to one in order."""
    free = list(found)
    hits = 0
    for true in truth:
        near = [
            s for s in free
            if s.start <= true.stop + TOLERANCE and s.stop >= true.start - TOLERANCE
        ]  # fmt: skip
        if near:
            free.remove(near[0])
            hits += 1
    precision, recall = hits / max(1, len(found)), hits / max(1, len(truth))
    score = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(score, 3)}


def scan_all(videos: list[Path], detector: str) -> tuple[dict[str, np.ndarray], float]:
    """Thumbnails of each video as the stage makes them, and the seconds that took."""
    config = SegmentConfig(detector=detector)
    size = build_detector(config).thumbnail_size
    thumbnails = {}
    started = time.perf_counter()
    for video in videos:
        with tempfile.TemporaryDirectory() as folder:
            scan = scan_source(video, Path(folder), config, size)
            thumbnails[video.name] = np.array(scan.thumbnails)
    return thumbnails, time.perf_counter() - started


def compose(takes: list[np.ndarray], num_scenes: int, seed: int) -> tuple[np.ndarray, list[Span]]:
    """Join random pieces of takes; returns frames and the true transitions."""
    rng = np.random.default_rng(seed)
    pieces, previous = [], -1
    for _ in range(num_scenes):
        take = int(rng.choice([i for i in range(len(takes)) if i != previous]))
        length = int(rng.integers(50, 100))
        start = int(rng.integers(0, max(1, len(takes[take]) - length)))
        pieces.append(takes[take][start : start + length].astype(np.float32))
        previous = take
    frames, truth, count = [pieces[0]], [], len(pieces[0])
    for piece in pieces[1:]:
        kind = rng.choice(["cut", "dissolve", "fade"])
        ramp_length = 0 if kind == "cut" else int(rng.integers(8, 20))
        ramp = np.linspace(0, 1, ramp_length + 2)[1:-1, None, None, None]
        last = frames.pop()
        if kind == "dissolve":
            mixed = last[-ramp_length:] * (1 - ramp) + piece[:ramp_length] * ramp
            parts = [last[:-ramp_length], mixed, piece[ramp_length:]]
            truth.append(Span(count - ramp_length, count))
            count += len(piece) - ramp_length
        elif kind == "fade":
            out, into = last[-ramp_length:] * (1 - ramp), piece[:ramp_length] * ramp
            parts = [last[:-ramp_length], out, into, piece[ramp_length:]]
            truth.append(Span(count - ramp_length, count + ramp_length))
            count += len(piece)
        else:
            parts = [last, piece]
            truth.append(Span(count, count))
            count += len(piece)
        frames += parts
    return np.concatenate(frames).round().astype(np.uint8), truth


def time_command(video: Path) -> float | None:
    """Seconds of ``scenedetect -i VIDEO detect-adaptive list-scenes``; None where it is missing."""
    command = shutil.which("scenedetect", path=str(Path(sys.executable).parent))
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        argv = [command, "-q", "-i", str(video), "-o", folder, "detect-adaptive", "list-scenes"]
        started = time.perf_counter()
        done = subprocess.run(argv, capture_output=True, check=False)
        seconds = time.perf_counter() - started
    return seconds if done.returncode == 0 else None


def measure(videos: list[Path], name: str, num_scenes: int, seed: int) -> dict[str, object]:
    """All figures of one detector."""
    detector = build_detector(SegmentConfig(detector=name))
    thumbnails, scan_s = scan_all(videos, name)
    takes = [t for v, t in thumbnails.items() if v not in TRUTH]
    material, truth = compose(takes, num_scenes, seed)
    started = time.perf_counter()
    found = detector.transitions(material)
    detect_s = time.perf_counter() - started
    alone = {v: len(detector.transitions(t)) for v, t in thumbnails.items() if v not in TRUTH}
    report: dict[str, object] = {
        "detector": name,
        "composed": {"transitions": len(truth), **f1(found, truth)},
        "false_cuts_in_single_takes": sum(alone.values()),
        "detect_ms_per_frame": round(1000 * detect_s / len(material), 3),
        "scan_ms_per_frame": round(1000 * scan_s / sum(map(len, thumbnails.values())), 3),
    }
    for video, true in TRUTH.items():
        if video in thumbnails:
            spans = detector.transitions(thumbnails[video])
            report[video] = f1(spans, true) | {"found": [(s.start, s.stop) for s in spans]}
    return report


def main() -> None:
    """Print one JSON document per detector and the command's time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    skipped = ("corrupt", "edge_", "neg_")  # copies of other files
    videos = [p for p in sorted(args.folder.iterdir()) if not p.name.startswith(skipped)]
    for name in DETECTORS:
        print(json.dumps(measure(videos, name, args.scenes, args.seed)), flush=True)
    for video in videos:
        if video.name in TRUTH:
            config = SegmentConfig()
            seconds = {}
            for name in DETECTORS:
                detector = build_detector(config.replace(detector=name))
                with tempfile.TemporaryDirectory() as folder:
                    started = time.perf_counter()
                    scan = scan_source(video, Path(folder), config, detector.thumbnail_size)
                    detector.transitions(scan.thumbnails)
                    seconds[name] = round(time.perf_counter() - started, 2)
            command_s = time_command(video)
            print(
                json.dumps(
                    {"video": video.name, "whole_s": seconds, "scenedetect_command_s": command_s}
                )
            )


if __name__ == "__main__":
    main()
