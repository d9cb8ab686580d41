"""Columns of a shard: the Arrow schema of its rows, which people outside read.

Written by hand: every field says what it is, in which unit and shape, in types that common readers of
Parquet take. ``docs/dataset.md`` explains it at length; a golden file pins it.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "3"
"""Raised when a reader of the previous version would misread a shard. Raise ``ShardsStage.version`` with it:
an old root then writes its shards anew."""

METADATA_VERSION_KEY = b"handloom.sample_schema_version"
KEYED_COLUMNS = ("scores", "fingerprints", "backends")
"""Columns of (key, value) pairs. Lists of structs, not Arrow maps: ``datasets`` has no type for a map. Not
structs with a field per key either, for then each new score would be another schema."""

_TENSOR = pa.struct(
    [
        pa.field("data", pa.binary(), nullable=False),
        pa.field(
            "shape", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False
        ),
        pa.field("dtype", pa.string(), nullable=False),
    ]
)
_NUMBERS = pa.list_(pa.field("element", pa.float64(), nullable=False))
_STATISTICS = pa.struct(
    [pa.field("mean", _NUMBERS, nullable=False), pa.field("std", _NUMBERS, nullable=False)]
)
_BOX = pa.list_(pa.field("element", pa.float32(), nullable=False))
_BOXES = pa.list_(pa.field("element", _BOX, nullable=True))


def _pairs(value: pa.DataType) -> pa.DataType:
    pair = pa.struct(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("value", value, nullable=False),
        ]
    )
    return pa.list_(pa.field("element", pair, nullable=False))


def _field(name: str, kind: pa.DataType, doc: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


def _boxes(kind: str) -> list[pa.Field]:
    return [
        _field(
            f"{kind}_boxes_latent",
            _BOXES,
            f"{kind} box per latent: union over its 4 frames, xyxy in clip pixels, null if absent",
        ),
        _field(
            f"{kind}_boxes_frame",
            _BOXES,
            f"{kind} box per target frame, xyxy in clip pixels, null if absent",
        ),
    ]


SAMPLE_SCHEMA = pa.schema(
    [
        _field("clip_id", pa.string(), "identity from content"),
        _field(
            "source_id",
            pa.string(),
            "first 16 hex digits of the source file's sha256; a run's record maps it to addresses",
        ),
        _field(
            "picture_hash",
            pa.string(),
            "perceptual hash of up to four frames, 64 bits each in hex; null: not measured",
            nullable=True,
        ),
        _field("start_s", pa.float64(), "target window start on the source's clock, seconds"),
        _field("end_s", pa.float64(), "target window end (exclusive), seconds"),
        _field("fps", pa.int32(), "constant frame rate of every stream"),
        _field("width_px", pa.int32(), "clip width; boxes are in this space"),
        _field("height_px", pa.int32(), "clip height"),
        _field(
            "num_frames", pa.int32(), "frames of the clip: motion context, then 4n+1 target frames"
        ),
        _field(
            "num_motion_frames",
            pa.int32(),
            "frames of motion context in the clip; the newest 1+4j are encoded",
        ),
        _field(
            "rgb_statistics",
            _STATISTICS,
            "per channel, of RGB and reference latents: stored = (raw - mean) / std",
        ),
        _field("hoi_statistics", _STATISTICS, "the same of hoi_latent"),
        _field("rgb_latent", _TENSOR, "(c,n,h,w): latent k covers target frames 4k..4k+3"),
        _field(
            "rgb_motion_latent",
            _TENSOR,
            "(c,1+j,h,w) context, oldest first; null without context",
            nullable=True,
        ),
        _field("hoi_latent", _TENSOR, "(c,n,h,w) structure stream on exactly the same frames"),
        _field("person_latent", _TENSOR, "(c,1,h,w) person reference, scaled and centre-cropped"),
        _field(
            "product_latent", _TENSOR, "(c,1,h,w) product reference, scaled to fit, white padding"
        ),
        _field(
            "audio_features",
            _TENSOR,
            "(layers,4n,dim), one step per target frame; null: no sound",
            nullable=True,
        ),
        _field("prompt", pa.string(), "description of the clip"),
        _field("hoi_prompt", pa.string(), "description of the structure stream"),
        _field("text_features", _TENSOR, "(tokens,dim) of the prompt"),
        _field("hoi_text_features", _TENSOR, "(tokens,dim) of the structure prompt"),
        *_boxes("face"),
        *_boxes("left_hand"),
        *_boxes("right_hand"),
        _field("scores", _pairs(pa.float64()), "(facet.field, value) of every score, by key"),
        _field(
            "fingerprints",
            _pairs(pa.string()),
            "(facet.field, sha256) of what made the row, by key",
        ),
        _field("backends", _pairs(pa.string()), "(facet.role, name@version#weights), by key"),
        _field("codec", pa.string(), "latent space: equal text means comparable latents"),
        _field("text_encoder", pa.string(), "text feature space"),
        _field("audio_encoder", pa.string(), "audio feature space"),
    ],
    metadata={METADATA_VERSION_KEY: SCHEMA_VERSION.encode()},
)
"""Columns of a shard, in order. Field metadata ``doc`` says what each is."""


def schema_text(schema: pa.Schema = SAMPLE_SCHEMA) -> str:
    """Write a schema as stable text, one field a line, for the golden file and the docs."""
    version = (schema.metadata or {}).get(METADATA_VERSION_KEY, b"?").decode()
    lines = [f"version {version}"]
    for item in schema:
        null = "null" if item.nullable else "required"
        doc = (item.metadata or {}).get(b"doc", b"").decode()
        lines.append(f"{item.name} | {item.type} | {null} | {doc}")
    return "\n".join(lines) + "\n"
