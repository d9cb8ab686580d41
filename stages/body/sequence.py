"""A recorded body, one result a frame, made fit to draw: one camera, no gaps, smooth over time.

Results come in the axes of images (x right, y down, z away) and leave in those of the renderer (x right, y up,
looking along -z). Every frame may have its own lens: it is solved from the result's own 3D and 2D keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelOutputError
from stages.body.detections import MIN_VISIBILITY, Detections
from stages.body.solve import Pinhole
from stages.body_models.mesh_parts import HEAD, LEFT_HAND, RIGHT_HAND, Cut, label_parts
from stages.body_models.sam3d_results import FrameResult
from stages.kit.arrays import F32, F64, I32, I64, U8, Mask

MAX_LENS_ERROR_PX = 2.0
"""Keypoints of a result agree with one pinhole to a thousandth of a pixel; this is another picture's."""
_TO_RENDERER = np.array([1.0, -1.0, -1.0])
_HIPS = [9, 10]
_NECK, _EARS, _FACE = 69, [3, 4], list(range(5))
_ELBOW, _WRIST = {"L": 7, "R": 8}, {"L": 62, "R": 41}
_HAND = {"L": 42, "R": 21}
"""First of a hand's twenty finger points: five fingers of tip, two joints, knuckle."""
HAND_POINTS = {
    side: [_WRIST[side], *(_HAND[side] + 4 * f + i for f in range(5) for i in (3, 2, 1, 0))]
    for side in ("L", "R")
}
"""The 21 hand landmarks in the detector's order."""
POSE_POINTS = {
    0: 0, 2: 1, 5: 2, 7: 3, 8: 4, 11: 5, 12: 6, 13: 7, 14: 8, 15: 62, 16: 41, 23: 9, 24: 10,
    25: 11, 26: 12, 27: 13, 28: 14,
}  # fmt: skip
"""The detector's pose landmark: keypoint of the result."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A clip's body: what is drawn and what is scored."""

    vertices_m: NDArray[np.float16]
    """(T,V,3) relative to the root (between the hips), renderer's axes. Half a millimetre is exact enough."""
    translation_m: F32
    """(T,3) the root."""
    faces: I32
    """(F,3)."""
    part_labels: U8
    """(V,) 0 body, 1 left hand, 2 right hand, 3 head."""
    camera: Pinhole
    is_valid: Mask
    """(T,) False where the frame had no result and was interpolated."""
    joints_px: F32
    """(T,70,2) keypoints."""
    body_error_head: F64
    """(T,17) distance to the detector's landmarks in head heights, NaN where it saw none."""
    hand_error_head: F64
    """(T,42) left then right, likewise."""


def record(
    results: Sequence[FrameResult | None],
    faces: I32,
    seen: Detections,
    max_gap_frames: int,
    smooth_frames: int,
) -> Recorded | None:
    """Bring a clip's results together; None where a gap is longer than ``max_gap_frames``.

    Args:
        results: Per frame, None where there is none.
        faces: (F,3) of the mesh.
        seen: The detector's landmarks, for the errors.
        max_gap_frames: Shorter gaps are interpolated.
        smooth_frames: Window of the smoothing, odd; 1 for none.

    Raises:
        ModelOutputError: ``bad_result`` if faces and vertices do not belong together, or a result's 3D and 2D
            keypoints do not.
    """
    at = np.array([t for t, result in enumerate(results) if result is not None])
    if longest_gap(at, len(results)) > max_gap_frames:
        return None
    there = [result for result in results if result is not None]
    if faces.max() >= len(there[0].vertices_m):
        raise ModelOutputError(
            "bad_result", f"faces name vertex {faces.max()} of {len(there[0].vertices_m)}"
        )
    roots = np.stack([r.keypoints_m[_HIPS].mean(0) for r in there])
    shapes: Any = np.stack([r.vertices_m for r in there]) - roots[:, None].astype(np.float32)
    points = np.stack([r.keypoints_m for r in there]) - roots[:, None]
    labels = label_parts(shapes[0], faces, cuts_of(points[0]))
    camera, places = one_camera(there, roots)
    places = smooth_places(fill(places, at, len(results)), smooth_frames)
    shapes = smooth(fill(shapes, at, len(results)), smooth_frames)
    points = smooth(fill(points, at, len(results)), smooth_frames) + places[:, None]
    pixels = points[..., :2] / points[..., 2:] * camera.focal_px + camera.principal_px
    body, hands = errors(pixels, seen)
    return Recorded(
        (shapes * _TO_RENDERER).astype(np.float16),
        (places * _TO_RENDERER).astype(np.float32),
        faces, labels, camera,
        np.isin(np.arange(len(results)), at),
        pixels.astype(np.float32), body, hands,
    )  # fmt: skip


def longest_gap(at: I64, num_frames: int) -> int:
    """Frames in the longest run without a result, both ends counted.

    >>> longest_gap(np.array([1, 2, 6]), 8), longest_gap(np.array([], int), 8)
    (3, 8)
    """
    edges = [-1, *at.tolist(), num_frames]
    return max(after - before - 1 for before, after in pairwise(edges))


def cuts_of(keypoints: F64) -> list[Cut]:
    """Where hands and head begin, from keypoints (70,3)."""
    cuts = []
    for label, side in ((LEFT_HAND, "L"), (RIGHT_HAND, "R")):
        wrist, first = keypoints[_WRIST[side]], _HAND[side]
        palm = float(
            np.linalg.norm(wrist - keypoints[first + 11])
        )  # to the middle finger's knuckle
        fingers = keypoints[first : first + 20]
        cuts.append(Cut(label, wrist, keypoints[_ELBOW[side]], fingers, 0.7 * palm))
    up = keypoints[_EARS].mean(0) - keypoints[_NECK]
    below, middle = keypoints[_NECK] - up, keypoints[_NECK] + 0.3 * up
    cuts.append(Cut(HEAD, middle, below, keypoints[_FACE], float(np.linalg.norm(up))))
    return cuts


def solve_lens(result: FrameResult) -> tuple[float, F64]:
    """Focal length and principal point (2,) in pixels that map a result's 3D keypoints to its 2D ones.

    Raises:
        ModelOutputError: ``bad_result`` if no pinhole does.
    """
    points = result.keypoints_m + result.camera_t_m
    slopes = points[:, :2] / points[:, 2:]
    count = len(slopes)
    system = np.zeros((2 * count, 3))
    system[:, 0] = slopes.T.reshape(-1)
    system[:count, 1] = system[count:, 2] = 1.0
    wanted = result.keypoints_px.T.reshape(-1)
    if result.focal_px is None:
        solution = np.linalg.lstsq(system, wanted, rcond=None)[0]
    else:
        centre = (result.keypoints_px - result.focal_px * slopes).mean(0)
        solution = np.array([result.focal_px, *centre])
    error = float(np.abs(system @ solution - wanted).max())
    if not (error <= MAX_LENS_ERROR_PX and solution[0] > 0):
        raise ModelOutputError(
            "bad_result",
            f"3D and 2D keypoints differ by {error:.1f} px with a focal length of {solution[0]:.0f} px",
        )
    return float(solution[0]), np.asarray(solution[1:], np.float64)


def one_camera(results: Sequence[FrameResult], roots: F64) -> tuple[Pinhole, F64]:
    """The clip's median lens, and roots (N,3) moved so that each frame looks as it did through its own.

    A longer lens and a body as much farther away give the same size; the root stays at its pixel.
    """
    lenses = [solve_lens(result) for result in results]
    focals, centres = np.array([f for f, _ in lenses]), np.stack([c for _, c in lenses])
    focal, centre = float(np.median(focals)), np.median(centres, 0)
    places = roots + np.stack([r.camera_t_m for r in results])
    depth = places[:, 2:] * (focal / focals)[:, None]
    pixels = focals[:, None] * places[:, :2] / places[:, 2:] + centres
    moved = np.concatenate([(pixels - centre) / focal * depth, depth], 1)
    return Pinhole(focal, (float(centre[0]), float(centre[1]))), moved


def fill(track: NDArray[np.floating], at: I64, num_frames: int) -> F64:
    """Interpolate between results (N,...) at frames ``at``; the ends hold the nearest: (T,...)."""
    frames = np.arange(num_frames)
    after = np.clip(np.searchsorted(at, frames), 0, len(at) - 1)
    before = np.clip(np.searchsorted(at, frames, "right") - 1, 0, len(at) - 1)
    span = np.maximum(at[after] - at[before], 1)
    weight = np.clip((frames - at[before]) / span, 0, 1).astype(track.dtype)
    weight = weight.reshape(-1, *[1] * (track.ndim - 1))
    return np.asarray(track[before] * (1 - weight) + track[after] * weight)


def smooth(track: F64, window: int) -> F64:
    """Quadratic Savitzky-Golay over (T,...); as it is where the clip is shorter than the window."""
    if window < 5 or len(track) < window:
        return track
    from scipy.signal import savgol_filter

    return np.asarray(savgol_filter(track, window, 2, axis=0, mode="interp"))


def smooth_places(places: F64, window: int) -> F64:
    """Smooth roots (T,3): across the picture as ``smooth``, in depth over twice the window.

    A single picture says little about distance, so that depth jumps where the pixel hardly moves; both are
    smoothed apart.
    """
    if window < 5:
        return places
    from scipy.signal import medfilt

    slopes = smooth(places[:, :2] / places[:, 2:], window)
    depth = places[:, 2]
    if len(depth) > 5:
        depth = np.concatenate([depth[:2], medfilt(depth, 5)[2:-2], depth[-2:]])
    depth = np.exp(smooth(np.log(depth), 2 * window + 1))
    return np.concatenate([slopes * depth[:, None], depth[:, None]], 1)


def errors(pixels: F64, seen: Detections) -> tuple[F64, F64]:
    """Distances (T,17) and (T,42) of keypoints (T,70,2) to the detector's, in head heights; NaN unseen."""
    landmarks, keypoints = list(POSE_POINTS), list(POSE_POINTS.values())
    body = np.linalg.norm(pixels[:, keypoints] - seen.pose_px[:, landmarks], axis=-1)
    body = np.where(seen.visibility[:, landmarks] >= MIN_VISIBILITY, body, np.nan)
    hands = [
        np.linalg.norm(pixels[:, HAND_POINTS[s]] - seen.hand_px[s], axis=-1) for s in ("L", "R")
    ]
    scale = max(seen.head_px, 1.0)
    return body / scale, np.concatenate(hands, 1) / scale
