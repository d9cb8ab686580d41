"""Both hands of a clip, frame by frame, out of the arrays of its ``boxes`` facet."""

from __future__ import annotations

import numpy as np

from stages.kit.arrays import F32, Arrays, Flags, Mask
from stages.kit.hands import Hand, broad_hands

SIDES = ("left", "right")


def landmarks_at(boxes: Arrays, t: int) -> dict[int, F32]:
    """Landmarks (21,2) in pixels of the hands that are seen in a frame, 0 left, 1 right."""
    points = (boxes[f"{side}_hand_landmarks_px"][t, :, :2] for side in SIDES)
    return {side: one for side, one in enumerate(points) if np.isfinite(one).all()}


def hands_of(boxes: Arrays) -> list[dict[int, F32]]:
    """Per frame the landmarks (21,2) in pixels of the hands that were seen, 0 left, 1 right."""
    return [landmarks_at(boxes, t) for t in range(len(boxes["left_hand_landmarks_px"]))]


def is_seen_by_side(boxes: Arrays) -> Flags:
    """(T,2) the left, the right hand is seen."""
    points = (boxes[f"{side}_hand_landmarks_px"][..., :2] for side in SIDES)
    return np.stack([is_seen(one) for one in points], axis=1)


def fingers_at(boxes: Arrays, t: int, shape: tuple[int, ...], width_hands: float) -> Mask:
    """Both hands in a frame (H,W), their bones grown by ``width_hands`` hand lengths in all."""
    hands = [Hand.of(points) for points in landmarks_at(boxes, t).values()]
    return broad_hands(hands, (shape[0], shape[1]), width_hands)


def hand_boxes_at(boxes: Arrays, t: int, shape: tuple[int, ...], margin: float = 0.0) -> Mask:
    """Boxes of both hands in a frame (H,W), grown on every side by ``margin`` times their longer side."""
    out = np.zeros(shape[:2], bool)
    for side in SIDES:
        box = boxes[f"{side}_hand_box_xyxy_px"][t]
        if np.isfinite(box).all():
            grow = margin * max(box[2] - box[0], box[3] - box[1])
            x0, y0, x1, y1 = (max(0, int(v)) for v in (*(box[:2] - grow), *(box[2:] + grow)))
            out[y0:y1, x0:x1] = True
    return out


def is_seen(track: F32) -> Flags:
    """True for frames (T,) whose every value is finite."""
    return np.asarray(np.isfinite(track.reshape(len(track), -1)).all(axis=1))
