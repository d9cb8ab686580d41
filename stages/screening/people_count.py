"""How many people are in a frame? Faces, and a second body found once the first is painted over.

A second body is believed by its own silhouette: the pose model draws the outline of the person it has found, and
that outline must lie outside the first one's and be of a comparable size. What is left of a painted person
(a sleeve, hair, a hand) makes the model imagine a body in the same place, with an outline inside the first.
Faces may be blurred or turned away; a face on a package is small and inside the first person's matte.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from stages.kit.arrays import Array, Frames, Mask

_NOSE, _SHOULDERS = 0, (11, 12)
_GROWN = 0.03
"""The first person is painted this much wider, as a share of the longer side."""
_MIN_OUTSIDE, _MIN_SIZE = 0.8, 0.15
"""Of the second silhouette: the share outside the first, and its area as a share of the first's."""
_MIN_VISIBILITY = 0.8
_MIN_FACE_SIZE = 0.5
"""A face inside the first person's matte is another's if its side is at least this share of the main one's."""
_GREY = 127


class PeopleCounter:
    """Counts with mediapipe's short-and-full-range face detector and its pose model.

    Args:
        solutions: ``mediapipe.solutions``.
    """

    def __init__(self, solutions: Any) -> None:
        self._faces = solutions.face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=0.5
        )
        self._pose = solutions.pose.Pose(
            static_image_mode=True,
            model_complexity=1,
            enable_segmentation=True,
            min_detection_confidence=0.5,
        )

    def close(self) -> None:
        """Free the graphs."""
        self._faces.close()
        self._pose.close()

    def count(self, frame: Frames, matte: Mask) -> tuple[int, float]:
        """People in a frame (H,W,3), and the best face's score (NaN without a face).

        Args:
            frame: RGB.
            matte: (H,W) the main person's silhouette; empty where none was found.
        """
        height, width = matte.shape
        found = self._faces.process(frame).detections or []
        boxes = [d.location_data.relative_bounding_box for d in found]
        edges = np.array([(b.xmin, b.ymin, b.width, b.height) for b in boxes]).reshape(-1, 4)
        scores = [float(d.score[0]) for d in found]
        count = count_faces(edges * (width, height, width, height), scores, matte)
        if matte.any() and count < 2:
            count = 2 if self._has_second_body(frame, matte) else 1
        return count, max(scores, default=float("nan"))

    def _has_second_body(self, frame: Frames, matte: Mask) -> bool:
        first = grow(matte, _GROWN)
        painted = frame.copy()
        painted[first] = _GREY
        second = self._pose.process(painted)
        if second.pose_landmarks is None or second.segmentation_mask is None:
            return False
        visibility = np.array([p.visibility for p in second.pose_landmarks.landmark])
        if visibility[[_NOSE, *_SHOULDERS]].min() < _MIN_VISIBILITY:
            return False
        return is_other_person(second.segmentation_mask > 0.5, matte, first)


def grow(mask: Mask, share: float) -> Mask:
    """Dilate (H,W) by a share of the longer side in all."""
    width = max(3, int(share * max(mask.shape))) | 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8)), bool)


def is_other_person(second: Mask, first: Mask, first_grown: Mask) -> bool:
    """True if a silhouette (H,W) is somebody beside the first person, not what is left of that one."""
    area = int(second.sum())
    if area < _MIN_SIZE * int(first.sum()):
        return False
    return bool((second & ~first_grown).sum() >= _MIN_OUTSIDE * area)


def count_faces(boxes_xywh_px: Array, scores: list[float], matte: Mask) -> int:
    """Faces (N,4) that are people's: the surest one, those outside its matte, and those of like size.

    >>> matte = np.ones((100, 100), bool)
    >>> boxes = np.array([[40, 10, 20, 20], [60, 60, 6, 6], [5, 5, 18, 18]])
    >>> count_faces(boxes, [0.9, 0.7, 0.8], matte)  # the small one is printed on a package
    2
    """
    if not scores:
        return 0
    main = boxes_xywh_px[int(np.argmax(scores))]
    height, width = matte.shape
    count = 0
    for box in boxes_xywh_px:
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        inside = 0 <= x < width and 0 <= y < height and bool(matte[int(y), int(x)])
        count += int(not inside or max(box[2:]) >= _MIN_FACE_SIZE * max(main[2:]))
    return count
