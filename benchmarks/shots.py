"""Shot detectors against known transitions, and their speed beside the ``scenedetect`` command.

    python -m benchmarks.shots DATA [--studio DIR...] [--scenes N] [--seed S]

DATA has ``videos/`` and ``gt/scenecuts/``; DIR is what ``handloom studio --out DIR`` wrote.

truth file   ``real_psd_testvideo_cuts.mp4``: two hard cuts, two fades, one dissolve, marked by eye as ranges. The two
             lists published with it hold single frames inside such ranges: how many of them a detected transition
             covers is told apart.
studio       rendered clips whose scripts say where the cuts are.
composed     N scenes of 2 to 4 s drawn from the single takes in ``videos/``, joined by hard cuts, dissolves and fades
             through black in equal parts (on thumbnails: exact truth, real content).

A transition counts as found if a detected one touches it within 2 frames, one to one. Speed: our scan in its
child process plus the detector, and the command, turn about on the same file; 2 threads each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.kit.spans import Span
from stages.source.segment_config import SegmentConfig
from stages.source.segment_passes import scan_source

DETECTORS = ("transnetv2", "pyscenedetect")
SKIPPED = ("corrupt", "edge_", "neg_")
"""Copies of other files."""
TOLERANCE = 2
REPEATS = 3
TRUTH = {
    "real_psd_testvideo_cuts.mp4": [
        Span(30, 30),
        Span(180, 239),
        Span(339, 416),
        Span(524, 556),
        Span(668, 720),
    ]
}
"""Seen by eye: cut from black, cut to black and fade in, fade out and in, dissolve, fade out."""


def f1(pairs: list[tuple[list[Span], list[Span]]]) -> dict[str, float]:
    """Precision, recall and F1 over (found, true) transitions of videos, matched one to one in order."""
    hits = num_found = num_true = 0
    for found, truth in pairs:
        free = list(found)
        num_found, num_true = num_found + len(found), num_true + len(truth)
        for true in truth:
            near = [
                s
                for s in free
                if s.start <= true.stop + TOLERANCE and s.stop >= true.start - TOLERANCE
            ]
            if near:
                free.remove(near[0])
                hits += 1
    precision, recall = hits / max(1, num_found), hits / max(1, num_true)
    score = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(score, 3)}


def scan_all(videos: list[Path], detector: str) -> dict[Path, np.ndarray]:
    """Thumbnails of each video as the stage makes them."""
    config = SegmentConfig(detector=detector)
    size = config.detector.build().thumbnail_size
    thumbnails = {}
    for video in videos:
        with tempfile.TemporaryDirectory() as folder:
            thumbnails[video] = np.array(scan_source(video, Path(folder), config, size).thumbnails)
    return thumbnails


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


def time_command(video: Path) -> float:
    """Seconds of ``scenedetect -i VIDEO detect-adaptive list-scenes``."""
    command = Path(sys.executable).parent / "scenedetect"
    with tempfile.TemporaryDirectory() as folder:
        argv = [command, "-q", "-i", str(video), "-o", folder, "detect-adaptive", "list-scenes"]
        started = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=True)
        return time.perf_counter() - started


def published(folder: Path) -> list[int]:
    """Cut frames of both lists that were published with the truth file."""
    cuts = json.loads((folder / "testvideo.ContentDetector.json").read_text())["cuts"]
    rows = (folder / "testvideo_scenes.csv").read_text().splitlines()
    starts = [int(float(r.split(",")[2])) for r in rows[1:] if r.count(",") >= 3]
    return sorted({*cuts, *starts} - {0})


def covered(found: list[Span], frames: list[int]) -> str:
    """How many single frames lie in a detected transition."""
    hits = [any(s.start - TOLERANCE <= f <= s.stop + TOLERANCE for s in found) for f in frames]
    return f"{sum(hits)} of {len(hits)}"


def studio_truth(folder: Path) -> dict[Path, list[Span]]:
    """Rendered clips with their cuts."""
    texts = {p.stem: json.loads(p.read_text()) for p in sorted((folder / "truth").glob("*.json"))}
    return {
        folder / "videos" / f"{name}.mp4": [Span(f, f) for f in text["cut_frames"]]
        for name, text in texts.items()
    }


def measure(
    name: str, data: Path, studio: dict[Path, list[Span]], num_scenes: int, seed: int
) -> dict[str, object]:
    """All figures of one detector."""
    videos = [p for p in sorted((data / "videos").iterdir()) if not p.name.startswith(SKIPPED)]
    detector = SegmentConfig(detector=name).detector.build()
    thumbnails = scan_all([*videos, *studio], name)
    takes = [thumbnails[v] for v in videos if v.name not in TRUTH]
    material, truth = compose(takes, num_scenes, seed)
    started = time.perf_counter()
    found = detector.transitions(material)
    detect_s = time.perf_counter() - started
    report: dict[str, object] = {
        "detector": name,
        "composed": {"transitions": len(truth)} | f1([(found, truth)]),
        "single_takes": {
            "takes": len(takes),
            "false": sum(len(detector.transitions(t)) for t in takes),
        },
        "detect_ms_per_frame": round(1000 * detect_s / len(material), 3),
    }
    if studio:
        pairs = [(detector.transitions(thumbnails[v]), cuts) for v, cuts in studio.items()]
        report["studio"] = {"clips": len(pairs), "cuts": sum(len(t) for _, t in pairs)} | f1(pairs)
    for video in (v for v in videos if v.name in TRUTH):
        spans = detector.transitions(thumbnails[video])
        report[video.name] = f1([(spans, TRUTH[video.name])]) | {
            "published_frames": covered(spans, published(data / "gt/scenecuts")),
            "found": [(s.start, s.stop) for s in spans],
        }
    return report


def race(video: Path) -> dict[str, object]:
    """Seconds of each detector with its scan, and of the command, medians of turns."""
    seconds: dict[str, list[float]] = {name: [] for name in (*DETECTORS, "scenedetect command")}
    detectors = {n: SegmentConfig(detector=n).detector.build() for n in DETECTORS}
    for _ in range(REPEATS):
        for name, detector in detectors.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                scan = scan_source(video, Path(folder), SegmentConfig(), detector.thumbnail_size)
                detector.transitions(scan.thumbnails)
                seconds[name].append(time.perf_counter() - started)
        seconds["scenedetect command"].append(time_command(video))
    return {
        "video": video.name,
        "num_frames": len(scan.times_s),
        "median_s": {name: round(statistics.median(s), 2) for name, s in seconds.items()},
    }


def main() -> None:
    """Print one JSON document per detector and the race."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--studio", type=Path, nargs="*", default=[])
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    studio = {video: cuts for folder in args.studio for video, cuts in studio_truth(folder).items()}
    for name in DETECTORS:
        print(json.dumps(measure(name, args.data, studio, args.scenes, args.seed)), flush=True)
    for name in TRUTH:
        print(json.dumps(race(args.data / "videos" / name)))


if __name__ == "__main__":
    main()
