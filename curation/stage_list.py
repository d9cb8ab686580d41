"""The one list of stages: what they are called, where they live, and which are run together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class StageEntry:
    """One stage of the chain.

    Args:
        name: What recipes, reports and receipts call it.
        target: ``module:class``.
        group: Neighbours of one group share a Ray Data execution, which ends with a commit; chosen by cost.
    """

    name: str
    target: str
    group: str


STAGES = (
    StageEntry("probe", "stages.source.probe:ProbeStage", "source"),
    StageEntry("segment", "stages.source.segment:SegmentStage", "source"),
    StageEntry("detect", "stages.screening.detect:DetectStage", "screening"),
    StageEntry("quality", "stages.screening.quality:QualityStage", "screening"),
    StageEntry("speech", "stages.screening.speech:SpeechStage", "screening"),
    StageEntry("objects", "stages.product.objects:ObjectsStage", "product"),
    StageEntry("references", "stages.product.references:ReferencesStage", "product"),
    StageEntry("triplets", "stages.product.triplets:TripletsStage", "product"),
    StageEntry("body", "stages.body.body:BodyStage", "body"),
    StageEntry("structure", "stages.body.structure:StructureStage", "body"),
    StageEntry("caption", "stages.packing.caption:CaptionStage", "body"),
    StageEntry("latents", "stages.packing.latents:LatentsStage", "latents"),
    StageEntry("shards", "stages.packing.shards:ShardsStage", "shards"),
)
"""In running order: all other lists of stages derive from this one."""

STAGE_CLASSES = {stage.name: stage.target for stage in STAGES}
GROUPS = tuple(
    tuple(stage.name for stage in group) for _, group in groupby(STAGES, key=lambda s: s.group)
)
"""Names of the stages of each group."""
