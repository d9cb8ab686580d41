"""Which of the hands seen in a frame is the person's left, which the right, and which is nobody's.

All sightings are named together: wrists and elbows of the body, where each hand was last, and what the hand itself looks
like have their say, and no hand is counted twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from stages.kit.arrays import F32
from stages.kit.mediapipe_package import SeenHand

_SHOULDER, _ELBOW, _WRIST = (
    {"left": first, "right": first + 1} for first in (11, 13, 15)
)  # of the pose's 33 landmarks
_HIPS = [23, 24]
_SAME = 0.35
"""Two sightings whose middles are nearer than this many hand lengths are one hand."""
_MISSING = 1.3
"""What it costs to leave a side without a hand; a sighting that costs more is nobody's."""
_AGAINST, _MOVED = 0.6, 0.3
"""What a hand of the other chirality costs, and a shoulder width away from where it was last."""
_MIN_SIZE, _MAX_SIZE, _REACH = 0.12, 1.6, 2.6
"""Of shoulder widths: how long hands are in a picture, and how far they get from their shoulder."""


def distinct(seen: Sequence[SeenHand]) -> list[SeenHand]:
    """Each hand once: earlier sightings stay, later ones of the same place go."""
    out: list[SeenHand] = []
    for hand in seen:
        middle = hand.points_px[:, :2].mean(axis=0)
        if all(
            np.linalg.norm(middle - other.points_px[:, :2].mean(axis=0))
            > _SAME * 2 * max(hand.size_px, other.size_px)
            for other in out
        ):
            out.append(hand)
    return out


def name_hands(
    seen: Sequence[SeenHand], pose_px: F32, last_px: Mapping[str, F32 | None]
) -> dict[str, SeenHand]:
    """The cheapest naming: by side, at most one hand each.

    Args:
        seen: Distinct sightings.
        pose_px: (33,4) x, y, z, visibility.
        last_px: By side: where its wrist (2,) was lately, None where it was not seen.
    """
    width = body_width_px(pose_px)
    options = [None, *range(len(seen))]
    costs = {
        side: [_MISSING, *(_cost(hand, side, pose_px, last_px.get(side), width) for hand in seen)]
        for side in ("left", "right")
    }
    pairs = [(a, b) for a, b in itertools.product(options, options) if a is None or a != b]
    left, right = min(
        pairs,
        key=lambda p: sum(
            costs[side][0 if n is None else n + 1]
            for side, n in zip(("left", "right"), p, strict=True)
        ),
    )
    return {side: seen[n] for side, n in (("left", left), ("right", right)) if n is not None}


def body_width_px(pose_px: F32) -> float:
    """Shoulder width in pixels as seen from the front, also of a person (33,4) seen from the side."""
    shoulders = pose_px[list(_SHOULDER.values()), :2]
    across = float(np.linalg.norm(shoulders[0] - shoulders[1]))
    down = float(np.linalg.norm(shoulders.mean(axis=0) - pose_px[_HIPS, :2].mean(axis=0)))
    return max(across, 0.6 * down, 8.0)


def _cost(hand: SeenHand, side: str, pose_px: F32, last_px: F32 | None, width: float) -> float:
    wrist = hand.points_px[0, :2]
    shoulder, elbow = pose_px[_SHOULDER[side], :2], pose_px[_ELBOW[side], :2]
    if np.linalg.norm(wrist - shoulder) > _REACH * width:
        return np.inf
    if not _MIN_SIZE * width < 2 * hand.size_px < _MAX_SIZE * width:
        return np.inf
    body = pose_px[_WRIST[side]]
    # a wrist that is not seen is guessed: then the elbow says as much
    sure = float(np.clip(body[3], 0.2, 1.0))
    away = float(np.linalg.norm(wrist - body[:2])) / width
    arm = max(0.0, float(np.linalg.norm(wrist - elbow)) / width - 1.2)
    against = _AGAINST * max(0.0, -hand.chirality if side == "left" else hand.chirality)
    moved = 0.0 if last_px is None else _MOVED * float(np.linalg.norm(wrist - last_px)) / width
    return sure * away + arm + against + min(moved, 0.5)
