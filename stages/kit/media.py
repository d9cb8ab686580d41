"""Reading and writing our own clips, images and sound.

Only for files that Handloom wrote itself: raw sources are decoded in a child process
(stages/source/probe.py, stages/source/segment.py). Pixels are RGB u8, sound is 16 kHz mono f32 in [-1, 1].
"""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import av
import cv2
import ffmpeg
import numpy as np

from schemas.clock import FPS, SAMPLE_RATE_HZ
from schemas.errors import ConfigError, DecodeError
from stages.kit.arrays import F32, Frames
from stages.kit.media_errors import guarded


def read_video(path: Path) -> Frames:
    """Decode every frame of a clip: (T,H,W,3) u8 RGB.

    Raises:
        DecodeError: ``clip_unreadable`` if the file has no decodable video.
    """
    with (
        guarded("clip_unreadable", path.name),
        av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container,
    ):
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    if not frames:
        raise DecodeError("clip_unreadable", f"{path.name}: no frames")
    return np.stack(frames)


def write_video(
    path: Path, frames: Frames, *, fps: int = FPS, crf: int = 12, audio: Path | None = None
) -> None:
    """Encode (T,H,W,3) u8 RGB as H.264 4:2:0, constant rate, no B-frames, same bytes every time.

    Args:
        path: Target ``.mp4``; must not exist.
        frames: Even height and width.
        fps: Constant frame rate.
        crf: x264 quality, lower is better.
        audio: Optional wav to mux in as AAC, cut to the video's length.

    Raises:
        ValueError: Odd sizes or a wrong array shape.
        ConfigError: ffmpeg is not installed.
    """
    num_frames, height, width, channels = frames.shape
    if channels != 3 or height % 2 or width % 2:
        raise ValueError(f"expected (T, even H, even W, 3) frames, got {frames.shape}")
    video = ffmpeg.input(
        "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=fps
    )
    video = video.filter("scale", out_color_matrix="bt709", out_range="tv")
    inputs = [video, ffmpeg.input(f"file:{audio}").audio] if audio else [video]
    options = {
        "vcodec": "libx264",
        "preset": "veryfast",
        "crf": crf,
        "pix_fmt": "yuv420p",
        "bf": 0,
        "g": fps,
        "threads": 2,
        "colorspace": "bt709",
        "color_primaries": "bt709",
        "color_trc": "bt709",
        "color_range": "tv",
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "map_metadata": -1,
        "movflags": "+faststart",
    }  # threads fixed: x264 output depends on their number, file names on its output
    if audio:
        options |= {"acodec": "aac", "b:a": "128k", "flags:a": "+bitexact", "t": num_frames / fps}
    command = ffmpeg.output(*inputs, f"file:{path}", **options).global_args("-nostdin", "-n")
    argv = command.compile(overwrite_output=False)
    try:
        done = subprocess.run(
            argv, input=np.ascontiguousarray(frames).data, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(
            "ffmpeg is not on PATH; install it (Debian: apt install ffmpeg)"
        ) from error
    if done.returncode != 0:
        raise RuntimeError(f"ffmpeg failed: {done.stderr.decode(errors='replace')[-800:]}")


def write_wav(path: Path, samples: F32, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Write mono f32 [-1, 1] samples (N,) as 16-bit PCM."""
    pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(pcm.tobytes())


def read_wav(path: Path) -> F32:
    """Read one of our own mono 16 kHz wav files as f32 (N,).

    Raises:
        DecodeError: ``audio_unreadable`` for another rate, width or channel count.
    """
    try:
        with wave.open(str(path), "rb") as source:
            layout = (source.getnchannels(), source.getsampwidth(), source.getframerate())
            data = source.readframes(source.getnframes())
    except (wave.Error, EOFError) as error:
        raise DecodeError("audio_unreadable", f"{path.name}: {error}") from error
    if layout != (1, 2, SAMPLE_RATE_HZ):
        raise DecodeError("audio_unreadable", f"{path.name}: {layout=}, expected (1, 2, 16000)")
    return (np.frombuffer(data, "<i2").astype(np.float32)) / 32767.0


def write_png(path: Path, image: Frames) -> None:
    """Write (H,W,3) RGB or (H,W,4) RGBA u8."""
    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    if not cv2.imwrite(str(path), cv2.cvtColor(image, code)):
        raise RuntimeError(f"could not write {path}")


def read_png(path: Path) -> Frames:
    """Read (H,W,3|4) u8 RGB(A).

    Raises:
        DecodeError: ``image_unreadable``.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise DecodeError("image_unreadable", path.name)
    code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)
