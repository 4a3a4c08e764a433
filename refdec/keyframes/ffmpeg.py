"""Single pictures from FFmpeg's decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import chroma_size

#: Pixel formats that keyframes have, and their samples.
_SAMPLES = {"yuv420p": "u1", "yuv420p10le": "<u2"}


class DecodeError(Exception):
    """The data does not decode to one picture of the right size and format."""


class PictureDecoder:
    """FFmpeg's ``decoder`` with ``options``, which makes pictures one at a time."""

    def __init__(self, decoder: str, **options: str) -> None:
        from av.video.codeccontext import VideoCodecContext

        self._context = cast(VideoCodecContext, VideoCodecContext.create(decoder, "r"))
        self._context.options = options
        self._context.thread_count = 1

    def planes(
        self, packets: Sequence[bytes | None], width: int, height: int, pixel_format: str
    ) -> list[NDArray[Any]]:
        """Y, U and V of the one picture of ``packets``, uint8 or uint16 (rows, columns).

        None, after the last packet, is for decoders that hold pictures back. Raises DecodeError when the
        packets do not decode, or to something else than one picture of ``width`` x ``height`` in
        ``pixel_format``, ``yuv420p`` or ``yuv420p10le``.
        """
        import av

        try:
            given = [None if packet is None else av.Packet(packet) for packet in packets]
            frames = [frame for packet in given for frame in self._context.decode(packet)]
        except av.FFmpegError:
            raise DecodeError("data does not decode") from None
        if len(frames) != 1:
            raise DecodeError(f"data holds {len(frames)} pictures")
        frame = frames[0]
        if (frame.width, frame.height, frame.format.name) != (width, height, pixel_format):
            got = f"{frame.width}x{frame.height} {frame.format.name}"
            raise DecodeError(f"picture is {got}, not {width}x{height} {pixel_format}")
        sizes = [(width, height), chroma_size(width, height), chroma_size(width, height)]
        found = []
        for plane, (w, h) in zip(frame.planes, sizes, strict=True):
            samples = np.frombuffer(bytes(plane), _SAMPLES[pixel_format])
            rows = samples.reshape(-1, plane.line_size // samples.itemsize)
            found.append(np.ascontiguousarray(rows[:h, :w]))
        return found
