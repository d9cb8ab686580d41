"""Decoding a source's sound onto one 16 kHz mono timeline. Only for use inside a child process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from schemas.clock import SAMPLE_RATE_HZ
from schemas.errors import DecodeError
from stages.kit.arrays import F32
from stages.kit.media_errors import guarded
from stages.source.downmix import mix_down
from stages.source.opening import open_part, packets
from stages.source.packet_index import Epoch, PlannedPart, nearest
from stages.source.video_reader import VideoReader

_CHANNELS, _FRAME_BYTES = 2, 4
_MAX_DRIFT_S = 0.02
_MAX_BAD_SHARE = 0.05
AUDIO_REASONS = frozenset({"audio_damaged", "audio_too_long"})


@dataclass
class AudioReader:
    """Iterates the decodable sound of the parts and epochs that the pictures have, in order.

    Args:
        path: The source.
        family: Of ``containers.sniff_file``.
        parts: As ``VideoReader`` left them.
        salvage: Bear any number of packets that do not decode.

    Attributes:
        has_stream: A sound stream exists and decodes.
        sample_rate_hz: Of the first stream.
        duration_s: Sum of the decoded samples.
    """

    path: Path
    family: str
    parts: Sequence[PlannedPart]
    salvage: bool = False
    has_stream: bool = False
    sample_rate_hz: int = 0
    duration_s: float = 0.0
    num_bad_packets: int = 0
    num_packets: int = 0

    def frames(self) -> Iterator[tuple[float | None, AudioFrame, Epoch]]:
        """Yield (seconds on the source's clock or None, frame, its epoch).

        Raises:
            DecodeError: ``audio_damaged`` where more than 5 % of the packets do not decode.
        """
        for planned in self.parts:
            if planned.index.audio_stream is not None:
                yield from self._part(planned)
        if self.num_bad_packets > max(3, _MAX_BAD_SHARE * self.num_packets) and not self.salvage:
            raise DecodeError(
                "audio_damaged",
                f"{self.num_bad_packets} of {self.num_packets} packets do not decode",
            )

    def _part(self, planned: PlannedPart) -> Iterator[tuple[float | None, AudioFrame, Epoch]]:
        index = planned.index
        with open_part(self.path, planned.part, self.family) as container:
            stream = container.streams[index.audio_stream or 0]
            tick_s = float(stream.time_base or 1)
            for number, frame in self._decode(container, stream, planned):
                epoch = planned.epochs.get(number)
                if epoch is None:  # no picture of it was good
                    continue
                self._count(frame)
                if frame.pts is None:
                    yield None, frame, epoch
                    continue
                ticks = nearest(frame.pts, epoch.origin_s / tick_s, index.wrap_ticks)
                yield epoch.start_s + ticks * tick_s - epoch.origin_s, frame, epoch

    def _decode(
        self, container: InputContainer, stream: Any, planned: PlannedPart
    ) -> Iterator[tuple[int, AudioFrame]]:
        """Decode packet by packet: (epoch's number, frame)."""
        starts, number = planned.index.audio_starts, 0
        for ordinal, packet in enumerate(_until_broken(packets(container, stream))):
            if ordinal >= planned.index.audio_stop:
                break
            self.num_packets += packet.size > 0
            while number + 1 < len(starts) and ordinal >= starts[number + 1]:
                yield from ((number, f) for f in self._feed(stream, None))
                stream.codec_context.flush_buffers()
                number += 1
            yield from ((number, f) for f in self._feed(stream, packet))
        yield from ((number, f) for f in self._feed(stream, None))

    def _feed(self, stream: Any, packet: Packet[Any] | None) -> list[AudioFrame]:
        try:
            with guarded("audio_damaged", "decoding"):
                frames = stream.codec_context.decode(packet)
        except DecodeError:
            self.num_bad_packets += 1
            return []
        return [f for f in frames if isinstance(f, AudioFrame)]

    def _count(self, frame: AudioFrame) -> None:
        self.has_stream = True
        self.sample_rate_hz = self.sample_rate_hz or frame.sample_rate
        self.duration_s += frame.samples / frame.sample_rate


def sound_of(video: VideoReader) -> AudioReader:
    """The reader of a source's sound, once its pictures were read to the end."""
    return AudioReader(video.path, video.info["family"], video.parts, video.budget.salvage)


def _until_broken(source: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
    """Packets up to where reading breaks off: the video pass reports that."""
    with contextlib.suppress(DecodeError):
        yield from source


@dataclass
class Timeline:
    """A 16 kHz timeline in a file: sample n stands for ``n / 16000`` s after the video's start.

    The file holds two channels side by side: whether they may simply be added is seen where a window is cut (``mix_down``).

    Sound is put where its timestamps say. Steps below 20 ms are jitter and closed up; larger ones are
    gaps (zeros) or overlaps (the later sound wins).
    """

    path: Path
    max_samples: int
    num_samples: int = 0
    _last_stop_s: float = 0.0

    def fill(self, reader: AudioReader) -> None:
        """Decode all sound into the file as little-endian i16."""
        stops = [e.stop_s for part in reader.parts for e in part.epochs.values()]
        self._last_stop_s = max(stops, default=0.0)
        with self.path.open("wb") as self._out:
            segment: _Segment | None = None
            for time_s, frame, epoch in reader.frames():
                if segment is None or not segment.continues_at(time_s, frame, epoch):
                    if segment:
                        self._put(segment, segment.flush())
                    if time_s is None:
                        goes_on = segment is not None and segment.epoch == epoch
                        time_s = segment.end_s if segment and goes_on else epoch.start_s  # noqa: PLW2901
                    segment = _Segment.starting(time_s, frame, epoch)
                self._put(segment, segment.push(frame))
            if segment:
                self._put(segment, segment.flush())

    def _put(self, segment: _Segment, samples: NDArray[np.int16]) -> None:
        """Write samples where the segment stands, but nothing outside its epoch: that is other pictures'."""
        position = segment.position
        segment.position += len(samples)
        first = round(segment.epoch.start_s * SAMPLE_RATE_HZ)
        last = self.max_samples
        if segment.epoch.stop_s < self._last_stop_s:
            last = min(last, round(segment.epoch.stop_s * SAMPLE_RATE_HZ))
        if position < first:
            samples, position = samples[first - position :], first
        samples = samples[: max(0, last - position)]
        if not len(samples):
            return
        self._out.seek(_FRAME_BYTES * position)  # a hole reads as zeros
        self._out.write(samples.astype("<i2").tobytes())
        self.num_samples = max(self.num_samples, position + len(samples))

    def window(self, start: int, stop: int) -> F32:
        """Samples ``[start, stop)``, mono, as f32 in [-1, 1], zero where there is no sound."""
        out = np.zeros((stop - start, _CHANNELS), np.int16)
        have = np.fromfile(self.path, "<i2", out.size, offset=_FRAME_BYTES * start)
        out.reshape(-1)[: len(have)] = have
        return mix_down(out)


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
    epoch: Epoch

    @classmethod
    def starting(cls, time_s: float, frame: AudioFrame, epoch: Epoch) -> _Segment:
        position = round(time_s * SAMPLE_RATE_HZ)
        layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
        resampler = av.AudioResampler(format="s16", layout=layout, rate=SAMPLE_RATE_HZ)
        return cls(time_s, position, frame.sample_rate, frame.layout.name, 0, resampler, epoch)

    @property
    def end_s(self) -> float:
        return self.start_s + self.samples_in / self.rate_hz

    def continues_at(self, time_s: float | None, frame: AudioFrame, epoch: Epoch) -> bool:
        same = (frame.sample_rate, frame.layout.name) == (self.rate_hz, self.layout)
        return (
            same
            and epoch == self.epoch
            and (time_s is None or abs(time_s - self.end_s) <= _MAX_DRIFT_S)
        )

    def push(self, frame: AudioFrame) -> NDArray[np.int16]:
        self.samples_in += frame.samples
        frame.pts = None  # the resampler would fill gaps by itself
        return self._take(self.resampler.resample(frame))

    def flush(self) -> NDArray[np.int16]:
        return self._take(self.resampler.resample(None))

    def _take(self, frames: list[AudioFrame]) -> NDArray[np.int16]:
        parts = [f.to_ndarray().reshape(-1, f.layout.nb_channels) for f in frames]
        samples = np.concatenate(parts) if parts else np.zeros((0, _CHANNELS), np.int16)
        samples = np.broadcast_to(samples, (len(samples), _CHANNELS))
        return np.asarray(samples, np.int16)
