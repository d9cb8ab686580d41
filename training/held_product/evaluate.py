"""Score weights on annotated frames, one frame at a time: no tracking, no colours.

    python -m training.held_product.evaluate --weights WORK/held.safetensors --data ../shared/data [--pictures DIR]

Hands are found by mediapipe on the whole picture. Prints J per clip, and whether quality and held are true.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from stages.product.held_looks import HeldProduct


class Scored(NamedTuple):
    """One annotated frame."""

    clip: str
    frame_index: int
    overlap: float
    score: float
    num_hands: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    net = HeldProduct(str(given.weights))
    net.setup()
    rows = []
    for clip, index, frame, truth in annotated(given.data):
        hands = find_hands(frame)
        looks = net.look(frame, hands)
        best = max(looks, key=lambda look: look.score, default=None)
        mask = np.zeros(truth.shape, bool)
        if best is not None and best.held > 0.5:
            mask = best.crop.back(best.chance, truth.shape) > 0.5
        overlap = float((mask & truth).sum() / max((mask | truth).sum(), 1))
        rows.append(Scored(clip, index, overlap, best.score if best else 0.0, len(hands)))
        if given.pictures:
            _draw(given.pictures, rows[-1], frame, mask, truth)
    _tell(rows)


def annotated(data: Path) -> Iterator[tuple[str, int, Any, Any]]:
    """Clip, frame index, frame (H,W,3) RGB and truth (H,W) of every annotated frame."""
    wanted: dict[str, dict[int, Path]] = defaultdict(dict)
    videos = {}
    with (data / "held_products/frames.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = f"{row['clip']}__{int(row['frame_index']):06}.png"
            wanted[row["clip"]][int(row["frame_index"])] = data / "held_products" / name
            videos[row["clip"]] = data / row["video"]
    for clip, masks in wanted.items():
        with av.open(str(videos[clip])) as file:
            for index, frame in enumerate(file.decode(video=0)):  # in display order
                if index in masks:
                    truth = np.asarray(cv2.imread(str(masks[index]), cv2.IMREAD_GRAYSCALE)) > 0
                    yield clip, index, frame.to_ndarray(format="rgb24"), truth


def find_hands(frame: Any) -> list[Any]:
    """Hands (21,2) pixels on the whole picture."""
    global _HANDS  # noqa: PLW0603 - loading it takes longer than using it
    if _HANDS is None:
        import mediapipe as mp

        _HANDS = mp.solutions.hands.Hands(
            static_image_mode=True, max_num_hands=2, min_detection_confidence=0.4
        )
    size = np.array(frame.shape[1::-1], np.float32)
    found = _HANDS.process(frame).multi_hand_landmarks or ()
    return [np.array([[p.x, p.y] for p in hand.landmark], np.float32) * size for hand in found]


_HANDS: Any = None


def _tell(rows: list[Scored]) -> None:
    for clip in dict.fromkeys(r.clip for r in rows):
        mine = [r for r in rows if r.clip == clip]
        each = " ".join(f"{r.overlap:.2f}({r.score:.2f},{r.num_hands})" for r in mine)
        print(f"{clip:<28} J {np.mean([r.overlap for r in mine]):.2f}   {each}")
    overlap, score = np.array([r.overlap for r in rows]), np.array([r.score for r in rows])
    print(
        f"all: J {overlap.mean():.3f}, J >= 0.7 in {(overlap >= 0.7).mean():.2f} of {len(rows)} frames"
    )
    order = np.argsort(-score)
    for share in (0.25, 0.5, 0.75):
        kept = order[: int(share * len(rows))]
        print(
            f"surest {share:.0%}: J {overlap[kept].mean():.2f}, J < 0.5 in {(overlap[kept] < 0.5).mean():.2f}"
        )


def _draw(folder: Path, row: Scored, frame: Any, mask: Any, truth: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    out = frame[..., ::-1].copy()
    for plane, colour in ((truth, (0, 255, 0)), (mask, (0, 0, 255))):
        outline, _ = cv2.findContours(
            plane.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(out, outline, -1, colour, 3)
    scale = 420 / out.shape[0]
    small = cv2.resize(out, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.putText(small, f"{row.overlap:.2f} ({row.score:.2f})", (4, 16), 0, 0.5, (0, 0, 255), 1)
    cv2.imwrite(str(folder / f"{row.clip}-{row.frame_index:06}.png"), small)


if __name__ == "__main__":
    main()
