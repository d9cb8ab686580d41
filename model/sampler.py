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
from jaxtyping import Float
from torch import Tensor

from model.codecs.audio import loudness_gain, measure_lufs
from model.codecs.codec_choice import codec_id
from model.codecs.encoders import AudioEncoder, TextEncoder
from model.codecs.images import fill_crop, fit_pad, on_white
from model.codecs.pixels import to_frames
from model.codecs.video import VideoCodec, encode_frames
from model.flow import NUM_TRAIN_STEPS, euler_step, seeded, sigma_grid
from model.network.inputs import Attention, DiTInputs, fit_to
from model.sample_types import Frames, Image, SampleConfig, SampleRequest, SampleResult
from model.training.build import resolve_device
from model.training.state import FeatureSpaces, TrainState, load_network, read_state
from schemas.clock import FRAMES_PER_LATENT, PX_PER_LATENT, SAMPLES_PER_FRAME
from schemas.errors import ConfigError, ModelOutputError

Progress = Callable[[int, int], None]

__all__ = ["SampleConfig", "SampleRequest", "SampleResult", "Sampler", "guidance_terms", "sample"]


def _quiet(done: int, of: int) -> None:
    """Report to nobody."""
    del done, of


@dataclass(frozen=True, slots=True)
class _Conditions:
    person: Float[Tensor, "1 c 1 h w"]
    product: Float[Tensor, "1 c 1 h w"]
    text: Float[Tensor, "1 l d"]
    null_text: Float[Tensor, "1 l d"]
    hoi_text: Float[Tensor, "1 l d"] | None
    audio: Float[Tensor, "1 layers steps d"] | None


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

    Attributes:
        attention: Rule that will be sampled with.
        hears: Whether sound makes a difference to the network.

    Raises:
        ConfigError: See ``sample``.
    """

    def __init__(self, checkpoint: Path, config: SampleConfig) -> None:
        state = read_state(checkpoint)
        self.config, self.network, self.spaces = config, state.network, state.spaces
        self.codec: VideoCodec = config.codec.build().opened
        self.hoi_codec = self.codec.for_stream("hoi")
        self.text: TextEncoder = config.text_encoder.build().opened
        self.audio: AudioEncoder = config.audio_encoder.build().opened
        self.hears = state.hears
        self._check_spaces(state.spaces)
        if config.with_hoi and not state.network.hoi_branch:
            raise ConfigError(f"{checkpoint} has no HOI branch: sample with with_hoi=False")
        self.attention = _attention(config, state)
        self._runs_hoi = config.with_hoi or (self.attention == "full" and state.network.hoi_branch)
        self.device = resolve_device(config.device)
        self.model = load_network(checkpoint, use_ema=config.use_ema, device=self.device)
        self.model.eval().requires_grad_(False)
        n, h, w = state.spaces.latent_shape
        self.num_latents = config.num_latents or n
        self.size_px = (config.height_px or h * PX_PER_LATENT, config.width_px or w * PX_PER_LATENT)

    def _check_spaces(self, spaces: FeatureSpaces) -> None:
        pairs = [
            ("codec", codec_id(self.codec.ref), spaces.codec),
            ("text_encoder", codec_id(self.text.ref), spaces.text_encoder),
        ]
        if self.hears and spaces.audio_encoder is not None:
            pairs.append(("audio_encoder", codec_id(self.audio.ref), spaces.audio_encoder))
        for name, given, trained in pairs:
            if given != trained:
                raise ConfigError(
                    f"{name} is {given}, the checkpoint was trained on {trained}: configure that"
                )
        trained_on = (spaces.rgb_statistics, spaces.hoi_statistics)
        if (self.codec.statistics, self.hoi_codec.statistics) != trained_on:
            raise ConfigError(
                f"codec {spaces.codec} normalises latents here by other statistics than the checkpoint was "
                "trained on: sample with the version of Handloom that trained it"
            )

    @torch.no_grad()
    def run(self, request: SampleRequest, progress: Progress = _quiet) -> SampleResult:
        """Sample all clips of a request.

        Raises:
            ConfigError: A prompt or the sound cannot be used.
            ModelOutputError: ``sample_not_finite``: the network returned NaN or infinity.
        """
        config = self.config
        sound = self._sound(request)
        audio = None if sound is None else self._audio_features(sound[0], sound[1])
        total, rgb_parts, hoi_parts = config.num_clips * config.steps, [], []
        motion: Float[Tensor, "1 c m h w"] | None = None
        for clip in range(config.num_clips):
            steps = FRAMES_PER_LATENT * self.num_latents
            window = None if audio is None else audio[:, :, clip * steps : (clip + 1) * steps]
            given = self._conditions(request, window)
            rgb, hoi = self._denoise(
                given, motion, clip, partial(_tick, progress, clip * config.steps, total)
            )
            _refuse_not_finite(rgb, hoi)
            lead = given.person if motion is None else motion
            rgb_parts.append(_decode(self.codec, lead, rgb))
            if hoi is not None and config.with_hoi:
                hoi_parts.append(_decode(self.hoi_codec, self._black(), hoi))
            motion = self._motion(np.concatenate(rgb_parts))
        hoi_frames = np.concatenate(hoi_parts) if hoi_parts else None
        return SampleResult(
            np.concatenate(rgb_parts),
            hoi_frames,
            None if sound is None else sound[0],
            self.attention,
        )

    def _denoise(
        self,
        given: _Conditions,
        motion: Float[Tensor, "1 c m h w"] | None,
        clip: int,
        tick: Callable[[int], None],
    ) -> tuple[Float[Tensor, "1 c n h w"], Float[Tensor, "1 c n h w"] | None]:
        """Denoise one clip from pure noise."""
        config = self.config
        shape = (
            1,
            self.network.in_dim,
            self.num_latents,
            *(s // PX_PER_LATENT for s in self.size_px),
        )
        rgb = torch.randn(shape, generator=seeded("rgb", config.seed, clip)).to(self.device)
        hoi = torch.randn(shape, generator=seeded("hoi", config.seed, clip)).to(self.device)
        sigmas = sigma_grid(config.steps, config.shift, with_end=True).tolist()
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            v_rgb, v_hoi = self._guided(given, motion, rgb, hoi if self._runs_hoi else None, sigma)
            rgb = euler_step(rgb, v_rgb, sigma, following)
            if v_hoi is not None:
                hoi = euler_step(hoi, v_hoi, sigma, following)
            tick(i + 1)
        return rgb, hoi if self._runs_hoi else None

    def _guided(
        self,
        given: _Conditions,
        motion: Float[Tensor, "1 c m h w"] | None,
        rgb: Float[Tensor, "1 c n h w"],
        hoi: Float[Tensor, "1 c n h w"] | None,
        sigma: float,
    ) -> tuple[Float[Tensor, "1 c n h w"], Float[Tensor, "1 c n h w"] | None]:
        """V = v(0,0) + a (v(0,audio) - v(0,0)) + s (v(text,audio) - v(0,audio)); equal terms run once.

        Experts stay on in every pass, as in training and in the published sampler.
        """
        inputs = DiTInputs(
            rgb_latent=rgb,
            t=torch.full((1,), NUM_TRAIN_STEPS * sigma, device=self.device),
            text=given.text,
            audio=self._silence() if given.audio is None else given.audio,
            person_latent=given.person,
            product_latent=given.product,
            motion_latent=motion,
            hoi_latent=hoi,
            hoi_text=given.hoi_text if hoi is not None else None,
        )
        total_rgb, total_hoi = torch.zeros_like(rgb), None if hoi is None else torch.zeros_like(hoi)
        for weight, use_text, use_audio in guidance_terms(
            self.config.text_guidance,
            self.config.audio_guidance if given.audio is not None else 1.0,
        ):
            null_hoi = None if given.hoi_text is None else torch.zeros_like(given.hoi_text)
            wanted = replace(
                inputs,
                text=given.text if use_text else given.null_text,
                hoi_text=inputs.hoi_text if use_text or hoi is None else null_hoi,
                audio=inputs.audio if use_audio else self._silence(),
            )
            done = self.model(fit_to(self.network, wanted), attention=self.attention)
            total_rgb = total_rgb + weight * done.rgb_velocity
            if total_hoi is not None:
                total_hoi = total_hoi + weight * done.hoi_velocity
        return total_rgb, total_hoi

    def _conditions(
        self, request: SampleRequest, audio: Float[Tensor, "1 layers steps d"] | None
    ) -> _Conditions:
        text = self._text(request.prompt)
        negative = request.negative_prompt.strip()
        if self._runs_hoi and not request.hoi_prompt.strip():
            why = "with_hoi" if self.config.with_hoi else "full attention (stage 1)"
            raise ConfigError(f"{why} needs hoi_prompt: the description of the structure video")
        return _Conditions(
            person=self._image(fill_crop(on_white(request.person), self.size_px)),
            product=self._image(fit_pad(on_white(request.product), self.size_px)),
            text=text,
            null_text=self._text(negative) if negative else torch.zeros_like(text),
            hoi_text=self._text(request.hoi_prompt) if self._runs_hoi else None,
            audio=audio,
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

    def _sound(self, request: SampleRequest) -> tuple[Float[np.ndarray, " n"], int] | None:
        """The request's sound cut or padded to the whole video, and how much of it was given.

        Raises:
            ConfigError: The network does not hear, or the sound is empty, not mono, or not finite.
        """
        if request.audio is None:
            return None
        if not self.hears:
            raise ConfigError("the checkpoint was trained without sound: sample without audio")
        given = np.asarray(request.audio)
        if given.ndim != 1 or not given.size:
            raise ConfigError(f"audio has shape {given.shape}: expected mono samples at 16 kHz")
        num_bad = int((~np.isfinite(given)).sum())
        if num_bad:
            raise ConfigError(
                f"audio holds {num_bad} NaN or infinite samples of {given.size}: repair it first"
            )
        num_frames = self.config.num_clips * FRAMES_PER_LATENT * self.num_latents
        samples = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32)
        count = min(given.size, samples.size)
        samples[:count] = given[:count]
        return samples, count

    def _audio_features(
        self, samples: Float[np.ndarray, " n"], num_given: int
    ) -> Float[Tensor, "1 layers steps d"]:
        """Features of the whole video at once, so that chained clips do not drift."""
        gain = loudness_gain(measure_lufs(samples[:num_given]), self.config.target_lufs)
        features = self.audio.encode(samples * np.float32(gain)).astype(np.float16)
        return torch.from_numpy(features.astype(np.float32))[None].to(self.device)

    def _silence(self) -> Float[Tensor, "1 layers steps d"]:
        """The trained null condition."""
        shape = (1, self.network.num_audio_layers, FRAMES_PER_LATENT * self.num_latents)
        return torch.zeros(*shape, self.network.audio_dim, device=self.device)

    def _motion(self, frames: Frames) -> Float[Tensor, "1 c m h w"] | None:
        """Encode the newest 1 + 4j frames as context of the next clip, as long as training had it."""
        count = min(self.spaces.num_motion_latents, 1 + (len(frames) - 1) // FRAMES_PER_LATENT)
        if count == 0:
            return None
        context = frames[len(frames) - (1 + FRAMES_PER_LATENT * (count - 1)) :]
        return encode_frames(self.codec, context)[None].to(self.device)

    def _black(self) -> Float[Tensor, "1 c 1 h w"]:
        """What stands before the first structure latent: its ground."""
        black = np.zeros((1, *self.size_px, 3), np.uint8)
        return encode_frames(self.hoi_codec, black)[None].to(self.device)


def _decode(
    codec: VideoCodec, lead: Float[Tensor, "1 c m h w"], latents: Float[Tensor, "1 c n h w"]
) -> Frames:
    """Decode target latents behind what came before them: the context, or one still."""
    frames = to_frames(codec.decode(torch.cat([lead, latents], dim=2).cpu()))
    return frames[len(frames) - FRAMES_PER_LATENT * latents.shape[2] :]


def _attention(config: SampleConfig, state: TrainState) -> Attention:
    """Without a structure stream both rules are the same one."""
    if not state.network.hoi_branch:
        return "asymmetric"
    return state.attention if config.attention == "trained" else config.attention


def _refuse_not_finite(*latents: Tensor | None) -> None:
    if not all(x is None or bool(torch.isfinite(x).all()) for x in latents):
        raise ModelOutputError(
            "sample_not_finite", "the network returned NaN or infinity: lower the guidance"
        )


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
