"""Single pictures from FFmpeg's decoders."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import chroma_size

#: Pixel formats that keyframes have, and their samples.
_SAMPLES = {"yuv420p": "u1", "yuv420p10le": "<u2"}


class DecodeError(Exception):
    """The data does not decode to one picture of the right size and format."""


def planes(
    decoder: str, data: bytes, width: int, height: int, pixel_format: str, **options: str
) -> list[NDArray[Any]]:
    """Y, U and V of the one picture that ``decoder`` makes of ``data``, uint8 or uint16 (rows, columns).

    Raises DecodeError when ``data`` does not decode, or to something else than one picture of ``width`` x
    ``height`` in ``pixel_format``, ``yuv420p`` or ``yuv420p10le``. ``options`` are the decoder's.
    """
    import av
    from av.video.codeccontext import VideoCodecContext

    context = cast(VideoCodecContext, VideoCodecContext.create(decoder, "r"))
    context.options = options
    context.thread_count = 1
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
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
