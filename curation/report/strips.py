"""Pictures of a kept clip: frames over time as RGB, mask and boxes, and HOI; and a small video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from schemas.base import Model
from schemas.rows import Clip
from stages.files import Blobs
from stages.kit import media
from stages.kit.arrays import Arrays, Frames
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks

Earlier = Callable[[str, Path], bool]
_VERSION = 1
"""Of the looks of the pictures: raised, they are made again."""
_NUM_FRAMES, _THUMB_HEIGHT = 8, 208
_BOX_COLOURS = {"face": (250, 210, 60), "left_hand": (80, 220, 120), "right_hand": (240, 90, 90)}
_MASK_COLOUR = (230, 60, 220)


def write_strip(
    clip: Clip, blobs: Blobs, folder: Path, earlier: Earlier = lambda name, path: False
) -> dict[str, str]:
    """Write the pictures of a clip and its small video, or take those of an earlier report.

    Args:
        clip: A clip that came through.
        blobs: Its files.
        folder: Where to write.
        earlier: Puts the file of that name of an earlier report at the path, if there is one. Names tell what
            pictures were made from.

    Returns:
        File names by what they show.
    """
    assert clip.structure is not None
    names = _names(clip)
    if all(earlier(name, folder / name) for name in names.values()):
        return names
    rgb = media.read_video(blobs.fetch(clip.media.video))
    hoi = media.read_video(blobs.fetch(clip.structure.video))
    marked = mark(rgb, clip, blobs)
    picks = np.linspace(0, len(rgb) - 1, _NUM_FRAMES).astype(int)
    rows = [np.hstack([_thumb(stream[t]) for t in picks]) for stream in (rgb, marked, hoi)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / names["strip"]), sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])
    side_by_side = np.stack(
        [
            np.hstack([_half(a), _half(b), _half(c)])
            for a, b, c in zip(rgb, marked, hoi, strict=True)
        ]
    )
    video = folder / names["video"]
    video.unlink(missing_ok=True)
    media.write_video(video, side_by_side, crf=27)
    _write_references(clip, blobs, folder, names)
    return names


def _names(clip: Clip) -> dict[str, str]:
    """File names that change with anything the pictures are made from."""
    assert clip.structure is not None
    parts: list[Model] = [clip.media.video, clip.structure.video]
    parts += [clip.objects.arrays] if clip.objects else []
    parts += [clip.detect.arrays] if clip.detect else []
    kinds = ("person", "product") if clip.references else ()
    parts += [getattr(clip.references, f"{kind}_image") for kind in kinds]
    text = f"{_VERSION}" + "".join(part.model_dump_json() for part in parts)
    stem = f"{clip.clip_id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    names = {"strip": f"{stem}.jpg", "video": f"{stem}.mp4"}
    return names | {kind: f"{stem}-{kind}.jpg" for kind in kinds}


def mark(rgb: Frames, clip: Clip, blobs: Blobs) -> Frames:
    """Tint the product and draw boxes on copies of the frames."""
    return draw_boxes(tint_product(rgb, clip, blobs), clip, blobs)


def tint_product(rgb: Frames, clip: Clip, blobs: Blobs) -> Frames:
    """Tint the product on copies of the frames (T,H,W,3)."""
    out = rgb.copy()
    if clip.objects is not None:
        arrays = media_arrays(blobs, clip.objects.arrays)
        masks = decode_masks(arrays, "mask", *rgb.shape[1:3])
        out[masks] = (0.45 * out[masks] + 0.55 * np.array(_MASK_COLOUR)).astype(np.uint8)
    return out


def draw_boxes(rgb: Frames, clip: Clip, blobs: Blobs) -> Frames:
    """Draw face and hand boxes on copies of the frames (T,H,W,3)."""
    out = rgb.copy()
    if clip.detect is not None:
        landmarks = Landmarks.read(media_arrays(blobs, clip.detect.arrays))
        for part, track in landmarks.parts.items():
            for frame, box in zip(out, track.box_xyxy_px, strict=True):
                if np.isfinite(box).all():
                    x0, y0, x1, y1 = (int(v) for v in box)
                    cv2.rectangle(frame, (x0, y0), (x1, y1), _BOX_COLOURS[part], 3)
    return out


def media_arrays(blobs: Blobs, ref: object) -> Arrays:
    """Read one arrays file."""
    from safetensors.numpy import load_file

    return dict(load_file(blobs.fetch(ref)))  # type: ignore[arg-type]


def _write_references(clip: Clip, blobs: Blobs, folder: Path, names: Mapping[str, str]) -> None:
    for kind in ("person", "product") if clip.references else ():
        image = media.read_png(blobs.fetch(getattr(clip.references, f"{kind}_image")))
        small = cv2.cvtColor(_thumb(image[..., :3]), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / names[kind]), small)


def _thumb(image: Frames) -> Frames:
    width = round(image.shape[1] * _THUMB_HEIGHT / image.shape[0])
    return np.asarray(
        cv2.resize(image, (width, _THUMB_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8
    )


def _half(image: Frames) -> Frames:
    height, width = (side // 4 * 2 for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
