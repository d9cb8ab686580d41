"""One clip as the product search sees it: small frames, hands, arms, face, what stays still."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.kit.arrays import F32, Frames, Mask
from stages.kit.hands import Hand
from stages.kit.landmarks import Landmarks
from stages.product import cues

_NOSE = 0


@dataclass(frozen=True)
class Scene:
    """All coordinates in small pixels."""

    frames: Frames
    """(T,h,w,3) RGB."""
    lab: Frames
    grey: Frames
    hands: list[dict[int, Hand]]
    """Per frame: the hands that were seen, 0 left, 1 right."""
    faces: Mask
    """(T,h,w): hull of the face landmarks."""
    matte: Mask
    """(T,h,w): the person with what is held, holes closed."""
    still: Mask
    """(h,w): hardly changes over the clip."""
    arms_px: F32
    """(T,2,2,2): left and right arm, elbow and wrist, xy."""
    head_px: F32
    """(T,2): the nose, NaN where unseen."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the small frames."""
        return self.frames.shape[1], self.frames.shape[2]

    def hands_at(self, t: int) -> list[Hand]:
        """The hands that were seen in one frame."""
        return list(self.hands[t].values())

    def grasps(self, side: int) -> list[F32 | None]:
        """Where one hand holds things, relative to the head where that is seen."""
        return [
            hands[side].grasp_px - np.nan_to_num(head) if side in hands else None
            for hands, head in zip(self.hands, self.head_px, strict=True)
        ]


def load_scene(frames: Frames, landmarks: Landmarks, short_side_px: int) -> Scene:
    """Scale a clip (T,H,W,3) and what was detected in it down."""
    height, width = frames.shape[1:3]
    scale = min(1.0, short_side_px / min(height, width))
    size = (round(width * scale), round(height * scale))
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
    face_points = landmarks.face.points_px * scale
    pose = landmarks.pose_px[..., :2] * scale
    return Scene(
        frames=small,
        lab=np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2LAB) for f in small]),
        grey=np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in small]),
        hands=[
            {side: Hand.of(points * scale) for side, points in landmarks.hands_at(t).items()}
            for t in range(len(frames))
        ],
        faces=np.stack([cues.face_mask(p, small.shape[1:3]) for p in face_points]),
        matte=np.stack([_closed(m, size) for m in landmarks.matte(height, width)]),
        still=cues.static_background(small, 8),
        arms_px=pose[:, [[13, 15], [14, 16]]],
        head_px=pose[:, _NOSE],
    )


def _closed(matte: Mask, size: tuple[int, int]) -> Mask:
    """Small, and without the holes that labels and glass leave."""
    small = cv2.resize(matte.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    width = max(3, round(0.03 * min(size))) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    closed = cv2.morphologyEx((small > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    gaps, _ = cv2.findContours(closed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    limit = 0.01 * closed.size
    for gap in gaps:
        if cv2.contourArea(gap) < limit:
            cv2.drawContours(closed, [gap], -1, color=1, thickness=cv2.FILLED)
    return np.asarray(closed, bool)
