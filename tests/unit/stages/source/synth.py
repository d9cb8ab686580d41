"""Synthetic source videos for tests, made with PyAV."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from schemas.rows import SourceVideo
from stages.files import Files, FolderBlobs


def toy_files(folder: Path) -> Files:
    return Files(FolderBlobs(folder / "root"), folder / "scratch")


def source_of(path: Path) -> SourceVideo:
    data = path.read_bytes()
    return SourceVideo(
        uri=str(path), num_bytes=len(data), content_sha256=hashlib.sha256(data).hexdigest()
    )


def textured(num_frames: int, height: int = 144, width: int = 256, seed: int = 0, speed: int = 2):
    """Smooth random texture that drifts to the right: (T,H,W,3) u8."""
    import cv2

    noise = np.random.default_rng(seed).integers(40, 216, (height // 8, width // 8, 3), np.uint8)
    base = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(base, speed * t, axis=1) for t in range(num_frames)])


def write_source(
    path: Path,
    frames,
    *,
    fps: int = 25,
    pts=None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict | None = None,
    audio=None,
    rate_hz: int = 48_000,
    audio_codec: str = "aac",
    audio_start: int = 0,
    rotation: int = 0,
    sar: Fraction | None = None,
    container_options: dict | None = None,
    metadata: dict | None = None,
    setup=None,
    display_matrix: bytes = b"",
) -> Path:
    """Write frames (T,H,W,C) and f32 samples (N,) or (2,N); ``pts`` in ``time_base`` units, 1/fps by default."""
    base = time_base or Fraction(1, fps)
    with av.open(str(path), "w", options=container_options or {}) as out:
        video = out.add_stream(codec, rate=fps, options=options or {"crf": "10", "bf": "0"})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.time_base = pix_fmt, base
        video.codec_context.time_base = base
        video.codec_context.thread_count = 1
        if sar:
            video.codec_context.sample_aspect_ratio = sar
        if rotation:
            video.set_display_rotation(rotation)
        if display_matrix:
            video.set_display_matrix(np.frombuffer(display_matrix, np.int32))
        video.metadata.update(metadata or {})
        if setup:
            setup(video.codec_context)
        sound = (
            out.add_stream(audio_codec, rate=rate_hz, layout=_layout(audio))
            if audio is not None
            else None
        )
        times = range(len(frames)) if pts is None else pts
        for picture, at in zip(frames, times, strict=True):
            rgba = "rgba" if frames.shape[3] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=rgba)
            frame.pts, frame.time_base = at, base
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if sound is not None:
            _encode_audio(out, sound, audio, rate_hz, audio_start)
    return path


def _encode_audio(out, stream, samples, rate_hz: int, start: int) -> None:
    planes = np.atleast_2d(samples).astype(np.float32)
    for at in range(0, planes.shape[1], 1024):
        chunk = np.ascontiguousarray(planes[:, at : at + 1024])
        frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout=_layout(samples))
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start + at, Fraction(1, rate_hz)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _layout(samples) -> str:
    return "mono" if samples.ndim == 1 else "stereo"


def tone(seconds: float, rate_hz: int = 48_000, level: float = 0.3):
    return (level * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(
        np.float32
    )
