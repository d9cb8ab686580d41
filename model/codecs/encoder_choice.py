"""Which text and audio encoders a recipe chooses, and whether they can run here: without loading torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from model.codecs.opened import FolderBackend, OpenedBackend
from schemas.backend import About, BackendConfig, by_name
from schemas.settings import PLACE

if TYPE_CHECKING:
    from model.codecs.encoders import AudioEncoder, TextEncoder


class ByteTextConfig(BackendConfig):
    """The embedded stand-in: hashed bytes, no weights.

    Args:
        dim: Width of the features.
        max_tokens: Longer prompts are cut.
    """

    about: ClassVar[About] = About("bytes", "numpy", "Apache-2.0")
    name: Literal["bytes"] = "bytes"
    dim: int = Field(default=64, ge=8, multiple_of=2)
    max_tokens: int = Field(default=128, ge=1)

    def build(self) -> ByteTextBackend:
        """The encoder, unopened."""
        return ByteTextBackend(self)


class UMT5Config(BackendConfig):
    """umT5 from your folder.

    Args:
        max_tokens: Longer prompts are cut.
        folder: Your local transformers folder of umT5 (model and tokenizer).
    """

    about: ClassVar[About] = About("umt5", "transformers", "Apache-2.0", "your folder", "wan")
    name: Literal["umt5"] = "umt5"
    max_tokens: int = Field(default=128, ge=1)
    folder: Annotated[str | None, PLACE] = None

    def build(self) -> UMT5Backend:
        """The encoder, unopened."""
        return UMT5Backend(self)


TextEncoderChoice = Annotated[
    ByteTextConfig | UMT5Config,
    Field(discriminator="name"),
    by_name("bytes", ByteTextConfig, UMT5Config),
]
"""Which text features to compute."""


class LogMelConfig(BackendConfig):
    """The embedded stand-in: log-mel bands, no weights.

    Args:
        num_mels: Width of the features.
    """

    about: ClassVar[About] = About("log-mel", "numpy", "Apache-2.0")
    name: Literal["log-mel"] = "log-mel"
    num_mels: int = Field(default=64, ge=8, le=128)

    def build(self) -> LogMelBackend:
        """The encoder, unopened."""
        return LogMelBackend(self)


class Wav2Vec2Config(BackendConfig):
    """wav2vec 2.0 from your folder.

    Args:
        folder: Your local transformers folder of wav2vec 2.0.
    """

    about: ClassVar[About] = About("wav2vec2", "transformers", "Apache-2.0", "your folder", "wan")
    name: Literal["wav2vec2"] = "wav2vec2"
    folder: Annotated[str | None, PLACE] = None

    def build(self) -> Wav2Vec2Backend:
        """The encoder, unopened."""
        return Wav2Vec2Backend(self)


AudioEncoderChoice = Annotated[
    LogMelConfig | Wav2Vec2Config,
    Field(discriminator="name"),
    by_name("log-mel", LogMelConfig, Wav2Vec2Config),
]
"""Which audio features to compute."""


class ByteTextBackend(OpenedBackend["TextEncoder"]):
    """See ``model/codecs/text.py``."""

    def __init__(self, config: ByteTextConfig) -> None:
        self._config = config

    def _open(self) -> TextEncoder:
        from model.codecs.text import ByteTextEncoder

        return ByteTextEncoder(self._config.dim, self._config.max_tokens)


class UMT5Backend(FolderBackend["TextEncoder"]):
    """See ``model/codecs/text.py``."""

    def __init__(self, config: UMT5Config) -> None:
        what = "umT5 encoder and tokenizer"
        super().__init__(config.folder, "text_encoder.folder", what, config.about.package)
        self._max_tokens = config.max_tokens

    def _open(self) -> TextEncoder:
        from transformers import AutoTokenizer, UMT5EncoderModel

        from model.codecs.text import UMT5TextEncoder

        model = UMT5EncoderModel.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return UMT5TextEncoder(model, tokenizer, self.weights_sha256, self._max_tokens)


class LogMelBackend(OpenedBackend["AudioEncoder"]):
    """See ``model/codecs/audio.py``."""

    def __init__(self, config: LogMelConfig) -> None:
        self._config = config

    def _open(self) -> AudioEncoder:
        from model.codecs.audio import LogMelAudioEncoder

        return LogMelAudioEncoder(self._config.num_mels)


class Wav2Vec2Backend(FolderBackend["AudioEncoder"]):
    """See ``model/codecs/audio.py``."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        what = "wav2vec 2.0 model"
        super().__init__(config.folder, "audio_encoder.folder", what, config.about.package)

    def _open(self) -> AudioEncoder:
        from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

        from model.codecs.audio import Wav2Vec2AudioEncoder

        model = Wav2Vec2Model.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True
        )
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(self.folder, local_files_only=True)
        normalises = bool(extractor.do_normalize)
        return Wav2Vec2AudioEncoder(model, self.weights_sha256, do_normalize=normalises)
