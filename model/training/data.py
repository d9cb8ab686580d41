"""Training clips as tensors: loading, transcoding of cheap latents, deterministic batches.

Order is a pure function of (seed, epoch), and a batch of (seed, epoch, number): a run that resumes at a
global step sees exactly what the uninterrupted run would have seen. No batch is dropped: clips of one
shape share batches, and the last batch of a shape may be smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.codecs.codec_choice import codec_id
from model.codecs.dct import DctCodec
from model.codecs.transcode import Transcode, shrink_latent
from model.network.config import DiTConfig
from model.training.box_masks import BoxGrid, BoxRule, boxes_to_mask
from model.training.shard_reader import SampleIndex, ShardReader
from schemas.clock import FRAMES_PER_LATENT, PX_PER_LATENT, PX_PER_TOKEN
from schemas.errors import ConfigError, DataError
from schemas.sample import Boxes, Sample
from schemas.sample import Tensor as StoredTensor


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One sample as float32 tensors. Boxes are in pixels of the latent's own grid (8 per latent)."""

    clip_id: str
    rgb: Float[Tensor, "c n h w"]
    motion: Float[Tensor, "c m h w"] | None
    hoi: Float[Tensor, "c n h w"]
    person: Float[Tensor, "c 1 h w"]
    product: Float[Tensor, "c 1 h w"]
    audio: Float[Tensor, "layers steps dim"] | None
    text: Float[Tensor, "l text_dim"]
    hoi_text: Float[Tensor, "lh text_dim"]
    face: tuple[tuple[float, ...] | None, ...]
    hands: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one shape, stacked. ``head_mask`` and ``hand_mask`` mark target tokens in boxes."""

    clip_ids: tuple[str, ...]
    rgb: Float[Tensor, "b c n h w"]
    motion: Float[Tensor, "b c m h w"] | None
    hoi: Float[Tensor, "b c n h w"]
    person: Float[Tensor, "b c 1 h w"]
    product: Float[Tensor, "b c 1 h w"]
    audio: Float[Tensor, "b layers steps dim"]
    text: Float[Tensor, "b l text_dim"]
    text_lens: Int[Tensor, " b"]
    hoi_text: Float[Tensor, "b lh text_dim"]
    hoi_text_lens: Int[Tensor, " b"]
    head_mask: Bool[Tensor, "b tokens"]
    hand_mask: Bool[Tensor, "b tokens"]

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name in self.__dataclass_fields__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved)


class ClipStore:
    """Training clips of a reader, kept in memory when they are transcoded.

    Args:
        reader: Checked shards.
        transcode: How to shrink latents, or None to take them as they are.

    Raises:
        ConfigError: Transcoding is asked for a codec that does not allow it, or to a larger size.
    """

    def __init__(self, reader: ShardReader, transcode: Transcode | None = None) -> None:
        self._reader, self._transcode = reader, transcode
        codecs, dct = {entry.codec for entry in reader.index}, codec_id(DctCodec.ref)
        if transcode is not None and codecs != {dct}:
            raise ConfigError(
                f"data.transcode works on {dct} latents only, the shards hold "
                f"{sorted(codecs)}: remove data.transcode or curate with the dct codec"
            )
        self._kept: dict[int, TrainingClip] = {}

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, number: int) -> TrainingClip:
        """Load one clip."""
        if number not in self._kept:
            clip = clip_from_sample(self._reader[number])
            if self._transcode is None:
                return clip
            self._kept[number] = transcode_clip(clip, self._transcode)
        return self._kept[number]

    def bucket(self, number: int) -> tuple[tuple[int, ...], bool]:
        """What must be equal for clips to share a batch."""
        entry = self._reader.index[number]
        shape: tuple[int, ...] = entry.rgb_shape
        if self._transcode is not None:
            height, width = self._transcode.size_for(shape[2], shape[3])
            shape = (*shape[:2], height // PX_PER_LATENT, width // PX_PER_LATENT)
        return (shape, entry.motion_shape is not None)

    @property
    def index(self) -> Sequence[SampleIndex]:
        """Shapes and names of the samples as stored."""
        return self._reader.index


def clip_from_sample(sample: Sample) -> TrainingClip:
    """Turn a validated row into tensors.

    Raises:
        DataError: ``sample_invalid``: a value is not finite.
    """
    try:
        return _to_tensors(sample)
    except DataError as error:
        raise DataError(error.code, f"clip {sample.clip_id}: {error.detail}") from error


def _to_tensors(sample: Sample) -> TrainingClip:
    hands = zip(sample.left_hand_boxes_latent, sample.right_hand_boxes_latent, strict=True)
    return TrainingClip(
        clip_id=sample.clip_id,
        rgb=to_torch(sample.rgb_latent),
        motion=None if sample.rgb_motion_latent is None else to_torch(sample.rgb_motion_latent),
        hoi=to_torch(sample.hoi_latent),
        person=to_torch(sample.person_latent),
        product=to_torch(sample.product_latent),
        audio=None if sample.audio_features is None else to_torch(sample.audio_features),
        text=to_torch(sample.text_features),
        hoi_text=to_torch(sample.hoi_text_features),
        face=sample.face_boxes_latent,
        hands=tuple(tuple(box for box in pair if box is not None) for pair in hands),
    )


def to_torch(tensor: StoredTensor) -> Float[Tensor, "..."]:
    """Read a stored tensor as float32.

    Raises:
        DataError: ``sample_invalid``: it holds NaN or infinity. Shape and size were checked with the row.
    """
    array = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<"))
    if not np.isfinite(array).all():
        raise DataError("sample_invalid", f"a tensor of shape {tensor.shape} holds NaN or infinity")
    return torch.from_numpy(array.reshape(tensor.shape).astype(np.float32))


def transcode_clip(clip: TrainingClip, transcode: Transcode) -> TrainingClip:
    """Shrink all picture latents of a clip and scale its boxes.

    Raises:
        ConfigError: The target is larger than the clip.
    """
    height, width = (side * PX_PER_LATENT for side in clip.rgb.shape[2:])
    size = transcode.size_for(height, width)
    if size[0] > height or size[1] > width or any(side % PX_PER_TOKEN for side in size):
        raise ConfigError(
            f"data.transcode to {size[1]}x{size[0]} from {width}x{height}: expected multiples of {PX_PER_TOKEN}, not "
            "larger than the clip"
        )
    scale = (size[1] / width, size[0] / height) * 2

    rgb, hoi = DctCodec("rgb"), DctCodec("hoi")

    def shrink(latent: Float[Tensor, "c n h w"]) -> Float[Tensor, "c n h2 w2"]:
        return shrink_latent(latent, size, rgb)

    def scaled(box: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value * factor for value, factor in zip(box, scale, strict=True))

    return replace(
        clip,
        rgb=shrink(clip.rgb),
        motion=None if clip.motion is None else shrink(clip.motion),
        hoi=shrink_latent(clip.hoi, size, hoi),
        person=shrink(clip.person),
        product=shrink(clip.product),
        face=tuple(None if box is None else scaled(box) for box in clip.face),
        hands=tuple(tuple(scaled(box) for box in boxes) for boxes in clip.hands),
    )


def collate(clips: Sequence[TrainingClip], config: DiTConfig) -> Batch:
    """Stack clips of one bucket.

    Motion context of different length is padded with zeros at its old end, as FramePack does anyway. A clip
    without sound gets the trained null condition (zeros).
    """
    steps = FRAMES_PER_LATENT * clips[0].rgb.shape[1]
    silence = torch.zeros(config.num_audio_layers, steps, config.audio_dim)
    text, text_lens = _pad_rows([c.text for c in clips])
    hoi_text, hoi_text_lens = _pad_rows([c.hoi_text for c in clips])
    masks = [token_masks(c, config.patch_size) for c in clips]
    return Batch(
        clip_ids=tuple(c.clip_id for c in clips),
        rgb=torch.stack([c.rgb for c in clips]),
        motion=_stack_motion([c.motion for c in clips]),
        hoi=torch.stack([c.hoi for c in clips]),
        person=torch.stack([c.person for c in clips]),
        product=torch.stack([c.product for c in clips]),
        audio=torch.stack([silence if c.audio is None else c.audio for c in clips]),
        text=text,
        text_lens=text_lens,
        hoi_text=hoi_text,
        hoi_text_lens=hoi_text_lens,
        head_mask=torch.stack([head for head, _ in masks]),
        hand_mask=torch.stack([hand for _, hand in masks]),
    )


def _stack_motion(parts: Sequence[Tensor | None]) -> Float[Tensor, "b c m h w"] | None:
    given = [p for p in parts if p is not None]
    if not given:
        return None
    if len(given) != len(parts):
        raise ConfigError("a batch mixes clips with and without motion context")
    length = max(p.shape[1] for p in given)
    return torch.stack([nnf.pad(p, (0, 0, 0, 0, length - p.shape[1], 0)) for p in given])


def _pad_rows(
    rows: Sequence[Float[Tensor, "l d"]],
) -> tuple[Float[Tensor, "b l d"], Int[Tensor, " b"]]:
    length = max(len(r) for r in rows)
    padded = torch.stack([nnf.pad(r, (0, 0, 0, length - len(r))) for r in rows])
    return padded, torch.tensor([len(r) for r in rows])


def token_masks(
    clip: TrainingClip, patch: tuple[int, int, int]
) -> tuple[Bool[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Mark the target tokens of a clip that touch a face box and a hand box."""
    _, frames, height, width = clip.rgb.shape
    grid = BoxGrid(frames, height // patch[1], width // patch[2], patch=(patch[1], patch[2]))
    faces: Boxes = clip.face  # type: ignore[assignment]
    head = {FRAMES_PER_LATENT * k: [box] for k, box in enumerate(faces) if box is not None}
    hand = {FRAMES_PER_LATENT * k: list(boxes) for k, boxes in enumerate(clip.hands)}
    return boxes_to_mask(head, grid, BoxRule()), boxes_to_mask(hand, grid, BoxRule())
