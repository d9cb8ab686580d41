"""Fit how sure masks are: expected IoU with the truth, from what the network, its neighbours and the colours say.

    python -m training.held_product.calibrate --data ../shared/data --work WORK [--weights WORK/held.safetensors]

Detections are kept in ``WORK/calibrate``, so that it goes on where it was stopped. Prints the coefficients for
``held_masks.sureness``, and a reliability table in which each clip is judged by coefficients fitted without it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jobs.bench.real import Part, annotated_videos, parts_of
from jobs.bench.rows import row_of
from jobs.bench.scores import calibration_error
from stages.base import Kept
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks
from stages.product.held_looks import HeldProduct
from stages.product.held_masks import log_odds, look_over, masks_of
from stages.product.scene import load_scene
from stages.screening.detect import DetectConfig, DetectStage

_STEPS, _RATE, _RIDGE = 4000, 0.2, 0.02
_SHORT_SIDE_PX, _EVERY = 256, 4


class Case(NamedTuple):
    """An annotated frame with a mask."""

    clip: str
    signs: Any
    """(4,) 0..1."""
    overlap: float


def main() -> None:
    """Print coefficients and reliability."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", default="")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="CLIP",
        help="A clip in which something is held that nobody annotated.",
    )
    given = parser.parse_args()
    found = cases_of(given.data, given.work / "calibrate", given.weights)
    cases = [case for case in found if case.clip not in given.without]
    x = np.stack([log_odds(c.signs) for c in cases])
    y, clips = np.array([c.overlap for c in cases]), np.array([c.clip for c in cases])
    told = np.zeros(len(y))
    for clip in np.unique(clips):
        out = clips == clip
        told[out] = predict(fit(x[~out], y[~out], clips[~out]), x[out])
    bias, *weights = fit(x, y, clips)
    print(f"_BIAS, _SIGNS = {bias:.2f}, ({', '.join(f'{w:.2f}' for w in weights)})")
    print(f"{len(y)} frames with a mask, mean IoU {y.mean():.3f}")
    print(
        f"expected calibration error, clips left out, five bins: {calibration_error(told, y, 5):.3f}"
    )
    print("| told | is | frames |\n|---|---|---|")
    for low in np.arange(0, 1, 0.2):
        inside = (told >= low) & (told < low + 0.2)
        if inside.any():
            print(f"| {told[inside].mean():.2f} | {y[inside].mean():.2f} | {inside.sum()} |")


def cases_of(data: Path, kept: Path, weights: str) -> Iterator[Case]:
    """Annotated frames of all videos."""
    kept.mkdir(parents=True, exist_ok=True)
    net, detect = HeldProduct(weights), DetectStage(DetectConfig())
    net.setup()
    detect.setup()
    for clip, (path, masks) in annotated_videos(data).items():
        for part in parts_of(clip, path, masks):
            if part.masks:
                yield from _cases(
                    part, landmarks_of(part, detect, kept / f"{clip}-{part.first}.npz"), net
                )


def landmarks_of(part: Part, detect: DetectStage, kept: Path) -> Landmarks:
    """What is detected in a part, kept in a file."""
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
            with files.row_scope():
                done = detect.process(row_of(part.frames, files, "part"), files)
                assert isinstance(done, Kept)
                assert done.rows[0].detect is not None
                arrays: Any = files.arrays(done.rows[0].detect.arrays)
                np.savez_compressed(kept, **arrays)
    with np.load(kept) as packed:
        return Landmarks.read(dict(packed))


def _cases(part: Part, landmarks: Landmarks, net: HeldProduct) -> Iterator[Case]:
    scene = load_scene(part.frames, landmarks, _SHORT_SIDE_PX)
    found = look_over(scene, part.frames, landmarks.hands_by_frame, net, _EVERY)
    masks, _ = masks_of(scene, found, len(part.frames), _EVERY)
    for t, truth in part.masks.items():
        near = [key for key in found.keys if abs(key - t) < _EVERY and found.is_held[key]]
        if not near or not masks[t].any():
            continue
        big = cv2.resize(
            masks[t].astype(np.float32), truth.shape[::-1], interpolation=cv2.INTER_CUBIC
        )
        mask = big > 0.5
        overlap = float((mask & truth).sum() / (mask | truth).sum())
        yield Case(part.clip, found.signs[min(near, key=lambda key: abs(key - t))], overlap)


def fit(x: Any, y: Any, clips: Any) -> Any:
    """(1 + n,) bias and weights >= 0 of a logistic regression on soft targets; each clip weighs the same."""
    names, counts = np.unique(clips, return_counts=True)
    share = 1 / counts[np.searchsorted(names, clips)] / len(names)
    theta = np.zeros(1 + x.shape[1])
    for _ in range(_STEPS):
        slope = share * (predict(theta, x) - y)
        theta[0] -= _RATE * slope.sum()
        theta[1:] -= _RATE * (slope @ x + _RIDGE * theta[1:])
        theta[1:] = np.maximum(theta[1:], 0)  # no sign speaks against itself
    return theta


def predict(theta: Any, x: Any) -> Any:
    """(n,) expected IoU."""
    return 1 / (1 + np.exp(-(theta[0] + x @ theta[1:])))


if __name__ == "__main__":
    main()
