"""Sound that a user hands in: any common file, decoded in a child process and brought to 16 kHz mono.

Sound that Handloom wrote itself is read by ``stages.kit.media``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from schemas.clock import SAMPLE_RATE_HZ
from schemas.errors import DecodeError
from stages.kit import media
from stages.kit.arrays import F32
from stages.kit.isolate import ChildBudget, run_isolated

MAX_SECONDS = 3600
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "wav,w64,aiff,flac,mp3,ogg,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
}
_BUDGET = ChildBudget(wall_s=300, memory_bytes=6_000_000_000, max_output_bytes=10_000)
_CANCELLED_SHARE = 0.05
"""Two channels whose mean keeps less of their power than this are in opposite phase."""


def read_foreign_sound(path: Path) -> F32:
    """Read sound of unknown origin: the file's best stream as f32 (N,) in [-1, 1], 16 kHz, one channel.

    Raises:
        DecodeError: ``audio_unreadable``: no such file, no sound in it, damaged, longer than an hour, or
            samples that are NaN or infinite. The detail says which.
        ChildCrashError: The decoder died or needed more than its budget.
    """
    with tempfile.TemporaryDirectory(prefix="handloom-sound-") as folder:
        target = Path(folder) / "sound.wav"
        payload = {"path": str(path.absolute()), "target": str(target)}
        run_isolated("stages.source.foreign_sound:convert_file", payload, _BUDGET)
        return media.read_wav(target)


def convert_file(payload: dict[str, Any]) -> dict[str, Any]:
    """Write ``path`` to ``target`` as our own kind of wav: the child's side.

    Raises:
        DecodeError: See ``read_foreign_sound``.
    """
    path = Path(payload["path"])
    try:
        with av.open(f"file:{path}", options=_OPTIONS) as container:
            parts = _decode(container, path.name)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DecodeError(
            "audio_unreadable",
            f"{path.name}: {reason}; expected wav, flac, mp3, ogg, aac, mp4 or matroska",
        ) from error
    samples = _mono(np.concatenate(parts, axis=1)) if parts else np.zeros(0, np.float32)
    if not samples.size:
        raise DecodeError("audio_unreadable", f"{path.name}: it holds no sound")
    if not np.isfinite(samples).all():
        raise DecodeError(
            "audio_unreadable", f"{path.name}: it has samples that are NaN or infinite"
        )
    media.write_wav(Path(payload["target"]), samples)
    return {"num_samples": int(samples.size)}


def _decode(container: av.container.InputContainer, name: str) -> list[F32]:
    """Decode to (channels, n) pieces at 16 kHz; channels of the first frame are kept to two."""
    stream = container.streams.best("audio")
    if stream is None:
        raise DecodeError("audio_unreadable", f"{name}: it has no sound stream")
    resampler: av.AudioResampler | None = None
    parts: list[F32] = []
    total = 0
    for frame in container.decode(stream):
        assert isinstance(frame, AudioFrame)
        if resampler is None:
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE_HZ)
        frame.pts = None  # the resampler would fill gaps by itself
        parts += [_array(out) for out in resampler.resample(frame)]
        total += frame.samples
        if total > MAX_SECONDS * frame.sample_rate:
            raise DecodeError("audio_unreadable", f"{name}: longer than {MAX_SECONDS} s")
    if resampler is not None:
        parts += [_array(out) for out in resampler.resample(None)]
    return parts


def _array(frame: AudioFrame) -> F32:
    return np.asarray(frame.to_ndarray(), np.float32)


def _mono(channels: F32) -> F32:
    """Mean of the channels, or the louder one where opposite phases would cancel."""
    mean = channels.mean(axis=0, dtype=np.float64)
    power = np.square(channels, dtype=np.float64).mean(axis=1)
    if len(channels) > 1 and np.square(mean).mean() < _CANCELLED_SHARE * power.max():
        mean = channels[int(power.argmax())].astype(np.float64)
    return mean.astype(np.float32)
