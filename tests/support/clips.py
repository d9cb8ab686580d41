"""Synthetic clips with every facet that the latents and shards stages read. Small and deterministic."""

from __future__ import annotations

import numpy as np

from schemas import facets as f
from schemas.base import BackendRef
from schemas.clock import SAMPLES_PER_FRAME
from schemas.rows import Clip
from stages.files import Files
from stages.kit import media
from tests.support.landmarks import whole

TOY = BackendRef(name="toy", version="1", licence="none")


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
    video = files.put_video(square_frames(total, height, width, seed=seed))
    frames = square_frames(total, height, width, hoi=True) if hoi_frames is None else hoi_frames
    hoi = files.put_video(frames)
    audio = _audio(files, total) if has_audio else None
    person = files.put_png(square_frames(1, height + 32, width, seed=seed)[0])
    product = files.put_png(np.full((40, 30, 3), (200, 30, 30), np.uint8))
    return Clip(
        clip_id=clip_id,
        source_id="0123456789abcdef",
        start_s=1.0,
        end_s=1.0 + num_target / 25,
        motion_start_s=max(0.0, 1.0 - num_motion / 25),
        media=f.MediaFacet(
            video=video,
            audio=audio,
            width_px=width,
            height_px=height,
            num_frames=total,
            num_motion_frames=num_motion,
            shot_index=0,
            shot_start_s=0,
            shot_end_s=9,
            detector=TOY,
            transform=f.ClipTransform(scale_x=1, scale_y=1, offset_x_px=0, offset_y_px=0),
        ),
        speech=f.SpeechFacet(
            has_audio=has_audio,
            loudness_lufs=-23 if has_audio else -120,
            peak_dbfs=-3,
            voiced_share=0.5,
            digital_silence_share=0,
            clipping_share=0,
            backend=TOY,
        ),
        detect=_detect(files, total, height, width),
        references=f.ReferencesFacet(
            person_image=person,
            product_image=product,
            person_frame=0,
            product_frame=0,
            filled_share=0.1,
            product_height_px=40,
            product_width_px=30,
            product_confidence=0.8,
            product_truncated=False,
            product_sharpness=50.0,
            backend=TOY,
        ),
        structure=_structure(files, hoi, total),
        caption=f.CaptionFacet(
            prompt=f"A person holds a red box number {seed}.",
            hoi_prompt="Black background, a body and a box.",
            backend=TOY,
        ),
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
    return f.DetectFacet(
        arrays=arrays,
        face_share=1,
        left_hand_share=1,
        right_hand_share=0,
        any_hand_share=1,
        pose_share=1,
        filled_share=0,
        multi_person_share=0,
        max_person_count=1,
        median_face_height_px=12,
        matte_area_share=0.3,
        backend=TOY,
    )


def _structure(files: Files, hoi, total: int) -> f.StructureFacet:
    arrays = files.put_arrays({"matte_iou": np.ones(total, np.float32)})
    return f.StructureFacet(
        video=hoi,
        arrays=arrays,
        style="toy",
        matte_iou=0.9,
        left_contact_share=1,
        right_contact_share=0,
        any_contact_share=1,
        num_contact_onsets=1,
        penetration=0,
        depth_conflict=0,
        object_cut_share=0,
        object_visible_share=1,
        body_visible_share=1,
        hand_visible_share=1,
        renderer=TOY,
    )
