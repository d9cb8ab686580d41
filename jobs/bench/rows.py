"""Frames that come from no source, as rows that the stages take."""

from __future__ import annotations

from schemas import facets as f
from schemas.base import BackendRef
from schemas.clock import FPS
from schemas.rows import Clip
from stages.files import Files
from stages.kit.arrays import Frames

_NO_STAGE = BackendRef(name="benchmark", version="1", licence="none")


def row_of(frames: Frames, files: Files, clip_id: str, *, num_motion: int = 0) -> Clip:
    """The row that segment would give.

    Args:
        frames: (T,H,W,3) RGB, motion context first.
        files: Takes the video; open.
        clip_id: Name of the row.
        num_motion: So many of the frames are context.
    """
    length, height, width = frames.shape[:3]
    return Clip(
        clip_id=clip_id,
        source_id="0" * 16,
        start_s=num_motion / FPS,
        end_s=length / FPS,
        motion_start_s=0,
        media=f.MediaFacet(
            video=files.put_video(frames),
            audio=None,
            width_px=width,
            height_px=height,
            num_frames=length,
            num_motion_frames=num_motion,
            shot_index=0,
            shot_start_s=0,
            shot_end_s=length / FPS,
            detector=_NO_STAGE,
            transform=f.ClipTransform(scale_x=1, scale_y=1, offset_x_px=0, offset_y_px=0),
        ),
    )
