"""Stage 3: is the picture worth training on? Scores; the thresholds are the gate's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schemas.facets import QualityFacet
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.clip_windows import content_box
from stages.files import Files
from stages.media import FPS

Frames = NDArray[np.uint8]
_SHARP_SIDE_PX, _FLOW_SIDE_PX = 480, 240
_FREEZE_LUMA = 1.0
"""Mean change of grey in the liveliest 32 px block below which a step shows no motion at all."""


class QualityGate(GateConfig):
    """Thresholds over the target frames."""

    min_sharpness: float = Field(default=8.0, ge=0)
    max_dark_share: float = Field(default=0.9, ge=0, le=1)
    max_bright_share: float = Field(default=0.6, ge=0, le=1)
    max_static_share: float = Field(default=0.9, ge=0, le=1)
    """A picture whose every step is still is no video."""
    max_freeze_share: float = Field(default=0.5, ge=0, le=1)
    max_longest_freeze_s: float = Field(default=1.0, ge=0)
    max_border_share: float = Field(default=0.1, ge=0, le=1)
    max_text_area_share: float = Field(default=0.12, ge=0, le=1)


class QualityConfig(StageConfig):
    """How to look."""

    flow_every: int = Field(default=4, ge=1)
    read_text: bool = True
    gate: QualityGate = QualityGate()


class QualityStage(Stage[QualityConfig, Clip, Clip]):
    """Fills ``quality``."""

    name = "quality"
    facet = "quality"
    config_type = QualityConfig
    row_in = row_out = Clip
    needs = ("segment",)
    reasons: ClassVar[frozenset[str]] = frozenset({
        "static", "frozen", "blurry", "too_dark", "too_bright", "black_borders", "overlay_text",
        "clip_unreadable",
    })  # fmt: skip
    _ocr: Any = None

    def setup(self) -> None:
        """Load the text detector, whose models are in its wheel."""
        if self.config.read_text:
            from rapidocr_onnxruntime import RapidOCR

            self._ocr = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Score the target frames."""
        if self._ocr is None:
            self.setup()
        frames = files.frames(row.media.video)[row.media.num_motion_frames :]
        grey = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames])
        still = is_still(grey)
        text_share, num_text = self._text(frames[len(frames) // 2])
        facet = QualityFacet(
            sharpness=sharpness(grey[::4]),
            luma_mean=float(grey.mean() / 255),
            dark_share=float((grey < 32).mean()),
            bright_share=float((grey > 248).mean()),
            motion_px=motion_px(grey, self.config.flow_every),
            freeze_share=float(still.mean()),
            longest_freeze_s=longest_run(still) / FPS,
            border_share=border_share(frames[::8]),
            text_area_share=text_share,
            num_text_regions=num_text,
        )
        return Kept((row.with_facet(self.facet, facet),))

    def _text(self, frame: Frames) -> tuple[float, int]:
        """Share of the picture inside text boxes, and their number; printed products count too."""
        if self._ocr is None:
            return 0.0, 0
        found, _ = self._ocr(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), use_cls=False, use_rec=False)
        boxes = [np.asarray(b, np.float32).reshape(-1, 2) for b in found or []]
        area = sum(float(cv2.contourArea(b)) for b in boxes if len(b) >= 3)
        return min(1.0, area / (frame.shape[0] * frame.shape[1])), len(boxes)

    def gate(self, row: Clip) -> Dropped | None:
        """Moving, sharp, well lit, without bars or overlays."""
        score, gate = row.quality, self.config.gate
        assert score is not None
        checks = (
            ("static", score.freeze_share > gate.max_static_share,
             f"{score.freeze_share=:.2f} > {gate.max_static_share}"),
            ("frozen", score.freeze_share > gate.max_freeze_share,
             f"{score.freeze_share=:.2f} > {gate.max_freeze_share}"),
            ("frozen", score.longest_freeze_s > gate.max_longest_freeze_s,
             f"{score.longest_freeze_s=:.2f} > {gate.max_longest_freeze_s}"),
            ("too_dark", score.dark_share > gate.max_dark_share,
             f"{score.dark_share=:.2f} > {gate.max_dark_share}"),
            ("too_bright", score.bright_share > gate.max_bright_share,
             f"{score.bright_share=:.2f} > {gate.max_bright_share}"),
            ("blurry", score.sharpness < gate.min_sharpness,
             f"{score.sharpness=:.1f} < {gate.min_sharpness}"),
            ("black_borders", score.border_share > gate.max_border_share,
             f"{score.border_share=:.2f} > {gate.max_border_share}"),
            ("overlay_text", score.text_area_share > gate.max_text_area_share,
             f"{score.text_area_share=:.2f} > {gate.max_text_area_share}"),
        )  # fmt: skip
        return next((Dropped(reason, why) for reason, failed, why in checks if failed), None)


def sharpness(grey: Frames) -> float:
    """Median variance of the Laplacian of (T,H,W) u8 at 480 px short side."""
    factor = _SHARP_SIDE_PX / min(grey.shape[1:])
    sized = grey if factor >= 1 else [
        cv2.resize(g, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for g in grey
    ]  # fmt: skip
    return float(np.median([cv2.Laplacian(g, cv2.CV_32F).var() for g in sized]))


def is_still(grey: Frames) -> NDArray[np.bool_]:
    """(T-1,) bool: the step from one frame to the next shows nothing but coding noise."""
    size = (max(1, grey.shape[2] // 32), max(1, grey.shape[1] // 32))
    liveliest = [
        float(
            cv2.resize(
                cv2.absdiff(a, b).astype(np.float32), size, interpolation=cv2.INTER_AREA
            ).max()
        )
        for a, b in pairwise(grey)
    ]
    return np.asarray(liveliest) < _FREEZE_LUMA


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of True.

    >>> longest_run(np.array([1, 1, 0, 1], bool))
    2
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def motion_px(grey: Frames, every: int) -> float:
    """Mean flow magnitude per frame step, in pixels at 240 px short side (DIS flow)."""
    factor = _FLOW_SIDE_PX / min(grey.shape[1:])
    flow = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
        cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
    )
    small = [cv2.resize(g, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
             for g in grey]  # fmt: skip
    steps = range(0, len(small) - 1, every)
    means = [np.linalg.norm(flow.calc(small[t], small[t + 1], None), axis=2).mean() for t in steps]
    return float(np.mean(means)) if means else 0.0


def border_share(frames: Frames) -> float:
    """Share of the picture that lies in constant black bars."""
    height, width = frames.shape[1:3]
    x0, y0, x1, y1 = content_box(frames.max(axis=(0, 3)))
    return 1.0 - (x1 - x0) * (y1 - y0) / (height * width)
