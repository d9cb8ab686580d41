"""Stage 2: from a source to clips on one clock, never across a cut."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.facets import ClipTransform, MediaFacet
from schemas.rows import Clip, SourceVideo
from stages.base import Dropped, Kept, Stage, StageConfig
from stages.clip_windows import BUCKETS_480P
from stages.files import Files
from stages.isolate import CHILD_REASONS, ChildBudget, run_isolated
from stages.media import FPS
from stages.source_reader import READER_REASONS

_MAX_PIXELS, _MAX_FRAMES = 1 << 28, 1 << 30  # probe has applied the real budgets


class SegmentConfig(StageConfig):
    """How sources are cut."""

    detector: Literal["pyscenedetect"] = "pyscenedetect"
    cut_threshold: float = Field(default=27.0, gt=0)
    """Change of hue, saturation and luma between frames that makes a hard cut."""
    fade_luma: float = Field(default=12.0, ge=0)
    """Mean luma below which a picture counts as faded out."""
    min_shot_s: float = Field(default=0.6, gt=0)
    num_frames: int = Field(default=81, ge=5)
    """Target frames at 25 fps: 1 + 4k."""
    max_motion_frames: int = Field(default=73, ge=0)
    stride_frames: int = Field(default=81, ge=1)
    max_clips_per_source: int = Field(default=1000, ge=1)
    buckets: tuple[tuple[int, int], ...] = BUCKETS_480P
    """(width, height) choices; the one nearest in aspect is taken."""
    timeout_s: float = Field(default=1800.0, gt=0)
    max_memory_bytes: int = Field(default=12 << 30, gt=0)

    @model_validator(mode="after")
    def _check(self) -> SegmentConfig:
        if self.num_frames % 4 != 1:
            raise ValueError(f"num_frames={self.num_frames}: expected 1 + 4k, for example 81 or 33")
        if any(w % 16 or h % 16 for w, h in self.buckets) or not self.buckets:
            raise ValueError(f"buckets={self.buckets}: sides must be multiples of 16")
        return self


class SegmentStage(Stage[SegmentConfig, SourceVideo, Clip]):
    """Fan-out: one row per window."""

    name = "segment"
    facet = ""
    config_type = SegmentConfig
    row_in = SourceVideo
    row_out = Clip
    needs = ("probe",)
    reasons: ClassVar[frozenset[str]] = READER_REASONS | CHILD_REASONS | {
        "no_window", "audio_damaged", "source_changed", "source_missing",
    }  # fmt: skip

    def check(self) -> None:
        """Check that the shot detector is there."""
        if importlib.util.find_spec("scenedetect") is None:
            raise ConfigError("segment.detector=pyscenedetect: install scenedetect-headless")

    def process(self, row: SourceVideo, files: Files) -> Kept[Clip] | Dropped:
        """Cut the source in a child process and store what it wrote."""
        assert row.probe is not None
        config = self.config
        done = run_isolated(
            "stages.cutting:cut",
            {
                "path": str(files.source(row)), "out_dir": str(files.scratch),
                "pixel_aspect": row.probe.sample_aspect_ratio
                if row.probe.rotation_deg % 180 == 0 else 1 / row.probe.sample_aspect_ratio,
                "duration_s": row.probe.duration_s, "max_pixels": _MAX_PIXELS,
                "max_frames": _MAX_FRAMES, **config.model_dump(mode="json"),
            },
            ChildBudget(config.timeout_s, config.max_memory_bytes),
        )  # fmt: skip
        if not done["clips"]:
            needed = config.num_frames / FPS
            detail = (
                f"{done['num_shots']} shots in {row.probe.duration_s:.2f} s, none of {needed:.2f} s"
            )
            return Dropped("no_window", detail)
        return Kept(tuple(self._clip(row, made, files) for made in done["clips"]))

    def _clip(self, row: SourceVideo, made: dict[str, Any], files: Files) -> Clip:
        window = f"{made['motion_start']}/{made['start']}/{made['stop']}"
        identity = f"{row.content_sha256}/{window}/{self.fingerprint}"
        x0, y0, x1, y1, width, height = made["fit"]
        assert row.probe is not None
        aspect = row.probe.sample_aspect_ratio if row.probe.rotation_deg % 180 == 0 else 1.0
        scale_x, scale_y = width / ((x1 - x0) * aspect), height / (y1 - y0)
        audio = files.put(Path(made["audio"]), ".wav") if made["audio"] else None
        media = MediaFacet(
            video=files.put(Path(made["video"]), ".mp4"), audio=audio, width_px=width,
            height_px=height, fps=FPS, num_frames=made["stop"] - made["motion_start"],
            num_motion_frames=made["start"] - made["motion_start"],
            shot_index=made["shot_index"], shot_start_s=made["shot_s"][0],
            shot_end_s=made["shot_s"][1],
            transform=ClipTransform(
                scale_x=scale_x, scale_y=scale_y, offset_x_px=-x0 * aspect * scale_x,
                offset_y_px=-y0 * scale_y,
            ),
            detector=BackendRef(
                name="pyscenedetect", version=version("scenedetect-headless"),
                licence="BSD-3-Clause",
            ),
        )  # fmt: skip
        return Clip(
            clip_id=hashlib.sha256(identity.encode()).hexdigest()[:16], source_id=row.row_id,
            source_uri=row.uri, start_s=made["start"] / FPS, end_s=made["stop"] / FPS,
            motion_start_s=made["motion_start"] / FPS, media=media,
        )  # fmt: skip
