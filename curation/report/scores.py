"""How gated scores are spread over clips: what a person needs to choose a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.base import Model
from schemas.manifest import StageRecord
from schemas.report import ScoreLine
from schemas.rows import Clip

_NUM_BINS = 24


def score_lines(stages: Sequence[StageRecord], clips: Sequence[Clip]) -> tuple[ScoreLine, ...]:
    """One line per threshold named ``min_<field>`` or ``max_<field>`` after a field of the stage's facet.

    Thresholds that no clip has a score for are left out.
    """
    lines = []
    for stage in stages:
        gate = stage.config.get("gate")
        facets = [
            facet for clip in clips if isinstance(facet := getattr(clip, stage.facet, None), Model)
        ]
        for key, threshold in sorted(gate.items()) if isinstance(gate, dict) else ():
            side, _, field = key.partition("_")
            values = [v for facet in facets if (v := getattr(facet, field, None)) is not None]
            if side in {"min", "max"} and values:
                lines.append(_line(stage.name, field, side, threshold, values))
    return tuple(lines)


def _line(
    stage: str, name: str, side: str, threshold: float | None, values: Sequence[float]
) -> ScoreLine:
    scores = np.asarray(values, np.float64)
    ends = scores if threshold is None else np.append(scores, threshold)
    low, high = float(ends.min()), float(ends.max())
    if low == high:  # one value: a bin round it
        low, high = low - 0.5, high + 0.5
    beyond = 0
    if threshold is not None:
        beyond = int((scores < threshold if side == "min" else scores > threshold).sum())
    quantiles = [float(q) for q in np.quantile(scores, (0, 0.1, 0.5, 0.9, 1))]
    counts = np.histogram(scores, bins=_NUM_BINS, range=(low, high))[0]
    return ScoreLine.model_validate(
        {
            "stage": stage, "name": name, "side": side, "threshold": threshold,
            "num_beyond": beyond, "quantiles": quantiles, "bins": counts.tolist(),
            "low": low, "high": high,
        }
    )  # fmt: skip
