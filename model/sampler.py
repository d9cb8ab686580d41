"""Sampling: Euler steps with separate text and audio guidance, clips chained by their motion context.

The HOI branch may be left out: under asymmetric attention the RGB stream does not depend on it. Both
streams have their own random generator, so that RGB starts from the same noise either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from model.audio_encoders import SAMPLES_PER_FRAME, loudness_gain, measure_lufs
from model.checkpoint import load_weights
from model.codecs import CodecConfig, VideoCodec, build_codec, codec_id, encode_frames
from model.data import seeded
from model.dit import CoGenDiT
from model.encoders import (
    AudioEncoder,
    AudioEncoderConfig,
    TextEncoder,
    TextEncoderConfig,
    build_audio_encoder,
    build_text_encoder,
)
from model.flow import NUM_TRAIN_STEPS, euler_step, sigma_grid
from model.images import fill_crop, fit_pad, on_white
from model.inputs import DiTInputs
from model.pixels import STRIDE_S, STRIDE_T, to_frames
from model.train_state import EMA_FILE, MODEL_FILE, FeatureSpaces, read_state
from schemas.base import Model
from schemas.errors import ConfigError

Progress = Callable[[int, int], None]
Image = UInt8[np.ndarray, "h w c"]
Frames = UInt8[np.ndarray, "f hp wp 3"]


def _quiet(done: int, of: int) -> None:
    """Report to nobody."""
    del done, of


class SampleConfig(Model):
    """How to sample.

    Args:
        steps: Euler steps.
        shift: Of the noise levels.
        text_guidance: Weight of text guidance; 1 follows the conditional prediction.
        audio_guidance: Weight of audio guidance; 1 likewise.
        with_hoi: Also denoise and return the structure video.
        num_clips: Clips chained by motion context; each adds 4n frames.
        seed: Of both streams' noise.
        num_latents: Target latents n per clip; None takes the training size.
        height_px: Picture height; None takes the training size.
        width_px: Picture width; None takes the training size.
        device: Torch device.
        use_ema: Sample from the moving average, where the checkpoint has one.
        codec: Must be the latent space of the checkpoint.
        text_encoder: Must be the checkpoint's.
        audio_encoder: Must be the checkpoint's.
        target_lufs: Sound is brought to this loudness, as in curation.
    """

    steps: int = Field(default=40, ge=1)
    shift: float = Field(default=5.0, gt=0)
    text_guidance: float = Field(default=5.0, ge=0)
    audio_guidance: float = Field(default=5.0, ge=0)
    with_hoi: bool = False
    num_clips: int = Field(default=1, ge=1)
    seed: int = 0
    num_latents: int | None = Field(default=None, ge=1)
    height_px: int | None = Field(default=None, gt=0, multiple_of=16)
    width_px: int | None = Field(default=None, gt=0, multiple_of=16)
    device: str = "cpu"
    use_ema: bool = True
    codec: CodecConfig = CodecConfig()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    audio_encoder: AudioEncoderConfig = AudioEncoderConfig()
    target_lufs: float = -23.0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What to show.

    Attributes:
        person: RGB(A) reference of the person, any size.
        product: RGB(A) reference of the product, any size.
        prompt: Description of the clip.
        hoi_prompt: Description of the structure video; needed with ``with_hoi``.
        negative_prompt: Guidance goes away from it; empty takes the trained null condition.
        audio: Mono samples at 16 kHz from the first frame on; cut or padded with silence to the video. None
            takes the trained null condition.
    """

    person: Image
    product: Image
    prompt: str
    hoi_prompt: str = ""
    negative_prompt: str = ""
    audio: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Frames at 25 fps: ``num_clips * 4n`` of them. ``hoi`` is None without the branch."""

    rgb: Frames
    hoi: Frames | None


@dataclass(frozen=True, slots=True)
class _Conditions:
    person: Float[Tensor, "1 c 1 h w"]
    product: Float[Tensor, "1 c 1 h w"]
    text: Float[Tensor, "1 l d"]
    null_text: Float[Tensor, "1 l d"]
    hoi_text: Float[Tensor, "1 l d"] | None
    audio: Float[Tensor, "1 layers steps d"]
    has_audio: bool


def sample(
    checkpoint: Path,
    request: SampleRequest,
    config: SampleConfig | None = None,
    progress: Progress = _quiet,
) -> SampleResult:
    """Sample a video from a checkpoint.

    Args:
        checkpoint: A ``step-*`` folder of the trainer.
        request: References, prompt and sound.
        config: Steps, guidance, size and encoders.
        progress: Called with (network steps done, all).

    Raises:
        ConfigError: Not a checkpoint, other latent or feature spaces than it was trained on, or a
            size that the network does not take.
    """
    return Sampler(checkpoint, config or SampleConfig()).run(request, progress)


class Sampler:
    """A loaded network with its codec and encoders.

    Raises:
        ConfigError: See ``sample``.
    """

    def __init__(self, checkpoint: Path, config: SampleConfig) -> None:
        state = read_state(checkpoint)
        self.config, self.network, self.spaces = config, state.network, state.spaces
        self.codec: VideoCodec = build_codec(config.codec)
        self.text: TextEncoder = build_text_encoder(config.text_encoder)
        self.audio: AudioEncoder = build_audio_encoder(config.audio_encoder)
        self._check_spaces(state.spaces)
        if config.with_hoi and not state.network.hoi_branch:
            raise ConfigError(f"{checkpoint} has no HOI branch: sample with with_hoi=False")
        self.device = torch.device(config.device)
        weights = checkpoint / EMA_FILE
        if not (config.use_ema and weights.is_file()):
            weights = checkpoint / MODEL_FILE
        with torch.device("meta"):
            self.model = CoGenDiT(state.network)
        load_weights(self.model, [weights], device=self.device, dtype=torch.float32)
        self.model.eval().requires_grad_(False)
        n, h, w = state.spaces.latent_shape
        self.num_latents = config.num_latents or n
        self.size_px = (config.height_px or h * STRIDE_S, config.width_px or w * STRIDE_S)

    def _check_spaces(self, spaces: FeatureSpaces) -> None:
        pairs = [
            ("codec", codec_id(self.codec.ref), spaces.codec),
            ("text_encoder", codec_id(self.text.ref), spaces.text_encoder),
        ]
        if spaces.audio_encoder is not None:
            pairs.append(("audio_encoder", codec_id(self.audio.ref), spaces.audio_encoder))
        for name, given, trained in pairs:
            if given != trained:
                raise ConfigError(
                    f"{name} is {given}, the checkpoint was trained on {trained}: configure that"
                )

    @torch.no_grad()
    def run(self, request: SampleRequest, progress: Progress = _quiet) -> SampleResult:
        """Sample all clips of a request."""
        config = self.config
        audio, has_audio = self._audio_features(request)
        total, rgb_parts, hoi_parts = config.num_clips * config.steps, [], []
        motion: Float[Tensor, "1 c m h w"] | None = None
        for clip in range(config.num_clips):
            steps = STRIDE_T * self.num_latents
            window = audio[:, :, clip * steps : (clip + 1) * steps]
            given = self._conditions(request, window, has_audio)
            rgb, hoi = self._denoise(
                given, motion, clip, partial(_tick, progress, clip * config.steps, total)
            )
            rgb_parts.append(self._decode(rgb, motion, given.person))
            if hoi is not None:
                hoi_parts.append(self._decode(hoi, None, torch.zeros_like(given.person)))
            motion = self._motion(np.concatenate(rgb_parts))
        hoi_frames = np.concatenate(hoi_parts) if hoi_parts else None
        return SampleResult(np.concatenate(rgb_parts), hoi_frames)

    def _denoise(
        self,
        given: _Conditions,
        motion: Float[Tensor, "1 c m h w"] | None,
        clip: int,
        tick: Callable[[int], None],
    ) -> tuple[Float[Tensor, "1 c n h w"], Float[Tensor, "1 c n h w"] | None]:
        """Denoise one clip from pure noise."""
        config = self.config
        shape = (1, self.network.in_dim, self.num_latents, *(s // STRIDE_S for s in self.size_px))
        rgb = torch.randn(shape, generator=seeded("rgb", config.seed, clip)).to(self.device)
        hoi = torch.randn(shape, generator=seeded("hoi", config.seed, clip)).to(self.device)
        sigmas = sigma_grid(config.steps, config.shift, with_end=True).tolist()
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            v_rgb, v_hoi = self._guided(given, motion, rgb, hoi if config.with_hoi else None, sigma)
            rgb = euler_step(rgb, v_rgb, sigma, following)
            if v_hoi is not None:
                hoi = euler_step(hoi, v_hoi, sigma, following)
            tick(i + 1)
        return rgb, hoi if config.with_hoi else None

    def _guided(
        self,
        given: _Conditions,
        motion: Float[Tensor, "1 c m h w"] | None,
        rgb: Float[Tensor, "1 c n h w"],
        hoi: Float[Tensor, "1 c n h w"] | None,
        sigma: float,
    ) -> tuple[Float[Tensor, "1 c n h w"], Float[Tensor, "1 c n h w"] | None]:
        """V = v(0,0) + a (v(0,audio) - v(0,0)) + s (v(text,audio) - v(0,audio)); equal terms run once."""
        inputs = DiTInputs(
            rgb_latent=rgb,
            t=torch.full((1,), NUM_TRAIN_STEPS * sigma, device=self.device),
            text=given.text,
            audio=given.audio,
            person_latent=given.person,
            product_latent=given.product,
            motion_latent=motion,
            hoi_latent=hoi,
            hoi_text=given.hoi_text if hoi is not None else None,
        )
        total_rgb, total_hoi = torch.zeros_like(rgb), None if hoi is None else torch.zeros_like(hoi)
        for weight, use_text, use_audio in guidance_terms(
            self.config.text_guidance, self.config.audio_guidance if given.has_audio else 1.0
        ):
            null_hoi = None if given.hoi_text is None else torch.zeros_like(given.hoi_text)
            done = self.model(
                replace(
                    inputs,
                    text=given.text if use_text else given.null_text,
                    hoi_text=inputs.hoi_text if use_text or hoi is None else null_hoi,
                    audio=given.audio if use_audio else torch.zeros_like(given.audio),
                    is_conditional=use_text,
                ),
                attention="asymmetric",
            )
            total_rgb = total_rgb + weight * done.rgb_velocity
            if total_hoi is not None:
                total_hoi = total_hoi + weight * done.hoi_velocity
        return total_rgb, total_hoi

    def _conditions(
        self, request: SampleRequest, audio: Float[Tensor, "1 layers steps d"], has_audio: bool
    ) -> _Conditions:
        text = self._text(request.prompt)
        negative = request.negative_prompt.strip()
        if self.config.with_hoi and not request.hoi_prompt.strip():
            raise ConfigError("with_hoi needs hoi_prompt: the description of the structure video")
        return _Conditions(
            person=self._image(fill_crop(on_white(request.person), self.size_px)),
            product=self._image(fit_pad(on_white(request.product), self.size_px)),
            text=text,
            null_text=self._text(negative) if negative else torch.zeros_like(text),
            hoi_text=self._text(request.hoi_prompt) if self.config.with_hoi else None,
            audio=audio,
            has_audio=has_audio,
        )

    def _text(self, prompt: str) -> Float[Tensor, "1 l d"]:
        try:
            features, _ = self.text.encode(prompt)
        except ValueError as error:
            raise ConfigError(f"prompt {prompt!r}: {error}") from error
        return torch.from_numpy(features.astype(np.float16).astype(np.float32))[None].to(
            self.device
        )

    def _image(self, image: Image) -> Float[Tensor, "1 c 1 h w"]:
        return encode_frames(self.codec, image[None])[None].to(self.device)

    def _audio_features(
        self, request: SampleRequest
    ) -> tuple[Float[Tensor, "1 layers steps d"], bool]:
        """Features of the whole video at once, so that chained clips do not drift."""
        num_frames = self.config.num_clips * STRIDE_T * self.num_latents
        if request.audio is None:
            network = self.network
            return torch.zeros(
                1, network.num_audio_layers, num_frames, network.audio_dim, device=self.device
            ), False
        if self.spaces.audio_encoder is None:
            raise ConfigError("the checkpoint was trained without sound: sample without audio")
        samples = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32)
        given = request.audio[: samples.size].astype(np.float32)
        samples[: given.size] = given
        samples *= loudness_gain(measure_lufs(given), self.config.target_lufs)
        features = self.audio.encode(samples).astype(np.float16).astype(np.float32)
        return torch.from_numpy(features)[None].to(self.device), True

    def _motion(self, frames: Frames) -> Float[Tensor, "1 c m h w"] | None:
        """Encode the newest 1 + 4j frames as context of the next clip, as long as training had it."""
        count = min(self.spaces.num_motion_latents, 1 + (len(frames) - 1) // STRIDE_T)
        if count == 0:
            return None
        context = frames[len(frames) - (1 + STRIDE_T * (count - 1)) :]
        return encode_frames(self.codec, context)[None].to(self.device)

    def _decode(
        self,
        latents: Float[Tensor, "1 c n h w"],
        motion: Float[Tensor, "1 c m h w"] | None,
        lead: Float[Tensor, "1 c 1 h w"],
    ) -> Frames:
        """Decode target latents behind what came before them: the context, or one still."""
        before = lead if motion is None else motion
        joined = torch.cat([before, latents], dim=2).cpu()
        frames = to_frames(self.codec.decode(joined))
        return frames[len(frames) - STRIDE_T * latents.shape[2] :]


def _tick(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def guidance_terms(text: float, audio: float) -> list[tuple[float, bool, bool]]:
    """Linear combination of predictions: (weight, with text, with audio), without zero weights.

    >>> guidance_terms(1.0, 1.0)
    [(1.0, True, True)]
    >>> guidance_terms(5.0, 5.0)
    [(5.0, True, True), (-4.0, False, False)]
    """
    terms = [(text, True, True), (audio - text, False, True), (1.0 - audio, False, False)]
    return [term for term in terms if term[0] != 0.0]
