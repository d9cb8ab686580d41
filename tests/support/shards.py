"""A handful of tiny shards, made by the real stages, for data, trainer and sampler tests."""

from __future__ import annotations

from pathlib import Path

from schemas.sample import ShardPlan
from stages.files import Files, FolderBlobs
from stages.packing.latents import LatentsConfig, LatentsStage
from stages.packing.shards import ShardsConfig, ShardsStage, plan_shards
from tests.support.clips import make_clip

TINY_NETWORK = {
    "dim": 48,
    "num_heads": 4,
    "num_layers": 2,
    "ffn_dim": 64,
    "freq_dim": 32,
    "text_len": 32,
    "audio_inject_layers": (0,),
    "expert_hidden_dim": 8,
}


def make_shards(
    root: Path, num_clips: int = 4, *, max_samples: int = 3, height: int = 64, width: int = 96
) -> list[Path]:
    """Every second clip has motion context, clip 2 has no sound, clip 3 is longer."""
    files = Files(FolderBlobs(root), root / "scratch")
    latents, shards = LatentsStage(LatentsConfig()), ShardsStage(ShardsConfig())
    latents.setup()
    with files.row_scope():
        rows = [
            latents.process(
                make_clip(
                    files,
                    f"clip{i}",
                    num_target=13 if i == 3 else 9,
                    num_motion=5 * (i % 2),
                    has_audio=i != 2,
                    seed=i,
                    height=height,
                    width=width,
                ),
                files,
            ).rows[0]
            for i in range(num_clips)
        ]
        plans = [shards.process(p, files).rows[0] for p in plan_shards(rows, max_samples)]
    return [shard_path(p, root) for p in plans]


def shard_path(plan: ShardPlan, root: Path) -> Path:
    """Where a written shard lies below an output root."""
    assert plan.shard is not None
    return root / plan.shard.file.name
