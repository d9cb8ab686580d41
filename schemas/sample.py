"""One training sample: the row of a Parquet shard. The contract between curation and training.

``schemas/shard_columns.py`` has the columns, ``docs/dataset.md`` explains them at length.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from schemas.base import FileRef, Id, Model
from schemas.clock import FRAMES_PER_LATENT
from schemas.errors import DataError
from schemas.facets import ChannelStatistics
from schemas.rows import Clip, Row
from schemas.shard_columns import KEYED_COLUMNS, SCHEMA_VERSION

DTYPE_BYTES = {"float16": 2, "float32": 4}
MAX_TENSOR_BYTES = 1 << 30
MAX_TENSOR_DIMS = 5

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


def sample_from_record(record: dict[str, Any], where: str) -> Sample:
    """Validate one record that was read from outside.

    Args:
        record: Plain Python values by column name.
        where: File and row, for the message.

    Raises:
        DataError: ``sample_invalid``: a value breaks the contract.
    """
    try:
        keyed = {k: _by_key(k, record[k]) for k in KEYED_COLUMNS if k in record}
        return Sample.model_validate({**record, **keyed})
    except ValueError as error:
        text = json.dumps(str(error)[:800])
        raise DataError("sample_invalid", f"{where}: {text}") from error


def _by_key(name: str, pairs: Any) -> dict[str, Any]:
    """Pairs of a keyed column as a dict; a key that is twice there has no one value."""
    if pairs is None or None in pairs:
        raise ValueError(f"{name} holds null instead of (key, value) pairs")
    found = {pair["key"]: pair["value"] for pair in pairs}
    if len(found) != len(pairs):
        twice = next(p["key"] for p in pairs if sum(q["key"] == p["key"] for q in pairs) > 1)
        raise ValueError(f"{name} holds the key {twice!r} twice")
    return found


def sample_to_record(sample: Sample) -> dict[str, Any]:
    """Plain Python values by column name, as Arrow takes them: pairs sorted by key."""
    record = sample.model_dump()
    for name in KEYED_COLUMNS:
        record[name] = [{"key": k, "value": v} for k, v in sorted(record[name].items())]
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
