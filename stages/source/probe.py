"""Stage ``probe``: what a raw object really holds, or why it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.backend import Resources
from schemas.errors import DecodeError
from schemas.facets import ProbeFacet
from schemas.rows import SourceVideo
from schemas.settings import LIMIT
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.kit.isolate import CHILD_REASONS, ChildBudget, run_isolated
from stages.source.audio_reader import AUDIO_REASONS
from stages.source.containers import sniff_file
from stages.source.video_reader import READER_REASONS


class ProbeGate(GateConfig):
    """Which sources are worth cutting into clips.

    Args:
        min_duration_s: A window of 81 frames at 25 fps lasts 3.24 s.
        max_duration_s: Longer sources are refused; None allows all that ``max_frames`` allows.
        min_side_px: Shorter display side. Below 240 pixels hands have no fingers.
        min_fps: Slower sources would repeat most frames at 25 fps.
    """

    min_duration_s: float = Field(default=3.24, ge=0)
    max_duration_s: float | None = Field(default=None, gt=0)
    min_side_px: int = Field(default=240, ge=1)
    min_fps: float = Field(default=12.0, ge=0)


class ProbeConfig(StageConfig):
    """Budgets of reading a source.

    Args:
        max_bytes: Size of the object.
        max_frame_pixels: Width times height; the default admits 4096x2304.
        max_frames: Of the video stream; the default is four hours at 30 fps.
        timeout_s: Wall clock of the child process; a row that needs more is quarantined.
        memory_bytes: Address space of the child process.
        salvage: Use what is whole of sources that are damaged or unfinished (lost packets, a recorder that
            died), instead of refusing them; ``damaged_share`` says how much was left out.
    """

    max_bytes: Annotated[int, LIMIT] = Field(default=20_000_000_000, gt=0)
    max_frame_pixels: Annotated[int, LIMIT] = Field(default=4096 * 2304, gt=0)
    max_frames: Annotated[int, LIMIT] = Field(default=432_000, gt=0)
    timeout_s: Annotated[float, LIMIT] = Field(default=1800, gt=0)
    memory_bytes: Annotated[int, LIMIT] = Field(default=3_000_000_000, gt=0)
    salvage: bool = False
    gate: ProbeGate = ProbeGate()


class ProbeStage(Stage[ProbeConfig, SourceVideo, SourceVideo]):
    """Decodes a source to its end once, in a child process."""

    name = "probe"
    version = 3
    facet = "probe"
    config_type = ProbeConfig
    row_in = SourceVideo
    row_out = SourceVideo
    reasons: ClassVar[frozenset[str]] = (
        READER_REASONS
        | AUDIO_REASONS
        | CHILD_REASONS
        | {"too_many_bytes", "too_short", "too_long", "too_small", "low_frame_rate"}
    )

    @property
    def needed(self) -> Resources:
        """A decoder with two threads."""
        return Resources(num_cpus=0.5, memory_bytes=self.config.memory_bytes // 2)

    def process(self, row: SourceVideo, files: Files) -> Kept[SourceVideo] | Dropped:
        """Fill ``row.probe``.

        Raises:
            DecodeError: The object is no video that can be used; see ``reasons``.
            ChildCrashError: The decoder crashed or exceeded its budget.
        """
        if row.num_bytes == 0:
            raise DecodeError("empty_file", "0 bytes")
        if row.num_bytes > self.config.max_bytes:
            raise DecodeError("too_many_bytes", f"{row.num_bytes}, at most {self.config.max_bytes}")
        path = files.source(row)
        sniff_file(path)
        return Kept((row.with_facet("probe", probe_source(path, self.config)),))

    def gate(self, row: SourceVideo) -> Dropped | None:
        """Judge length, size and rate."""
        probe, gate = row.probe, self.config.gate
        assert probe is not None
        if probe.duration_s < gate.min_duration_s:
            return Dropped(
                "too_short", f"{probe.duration_s:.3f} s, at least {gate.min_duration_s} s"
            )
        if gate.max_duration_s is not None and probe.duration_s > gate.max_duration_s:
            return Dropped("too_long", f"{probe.duration_s:.1f} s, at most {gate.max_duration_s} s")
        if min(probe.width_px, probe.height_px) < gate.min_side_px:
            size = f"{probe.width_px}x{probe.height_px}"
            return Dropped("too_small", f"{size}, shorter side at least {gate.min_side_px}")
        if probe.average_fps < gate.min_fps:
            return Dropped(
                "low_frame_rate", f"{probe.average_fps:.2f} fps, at least {gate.min_fps}"
            )
        return None


def probe_source(path: Path, config: ProbeConfig) -> ProbeFacet:
    """Probe a local file in a child process."""
    payload = {
        "path": str(path),
        "max_frame_pixels": config.max_frame_pixels,
        "max_frames": config.max_frames,
        "salvage": config.salvage,
    }
    budget = ChildBudget(config.timeout_s, config.memory_bytes, max_output_bytes=100_000)
    return ProbeFacet.model_validate(
        run_isolated("stages.source.probe_worker:probe_file", payload, budget)
    )
