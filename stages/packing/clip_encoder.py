"""Encodes one clip into the arrays of the latents file: the part of stage ``latents`` that needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from model.codecs.audio import loudness_gain
from model.codecs.clock import Window, clip_window, union_boxes
from model.codecs.encoders import AudioEncoder, TextEncoder
from model.codecs.images import fill_crop, fit_pad, on_white
from model.codecs.video import VideoCodec, as_array, encode_frames, round_trip_psnr_db
from schemas.clock import FRAMES_PER_LATENT, PX_PER_TOKEN, SAMPLES_PER_FRAME
from schemas.errors import DataError, ModelOutputError
from schemas.rows import Clip
from stages.files import Files
from stages.kit import media
from stages.kit.arrays import Array, Arrays, Frames
from stages.kit.landmarks import Landmarks


@dataclass(frozen=True, slots=True)
class Encoded:
    """A clip's arrays and what was measured while they were made."""

    arrays: Arrays
    window: Window
    rgb_psnr_db: float
    hoi_psnr_db: float
    is_text_cut: bool


class ClipEncoder:
    """Codec and encoders of a recipe.

    Args:
        codec: Latent space of the picture streams.
        text: Features of both prompts.
        audio: Features of the sound.
        target_lufs: Sound is brought to this loudness before it is encoded.
    """

    def __init__(
        self, codec: VideoCodec, text: TextEncoder, audio: AudioEncoder, target_lufs: float
    ) -> None:
        self.codec = codec
        self.hoi_codec = codec.for_stream("hoi")
        self.text, self.audio = text, audio
        self._target_lufs = target_lufs

    def encode(self, row: Clip, files: Files) -> Encoded:
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
        landmarks = Landmarks.read(files.arrays(row.need("detect").arrays))
        arrays |= box_arrays(landmarks, window, size)
        return Encoded(arrays, window, rgb_psnr, hoi_psnr, is_cut)

    def _encode_rgb(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> float:
        frames = _frames(files, row, row.media.video)
        latents, psnr = _encode_video(self.codec, frames, window)
        lead = window.num_lead_latents
        arrays["rgb_latent"] = latents[:, lead:]
        if window.num_motion_latents:
            arrays["rgb_motion_latent"] = latents[:, :lead]
        return psnr

    def _encode_hoi(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> float:
        frames = _frames(files, row, row.need("structure").video)
        latents, psnr = _encode_video(self.hoi_codec, frames, window)
        arrays["hoi_latent"] = latents[:, window.num_lead_latents :]
        return psnr

    def _encode_references(self, row: Clip, files: Files, arrays: Arrays) -> None:
        references, size = row.need("references"), (row.media.height_px, row.media.width_px)
        person = fill_crop(on_white(files.image(references.person_image)), size)
        product = fit_pad(on_white(files.image(references.product_image)), size)
        arrays["person_latent"] = as_array(encode_frames(self.codec, person[None]))
        arrays["product_latent"] = as_array(encode_frames(self.codec, product[None]))

    def _encode_prompts(self, row: Clip, arrays: Arrays) -> bool:
        caption, cuts = row.need("caption"), []
        for key, text in (
            ("text_features", caption.prompt),
            ("hoi_text_features", caption.hoi_prompt),
        ):
            try:
                features, is_cut = self.text.encode(text)
            except ValueError as error:
                raise DataError("prompt_blank", f"{key}: {error}") from error
            arrays[key] = features.astype(np.float16)
            cuts.append(is_cut)
        return any(cuts)

    def _encode_audio(self, row: Clip, files: Files, window: Window, arrays: Arrays) -> None:
        if row.media.audio is None:
            return
        samples = media.read_wav(files.local(row.media.audio))
        if samples.size != row.media.num_frames * SAMPLES_PER_FRAME:
            raise DataError(
                "audio_misaligned",
                f"{samples.size} samples for {row.media.num_frames} frames of {SAMPLES_PER_FRAME}",
            )
        gain = loudness_gain(row.need("speech").loudness_lufs, self._target_lufs)
        features = self.audio.encode(samples * np.float32(gain))
        start = window.first_target
        arrays["audio_features"] = features[
            :, start : start + FRAMES_PER_LATENT * window.num_latents
        ].astype(np.float16)


def _encode_video(codec: VideoCodec, frames: Frames, window: Window) -> tuple[Array, float]:
    """Latents of the window as stored, and what they lose on the target frames, in dB."""
    chosen = frames[window.frames]
    latents = as_array(encode_frames(codec, chosen))
    stored = torch.from_numpy(latents).float()
    return latents, round_trip_psnr_db(codec, chosen, stored, window.num_lead_frames)


def box_arrays(landmarks: Landmarks, window: Window, size: tuple[int, int]) -> Arrays:
    """Cut the detector's boxes to the target frames and the picture, and unite them per latent.

    Args:
        landmarks: What ``detect`` found in the clip.
        window: Which frames are target.
        size: Picture (height, width) in pixels.

    Raises:
        DataError: ``streams_misaligned`` when boxes do not cover the clip.
    """
    arrays: Arrays = {}
    for part, track in landmarks.parts.items():
        target = track.box_xyxy_px[window.first_target :]
        if len(target) != FRAMES_PER_LATENT * window.num_latents + 1:
            raise DataError(
                "streams_misaligned",
                f"{part} boxes cover {len(target)} target frames, expected {FRAMES_PER_LATENT * window.num_latents + 1}",
            )
        clipped = clip_boxes(target, size)
        arrays[f"{part}_box_frame_xyxy_px"] = clipped
        arrays[f"{part}_box_latent_xyxy_px"] = union_boxes(clipped, window.num_latents)
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
    if width % PX_PER_TOKEN or height % PX_PER_TOKEN:
        raise DataError("size_unsupported", f"{width}x{height} is no multiple of {PX_PER_TOKEN}")
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
