"""Stage ``segment``: a source becomes clips of one shot each, on a 25 fps clock, in a few sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from schemas.base import FileRef
from schemas.facets import MediaFacet
from schemas.rows import Clip, SourceVideo
from stages.audio_reader import AUDIO_REASONS
from stages.base import Dropped, GateConfig, Kept, Resources, Stage, StageConfig
from stages.borders import Profile, inner_box
from stages.files import Files
from stages.geometry import Box, Framing, choose_bucket, frame_in_bucket
from stages.isolate import CHILD_REASONS, ChildBudget, run_isolated
from stages.media import FPS
from stages.shots import ShotDetector, Span, shots
from stages.source_reader import READER_REASONS
from stages.windows import Window, WindowPlan, clip_id, nearest_frames, tick_span, windows

Bucket = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class SegmentGate(GateConfig):
    """Every window that fits is a clip: later stages judge it."""


class SegmentConfig(StageConfig):
    """How sources are cut.

    Args:
        detector: Shot detector. docs/stages.md has the comparison behind the default.
        transnetv2_threshold: Probability that counts as a transition.
        pyscenedetect_threshold: Ratio to the neighbourhood that counts as a cut.
        cut_margin_frames: Ticks given up on each side of a transition.
        max_gap_s: A longer hole in the frame times separates shots.
        num_frames: Target frames per clip, 1 + 4k.
        max_motion_frames: Context frames before the target at most; floored to 0 or 1 + 4m.
        stride_frames: Step between targets; below ``num_frames`` they overlap.
        max_clips_per_source: Keep an even spread of this many windows; None keeps all.
        buckets: (width, height) of clips, multiples of 16. The nearest aspect wins, then the largest
            that does not enlarge. Add (720, 1280) and (1280, 720) for 720p.
        max_upscale: Linear enlargement at most; smaller pictures are dropped as ``too_small``.
        crop_black_bars: Remove constant dark margins before choosing the bucket.
        crf: x264 quality of the clips.
        max_frame_pixels: See ``probe``.
        max_frames: See ``probe``.
        timeout_s: Wall clock of each of the two child processes.
        memory_bytes: Address space of the child process.
    """

    detector: Literal["transnetv2", "pyscenedetect"] = "transnetv2"
    transnetv2_threshold: float = Field(default=0.5, gt=0, lt=1)
    pyscenedetect_threshold: float = Field(default=3.0, gt=0)
    cut_margin_frames: int = Field(default=1, ge=0, le=25)
    max_gap_s: float = Field(default=0.5, gt=0)
    num_frames: int = Field(default=81, ge=5)
    max_motion_frames: int = Field(default=73, ge=0)
    stride_frames: int = Field(default=81, ge=1)
    max_clips_per_source: int | None = Field(default=None, ge=1)
    buckets: tuple[Bucket, ...] = ((480, 832), (832, 480), (624, 624))
    max_upscale: float = Field(default=1.5, ge=1)
    crop_black_bars: bool = True
    crf: int = Field(default=12, ge=0, le=40)
    max_frame_pixels: int = Field(default=4096 * 2304, gt=0)
    max_frames: int = Field(default=432_000, gt=0)
    timeout_s: float = Field(default=3600, gt=0)
    memory_bytes: int = Field(default=6_000_000_000, gt=0)
    gate: SegmentGate = SegmentGate()

    @field_validator("num_frames")
    @classmethod
    def _whole_latents(cls, value: int) -> int:
        if value % 4 != 1:
            raise ValueError(f"num_frames={value}; expected 1 + 4k, such as 81: latents cover 4 frames")
        return value

    @field_validator("buckets")
    @classmethod
    def _whole_patches(cls, value: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
        bad = [b for b in value if b[0] % 16 or b[1] % 16]
        if bad or not value:
            raise ValueError(f"buckets={value}; expected at least one, sides in multiples of 16")
        return value


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first pass found; arrays are memory-mapped."""

    folder: Path
    times_s: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]
    width_px: int
    height_px: int
    sample_aspect_ratio: float
    profile_frames: NDArray[np.int64]
    profiles: NDArray[np.uint8]
    has_audio: bool

    def inner_box(self, shot: Span) -> Box:
        """The picture of a shot without constant black bars."""
        first, last = np.searchsorted(self.profile_frames, [shot.start, shot.stop])
        first = max(0, min(int(first), len(self.profiles) - 1))
        rows, columns = self.height_px, self.width_px
        bounds = np.cumsum([rows, rows, columns])
        chosen = self.profiles[first : max(first + 1, int(last))]
        return inner_box([Profile(*np.split(p, bounds)) for p in chosen])


class SegmentStage(Stage[SegmentConfig, SourceVideo, Clip]):
    """Finds shots, plans windows and writes each window's video and sound."""

    name = "segment"
    facet = ""
    config_type = SegmentConfig
    row_in = SourceVideo
    row_out = Clip
    needs: ClassVar[tuple[str, ...]] = ("probe",)
    reasons: ClassVar[frozenset[str]] = (
        READER_REASONS | AUDIO_REASONS | CHILD_REASONS | {"too_short", "too_small", "decode_unstable"}
    )

    @property
    def resources(self) -> Resources:
        """A decoder and an encoder of two threads, and a shot detector."""
        return Resources(num_cpus=1.0, memory_bytes=self.config.memory_bytes // 3)

    @property
    def weights_sha256(self) -> str:
        """Digest of the shot detector's weights."""
        if self.config.detector == "pyscenedetect":
            return ""
        from stages.backends import transnetv2

        return transnetv2.weights_sha256()

    def check(self) -> None:
        """Check that the detector is installed.

        Raises:
            ConfigError: It is not; the message says what to install.
        """
        from stages.backends import pyscenedetect, transnetv2

        if self.config.detector == "transnetv2":
            transnetv2.weights_path()
        else:
            pyscenedetect.check()

    def setup(self) -> None:
        """Load the detector."""
        self._detector = build_detector(self.config)

    def process(self, row: SourceVideo, files: Files) -> Kept[Clip] | Dropped:
        """Emit one clip per window.

        Raises:
            DecodeError: The source cannot be read truthfully.
            ChildCrashError: The child process died or exceeded its budget.
        """
        path = files.source(row)
        scan = scan_source(path, files.scratch, self.config, self._detector.thumbnail_size)
        found = shots(
            len(scan.times_s), self._detector.transitions(scan.thumbnails), scan.times_s,
            self.config.max_gap_s,
        )  # fmt: skip
        frame_of_tick = nearest_frames(scan.times_s)
        spans = trimmed(found, frame_of_tick, len(scan.times_s), self.config.cut_margin_frames)
        planned = windows(spans, self._plan())
        if not planned:
            longest = max(map(len, spans), default=0)
            return Dropped(
                "too_short",
                f"{len(spans)} shots, the longest of {longest} frames at 25 fps; "
                f"a window needs {self.config.num_frames}",
            )
        framings = {w.shot_index: self._framing(scan, found[w.shot_index]) for w in planned}
        fitting = [w for w in planned if framings[w.shot_index].upscale <= self.config.max_upscale]
        if not fitting:
            upscale = min(f.upscale for f in framings.values())
            return Dropped(
                "too_small", f"needs {upscale:.2f}x enlargement, at most {self.config.max_upscale}"
            )
        cut_windows(path, scan, fitting, framings, frame_of_tick, self.config)
        return Kept(tuple(
            self._clip(row, files, scan, w, framings[w.shot_index], spans[w.shot_index])
            for w in fitting
        ))  # fmt: skip

    def _plan(self) -> WindowPlan:
        c = self.config
        return WindowPlan(c.num_frames, c.max_motion_frames, c.stride_frames, c.max_clips_per_source)

    def _framing(self, scan: Scan, shot: Span) -> Framing:
        """Decide a shot's crop and size."""
        inner = Box(0, 0, scan.width_px, scan.height_px)
        if self.config.crop_black_bars:
            inner = scan.inner_box(shot)
        ratio = scan.sample_aspect_ratio
        bucket = choose_bucket(inner.width * ratio, inner.height, self.config.buckets, 1.0)
        return frame_in_bucket(inner, ratio, bucket)

    def _clip(
        self, row: SourceVideo, files: Files, scan: Scan, window: Window, framing: Framing, shot: Span
    ) -> Clip:
        name = window_name(window)
        audio: FileRef | None = None
        if scan.has_audio:
            audio = files.put(scan.folder / f"{name}.wav")
        media = MediaFacet(
            video=files.put(scan.folder / f"{name}.mp4"),
            audio=audio,
            width_px=framing.width_px,
            height_px=framing.height_px,
            num_frames=window.num_frames,
            num_motion_frames=window.num_motion_frames,
            shot_index=window.shot_index,
            shot_start_s=shot.start / FPS,
            shot_end_s=shot.stop / FPS,
            transform=framing.transform,
            detector=self._detector.ref,
        )
        return Clip(
            clip_id=clip_id(row.content_sha256, window, self.fingerprint),
            source_id=row.row_id,
            source_uri=row.uri,
            start_s=window.start / FPS,
            end_s=window.stop / FPS,
            motion_start_s=window.motion_start / FPS,
            media=media,
        )


def build_detector(config: SegmentConfig) -> ShotDetector:
    """Build the configured detector."""
    if config.detector == "transnetv2":
        from stages.backends.transnetv2 import TransNetV2Detector

        return TransNetV2Detector(config.transnetv2_threshold)
    from stages.backends.pyscenedetect import PySceneDetectDetector

    return PySceneDetectDetector(config.pyscenedetect_threshold)


def scan_source(
    path: Path, folder: Path, config: SegmentConfig, thumbnail_size: tuple[int, int]
) -> Scan:
    """Run the first pass in a child process."""
    payload = _payload(path, folder, config) | {"thumbnail_size": thumbnail_size}
    found = run_isolated("stages.segment_worker:scan", payload, _budget(config))
    width, height = found["upright_size"]
    thumb_width, thumb_height = thumbnail_size
    thumbnails = np.memmap(folder / "thumbnails.u8", np.uint8, mode="r")
    profiles = np.fromfile(folder / "profiles.u8", np.uint8)
    return Scan(
        folder=folder,
        times_s=np.fromfile(folder / "times.f64", np.float64),
        thumbnails=thumbnails.reshape(-1, thumb_height, thumb_width, 3),
        width_px=width,
        height_px=height,
        sample_aspect_ratio=found["sample_aspect_ratio"],
        profile_frames=np.asarray(found["profile_frames"], np.int64),
        profiles=profiles.reshape(-1, 2 * (width + height)),
        has_audio=found["has_audio"],
    )


def trimmed(
    found: list[Span], frame_of_tick: NDArray[np.int64], num_frames: int, margin: int
) -> list[Span]:
    """Ticks of each shot, less the margin on those sides where a transition is."""
    spans = []
    for shot in found:
        ticks = tick_span(shot, frame_of_tick)
        head = margin if shot.start > 0 else 0
        tail = margin if shot.stop < num_frames else 0
        spans.append(Span(ticks.start + head, max(ticks.start + head, ticks.stop - tail)))
    return spans


def cut_windows(
    path: Path,
    scan: Scan,
    chosen: list[Window],
    framings: dict[int, Framing],
    frame_of_tick: NDArray[np.int64],
    config: SegmentConfig,
) -> None:
    """Run the second pass in a child process: writes the clips' files beside the scan."""
    jobs = []
    for window in chosen:
        framing = framings[window.shot_index]
        crop = framing.crop
        jobs.append({
            "name": window_name(window),
            "frames": frame_of_tick[window.motion_start : window.stop].tolist(),
            "crop": [crop.left, crop.top, crop.right, crop.bottom],
            "size": [framing.width_px, framing.height_px],
            "first_tick": window.motion_start,
        })  # fmt: skip
    payload = _payload(path, scan.folder, config)
    payload |= {"windows": jobs, "has_audio": scan.has_audio, "crf": config.crf}
    run_isolated("stages.segment_worker:cut", payload, _budget(config))


def window_name(window: Window) -> str:
    """File name of a window in scratch."""
    return f"clip-{window.start:08d}"


def _payload(path: Path, folder: Path, config: SegmentConfig) -> dict[str, Any]:
    return {
        "path": str(path),
        "folder": str(folder),
        "max_frame_pixels": config.max_frame_pixels,
        "max_frames": config.max_frames,
    }


def _budget(config: SegmentConfig) -> ChildBudget:
    return ChildBudget(config.timeout_s, config.memory_bytes)
