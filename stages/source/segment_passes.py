"""The parent's side of the two passes over a source: ``scan`` and ``cut`` of ``segment_worker``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.kit.arrays import F64, I64, U8, Frames
from stages.kit.borders import inner_box, unpack_profile
from stages.kit.boxes import Box
from stages.kit.isolate import ChildBudget, run_isolated
from stages.kit.spans import Span
from stages.source.framing import Framing
from stages.source.segment_config import SegmentConfig
from stages.source.windows import Window

_MAX_PROFILES = 60
"""Per shot: an even spread over a long one."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first pass found; arrays are memory-mapped."""

    folder: Path
    times_s: F64
    thumbnails: Frames
    width_px: int
    height_px: int
    sample_aspect_ratio: float
    profile_frames: I64
    profiles: U8
    has_audio: bool
    breaks: tuple[Span, ...] = ()
    """Where another recording begins in the same file."""

    def inner_box(self, shot: Span) -> Box:
        """The picture of a shot without bars."""
        first, last = np.searchsorted(self.profile_frames, [shot.start, shot.stop])
        first = max(0, min(int(first), len(self.profiles) - 1))
        chosen = self.profiles[first : max(first + 1, int(last))]
        chosen = chosen[:: max(1, len(chosen) // _MAX_PROFILES)]
        return inner_box([unpack_profile(p, self.height_px, self.width_px) for p in chosen])


def scan_source(
    path: Path,
    folder: Path,
    config: SegmentConfig,
    thumbnail_size: tuple[int, int],
    salvage: bool = False,
) -> Scan:
    """Run the first pass in a child process."""
    payload = _payload(path, folder, config, salvage) | {"thumbnail_size": thumbnail_size}
    found = run_isolated("stages.source.segment_worker:scan", payload, _budget(config))
    width, height = found["upright_size"]
    thumb_width, thumb_height = thumbnail_size
    thumbnails = np.memmap(folder / "thumbnails.u8", np.uint8, mode="r")
    profiles = np.memmap(folder / "profiles.u8", np.uint8, mode="r")
    return Scan(
        folder=folder,
        times_s=np.fromfile(folder / "times.f64", np.float64),
        thumbnails=thumbnails.reshape(-1, thumb_height, thumb_width, 3),
        width_px=width,
        height_px=height,
        sample_aspect_ratio=found["sample_aspect_ratio"],
        profile_frames=np.asarray(found["profile_frames"], np.int64),
        profiles=profiles.reshape(len(found["profile_frames"]), -1),
        has_audio=found["has_audio"],
        breaks=tuple(Span(at, at) for at in found["breaks"]),
    )


def cut_windows(
    path: Path,
    scan: Scan,
    chosen: list[Window],
    framings: dict[int, Framing],
    frame_of_tick: I64,
    config: SegmentConfig,
    salvage: bool = False,
) -> None:
    """Run the second pass in a child process: writes the clips' files beside the scan."""
    jobs = []
    for window in chosen:
        framing = framings[window.shot_index]
        crop = framing.crop
        jobs.append(
            {
                "name": window_name(window),
                "frames": frame_of_tick[window.motion_start : window.stop].tolist(),
                "crop": [crop.left, crop.top, crop.right, crop.bottom],
                "size": [framing.width_px, framing.height_px],
                "first_tick": window.motion_start,
            }
        )
    payload = _payload(path, scan.folder, config, salvage)
    payload |= {"windows": jobs, "has_audio": scan.has_audio, "crf": config.crf}
    run_isolated("stages.source.segment_worker:cut", payload, _budget(config))


def window_name(window: Window) -> str:
    """File name of a window in scratch."""
    return f"clip-{window.start:08d}"


def _payload(path: Path, folder: Path, config: SegmentConfig, salvage: bool) -> dict[str, Any]:
    return {
        "path": str(path),
        "folder": str(folder),
        "max_frame_pixels": config.max_frame_pixels,
        "max_frames": config.max_frames,
        "salvage": salvage,
    }


def _budget(config: SegmentConfig) -> ChildBudget:
    return ChildBudget(config.timeout_s, config.memory_bytes)
