"""Synthetic clips with every facet that the latents and shards stages read. Small and deterministic."""

from __future__ import annotations

import numpy as np

from jobs.bench.rows import row_of
from schemas import facets as f
from schemas.base import FileRef, Model
from schemas.clock import SAMPLES_PER_FRAME
from schemas.rows import Clip
from stages.files import Files
from stages.kit import media
from tests.support.facets import (
    TOY,
    caption_facet,
    detect_facet,
    references_facet,
    silent_facet,
    speech_facet,
    structure_facet,
)
from tests.support.landmarks import whole


def square_frames(num_frames: int, height: int, width: int, *, hoi: bool = False, seed: int = 0):
    """A bright square that steps 2 pixels right per frame; on black, or on a smooth ramp."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    if not hoi:
        ramp = np.linspace(40, 120, width)[None, :] + np.linspace(0, 40, height)[:, None]
        frames[:] = (ramp + 7 * seed).astype(np.uint8)[None, :, :, None]
    for t in range(num_frames):
        x = square_x(t, width)
        frames[t, height // 4 : height // 4 + 16, x : x + 16] = (230, 216, 200)
        frames[t, 2:14, width // 2 : width // 2 + 14] = (240, 60, 20)  # the "face"
    return frames


def square_x(t: int, width: int) -> int:
    return (2 * t) % (width - 16)


def square_boxes(num_frames: int, height: int, width: int):
    x = np.array([square_x(t, width) for t in range(num_frames)], np.float32)
    y = np.full(num_frames, height // 4, np.float32)
    return np.stack([x, y, x + 16, y + 16], axis=1)


def make_clip(
    files: Files,
    clip_id: str = "clip0",
    *,
    num_target: int = 9,
    num_motion: int = 5,
    height: int = 64,
    width: int = 96,
    has_audio: bool = True,
    seed: int = 0,
    hoi_frames=None,
) -> Clip:
    """A clip of a moving square: RGB, HOI, boxes and a click track share one clock."""
    total = num_target + num_motion
    frames = square_frames(total, height, width, hoi=True) if hoi_frames is None else hoi_frames
    return clip_of(
        files,
        square_frames(total, height, width, seed=seed),
        clip_id=clip_id,
        num_motion=num_motion,
        audio=_audio(files, total) if has_audio else None,
        speech=speech_facet(voiced_share=0.5) if has_audio else silent_facet(),
        detect=_detect(files, total, height, width),
        references=references_facet(
            person_image=files.put_png(square_frames(1, height + 32, width, seed=seed)[0]),
            product_image=files.put_png(np.full((40, 30, 3), (200, 30, 30), np.uint8)),
        ),
        structure=structure_facet(
            video=files.put_video(frames),
            arrays=files.put_arrays({"matte_iou": np.ones(total, np.float32)}),
        ),
        caption=caption_facet(prompt=f"A person holds a red box number {seed}."),
    )


def clip_of(
    files: Files,
    frames,
    *,
    clip_id: str = "toy",
    num_motion: int = 0,
    audio: FileRef | None = None,
    **facets: Model,
) -> Clip:
    """A clip of these frames (T,H,W,3) u8, with these facets."""
    row = row_of(frames, files, clip_id, num_motion=num_motion)
    media_changes = {"audio": audio, "detector": TOY}
    return row.replace(
        source_id="0123456789abcdef", media=row.media.replace(**media_changes), **facets
    )


def _audio(files: Files, total: int):
    samples = np.zeros(total * SAMPLES_PER_FRAME, np.float32)
    samples[300::1920] = 0.5
    path = files.scratch / f"sound-{total}.wav"
    path.unlink(missing_ok=True)
    media.write_wav(path, samples)
    return files.put(path, ".wav")


def _detect(files: Files, total: int, height: int, width: int) -> f.DetectFacet:
    hand = square_boxes(total, height, width)
    face = np.tile(np.float32([width / 2, 2, width / 2 + 14, 14]), (total, 1))
    arrays = files.put_arrays(whole({"face_box_xyxy_px": face, "left_hand_box_xyxy_px": hand}))
    return detect_facet(arrays=arrays, right_hand_share=0, median_face_height_px=12)
