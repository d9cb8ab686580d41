"""Which text and audio encoders a recipe chooses, and whether they can run here: without loading torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model.codecs.weight_folders import model_folder, require_package, weights_digest
from schemas.base import Model
from schemas.settings import PLACE, used_by


class TextEncoderConfig(Model):
    """Which text features to compute.

    Args:
        name: ``bytes`` (embedded) or ``umt5``.
        dim: Width of the embedded encoder's features.
        max_tokens: Longer prompts are cut.
        folder: The user's local transformers folder of umT5 (model and tokenizer).
    """

    name: Literal["bytes", "umt5"] = "bytes"
    dim: Annotated[int, used_by("name", "bytes")] = Field(default=64, ge=8, multiple_of=2)
    max_tokens: int = Field(default=128, ge=1)
    folder: Annotated[str | None, PLACE] = None


class AudioEncoderConfig(Model):
    """Which audio features to compute.

    Args:
        name: ``log-mel`` (embedded) or ``wav2vec2``.
        num_mels: Width of the embedded encoder's features.
        folder: The user's local transformers folder of wav2vec 2.0.
    """

    name: Literal["log-mel", "wav2vec2"] = "log-mel"
    num_mels: Annotated[int, used_by("name", "log-mel")] = Field(default=64, ge=8, le=128)
    folder: Annotated[str | None, PLACE] = None


def check_encoders(text: TextEncoderConfig, audio: AudioEncoderConfig) -> None:
    """Check that both encoders can run here, without loading them.

    Raises:
        ConfigError: A package, folder or weight file is missing.
    """
    if text.name == "umt5":
        model_folder(text.folder, "text_encoder.folder", "umT5 encoder and tokenizer")
        require_package("transformers", "text_encoder.name=umt5")
    if audio.name == "wav2vec2":
        model_folder(audio.folder, "audio_encoder.folder", "wav2vec 2.0 model")
        require_package("transformers", "audio_encoder.name=wav2vec2")


def encoder_weights_sha256(folder: str | None, key: str, what: str) -> str:
    """Digest of an encoder's folder."""
    return weights_digest(model_folder(folder, key, what))
