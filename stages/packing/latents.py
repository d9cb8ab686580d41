"""Stage ``latents``: everything that the trainer reads of a clip, in one safetensors file.

All streams keep the one clock of ``model/codecs/clock.py``. Keys of the file (n latents, c = 16 channels):
``rgb_latent``, ``hoi_latent`` (c,n,h,w) f16; ``rgb_motion_latent`` (c,1+j,h,w) f16 where there is context;
``person_latent``, ``product_latent`` (c,1,h,w) f16; ``audio_features`` (layers,4n,dim) f16 where there is
sound; ``text_features``, ``hoi_text_features`` (tokens,dim) f16; ``{face,left_hand,right_hand}_box_latent_xyxy_px``
(n,4) f32 and ``..._box_frame_xyxy_px`` (4n+1,4) f32, NaN where absent.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

from pydantic import Field

from model.codecs.codec_choice import CodecChoice, DctConfig
from model.codecs.encoder_choice import (
    AudioEncoderChoice,
    ByteTextConfig,
    LogMelConfig,
    TextEncoderChoice,
)
from schemas import facets as f
from schemas.rows import Clip
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from stages.gates import AtLeast, first_failure


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

    codec: CodecChoice = DctConfig()
    text_encoder: TextEncoderChoice = ByteTextConfig()
    audio_encoder: AudioEncoderChoice = LogMelConfig()
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

    def __init__(self, config: LatentsConfig) -> None:
        super().__init__(config)
        self._codec = config.codec.build()
        self._text, self._audio = config.text_encoder.build(), config.audio_encoder.build()
        self.backends = (self._codec, self._text, self._audio)

    @property
    def weights_sha256(self) -> str:
        """Digest over the weight files of codec and encoders; empty for the embedded ones."""
        encoders = (b.weights_sha256 for b in (self._text, self._audio))
        parts = [self._codec.weights_sha256, *filter(None, encoders)]
        return hashlib.sha256("/".join(parts).encode()).hexdigest() if any(parts) else ""

    def setup(self) -> None:
        """Open codec and encoders."""
        from stages.packing.clip_encoder import ClipEncoder

        super().setup()
        self._encoder = ClipEncoder(
            self._codec.opened, self._text.opened, self._audio.opened, self.config.target_lufs
        )

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Encode one clip.

        Raises:
            DataError: Streams do not fit each other, or a file cannot be read.
            ModelOutputError: An encoder returned NaN or infinity.
        """
        done = self._encoder.encode(row, files)
        height, width = done.arrays["rgb_latent"].shape[2:]
        facet = f.LatentsFacet(
            arrays=files.put_arrays(done.arrays),
            num_latents=done.window.num_latents,
            num_motion_latents=done.window.num_motion_latents,
            latent_height=height,
            latent_width=width,
            codec=self._encoder.codec.ref,
            rgb_statistics=self._encoder.codec.statistics,
            hoi_statistics=self._encoder.hoi_codec.statistics,
            text_encoder=self._encoder.text.ref,
            audio_encoder=self._encoder.audio.ref,
            rgb_psnr_db=round(done.rgb_psnr_db, 4),
            hoi_psnr_db=round(done.hoi_psnr_db, 4),
            has_audio="audio_features" in done.arrays,
            is_text_cut=done.is_text_cut,
        )
        return Kept((row.with_facet("latents", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        """Drop clips that the codec cannot carry."""
        facet, gate = row.need("latents"), self.config.gate
        return first_failure([
            AtLeast("codec_psnr_low", "rgb_psnr_db", facet.rgb_psnr_db, gate.min_rgb_psnr_db),
            AtLeast("hoi_codec_psnr_low", "hoi_psnr_db", facet.hoi_psnr_db, gate.min_hoi_psnr_db),
        ])  # fmt: skip
