"""Stage ``shards``: clips with latents to Parquet shards of training samples.

The same clips give the same shards, byte for byte: a shard has no time stamp, its rows are sorted and its
writer options are fixed. Adding a clip changes the one shard that it falls into (or splits it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from model.codecs.codec_choice import codec_id
from schemas.backend import Resources
from schemas.base import BackendRef, FileRef, Model
from schemas.errors import DataError
from schemas.rows import Clip
from schemas.sample import Boxes, Sample, ShardFacet, ShardPlan, Tensor, sample_to_record
from schemas.shard_columns import SAMPLE_SCHEMA
from stages.base import Dropped, Kept, Stage, StageConfig
from stages.files import Files
from stages.kit.arrays import F32, Array, Arrays

SCORE_FACETS = (
    "quality",
    "speech",
    "detect",
    "objects",
    "references",
    "triplets",
    "body",
    "structure",
    "latents",
)
_MAX_TRIE_BITS = 256


class ShardsConfig(StageConfig):
    """How shards are written.

    Args:
        zstd_level: Compression of every column.
        row_group_samples: Samples per row group: what a reader loads at once.
    """

    zstd_level: int = Field(default=3, ge=1, le=19)
    row_group_samples: int = Field(default=4, ge=1, le=256)


class ShardsStage(Stage[ShardsConfig, ShardPlan, ShardPlan]):
    """Writes one planned shard."""

    name = "shards"
    version = 4
    facet = "shard"
    config_type = ShardsConfig
    row_in = ShardPlan
    row_out = ShardPlan
    needs: ClassVar[tuple[str, ...]] = (
        "segment",
        "quality",
        "speech",
        "detect",
        "objects",
        "references",
        "triplets",
        "body",
        "structure",
        "caption",
        "latents",
    )
    reasons: ClassVar[frozenset[str]] = frozenset({"sample_invalid", "latents_missing"})

    @property
    def needed(self) -> Resources:
        """One row group of latents in memory, and its compressed copy."""
        return Resources(num_cpus=0.5, memory_bytes=1_000_000_000)

    def process(self, row: ShardPlan, files: Files) -> Kept[ShardPlan] | Dropped:
        """Write the shard.

        Raises:
            DataError: A clip has no latents, or its arrays break the sample schema.
        """
        shard = write_shard(row, files, self.config)
        return Kept((row.with_facet("shard", shard),))


def plan_shards(clips: Sequence[Clip], max_samples: int) -> list[ShardPlan]:
    """Split clips into shards of at most ``max_samples``, stably.

    A binary trie over sha256(clip_id): a node that holds too many clips is split by its next bit. What a
    shard holds depends on the clips that share its prefix alone, so one more clip changes one shard.

    Raises:
        ValueError: ``max_samples`` below 1, or a clip id twice.
    """
    if max_samples < 1:
        raise ValueError(f"{max_samples=} must be at least 1")
    ids = [clip.clip_id for clip in clips]
    if len(set(ids)) != len(ids):
        raise ValueError("a clip id occurs twice")
    keyed = [(_bits(clip.clip_id), clip) for clip in clips]
    plans = [
        ShardPlan(clips=tuple(sorted(part, key=lambda c: c.clip_id)))
        for part in _split(keyed, max_samples, 0)
    ]
    return sorted(plans, key=lambda p: p.clips[0].clip_id)


def _split(keyed: list[tuple[str, Clip]], max_samples: int, depth: int) -> Iterator[list[Clip]]:
    if not keyed:
        return
    if len(keyed) <= max_samples or depth == _MAX_TRIE_BITS:
        yield [clip for _, clip in keyed]
        return
    for bit in "01":
        yield from _split([k for k in keyed if k[0][depth] == bit], max_samples, depth + 1)


def _bits(clip_id: str) -> str:
    return f"{int(hashlib.sha256(clip_id.encode()).hexdigest(), 16):0{_MAX_TRIE_BITS}b}"


def write_shard(plan: ShardPlan, files: Files, config: ShardsConfig | None = None) -> ShardFacet:
    """Write a shard, one row group at a time, and store it under its content's name.

    Raises:
        DataError: ``latents_missing`` or ``sample_invalid``.
    """
    config = config or ShardsConfig()
    path = files.scratch / "shard.parquet"
    with pq.ParquetWriter(
        path,
        SAMPLE_SCHEMA,
        version="2.6",
        compression="zstd",
        compression_level=config.zstd_level,
        use_dictionary=False,
        write_statistics=True,
        store_schema=True,
    ) as writer:
        for start in range(0, len(plan.clips), config.row_group_samples):
            clips = plan.clips[start : start + config.row_group_samples]
            records = [sample_to_record(build_sample(clip, _arrays(clip, files))) for clip in clips]
            writer.write_table(pa.Table.from_pylist(records, schema=SAMPLE_SCHEMA))
    return ShardFacet(file=files.put(path, ".parquet"), num_samples=len(plan.clips))


def _arrays(clip: Clip, files: Files) -> Arrays:
    if clip.latents is None:
        raise DataError(
            "latents_missing", f"clip {clip.clip_id} has not been through stage latents"
        )
    return files.arrays(clip.latents.arrays)


def build_sample(clip: Clip, arrays: Arrays) -> Sample:
    """Join a clip's facets and its latents file into one training row.

    Raises:
        DataError: ``sample_invalid``: shapes or counts break the contract.
    """
    assert clip.latents is not None
    assert clip.caption is not None
    boxes = {
        f"{kind}_boxes_{unit}": to_boxes(arrays[f"{kind}_box_{unit}_xyxy_px"])
        for kind in ("face", "left_hand", "right_hand")
        for unit in ("latent", "frame")
    }
    tensors = {
        name: to_tensor(arrays[name]) if name in arrays else None
        for name in (
            "rgb_latent",
            "rgb_motion_latent",
            "hoi_latent",
            "person_latent",
            "product_latent",
            "audio_features",
            "text_features",
            "hoi_text_features",
        )
    }
    try:
        return Sample.model_validate(
            {
                "clip_id": clip.clip_id,
                "source_id": clip.source_id,
                "picture_hash": clip.quality.phash if clip.quality else None,
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "fps": clip.media.fps,
                "width_px": clip.media.width_px,
                "height_px": clip.media.height_px,
                "num_frames": clip.media.num_frames,
                "num_motion_frames": clip.media.num_motion_frames,
                "rgb_statistics": clip.latents.rgb_statistics,
                "hoi_statistics": clip.latents.hoi_statistics,
                **tensors,
                **boxes,
                "prompt": clip.caption.prompt,
                "hoi_prompt": clip.caption.hoi_prompt,
                "scores": clip_scores(clip),
                "fingerprints": {path: ref.sha256 for path, ref in walk_facets(clip, FileRef)},
                "backends": {path: codec_id(ref) for path, ref in walk_facets(clip, BackendRef)},
                "codec": codec_id(clip.latents.codec),
                "text_encoder": codec_id(clip.latents.text_encoder),
                "audio_encoder": codec_id(clip.latents.audio_encoder),
            }
        )
    except ValidationError as error:
        raise DataError("sample_invalid", f"clip {clip.clip_id}: {str(error)[:500]}") from error


def clip_scores(clip: Clip) -> dict[str, float]:
    """Every number and flag of the scoring facets, as ``facet.field`` -> value."""
    scores: dict[str, float] = {}
    for name in SCORE_FACETS:
        facet = getattr(clip, name)
        for field, value in facet if facet is not None else ():
            if isinstance(value, (bool, int, float)):
                scores[f"{name}.{field}"] = float(value)
    return scores


def walk_facets(clip: Clip, kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """All values of one reference type in a clip's facets, with ``facet.field`` paths."""
    for name, facet in clip:
        if isinstance(facet, Model):
            for field, value in facet:
                if isinstance(value, kind):
                    yield f"{name}.{field}", value


def to_tensor(array: Array) -> Tensor:
    """Copy an array into a row's tensor.

    >>> to_tensor(np.zeros((2, 3), np.float16)).shape
    (2, 3)
    """
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return Tensor(data=little.tobytes(), shape=array.shape, dtype=array.dtype.name)


def to_boxes(array: F32) -> Boxes:
    """Turn (n,4) rows into boxes, None where a row is NaN."""
    return tuple(
        None
        if np.isnan(row).any()
        else (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
        for row in array
    )
