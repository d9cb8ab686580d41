"""How far the detector's landmarks lie from the rig's joints on studio clips: python benchmarks/landmarks.py

The source of ``ANNY_SEEN_AT`` in stages/body_models/rig.py. Seeds 1 to 4 only: published figures use seed 0.
Prints, per joint, the mean offset in metres (inward, up) and its spread over clips and sides.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import numpy as np

from curation.chain import build_chain
from curation.recipe import Recipe
from jobs.bench.accuracy import windows_of
from jobs.studio.generate import StudioClip, generate
from stages.base import Kept
from stages.body.detections import HEAD_M, MIN_VISIBILITY
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks, box_key

CLIPS = {
    1: ["clean", "put_down"],
    2: ["clean", "jar_both"],
    3: ["clean", "full_body"],
    4: ["box_left"],
}
JOINTS = {"upperarm01": 11, "lowerarm01": 13, "upperleg01": 23}
"""Rig joint and the pose landmark of the left side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studio", type=Path, default=Path("studio-calibration"))
    given = parser.parse_args()
    chain = build_chain(Recipe(name="landmarks", stages={}))
    for name in ("probe", "segment", "detect"):
        chain[name].setup()
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="handloom-landmarks-") as folder:
        files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
        for seed, names in CLIPS.items():
            for clip in generate(given.studio / str(seed), clips=names, seed=seed):
                for row in windows_of(chain, files, clip):
                    with files.row_scope():
                        done = chain["detect"].process(row, files)
                    if isinstance(done, Kept):
                        offsets_of(clip, done.rows[0], files, found)
    for joint, values in found.items():
        mean, spread = np.mean(values, 0) * HEAD_M, np.std(values, 0) * HEAD_M
        print(
            f"{joint:<12} inward {mean[0]:+.3f} +- {spread[0]:.3f} m, up {mean[1]:+.3f} +- {spread[1]:.3f} m"
        )


def offsets_of(clip: StudioClip, row, files: Files, found: dict[str, list[np.ndarray]]) -> None:
    """Append (inward, up) in head heights per joint and side."""
    truth = json.loads(clip.truth_json.read_text())
    with np.load(clip.truth_arrays, allow_pickle=False) as arrays:
        joints, face = arrays["joints_px"], arrays[box_key("face")]
    context = row.media.num_motion_frames
    first = round(row.motion_start_s * truth["fps"]) + context
    when = slice(first, first + row.media.num_frames - context)
    pose = Landmarks.read(files.arrays(row.detect.arrays)).pose_px[context:]
    head_px = 1.25 * np.nanmedian(face[when, 3] - face[when, 1])
    size = np.array([truth["width_px"], truth["height_px"]])
    for joint, landmark in JOINTS.items():
        for is_right in (False, True):
            true = joints[when, truth["joint_names"].index(f"{joint}.{'LR'[is_right]}")]
            seen = pose[:, landmark + is_right]
            counted = (seen[:, 3] >= MIN_VISIBILITY) & ((true >= 0) & (true < size)).all(-1)
            if counted.any():
                inward, down = ((seen[:, :2] - true) / head_px)[counted].mean(0)
                found[joint].append(np.array([inward if is_right else -inward, -down]))


if __name__ == "__main__":
    main()
