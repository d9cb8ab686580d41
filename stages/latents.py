"""Stage ``latents``: everything that the trainer reads of a clip, in one safetensors file.

All streams keep the one clock of ``model/clock.py``. Keys of the file (n latents, c = 16 channels):
``rgb_latent``, ``hoi_latent`` (c,n,h,w) f16; ``rgb_motion_latent`` (c,1+j,h,w) f16 where there is context;
``person_latent``, ``product_latent`` (c,1,h,w) f16; ``audio_features`` (layers,4n,dim) f16 where there is
sound; ``text_features``, ``hoi_text_features`` (tokens,dim) f16; ``{face,left_hand,right_hand}_box_latent_xyxy_px``
(n,4) f32 and ``..._box_frame_xyxy_px`` (4n+1,4) f32, NaN where absent.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from pydantic import Field

from model.audio_encoders import loudness_gain
from model.clock import Window, clip_window, union_boxes
from model.codecs import (
    CodecConfig,
    VideoCodec,
    as_array,
    build_codec,
    check_codec,
    codec_weights_sha256,
    encode_frames,
    round_trip_psnr_db,
)
from model.encoders import (
    AudioEncoder,
    AudioEncoderConfig,
    TextEncoder,
    TextEncoderConfig,
    build_audio_encoder,
    build_text_encoder,
    check_encoders,
    encoder_weights_sha256,
)
from model.images import fill_crop, fit_pad, on_white
from schemas import facets as f
from schemas.errors import DataError, ModelOutputError
from schemas.rows import Clip
from stages import media
from stages.base import Dropped, GateConfig, Kept, Resources, Stage, StageConfig
from stages.files import Arrays, Files

Frames = UInt8[np.ndarray, "frames height width 3"]
BOX_KINDS = ("face", "left_hand", "right_hand")
SIZE_MULTIPLE_PX = 16
"""Codec stride 8 times patch 2."""


class LatentsGate(GateConfig):
    """When latents are not good enough to train on.

    Args:
        min_rgb_psnr_db: Below it the codec loses what the clip shows. Product video comes back at 29 to 34 dB
            through ``dct``; 24 dB is where hands become blocks.
        min_hoi_psnr_db: The same for the structure stream, whose hard edges on black cost more.
    """

    min_rgb_psnr_db: float = 24.0
    min_hoi_psnr_db: float = 16.0


class LatentsConfig(StageConfig):
    """Which codec and encoders to use.

    Args:
        codec: Latent space of the picture streams.
        text_encoder: Features of both prompts.
        audio_encoder: Features of the sound.
        target_lufs: Sound is brought to this loudness before it is encoded.
    """

    codec: CodecConfig = CodecConfig()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    audio_encoder: AudioEncoderConfig = AudioEncoderConfig()
    target_lufs: float = Field(default=-23.0, ge=-60, le=0)
    gate: LatentsGate = LatentsGate()


class LatentsStage(Stage[LatentsConfig, Clip, Clip]):
    """Encodes a clip's pictures, sound, prompts and boxes."""

    name = "latents"
    version = 2
    facet = "latents"
    config_type = LatentsConfig
    row_in = Clip
    row_out = Clip
    needs: ClassVar[tuple[str, ...]] = (
        "segment",
        "speech",
        "detect",
        "references",
        "structure",
        "caption",
    )
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "codec_psnr_low",
            "hoi_codec_psnr_low",
            "latents_not_finite",
            "frames_unsupported",
            "size_unsupported",
            "streams_misaligned",
            "audio_misaligned",
            "prompt_blank",
            "clip_unreadable",
            "audio_unreadable",
            "image_unreadable",
        }
    )

    @property
    def resources(self) -> Resources:
        """Two clips of 154 frames at 480x832 and their pieces; the VAE needs its own memory."""
        gb = 2 if self.config.codec.name == "dct" else 8
        gpus = 1.0 if self.config.codec.device.startswith("cuda") else 0.0
        return Resources(num_cpus=0.5, num_gpus=gpus, memory_bytes=gb * 1_000_000_000)

    @cached_property
    def weights_sha256(self) -> str:
        """Digest over the weight files of codec and encoders; empty for the embedded ones."""
        config = self.config
        parts = [codec_weights_sha256(config.codec)]
        if config.text_encoder.name == "umt5":
            folder = config.text_encoder.folder
            parts.append(encoder_weights_sha256(folder, "text_encoder.folder", "umT5"))
        if config.audio_encoder.name == "wav2vec2":
            folder = config.audio_encoder.folder
            parts.append(encoder_weights_sha256(folder, "audio_encoder.folder", "wav2vec 2.0"))
        return hashlib.sha256("/".join(parts).encode()).hexdigest() if any(parts) else ""

    def check(self) -> None:
        """Check packages, folders and pinned digests.

        Raises:
            ConfigError: Something is missing or differs; the message says what to do.
        """
        check_codec(self.config.codec)
        check_encoders(self.config.text_encoder, self.config.audio_encoder)

    def setup(self) -> None:
        """Build codec and encoders."""
        self._codec: VideoCodec = build_codec(self.config.codec)
        self._hoi_codec = self._codec.for_stream("hoi")
        self._text: TextEncoder = build_text_encoder(self.config.text_encoder)
        self._audio: AudioEncoder = build_audio_encoder(self.config.audio_encoder)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Encode one clip.

        Raises:
            DataError: Streams do not fit each other, or a file cannot be read.
            ModelOutputError: An encoder returned NaN or infinity.
        """
        window = _window(row)
        arrays: Arrays = {}
        rgb_psnr = self._encode_rgb(row, files, window, arrays)
        hoi_psnr = self._encode_hoi(row, files, window, arrays)
        self._encode_references(row, files, arrays)
        is_cut = self._encode_prompts(row, arrays)
        self._encode_audio(row, files, window, arrays)
        _check_finite(arrays)
        size = (row.media.height_px, row.media.width_px)
        arrays |= box_arrays(files.arrays(_need(row.boxes).arrays), window, size)
        height, width = arrays["rgb_latent"].shape[2:]
        facet = f.LatentsFacet(
            arrays=files.put_arrays(arrays),
            num_latents=window.num_latents,
            num_motion_latents=window.num_motion_latents,
            latent_height=height,
            latent_width=width,
            codec=self._codec.ref,
            rgb_statistics=self._codec.statistics,
            hoi_statistics=self._hoi_codec.statistics,
            text_encoder=self._text.ref,
            audio_encoder=self._audio.ref,
            rgb_psnr_db=round(rgb_psnr, 4),
            hoi_psnr_db=round(hoi_psnr, 4),
            has_audio="audio_features" in arrays,
            is_text_cut=is_cut,
        )
        return Kept((row.with_facet("latents", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Drop clips that the codec cannot carry."""
        facet, gate = _need(row.latents), self.config.gate
        if facet.rgb_psnr_db < gate.min_rgb_psnr_db:
            return Dropped("codec_psnr_low", f"{facet.rgb_psnr_db:.1f} < {gate.min_rgb_psnr_db} dB")
        if facet.hoi_psnr_db < gate.min_hoi_psnr_db:
            return Dropped(
                "hoi_codec_psnr_low", f"{facet.hoi_psnr_db:.1f} < {gate.min_hoi_psnr_db} dB"
            )
        return None

    def _encode_rgb(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> float:
        frames = _frames(files, row, row.media.video)
        latents, psnr = _encode_video(self._codec, frames, window)
        lead = window.num_lead_latents
        arrays["rgb_latent"] = latents[:, lead:]
        if window.num_motion_latents:
            arrays["rgb_motion_latent"] = latents[:, :lead]
        return psnr

    def _encode_hoi(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> float:
        frames = _frames(files, row, _need(row.structure).video)
        latents, psnr = _encode_video(self._hoi_codec, frames, window)
        arrays["hoi_latent"] = latents[:, window.num_lead_latents :]
        return psnr

    def _encode_references(self, row: Clip, files: Files, arrays: Arrays) -> None:
        references, size = _need(row.references), (row.media.height_px, row.media.width_px)
        person = fill_crop(on_white(files.image(references.person_image)), size)
        product = fit_pad(on_white(files.image(references.product_image)), size)
        arrays["person_latent"] = as_array(encode_frames(self._codec, person[None]))
        arrays["product_latent"] = as_array(encode_frames(self._codec, product[None]))

    def _encode_prompts(self, row: Clip, arrays: Arrays) -> bool:
        caption, cuts = _need(row.caption), []
        for key, text in (
            ("text_features", caption.prompt),
            ("hoi_text_features", caption.hoi_prompt),
        ):
            try:
                features, is_cut = self._text.encode(text)
            except ValueError as error:
                raise DataError("prompt_blank", f"{key}: {error}") from error
            arrays[key] = features.astype(np.float16)
            cuts.append(is_cut)
        return any(cuts)

    def _encode_audio(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> None:
        if row.media.audio is None:
            return
        samples = media.read_wav(files.local(row.media.audio))
        if samples.size != row.media.num_frames * media.SAMPLES_PER_FRAME:
            raise DataError(
                "audio_misaligned",
                f"{samples.size} samples for {row.media.num_frames} frames of {media.SAMPLES_PER_FRAME}",
            )
        gain = loudness_gain(_need(row.speech).loudness_lufs, self.config.target_lufs)
        features = self._audio.encode(samples * np.float32(gain))
        start = window.first_target
        arrays["audio_features"] = features[:, start : start + 4 * window.num_latents].astype(
            np.float16
        )


def _encode_video(codec: VideoCodec, frames: Frames, window: Window) -> tuple[NDArray[Any], float]:
    """Latents of the window as stored, and what they lose on the target frames, in dB."""
    chosen = frames[window.frames]
    latents = as_array(encode_frames(codec, chosen))
    stored = torch.from_numpy(latents).float()
    return latents, round_trip_psnr_db(codec, chosen, stored, window.num_lead_frames)


def box_arrays(boxes: Arrays, window: Window, size: tuple[int, int]) -> Arrays:
    """Cut the detector's boxes to the target frames and the picture, and unite them per latent.

    Args:
        boxes: The ``detect`` stage's arrays.
        window: Which frames are target.
        size: Picture (height, width) in pixels.

    Raises:
        DataError: ``streams_misaligned`` when boxes do not cover the clip.
    """
    arrays: Arrays = {}
    for kind in BOX_KINDS:
        target = boxes[f"{kind}_box_xyxy_px"][window.first_target :]
        if len(target) != 4 * window.num_latents + 1:
            raise DataError(
                "streams_misaligned",
                f"{kind} boxes cover {len(target)} target frames, expected {4 * window.num_latents + 1}",
            )
        clipped = clip_boxes(target, size)
        arrays[f"{kind}_box_frame_xyxy_px"] = clipped
        arrays[f"{kind}_box_latent_xyxy_px"] = union_boxes(clipped, window.num_latents)
    return arrays


def clip_boxes(
    boxes: Float[np.ndarray, "frames 4"], size: tuple[int, int]
) -> Float[np.ndarray, "frames 4"]:
    """Cut corner boxes to the picture (height, width); NaN where less than a pixel is left.

    >>> clip_boxes(np.array([[-5.0, 2.0, 9.0, 50.0], [30.0, 0.0, 40.0, 9.0]]), (20, 10)).tolist()[0]
    [0.0, 2.0, 9.0, 20.0]
    """
    height, width = size
    clipped = np.clip(boxes, 0, np.array([width, height, width, height]))
    sides = clipped[:, 2:] - clipped[:, :2]
    is_usable = np.isfinite(boxes).all(axis=1) & (sides >= 1).all(axis=1)
    return np.where(is_usable[:, None], clipped, np.nan).astype(np.float32)


def _window(row: Clip) -> Window:
    width, height = row.media.width_px, row.media.height_px
    if width % SIZE_MULTIPLE_PX or height % SIZE_MULTIPLE_PX:
        raise DataError(
            "size_unsupported", f"{width}x{height} is no multiple of {SIZE_MULTIPLE_PX}"
        )
    try:
        return clip_window(row.media.num_frames, row.media.num_motion_frames)
    except ValueError as error:
        raise DataError("frames_unsupported", str(error)) from error


def _frames(files: Files, row: Clip, ref: Any) -> Frames:
    frames = files.frames(ref)
    expected = (row.media.num_frames, row.media.height_px, row.media.width_px, 3)
    if frames.shape != expected:
        raise DataError("streams_misaligned", f"decoded {frames.shape}, expected {expected}")
    return frames


def _check_finite(arrays: Arrays) -> None:
    bad = [key for key, value in arrays.items() if not np.isfinite(value).all()]
    if bad:
        raise ModelOutputError("latents_not_finite", f"NaN or infinity in {sorted(bad)}")


def _need(facet: Any) -> Any:
    """Facets named in ``needs`` are there: the engine runs their stages first."""
    assert facet is not None
    return facet
