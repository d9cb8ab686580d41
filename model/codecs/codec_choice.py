"""Which codec a recipe chooses, and whether it can run here: what can be said without loading torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from model.codecs.opened import FolderBackend, OpenedBackend
from schemas.backend import About, BackendConfig, Resources, by_name
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.settings import PIN, PLACE

if TYPE_CHECKING:
    from model.codecs.video import VideoCodec


class DctConfig(BackendConfig):
    """The embedded codec: no weights."""

    about: ClassVar[About] = About("dct", "torch", "Apache-2.0")
    name: Literal["dct"] = "dct"

    def build(self) -> DctBackend:
        """The codec, unopened."""
        return DctBackend()


class WanVaeConfig(BackendConfig):
    """The VAE of Wan 2.1 from your folder.

    Args:
        folder: Your local diffusers folder of the VAE (``config.json`` + safetensors).
        weights_sha256: Expected digest of that folder's weights (``weights_digest``); checked when set.
        device: Torch device.
    """

    about: ClassVar[About] = About("wan2.1-vae", "diffusers", "Apache-2.0", "your folder", "wan")
    name: Literal["wan2.1-vae"] = "wan2.1-vae"
    folder: Annotated[str | None, PLACE] = None
    weights_sha256: Annotated[str | None, PIN] = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    device: str = "cpu"

    def build(self) -> WanVaeBackend:
        """The codec, unopened."""
        return WanVaeBackend(self)


CodecChoice = Annotated[
    DctConfig | WanVaeConfig, Field(discriminator="name"), by_name("dct", DctConfig, WanVaeConfig)
]
"""Which latent space to work in."""


class DctBackend(OpenedBackend["VideoCodec"]):
    """See ``model/codecs/dct.py``."""

    def _open(self) -> VideoCodec:
        from model.codecs.dct import DctCodec

        return DctCodec()


class WanVaeBackend(FolderBackend["VideoCodec"]):
    """See ``model/codecs/wan.py``."""

    def __init__(self, config: WanVaeConfig) -> None:
        super().__init__(config.folder, "codec.folder", "Wan 2.1 VAE", config.about.package)
        self._config = config

    @property
    def resources(self) -> Resources:
        """The VAE's activations; a GPU where it is told to."""
        gpus = 1.0 if self._config.device.startswith("cuda") else 0.0
        return Resources(num_gpus=gpus, memory_bytes=8_000_000_000)

    def check(self) -> None:
        """Check folder, pin and package.

        Raises:
            ConfigError: One is missing or another one; the message says what to do.
        """
        pinned, digest = self._config.weights_sha256, self.weights_sha256
        if pinned not in (None, digest):
            raise ConfigError(
                f"codec.folder={self._config.folder}: weights have sha256 {digest}, the recipe pins "
                f"{pinned}; use the pinned files or change codec.weights_sha256"
            )
        super().check()

    def _open(self) -> VideoCodec:
        from diffusers import AutoencoderKLWan

        from model.codecs.wan import WanVaeCodec

        vae = AutoencoderKLWan.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True
        )
        return WanVaeCodec(vae, self.weights_sha256, device=self._config.device)


def codec_id(ref: BackendRef) -> str:
    """Name a latent or feature space: equal text means comparable values.

    >>> codec_id(BackendRef(name="dct", version="1", licence="Apache-2.0"))
    'dct@1'
    """
    return f"{ref.name}@{ref.version}" + (
        f"#{ref.weights_sha256[:16]}" if ref.weights_sha256 else ""
    )
