"""Text and audio encoders behind two Protocols: embedded stand-ins and the real ones from local folders.

Text features are (tokens, dim), audio features are (layers, frames, dim) with one step per video frame.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float

from model.codecs.audio import LogMelAudioEncoder, Wav2Vec2AudioEncoder
from model.codecs.encoder_choice import AudioEncoderConfig, TextEncoderConfig
from model.codecs.text import ByteTextEncoder, UMT5TextEncoder
from model.codecs.weight_folders import model_folder, require_package, weights_digest
from schemas.base import BackendRef


class TextEncoder(Protocol):
    """Turns a prompt into one feature vector per token."""

    ref: BackendRef
    dim: int
    max_tokens: int

    def encode(self, text: str) -> tuple[Float[np.ndarray, "tokens dim"], bool]:
        """Return float32 features of 1 .. max_tokens tokens, and whether the text was cut."""


class AudioEncoder(Protocol):
    """Turns sound into one feature vector per video frame and layer."""

    ref: BackendRef
    num_layers: int
    dim: int

    def encode(self, samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "layers frames dim"]:
        """Encode 640 * frames mono samples at 16 kHz; step i describes frame i."""


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Build the configured text encoder.

    Raises:
        ConfigError: Its folder or package is missing.
    """
    if config.name == "bytes":
        return ByteTextEncoder(config.dim, config.max_tokens)
    folder = model_folder(config.folder, "text_encoder.folder", "umT5 encoder and tokenizer")
    require_package("transformers", "text_encoder.name=umt5")
    from transformers import AutoTokenizer, UMT5EncoderModel

    model = UMT5EncoderModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return UMT5TextEncoder(model, tokenizer, weights_digest(folder), config.max_tokens)


def build_audio_encoder(config: AudioEncoderConfig) -> AudioEncoder:
    """Build the configured audio encoder.

    Raises:
        ConfigError: Its folder or package is missing.
    """
    if config.name == "log-mel":
        return LogMelAudioEncoder(config.num_mels)
    folder = model_folder(config.folder, "audio_encoder.folder", "wav2vec 2.0 model")
    require_package("transformers", "audio_encoder.name=wav2vec2")
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    model = Wav2Vec2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    return Wav2Vec2AudioEncoder(
        model, weights_digest(folder), do_normalize=bool(extractor.do_normalize)
    )
