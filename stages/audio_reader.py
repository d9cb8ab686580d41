"""Decoding a source's sound onto one 16 kHz mono timeline. Only for use inside a child process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from schemas.errors import DecodeError
from stages.source_reader import OPEN_OPTIONS

SAMPLE_RATE_HZ = 16_000
_MAX_DRIFT_S = 0.02
_MAX_BAD_SHARE = 0.05
AUDIO_REASONS = frozenset({"audio_damaged", "audio_too_long"})


@dataclass
class AudioReader:
    """Iterates the decodable frames of the best sound stream, in order.

    Attributes:
        has_stream: A sound stream exists and decodes.
        sample_rate_hz: Of the stream.
        duration_s: Sum of the decoded samples.
    """

    path: Path
    has_stream: bool = False
    sample_rate_hz: int = 0
    num_samples: int = 0
    num_bad_packets: int = 0
    num_packets: int = 0

    @property
    def duration_s(self) -> float:
        """Seconds of decoded sound."""
        return self.num_samples / self.sample_rate_hz if self.sample_rate_hz else 0.0

    def frames(self) -> Iterator[tuple[float | None, AudioFrame]]:
        """Yield (container time in seconds or None, frame).

        Raises:
            DecodeError: ``audio_damaged`` where more than 5 % of the packets do not decode.
        """
        with av.open(f"file:{self.path}", timeout=(30, 60), options=OPEN_OPTIONS) as container:
            stream = container.streams.best("audio")
            if stream is None or stream.codec_context is None:
                return
            packets = container.demux(stream)
            while (packet := _next_packet(packets)) is not None:
                self.num_packets += packet.size > 0
                try:
                    frames = packet.decode()
                except av.error.MemoryError as error:
                    raise MemoryError(str(error)) from error
                except av.FFmpegError:
                    self.num_bad_packets += 1
                    continue
                for frame in frames:
                    assert isinstance(frame, AudioFrame)
                    yield self._count(frame), frame
        if self.num_bad_packets > max(3, _MAX_BAD_SHARE * self.num_packets):
            raise DecodeError(
                "audio_damaged",
                f"{self.num_bad_packets} of {self.num_packets} packets do not decode",
            )

    def _count(self, frame: AudioFrame) -> float | None:
        self.has_stream = True
        self.sample_rate_hz = self.sample_rate_hz or frame.sample_rate
        self.num_samples += frame.samples
        if frame.pts is None or frame.time_base is None:
            return None
        return float(frame.pts * frame.time_base)


def _next_packet(packets: Any) -> Any:
    """The next packet; None at the end and where reading breaks off (the video pass reports that)."""
    try:
        return next(packets, None)
    except av.FFmpegError:
        return None


@dataclass
class Timeline:
    """A 16 kHz mono timeline in a file: sample n stands for ``n / 16000`` s after the video's start.

    Sound is put where its timestamps say. Steps below 20 ms are jitter and closed up; larger ones are
    gaps (zeros) or overlaps (the later sound wins).
    """

    path: Path
    max_samples: int
    num_samples: int = 0

    def fill(self, reader: AudioReader, origin_s: float) -> None:
        """Decode all sound into the file as little-endian i16; ``origin_s`` is the container time 0."""
        with self.path.open("wb") as self._out:
            segment: _Segment | None = None
            for time_s, frame in reader.frames():
                if segment is None or not segment.continues_at(time_s, frame):
                    if segment:
                        self._put(segment.position, segment.flush())
                        time_s = segment.end_s if time_s is None else time_s  # noqa: PLW2901
                    segment = _Segment.starting(
                        origin_s if time_s is None else time_s, origin_s, frame
                    )
                position = segment.position
                self._put(position, segment.push(frame))
            if segment:
                position = segment.position
                self._put(position, segment.flush())

    def _put(self, position: int, samples: NDArray[np.int16]) -> None:
        if position < 0:
            samples, position = samples[-position:], 0
        samples = samples[: max(0, self.max_samples - position)]
        if not len(samples):
            return
        self._out.seek(2 * position)  # a hole reads as zeros
        self._out.write(samples.astype("<i2").tobytes())
        self.num_samples = max(self.num_samples, position + len(samples))

    def window(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples ``[start, stop)`` as f32 in [-1, 1], zero where there is no sound."""
        out = np.zeros(stop - start, np.float32)
        have = np.fromfile(self.path, "<i2", count=max(0, stop - start), offset=2 * start)
        out[: len(have)] = have.astype(np.float32) / 32767.0
        return out


@dataclass
class _Segment:
    """A run of sound without gaps: one resampler, one start position."""

    start_s: float
    position: int
    """Where the next samples go, at 16 kHz; negative before the video starts."""
    rate_hz: int
    layout: str
    samples_in: int
    resampler: av.AudioResampler

    @classmethod
    def starting(cls, time_s: float, origin_s: float, frame: AudioFrame) -> _Segment:
        position = round((time_s - origin_s) * SAMPLE_RATE_HZ)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        return cls(time_s, position, frame.sample_rate, frame.layout.name, 0, resampler)

    @property
    def end_s(self) -> float:
        return self.start_s + self.samples_in / self.rate_hz

    def continues_at(self, time_s: float | None, frame: AudioFrame) -> bool:
        same = (frame.sample_rate, frame.layout.name) == (self.rate_hz, self.layout)
        return same and (time_s is None or abs(time_s - self.end_s) <= _MAX_DRIFT_S)

    def push(self, frame: AudioFrame) -> NDArray[np.int16]:
        self.samples_in += frame.samples
        frame.pts = None  # the resampler would fill gaps by itself
        return self._take(self.resampler.resample(frame))

    def flush(self) -> NDArray[np.int16]:
        return self._take(self.resampler.resample(None))

    def _take(self, frames: list[AudioFrame]) -> NDArray[np.int16]:
        parts = [f.to_ndarray().reshape(-1) for f in frames]
        samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        self.position += len(samples)
        return np.asarray(samples, np.int16)
