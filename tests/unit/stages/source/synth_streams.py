"""Recordings as they come from the field: flashes with beeps, transport streams with other clocks and PIDs."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from stages.source.segment_worker import scan

_PACKET = 188
VIDEO_PID, AUDIO_PID = 256, 257


def ffmpeg(*argv: object) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, argv)], check=True)


def record(
    path: Path, *options: object, seconds: float = 4, rate: int = 15, size="160x128", hz=1000
):
    """A grey moving picture that flashes white for 0.2 s at each odd second, with a beep of ``hz``."""
    flash = "drawbox=c=white:t=fill:enable='between(mod(t,2),1,1.19)'"
    beep = f"0.8*sin(2*PI*{hz}*t)*between(mod(t\\,2)\\,1\\,1.2)"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=d={seconds}:s={size}:r={rate}",
        "-f",
        "lavfi",
        "-i",
        f"aevalsrc={beep}:d={seconds}:s=48000",
        "-vf",
        f"eq=brightness=-0.2:contrast=0.4,{flash},format=yuv420p",
        "-g",
        2 * rate,
        *options,
        path,
    )
    return path


def moments(path: Path, *, salvage: bool = False) -> tuple[list[float], list[float], list[int]]:
    """Seconds on the source's clock at which flashes and beeps begin, and the frames of the breaks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = scan(
            {
                "path": str(path),
                "folder": name,
                "thumbnail_size": (32, 24),
                "salvage": salvage,
                "max_frame_pixels": 1 << 24,
                "max_frames": 100_000,
            }
        )
        times = np.fromfile(folder / "times.f64")
        luma = np.fromfile(folder / "thumbnails.u8", np.uint8).reshape(len(times), -1).mean(1)
        sound = np.fromfile(folder / "audio.i16", "<i2").reshape(-1, 2).mean(1)
    level = np.abs(sound[: len(sound) // 160 * 160]).reshape(-1, 160).max(1)
    return (
        times[_onsets(luma > 200)].tolist(),
        (_onsets(level > 8000, gap=10) / 100).tolist(),
        found["breaks"],
    )


def _onsets(flags: np.ndarray, gap: int = 1) -> np.ndarray:
    """Where runs of True begin; holes shorter than ``gap`` belong to the run."""
    at = np.flatnonzero(flags)
    return at[np.concatenate([[True], np.diff(at) > gap])] if len(at) else at


def together(flashes: list[float], beeps: list[float], within_s: float = 0.08) -> bool:
    """Every flash has its beep, and no beep is alone."""
    return len(flashes) == len(beeps) > 0 and np.abs(np.subtract(flashes, beeps)).max() < within_s


def shift_clock(data: bytes, pid: int, first_packet: int, seconds: float) -> bytes:
    """Move the times of one stream of a .ts from a packet on; they run over at 33 bits."""
    out = bytearray(data)
    for at in range(first_packet * _PACKET, len(out), _PACKET):
        here = (out[at + 1] & 0x1F) << 8 | out[at + 2]
        if here != pid or not out[at + 1] & 0x40:
            continue
        start = at + 4 + (1 + out[at + 4] if out[at + 3] & 0x20 else 0)
        flags = out[start + 7] >> 6
        for i in range({2: 1, 3: 2}.get(flags, 0)):
            _shift(out, start + 9 + 5 * i, round(seconds * 90_000))
    return bytes(out)


def _shift(out: bytearray, at: int, ticks: int) -> None:
    b = out[at : at + 5]
    value = (b[0] >> 1 & 7) << 30 | b[1] << 22 | b[2] >> 1 << 15 | b[3] << 7 | b[4] >> 1
    value = (value + ticks) % (1 << 33)
    out[at : at + 5] = bytes(
        [
            b[0] & 0xF0 | value >> 29 & 0x0E | 1,
            value >> 22 & 0xFF,
            value >> 14 & 0xFE | 1,
            value >> 7 & 0xFF,
            value << 1 & 0xFE | 1,
        ]
    )


def repacked(data: bytes, before: int, after: int) -> bytes:
    """A .ts with bytes around each packet: 4 before make an .m2ts, 16 after the form of broadcasters."""
    packets = np.frombuffer(data, np.uint8).reshape(-1, _PACKET)
    return np.pad(packets, ((0, 0), (before, after))).tobytes()
