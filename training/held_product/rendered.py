"""Frames of rendered people who hold an object or nothing, with the truth: nothing in them is pasted.

    python -m training.held_product.rendered --work WORK [--clips 260] [--minutes 18]

Writes ``WORK/rendered/<split>/<clip>-<frame>``: ``.jpg`` the picture, ``.png`` what each pixel shows
(``jobs.studio.drawing.CODES``), ``.npz`` ``hands_px`` (2,21,2), ``holds`` (2,) and ``object_key``. Goes on where it was
stopped; objects of the two splits are disjoint, as everywhere.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jobs.studio.catalogue import Object3D, find_objects
from jobs.studio.frames import Frame, iter_frames

_FRAMES_A_CLIP, _EMPTY_SHARE = 5, 0.25
_VALIDATION_SHARE = 0.1
_SEED = 100


def main() -> None:
    """Render what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=260)
    parser.add_argument("--minutes", type=float, default=18)
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    objects = [o for o in find_objects() if o.is_hand_sized]
    counts = {"validation": int(_VALIDATION_SHARE * given.clips), "training": given.clips}
    for split, num_clips in counts.items():
        mine = [o for o in objects if o.is_validation == (split == "validation")]
        folder = given.work / "rendered" / split
        folder.mkdir(parents=True, exist_ok=True)
        for clip in range(num_clips):
            if time.monotonic() > deadline:
                return
            if not (folder / f"{clip:04}-{_FRAMES_A_CLIP - 1}.npz").exists():
                _render(folder, clip, mine, seed=_SEED + clip + (split == "validation") * 100_000)
    print(f"{len(list((given.work / 'rendered').glob('*/*.npz')))} frames")


def _render(folder: Path, clip: int, objects: Sequence[Object3D], seed: int) -> None:
    frames = iter_frames(objects, seed, 1, _FRAMES_A_CLIP, empty_share=_EMPTY_SHARE)
    for index, frame in enumerate(frames):
        _write(folder / f"{clip:04}-{index}", frame)


def _write(stem: Path, frame: Frame) -> None:
    """The arrays last: who sees them finds the pictures too."""
    cv2.imwrite(str(stem.with_suffix(".jpg")), frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    cv2.imwrite(str(stem.with_suffix(".png")), frame.shows)
    np.savez(
        stem.with_suffix(".npz"),
        hands_px=frame.hands_px,
        holds=frame.holds,
        object_key=frame.object_key,
    )


if __name__ == "__main__":
    main()
