"""Whether the hand that holds is found, on its own side, and a mirrored clip gives mirrored sides.

    python benchmarks/hands.py DATA [--clip NAME ...]

Truth: ``holding_hands`` of ``DATA/held_products/frames.csv``. A hand holds where its landmarks come within 0.4 hand
lengths of the product's mask. Prints per part of 81 frames: share of the holding hands that were found, frames whose
product is touched by the wrong side alone, share of hands whose side the mirrored part agrees on, CPU seconds.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np

from jobs.bench.real import annotated_videos, parts_of
from stages.screening.detect import DetectConfig, DetectStage

SIDES = ("left", "right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clip", action="append")
    given = parser.parse_args()
    with (given.data / "held_products/frames.csv").open(encoding="utf-8") as file:
        holding = {
            (r["clip"], int(r["frame_index"])): r["holding_hands"] for r in csv.DictReader(file)
        }
    stage = DetectStage(DetectConfig())
    stage.setup()
    rows = []
    for clip, (path, masks) in annotated_videos(given.data).items():
        if given.clip and clip not in given.clip:
            continue
        for part in parts_of(clip, path, masks):
            if not part.masks:
                continue
            begun = time.process_time()
            plain = hands_of(stage, part.frames)
            cpu_s = time.process_time() - begun
            mirrored = hands_of(stage, np.ascontiguousarray(part.frames[:, :, ::-1]))
            found, wrong = judge(plain, part, holding)
            same = agreement(plain, mirrored, part.frames.shape[2])
            rows.append((found, wrong, same))
            print(
                f"{clip}-{part.first:04}: found {found:.2f}, wrong side {wrong:.2f}, "
                f"mirrored {same:.2f}, {cpu_s:.1f} CPU s",
                flush=True,
            )
    print(
        f"mean: found {np.mean([r[0] for r in rows]):.3f}, wrong side {np.mean([r[1] for r in rows]):.3f}, "
        f"mirrored {np.nanmean([r[2] for r in rows]):.3f}"
    )


def hands_of(stage, frames):
    """Per side (T,21,2)."""
    found = stage._people.detect(frames)
    landmarks = stage._tracks(found, frames.shape[2], frames.shape[1])
    return {s: hand.points_px[..., :2] for s, hand in zip(SIDES, landmarks.hands, strict=True)}


def judge(hands, part, holding):
    found, wrong = [], []
    for t, mask in part.masks.items():
        word = holding[part.clip, part.first + t]
        wanted = set(SIDES) if word == "both" else {word}
        near = {side for side in SIDES if touches(hands[side][t], mask)}
        found.append(len(wanted & near) / len(wanted))
        wrong.append(bool(near) and not wanted & near)
    return float(np.mean(found)), float(np.mean(wrong))


def touches(points, mask):
    if not np.isfinite(points).all():
        return False
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    x, y = (points.round().astype(int)[:, k].clip(0, mask.shape[1 - k] - 1) for k in (0, 1))
    return away[y, x].min() < 0.4 * (np.linalg.norm(points[9] - points[0]) + 1)


def agreement(plain, mirrored, width):
    """Of the hands seen in both, the share that has the other name in the mirrored clip."""
    same = []
    flipped = {s: mirrored[s] * (-1, 1) + (width - 1, 0) for s in SIDES}
    for side, other in zip(SIDES, SIDES[::-1], strict=True):
        for t, points in enumerate(plain[side]):
            away = {s: np.linalg.norm(flipped[s][t].mean(0) - points.mean(0)) for s in SIDES}
            size = np.linalg.norm(points[9] - points[0])
            near = [s for s in SIDES if away[s] < size]
            if near:
                same.append(min(near, key=lambda s: away[s]) == other)
    return float(np.mean(same)) if same else float("nan")


if __name__ == "__main__":
    main()
