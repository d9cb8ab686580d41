"""Accuracy and speed of detect, objects, references and triplets over the shared real material.

    python benchmarks/perception.py DATA [--repeats 3] [--json out.json]

Speed: seconds per stage for one 81-frame 480x832 clip, medians of the repeats. Accuracy: overlap (J) of the
held-object mask with the object pixels of a published structure video (a rough truth: it is a render),
and of a mask carried from frame 0 by optical flow with the true masks of a moving chair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from jobs.bench.rows import row_of
from stages.files import Files, FolderBlobs
from stages.kit import media
from stages.kit.masks import decode_masks, iou
from stages.product import cues
from stages.product.flow import make_flow, warp
from stages.product.objects import ObjectsConfig, ObjectsStage
from stages.product.references import ReferencesStage
from stages.product.references_config import ReferencesConfig
from stages.product.triplets import TripletsConfig, TripletsStage
from stages.screening.detect import DetectConfig, DetectStage

SIZE = (480, 832)
SPEED_CLIP = "co_out003_woman_bottle.mp4"


def load(path: Path, limit: int | None = None) -> np.ndarray:
    """Frames of a portrait video, scaled to cover 480x832 and cropped in the middle."""
    out = []
    for frame in media.read_video(path)[:limit]:
        scale = max(SIZE[0] / frame.shape[1], SIZE[1] / frame.shape[0])
        size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
        big = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        y, x = (big.shape[0] - SIZE[1]) // 2, (big.shape[1] - SIZE[0]) // 2
        out.append(big[y : y + SIZE[1], x : x + SIZE[0]])
    return np.stack(out)


def chain():
    stages = [
        DetectStage(DetectConfig()),
        ObjectsStage(ObjectsConfig()),
        ReferencesStage(ReferencesConfig()),
        TripletsStage(TripletsConfig()),
    ]
    for stage in stages:
        stage.check()
        stage.setup()
    return stages


def measure_speed(frames: np.ndarray, files: Files, repeats: int) -> dict[str, float]:
    stages, spent = chain(), {}
    for _ in range(repeats):
        with files.row_scope():
            row = row_of(frames, files, "benchmark")
            files.frames(row.media.video)
            for stage in stages:
                start = time.perf_counter()
                row = stage.process(row, files).rows[0]
                spent.setdefault(stage.name, []).append(time.perf_counter() - start)
    return {name: round(statistics.median(times), 2) for name, times in spent.items()}


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    either = (a | b).sum(axis=(1, 2))
    return float(np.mean((a & b).sum(axis=(1, 2))[either > 0] / either[either > 0]))


def object_pixels(hoi: np.ndarray) -> np.ndarray:
    """Object pixels of a published structure video: neither black ground nor the cream body.

    The body is shaded in one hue; the largest part of any other saturation or hue is the object.
    """
    masks = []
    for frame in hoi:
        hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
        lit = hsv[..., 2] > 40
        body = lit & (np.abs(hsv[..., 0].astype(int) - np.median(hsv[..., 0][lit])) <= 9)
        body &= hsv[..., 1] < np.percentile(hsv[..., 1][lit], 50) + 45
        rest = cv2.morphologyEx((lit & ~body).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
        rest = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((9, 9)))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(rest)
        masks.append(labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else rest > 0)
    return np.stack(masks)


def measure_cogeneration(data: Path, files: Files, limit: int) -> dict[str, float]:
    folder = data / "gt" / "cogeneration_case1"
    frames, truth = (
        load(folder / "case1.mp4", limit),
        object_pixels(load(folder / "case1_hoi.mp4", limit)),
    )
    count = min(len(frames), len(truth))
    detect, objects, *_ = chain()
    with files.row_scope():
        row = detect.process(row_of(frames[:count], files, "benchmark"), files).rows[0]
        row = objects.process(row, files).rows[0]
        masks = decode_masks(files.arrays(row.objects.arrays), "mask", SIZE[1], SIZE[0])
    return {
        "J": round(jaccard(masks, truth[:count]), 3),
        "confidence": round(row.objects.confidence, 3),
    }


def measure_chair(data: Path) -> dict[str, float]:
    """J of the first true mask, carried by flow from frame to frame and corrected by its colours."""
    folder = data / "gt" / "xmem2_chair"
    size, engine, scores = (576, 384), make_flow(is_fine=True), []
    inside, outside = cues.ColourModel(), cues.ColourModel()
    mask, before = None, None
    for path in sorted((folder / "JPEGImages").iterdir()):
        picture = cv2.resize(cv2.imread(str(path)), size, interpolation=cv2.INTER_AREA)
        grey, lab = (cv2.cvtColor(picture, c) for c in (cv2.COLOR_BGR2GRAY, cv2.COLOR_BGR2LAB))
        label = cv2.imread(str(folder / "Annotations" / f"{path.stem}.png"))
        truth = cv2.resize(label.max(axis=2), size, interpolation=cv2.INTER_NEAREST) > 0
        if mask is None:
            mask, width = truth, round(0.3 * np.sqrt(truth.sum())) | 1
            around = cv2.dilate(truth.astype(np.uint8), np.ones((width, width), np.uint8)) > 0
            inside.feed(lab, truth)
            outside.feed(lab, around & ~truth)
        else:
            moved = warp(mask, engine.calc(grey, before, None))
            mask = cues.correct_outline(moved, lab, inside, outside)
            scores.append(iou(mask, truth))
        before = grey
    return {"J": round(float(np.mean(scores)), 3), "J_last": round(float(scores[-1]), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
        report = {
            "seconds": measure_speed(
                load(args.data / "videos" / SPEED_CLIP, args.frames), files, args.repeats
            ),
            "cogeneration_case1": measure_cogeneration(args.data, files, args.frames),
            "xmem2_chair": measure_chair(args.data),
        }
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
