"""Which codec a recipe chooses, and whether it can run here: what can be said without loading torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model.codecs.weight_folders import model_folder, require_package, weights_digest
from schemas.base import BackendRef, Model
from schemas.errors import ConfigError
from schemas.settings import PIN, PLACE, used_by


class CodecConfig(Model):
    """Which latent space to work in.

    Args:
        name: ``dct`` (embedded) or ``wan2.1-vae``.
        folder: The user's local diffusers folder of the VAE (``config.json`` + safetensors).
        weights_sha256: Expected digest of that folder's weights (``weights_digest``); checked when set.
        device: Torch device of the VAE.
    """

    name: Literal["dct", "wan2.1-vae"] = "dct"
    folder: Annotated[str | None, PLACE] = None
    weights_sha256: Annotated[str | None, PIN] = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    device: Annotated[str, used_by("name", "wan2.1-vae")] = "cpu"


def check_codec(config: CodecConfig) -> None:
    """Check that a codec can run here, without loading it.

    Raises:
        ConfigError: A package, folder or weight file is missing, or its digest is another one.
    """
    if config.name == "wan2.1-vae":
        digest = weights_digest(model_folder(config.folder, "codec.folder", "Wan 2.1 VAE"))
        if config.weights_sha256 not in (None, digest):
            raise ConfigError(
                f"codec.folder={config.folder}: weights have sha256 {digest}, the recipe pins "
                f"{config.weights_sha256}; use the pinned files or change codec.weights_sha256"
            )
        require_package("diffusers", "codec.name=wan2.1-vae")


def codec_weights_sha256(config: CodecConfig) -> str:
    """Digest of the configured codec's weight files; empty for ``dct``."""
    if config.name == "dct":
        return ""
    return weights_digest(model_folder(config.folder, "codec.folder", "Wan 2.1 VAE"))


def codec_id(ref: BackendRef) -> str:
    """Name a latent or feature space: equal text means comparable values.

    >>> codec_id(BackendRef(name="dct", version="1", licence="Apache-2.0"))
    'dct@1'
    """
    return f"{ref.name}@{ref.version}" + (
        f"#{ref.weights_sha256[:16]}" if ref.weights_sha256 else ""
    )
