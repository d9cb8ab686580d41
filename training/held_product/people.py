"""People with empty hands: frames, hand landmarks and mattes of the clips that objects are put into.

    python -m training.held_product.people --clips CLIPS --work WORK

Writes ``WORK/people/<clip>.npz``: ``frames`` (n,H,W,3) uint8 RGB, ``mattes`` (n,H,W) uint8, ``hands`` (n,2,21,2) float32
pixels, NaN where a hand was not found.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import av
import numpy as np

VALIDATION = ("hungry", "want")
"""Clips of the one person of five who is never trained with."""
_EVERY, _MARGIN = 2, 4
"""Every so many frames; the first and last show the hands coming and going."""


def main() -> None:
    """Write one file per clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    import mediapipe as mp

    hands = mp.solutions.hands.Hands(
        static_image_mode=True, max_num_hands=2, min_detection_confidence=0.4
    )
    person = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    folder = given.work / "people"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(given.clips.glob("*.mkv")):
        with av.open(str(path)) as file:
            frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
        found = [_look(f, hands, person) for f in frames[_MARGIN:-_MARGIN:_EVERY]]
        kept = [one for one in found if np.isfinite(one[2]).any()]
        pictures, mattes, points = (np.stack(values) for values in zip(*kept, strict=True))
        np.savez_compressed(
            folder / f"{path.stem}.npz", frames=pictures, mattes=mattes, hands=points
        )
        print(f"{path.stem}: {len(kept)} of {len(found)} frames")


def _look(frame: Any, hands: Any, person: Any) -> tuple[Any, Any, Any]:
    size = np.array(frame.shape[1::-1], np.float32)
    points = np.full((2, 21, 2), np.nan, np.float32)
    for k, hand in enumerate(hands.process(frame).multi_hand_landmarks or ()):
        points[k] = np.array([[p.x, p.y] for p in hand.landmark], np.float32) * size
    matte = person.process(frame).segmentation_mask
    return frame, (np.clip(matte, 0, 1) * 255).astype(np.uint8), points


if __name__ == "__main__":
    main()
