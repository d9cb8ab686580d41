"""Before the first step: do these shards fit this network?"""

from __future__ import annotations

from collections.abc import Sequence

from model.codecs.codec_choice import codec_id
from model.codecs.dct import DCT_STATISTICS, DctCodec
from model.network.config import DiTConfig
from model.training.shard_reader import SampleIndex
from schemas.errors import ConfigError


def handshake(index: Sequence[SampleIndex], config: DiTConfig) -> None:
    """Check, before the first step, that shards and network fit.

    Raises:
        ConfigError: Mixed latent or feature spaces, or shapes that the network does not take.
    """
    for what in ("codec", "text_encoder"):
        found = {getattr(entry, what) for entry in index}
        if len(found) != 1:
            raise ConfigError(f"the shards mix {what} spaces {sorted(found)}: train on one of them")
    audio = {e.audio_encoder for e in index if e.audio_shape is not None}
    if len(audio) > 1:
        raise ConfigError(
            f"the shards mix audio_encoder spaces {sorted(audio)}: train on one of them"
        )
    _check_statistics(index)
    for entry in index:
        _check_fit(entry, config)


def _check_statistics(index: Sequence[SampleIndex]) -> None:
    """Equal codecs do not make equal latents unless they were normalised alike."""
    found = {(entry.rgb_statistics, entry.hoi_statistics) for entry in index}
    if len(found) != 1:
        raise ConfigError(
            f"the shards were normalised with {len(found)} different channel statistics: train on one of them"
        )
    ((rgb, hoi),) = found
    ours = (DCT_STATISTICS["rgb"], DCT_STATISTICS["hoi"])
    if index[0].codec == codec_id(DctCodec.ref) and (rgb, hoi) != ours:
        raise ConfigError(
            f"the shards' {index[0].codec} latents were normalised with other channel statistics than this "
            "version decodes with: curate again"
        )


def _check_fit(entry: SampleIndex, config: DiTConfig) -> None:
    wanted: list[tuple[str, object, object]] = [
        ("latent channels", entry.rgb_shape[0], config.in_dim),
        ("model.text_dim", entry.text_shape[1], config.text_dim),
    ]
    if entry.audio_shape is not None and config.has_audio:
        wanted.append(("model.num_audio_layers", entry.audio_shape[0], config.num_audio_layers))
        wanted.append(("model.audio_dim", entry.audio_shape[2], config.audio_dim))
    for what, got, expected in wanted:
        if got != expected:
            raise ConfigError(
                f"clip {entry.clip_id} does not fit the network: {what} is {got} in the shard and "
                f"{expected} in the config"
            )
    at = min(config.person_time_index, config.product_time_index)
    if config.speech and entry.rgb_shape[1] > at:
        raise ConfigError(
            f"clip {entry.clip_id} has {entry.rgb_shape[1]} latents, a reference sits at time {at}: use shorter "
            "clips, or raise model.person_time_index and product_time_index"
        )
    longest = max(entry.text_shape[0], entry.hoi_text_shape[0])
    if config.text_len is not None and longest > config.text_len:
        raise ConfigError(
            f"clip {entry.clip_id} has {longest} text tokens, model.text_len={config.text_len}: raise it"
        )


def check_buckets(buckets: Sequence[tuple[tuple[int, ...], bool]], config: DiTConfig) -> None:
    """Check the clips' shapes as they will be loaded, after transcoding.

    Args:
        buckets: Latent shape (c,n,h,w) of every clip, and whether it has motion context.
        config: The network.

    Raises:
        ConfigError: Latents that patches do not divide, or that are smaller than FramePack's far patch.
    """
    _, ph, pw = config.patch_size
    for shape, has_motion in sorted(set(buckets)):
        height, width = shape[2:]
        if height % ph or width % pw:
            raise ConfigError(
                f"clips of {height}x{width} latents do not divide into patches of {ph}x{pw}"
            )
        if has_motion and config.speech and (height < 4 * ph or width < 4 * pw):
            raise ConfigError(
                f"clips of {height}x{width} latents with motion context are smaller than one far FramePack patch "
                f"of {4 * ph}x{4 * pw}: raise data.transcode, or curate at a larger size"
            )
