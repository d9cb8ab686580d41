"""A synthetic clip: a person of flat shapes whose right hand sways, holding a textured box or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from schemas.rows import Clip
from stages.files import Files
from stages.kit.landmarks import Landmarks
from stages.kit.masks import encode_masks
from tests.support import clips
from tests.support.facets import detect_facet, objects_facet
from tests.support.landmarks import unseen

SKIN, SHIRT, HAIR = (224, 178, 150), (60, 70, 120), (60, 40, 30)
HEIGHT, WIDTH = 416, 240
# a relaxed hand, fingers up, in units of its length; wrist at the origin
_HAND = np.array([
    (0, 0), (.2, -.1), (.33, -.25), (.4, -.38), (.45, -.5), (.15, -.45), (.18, -.65), (.19, -.8), (.2, -.93),
    (.03, -.48), (.03, -.7), (.03, -.87), (.03, -1), (-.08, -.45), (-.1, -.65), (-.11, -.8), (-.12, -.92),
    (-.18, -.4), (-.22, -.55), (-.25, -.66), (-.27, -.77),
], np.float32)  # fmt: skip


@dataclass
class HeldScene:
    frames: np.ndarray
    truth: np.ndarray
    arrays: dict[str, np.ndarray]
    """What a perfect ``detect`` would store."""

    @property
    def landmarks(self) -> Landmarks:
        return Landmarks.read(self.arrays)


def render(num_frames: int = 40, *, holds: bool = True, colour=(200, 40, 60)) -> HeldScene:
    rng = np.random.default_rng(0)
    room = cv2.GaussianBlur(rng.uniform(90, 200, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 2)
    label = rng.uniform(-45, 45, (64, 48, 1)).astype(np.float32)
    label = cv2.GaussianBlur(label, (0, 0), 1.2)[..., None] * 3
    product = np.clip(np.array(colour, np.float32) + label, 0, 255)
    frames = np.zeros((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    truth = np.zeros(frames.shape[:3], bool)
    arrays = unseen(num_frames)
    mattes = np.zeros(truth.shape, bool)
    for t in range(num_frames):
        picture = room.astype(np.uint8)
        cv2.ellipse(picture, (120, 400), (95, 190), 0, 180, 360, SHIRT, -1)
        cv2.ellipse(picture, (120, 110), (45, 58), 0, 0, 360, HAIR, -1)
        cv2.ellipse(picture, (120, 115), (34, 46), 0, 0, 360, SKIN, -1)
        wrist = np.array([95 + 26 * np.sin(t / 6), 300 + 14 * np.cos(t / 7)], np.float32)
        hand = wrist + 60 * _HAND
        if holds:
            x, y = int(wrist[0]) - 20, int(wrist[1]) - 90
            picture[y : y + 64, x : x + 48] = product.astype(np.uint8)
            truth[t, y : y + 64, x : x + 48] = True
        covered = draw_hand(picture, hand, behind=truth[t])
        truth[t] &= ~covered
        mattes[t] = (picture != room.astype(np.uint8)).any(
            axis=2
        )  # mediapipe's takes in what is held
        frames[t] = cv2.GaussianBlur(picture, (3, 3), 0)
        fill_arrays(arrays, t, hand)
    arrays |= encode_masks(mattes, "matte")
    return HeldScene(frames, truth, arrays)


def draw_hand(picture, hand, behind) -> np.ndarray:
    """Palm and thumb in front; the other fingers behind the product."""
    front = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(front, cv2.convexHull(hand[[0, 1, 5, 9, 13, 17]].astype(np.int32)), 1)
    cv2.polylines(front, [hand[[1, 2, 3, 4]].astype(np.int32)], False, 1, 9)
    back = np.zeros(picture.shape[:2], np.uint8)
    for finger in ((5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20)):
        cv2.polylines(back, [hand[list(finger)].astype(np.int32)], False, 1, 9)
    picture[(front > 0) | ((back > 0) & ~behind)] = SKIN
    return front > 0


def fill_arrays(arrays, t, hand) -> None:
    arrays["right_hand_landmarks_px"][t] = np.concatenate([hand, np.zeros((21, 1))], axis=1)
    low, high = hand.min(axis=0), hand.max(axis=0)
    arrays["right_hand_box_xyxy_px"][t] = [*np.maximum(low - 6, 0), *(high + 6)]
    angles = np.linspace(0, 2 * np.pi, 468)
    oval = np.stack([120 + 32 * np.cos(angles), 115 + 44 * np.sin(angles), 0 * angles], axis=1)
    oval[[33, 263, 1, 61, 291], :2] = (106, 100), (134, 100), (120, 115), (110, 136), (130, 136)
    oval[[234, 454, 4], :2] = (88, 115), (152, 115), (120, 115)
    arrays["face_landmarks_px"][t] = oval
    arrays["face_box_xyxy_px"][t] = 86, 69, 154, 161
    arrays["pose_landmarks_px"][t] = 0, 0, 0, 0
    arrays["pose_landmarks_px"][t, 0] = 120, 115, 0, 1
    arrays["pose_landmarks_px"][t, [11, 12]] = (180, 240, 0, 1), (60, 240, 0, 1)
    arrays["pose_landmarks_px"][t, [14, 16]] = (70, 380, 0, 1), (*hand[0], 0, 1)


def clip_of(scene: HeldScene, files: Files, num_motion: int = 5) -> Clip:
    detect = detect_facet(
        arrays=files.put_arrays(scene.arrays), left_hand_share=0, median_face_height_px=92
    )
    return clips.clip_of(files, scene.frames, num_motion=num_motion, detect=detect)


def with_objects(scene: HeldScene, files: Files, masks: np.ndarray | None = None, **arrays) -> Clip:
    """The scene's clip with these masks, or the true ones, as what stage objects found."""
    masks = scene.truth if masks is None else masks
    arrays |= {"confidence": np.full(len(masks), 0.8, np.float32), **encode_masks(masks, "mask")}
    facet = objects_facet(arrays=files.put_arrays(arrays))
    return clip_of(scene, files).with_facet("objects", facet)
