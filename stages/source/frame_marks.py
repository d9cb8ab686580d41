"""What a stream and its frames carry beside the pixels: marks of high dynamic range, by name.

Without tone and gamut mapping such pictures come out grey or in false colours: they are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import cast

from av.sidedata.sidedata import SideData, SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from schemas.errors import DecodeError

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_BT2020 = 9
_DOLBY_VISION_TAGS = {"dvh1", "dvhe", "dvav", "dva1", "dav1", "dvc1"}
_SDR_PEAK_NITS = 203
"""Reference white of HDR (ITU-R BT.2408): a display or picture that is no brighter is SDR."""
_DYNAMIC_MARKS = {
    SideDataType.DOVI_RPU_BUFFER: "Dolby Vision",
    SideDataType.DOVI_METADATA: "Dolby Vision",
    SideDataType.DYNAMIC_HDR_PLUS: "HDR10+",
    SideDataType.DYNAMIC_HDR_VIVID: "HDR Vivid",
}


def side_data(frame: VideoFrame) -> Mapping[SideDataType, SideData]:
    """A frame's side data by type.

    Raises:
        DecodeError: ``codec_unsupported`` where the frame carries a kind that PyAV has no name for
            (a second view, an enhancement layer): what it means for the picture is unknown.
    """
    try:
        found = cast(SideDataContainer, frame.side_data)
    except ValueError as error:
        raise DecodeError("codec_unsupported", f"unknown side data in a frame: {error}") from error
    every = (found[index] for index in range(len(found)))
    return {data.type: data for data in every}


def refuse_tagged_hdr(transfer: int, primaries: int) -> None:
    """Refuse PQ, HLG and BT.2020 primaries.

    Raises:
        DecodeError: ``unsupported_hdr``.
    """
    if transfer in _HDR_TRANSFERS:
        raise DecodeError(
            "unsupported_hdr", f"{_HDR_TRANSFERS[transfer]} transfer; convert to SDR first"
        )
    if primaries == _BT2020:
        raise DecodeError("unsupported_hdr", "BT.2020 primaries; convert to BT.709 first")


def refuse_hdr_tag(codec_tag: str) -> None:
    """Refuse a sample entry that only Dolby Vision uses (``dvh1``, ``dvhe``, ``dvav`` ...).

    Raises:
        DecodeError: ``unsupported_hdr``.
    """
    if codec_tag.lower() in _DOLBY_VISION_TAGS:
        raise DecodeError(
            "unsupported_hdr", f"Dolby Vision by its codec tag {codec_tag}; convert to SDR first"
        )


def refuse_hdr_frame(frame: VideoFrame) -> None:
    """Refuse a frame that its tags, or side data of its own or of its stream, call HDR.

    Raises:
        DecodeError: ``unsupported_hdr``, or see ``side_data``.
    """
    refuse_tagged_hdr(int(frame.color_trc or 0), int(frame.color_primaries or 0))
    marks = side_data(frame)
    for kind, name in _DYNAMIC_MARKS.items():
        if kind in marks:
            raise DecodeError("unsupported_hdr", f"{name} metadata; convert to SDR first")
    for kind, peak in (
        (SideDataType.MASTERING_DISPLAY_METADATA, mastering_peak_nits),
        (SideDataType.CONTENT_LIGHT_LEVEL, content_peak_nits),
    ):
        nits = peak(bytes(marks[kind])) if kind in marks else 0.0
        if nits > _SDR_PEAK_NITS:
            what = kind.name.lower().replace("_", " ")
            raise DecodeError(
                "unsupported_hdr",
                f"{what} of {nits:.0f} nits; convert to SDR first, "
                "and leave this mark out where the picture is SDR already",
            )


def mastering_peak_nits(data: bytes) -> float:
    """Brightest luminance of FFmpeg's AVMasteringDisplayMetadata; 0 where it says none.

    Layout: ten rationals of two native i32 (six of primaries, two of white point, darkest,
    brightest), then two flags: has primaries, has luminance.
    """
    values = struct.unpack_from("=22i", data)
    numerator, denominator, has_luminance = values[18], values[19], values[21]
    return numerator / denominator if has_luminance and denominator else 0.0


def content_peak_nits(data: bytes) -> float:
    """Larger of MaxCLL and MaxFALL of FFmpeg's AVContentLightMetadata; 0 stands for unknown."""
    return float(max(struct.unpack_from("=2I", data)))
