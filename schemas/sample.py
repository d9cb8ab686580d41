"""One training sample: the row of a Parquet shard. The contract between curation and training.

The Arrow schema below is written by hand, because people outside read it: every field says what it
is, in which unit and shape. ``docs/dataset.md`` explains it at length; a golden file pins it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from schemas.base import FileRef, Id, Model
from schemas.errors import DataError
from schemas.facets import ChannelStatistics
from schemas.rows import Clip, Row

SCHEMA_VERSION = "3"
"""Raised when a reader of the previous version would misread a shard."""

DTYPE_BYTES = {"float16": 2, "float32": 4}
MAX_TENSOR_BYTES = 1 << 30
MAX_TENSOR_DIMS = 5
FRAMES_PER_LATENT = 4
METADATA_VERSION_KEY = b"handloom.sample_schema_version"

Box = tuple[float, float, float, float]
Boxes = tuple[Box | None, ...]
Text = Annotated[str, Field(min_length=1, max_length=4000)]


class Tensor(Model):
    """A dense array: little-endian bytes in row-major order."""

    data: bytes = Field(max_length=MAX_TENSOR_BYTES)
    shape: tuple[int, ...] = Field(min_length=1, max_length=MAX_TENSOR_DIMS)
    dtype: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {sorted(DTYPE_BYTES)}")
        expected = math.prod(self.shape) * DTYPE_BYTES[self.dtype]
        if min(self.shape) < 1 or expected != len(self.data):
            raise ValueError(
                f"shape {self.shape} of {self.dtype} needs {expected} bytes, got {len(self.data)}"
            )
        return self


class Sample(Model):
    """Everything that the trainer reads of one clip, with lineage.

    n latents cover the 4n target frames 0 .. 4n-1; latent k of RGB and HOI, ``*_boxes_latent[k]`` and
    audio steps 4k .. 4k+3 all mean target frames 4k .. 4k+3.
    """

    clip_id: Id
    source_id: Id
    picture_hash: str | None = Field(pattern=r"^([0-9a-f]{16}){1,4}$")
    start_s: float
    end_s: float
    fps: int = Field(gt=0)
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    num_frames: int = Field(gt=0)
    num_motion_frames: int = Field(ge=0)

    rgb_statistics: ChannelStatistics
    hoi_statistics: ChannelStatistics
    rgb_latent: Tensor
    rgb_motion_latent: Tensor | None
    hoi_latent: Tensor
    person_latent: Tensor
    product_latent: Tensor
    audio_features: Tensor | None
    prompt: Text
    hoi_prompt: Text
    text_features: Tensor
    hoi_text_features: Tensor

    face_boxes_latent: Boxes
    face_boxes_frame: Boxes
    left_hand_boxes_latent: Boxes
    left_hand_boxes_frame: Boxes
    right_hand_boxes_latent: Boxes
    right_hand_boxes_frame: Boxes

    scores: dict[str, float]
    fingerprints: dict[str, str]
    backends: dict[str, str]
    codec: str
    text_encoder: str
    audio_encoder: str

    @property
    def num_latents(self) -> int:
        """How many target latents there are."""
        return self.rgb_latent.shape[1]

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_latents()
        self._check_clock()
        self._check_text()
        return self

    def _check_latents(self) -> None:
        channels, num_latents, height, width = _dims("rgb_latent", self.rgb_latent, 4)
        wanted: dict[str, tuple[Tensor | None, tuple[int | None, ...]]] = {
            "hoi_latent": (self.hoi_latent, (channels, num_latents, height, width)),
            "rgb_motion_latent": (self.rgb_motion_latent, (channels, None, height, width)),
            "person_latent": (self.person_latent, (channels, 1, height, width)),
            "product_latent": (self.product_latent, (channels, 1, height, width)),
        }
        for name, (tensor, shape) in wanted.items():
            if tensor is not None:
                _check_shape(name, tensor, shape)
        for name in ("rgb_statistics", "hoi_statistics"):
            if len(getattr(self, name).mean) != channels:
                raise ValueError(
                    f"{name} has {len(getattr(self, name).mean)} channels, expected {channels}"
                )

    def _check_clock(self) -> None:
        target = self.num_frames - self.num_motion_frames
        if target != FRAMES_PER_LATENT * self.num_latents + 1:
            raise ValueError(
                f"{self.num_latents} latents need {FRAMES_PER_LATENT * self.num_latents + 1} target "
                f"frames, the clip has {target}"
            )
        if (self.rgb_motion_latent is None) != (self.num_motion_frames == 0):
            raise ValueError(
                f"num_motion_frames={self.num_motion_frames} but rgb_motion_latent is "
                f"{'absent' if self.rgb_motion_latent is None else 'present'}"
            )
        if self.audio_features is not None:
            steps = FRAMES_PER_LATENT * self.num_latents
            _check_shape("audio_features", self.audio_features, (None, steps, None))
        for kind in ("face", "left_hand", "right_hand"):
            for name, count in (
                (f"{kind}_boxes_latent", self.num_latents),
                (f"{kind}_boxes_frame", target),
            ):
                if len(getattr(self, name)) != count:
                    raise ValueError(
                        f"{name} has {len(getattr(self, name))} entries, expected {count}"
                    )

    def _check_text(self) -> None:
        _, dim = _dims("text_features", self.text_features, 2)
        _check_shape("hoi_text_features", self.hoi_text_features, (None, dim))


def _dims(name: str, tensor: Tensor, num_dims: int) -> tuple[int, ...]:
    if len(tensor.shape) != num_dims:
        raise ValueError(f"{name} has shape {tensor.shape}, expected {num_dims} dimensions")
    return tensor.shape


def _check_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    same = len(tensor.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(tensor.shape, shape, strict=True)
    )
    if not same:
        text = tuple("any" if want is None else want for want in shape)
        raise ValueError(f"{name} has shape {tensor.shape}, expected {text}")


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


_NAMED = ("scores", "fingerprints", "backends")


def _named(value: pa.DataType) -> pa.DataType:
    """Values by name: a list of structs, since Arrow's map type is not read by all readers of Parquet."""
    pair = [pa.field("key", pa.string(), nullable=False), pa.field("value", value, nullable=False)]
    return pa.list_(pa.field("element", pa.struct(pair), nullable=False))


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
        _field("scores", _named(pa.float64()), "stage.score and value, sorted by key"),
        _field("fingerprints", _named(pa.string()), "sha256 of what made the row, by name"),
        _field("backends", _named(pa.string()), "stage.role and name@version"),
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


def sample_from_record(record: dict[str, Any], where: str) -> Sample:
    """Validate one record that was read from outside.

    Args:
        record: Plain Python values by column name.
        where: File and row, for the message.

    Raises:
        DataError: ``sample_invalid``: a value breaks the contract.
    """
    try:
        named = {k: _as_dict(record[k]) for k in _NAMED if k in record}
        return Sample.model_validate({**record, **named})
    except (ValueError, TypeError, KeyError) as error:
        text = json.dumps(str(error)[:800])
        raise DataError("sample_invalid", f"{where}: {text}") from error


def _as_dict(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    named = {pair["key"]: pair["value"] for pair in pairs}
    if len(named) != len(pairs):
        raise ValueError("a name is there twice")
    return named


def sample_to_record(sample: Sample) -> dict[str, Any]:
    """Plain Python values by column name, as Arrow takes them: named values sorted by key."""
    record = sample.model_dump()
    for key in _NAMED:
        record[key] = [{"key": k, "value": v} for k, v in sorted(record[key].items())]
    return record


class ShardFacet(Model):
    """A written shard."""

    file: FileRef
    num_samples: int = Field(gt=0)
    schema_version: str = SCHEMA_VERSION


class ShardPlan(Row):
    """The clips that one shard holds, sorted by id, and the shard once it is written."""

    clips: tuple[Clip, ...] = Field(min_length=1)
    shard: ShardFacet | None = None

    @property
    def row_id(self) -> str:
        """Identity of the clips with all their facets; the shard itself does not count."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(clip.model_dump_json().encode())
        return digest.hexdigest()[:16]

    @property
    def seconds(self) -> float:
        """Video seconds of all clips."""
        return sum(clip.seconds for clip in self.clips)
