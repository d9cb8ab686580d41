"""Stage ``segment``: a source becomes clips of one shot each, on a 25 fps clock, in a few sizes."""

from __future__ import annotations

from typing import ClassVar

from schemas.backend import Resources
from schemas.base import FileRef
from schemas.clock import FPS
from schemas.facets import MediaFacet
from schemas.rows import Clip, SourceVideo
from stages.base import Dropped, Kept, Stage
from stages.files import Files
from stages.kit.arrays import F64, I64
from stages.kit.boxes import Box
from stages.kit.isolate import CHILD_REASONS
from stages.kit.spans import Span
from stages.source.audio_reader import AUDIO_REASONS
from stages.source.framing import Framing, choose_bucket, frame_in_bucket
from stages.source.segment_config import SegmentConfig
from stages.source.segment_passes import Scan, cut_windows, scan_source, window_name
from stages.source.shots import ShotDetector, shots
from stages.source.video_reader import READER_REASONS
from stages.source.windows import Window, WindowPlan, clip_id, shown_frames, tick_span, windows


class SegmentStage(Stage[SegmentConfig, SourceVideo, Clip]):
    """Finds shots, plans windows and writes each window's video and sound."""

    name = "segment"
    version = 4
    facet = ""
    config_type = SegmentConfig
    row_in = SourceVideo
    row_out = Clip
    needs: ClassVar[tuple[str, ...]] = ("probe",)
    reasons: ClassVar[frozenset[str]] = (
        READER_REASONS
        | AUDIO_REASONS
        | CHILD_REASONS
        | {"too_short", "too_small", "decode_unstable"}
    )

    def __init__(self, config: SegmentConfig) -> None:
        super().__init__(config)
        self._detector: ShotDetector = config.detector.build()
        self.backends = (self._detector,)

    @property
    def needed(self) -> Resources:
        """A decoder and an encoder of two threads, and a shot detector."""
        return Resources(num_cpus=1.0, memory_bytes=self.config.memory_bytes // 3)

    def process(self, row: SourceVideo, files: Files) -> Kept[Clip] | Dropped:
        """Emit one clip per window.

        Raises:
            DecodeError: The source cannot be read truthfully.
            ChildCrashError: The child process died or exceeded its budget.
        """
        path = files.source(row)
        salvage = row.probe is not None and row.probe.salvage
        scan = scan_source(path, files.scratch, self.config, self._detector.thumbnail_size, salvage)
        transitions = [*self._detector.transitions(scan.thumbnails), *scan.breaks]
        found = shots(len(scan.times_s), transitions, scan.times_s, self.config.max_gap_s)
        frame_of_tick = shown_frames(scan.times_s)
        spans = trimmed(found, frame_of_tick, scan.times_s, self.config.cut_margin_frames)
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
        cut_windows(path, scan, fitting, framings, frame_of_tick, self.config, salvage)
        return Kept(
            tuple(
                self._clip(row, files, scan, w, framings[w.shot_index], spans[w.shot_index])
                for w in fitting
            )
        )

    def _plan(self) -> WindowPlan:
        c = self.config
        return WindowPlan(
            c.num_frames, c.max_motion_frames, c.stride_frames, c.max_clips_per_source
        )

    def _framing(self, scan: Scan, shot: Span) -> Framing:
        """Decide a shot's crop and size."""
        inner = Box(0, 0, scan.width_px, scan.height_px)
        if self.config.crop_black_bars:
            inner = scan.inner_box(shot)
        ratio = scan.sample_aspect_ratio
        bucket = choose_bucket(inner.width * ratio, inner.height, self.config.buckets, 1.0)
        return frame_in_bucket(inner, ratio, bucket)

    def _clip(
        self,
        row: SourceVideo,
        files: Files,
        scan: Scan,
        window: Window,
        framing: Framing,
        shot: Span,
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
            start_s=window.start / FPS,
            end_s=window.stop / FPS,
            motion_start_s=window.motion_start / FPS,
            media=media,
        )


def trimmed(
    found: list[Span],
    frame_of_tick: I64,
    times_s: F64,
    margin: int,
) -> list[Span]:
    """Ticks of each shot, less the margin on those sides where a transition is."""
    spans = []
    for shot in found:
        ticks = tick_span(shot, frame_of_tick, times_s)
        head = margin if shot.start > 0 else 0
        tail = margin if shot.stop < len(times_s) else 0
        spans.append(Span(ticks.start + head, max(ticks.start + head, ticks.stop - tail)))
    return spans
