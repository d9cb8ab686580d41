"""Stage ``quality``: is the picture sharp, lit, moving, whole and free of overlays?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from schemas.backend import Resources
from schemas.facets import QualityFacet
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, AtMost, first_failure
from stages.screening import picture, rapidocr
from stages.screening.near_duplicates import near_duplicates
from stages.screening.overlay_text import OverlayText, overlay_text
from stages.screening.same_take import traits_of


class QualityGate(GateConfig):
    """Which pictures are good enough to train on. Thresholds are lenient: they catch what is broken.

    Args:
        min_sharpness: Laplacian variance at 480 px; focused video has 50 and more, defocused below 15.
        min_luma_mean: Darker clips hide hands.
        max_luma_mean: Brighter clips are washed out.
        max_dark_share: Share of pixels that are black.
        max_bright_share: Share of pixels that are white.
        min_motion_px: Mean flow at 240 px; people who stand and talk make 0.1 and more.
        max_freeze_share: A 12 fps source at 25 fps repeats 0.52 of its frames.
        max_longest_freeze_s: Nobody holds perfectly still for a second.
        max_border_share: Bars of any kind that were not cut away.
        max_text_area_share: A subtitle line covers about 0.02, a small watermark 0.006.
        max_duplicate_bits: Clips of different shots whose hashes differ in at most so many of 256 bits are one
            clip twice; transcodes differ in 0 to 4, other moments of one scene in 24 and more. -1 keeps all.
        min_same_moments: Clips that move in one rhythm and, laid over each other, change alike from here on are one
            take: mirrored, cropped or captioned copies reach 0.6 and more, other takes in the same room 0.4.
    """

    min_sharpness: float = Field(default=15.0, ge=0)
    min_luma_mean: float = Field(default=0.08, ge=0, le=1)
    max_luma_mean: float = Field(default=0.92, ge=0, le=1)
    max_dark_share: float = Field(default=0.7, ge=0, le=1)
    max_bright_share: float = Field(default=0.7, ge=0, le=1)
    min_motion_px: float = Field(default=0.03, ge=0)
    max_freeze_share: float = Field(default=0.7, ge=0, le=1)
    max_longest_freeze_s: float = Field(default=1.0, ge=0)
    max_border_share: float = Field(default=0.05, ge=0, le=1)
    max_text_area_share: float = Field(default=0.01, ge=0, le=1)
    max_duplicate_bits: int = Field(default=10, ge=-1, le=64)
    min_same_moments: float = Field(default=0.5, ge=0, le=1)


class QualityConfig(StageConfig):
    """What is measured.

    Args:
        read_text: Look for overlay text: three frames of a clip are searched, ten where text stands still for a moment.
            False scores it as absent.
    """

    read_text: bool = True
    gate: QualityGate = QualityGate()


class QualityStage(Stage[QualityConfig, Clip, Clip]):
    """Measures a clip's picture over its target frames."""

    name = "quality"
    version = 3
    facet = "quality"
    config_type = QualityConfig
    row_in = Clip
    row_out = Clip
    needs: ClassVar[tuple[str, ...]] = ("segment",)
    reasons: ClassVar[frozenset[str]] = frozenset({
        "static", "frozen", "too_dark", "too_bright", "blurry", "black_borders", "overlay_text",
        "clip_unreadable", "near_duplicate",
    })  # fmt: skip

    fixed_backends = (rapidocr.ABOUT,)

    def __init__(self, config: QualityConfig) -> None:
        super().__init__(config)
        self._reader = rapidocr.RapidOcr() if config.read_text else None
        self.backends = (self._reader,) if self._reader else ()

    @property
    def needed(self) -> Resources:
        """One decoded clip and small networks."""
        return Resources(num_cpus=0.5, memory_bytes=1_500_000_000)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Fill ``row.quality``: bars have a score of their own, the others look at what is inside them.

        Raises:
            DecodeError: ``clip_unreadable``.
        """
        frames = files.frames(row.media.video)[row.media.num_motion_frames :]
        whole = picture.grey_frames(frames, picture.SHARPNESS_SIDE_PX)
        frames = picture.without_bars(frames, whole)
        large = picture.grey_frames(frames, picture.SHARPNESS_SIDE_PX)
        small = picture.grey_frames(frames, picture.MOTION_SIDE_PX)
        exposure, steps = picture.exposure(large), picture.motion_steps(small)
        frozen = picture.frozen_steps(small)
        text = overlay_text(frames, self._reader) if self._reader else OverlayText(0.0, 0)
        facet = QualityFacet(
            sharpness=picture.sharpness(large),
            luma_mean=exposure.luma_mean,
            dark_share=exposure.dark_share,
            bright_share=exposure.bright_share,
            motion_px=picture.motion_px(steps),
            freeze_share=float(frozen.mean()) if frozen.size else 0.0,
            longest_freeze_s=picture.longest_run_s(frozen),
            border_share=picture.border_share(whole),
            text_area_share=text.area_share,
            num_text_regions=text.num_regions,
            phash=picture.perceptual_hash(small),
            take=traits_of(steps[:, 1:], small),
        )
        return Kept((row.with_facet("quality", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Judge motion first (a still picture has nothing to teach), then light, focus and overlays."""
        return judge(row.need("quality"), self.config.gate)

    def gate_all(self, rows: Sequence[Clip]) -> dict[str, Dropped]:
        """Keep one of several clips that show the same pictures, or the same take made over."""
        gate = self.config.gate
        if gate.max_duplicate_bits < 0:
            return {}
        twins = near_duplicates(rows, gate.max_duplicate_bits, gate.min_same_moments)
        return {
            clip_id: Dropped("near_duplicate", twin.detail, twin.kept_id)
            for clip_id, twin in twins.items()
        }


def judge(quality: QualityFacet, gate: QualityGate) -> Dropped | None:
    """Apply thresholds to scores."""
    q, g = quality, gate
    return first_failure(
        [
            AtLeast("static", "motion_px", q.motion_px, g.min_motion_px),
            AtMost("static", "freeze_share", q.freeze_share, g.max_freeze_share),
            AtMost("frozen", "longest_freeze_s", q.longest_freeze_s, g.max_longest_freeze_s),
            AtLeast("too_dark", "luma_mean", q.luma_mean, g.min_luma_mean),
            AtMost("too_dark", "dark_share", q.dark_share, g.max_dark_share),
            AtMost("too_bright", "luma_mean", q.luma_mean, g.max_luma_mean),
            AtMost("too_bright", "bright_share", q.bright_share, g.max_bright_share),
            AtLeast("blurry", "sharpness", q.sharpness, g.min_sharpness),
            AtMost("black_borders", "border_share", q.border_share, g.max_border_share),
            AtMost("overlay_text", "text_area_share", q.text_area_share, g.max_text_area_share),
        ]
    )
