"""AV1 keyframes (specification clause 7.3)."""

from __future__ import annotations

from typing import cast

import numpy as np

from tgv_format import obu
from tgv_format.errors import TgvError
from tgv_format.picture import Picture, chroma_size


def decode(payload: bytes, width: int, height: int, offset: int, path: str) -> Picture:
    """The picture of an AV1 payload of ``width`` x ``height``, which stands at byte ``offset``.

    Raises TgvError ``keyframe-invalid``.
    """
    import av
    from av.video.codeccontext import VideoCodecContext

    try:
        types = [unit.obu_type for unit in obu.split(payload)]
    except obu.ObuError as error:
        raise TgvError("keyframe-invalid", offset + error.offset, path, str(error)) from None
    if types[0] != obu.ObuType.SEQUENCE_HEADER or not set(types) <= set(obu.ObuType):
        raise TgvError("keyframe-invalid", offset, path, f"OBU types {types} make no keyframe")
    context = cast(VideoCodecContext, VideoCodecContext.create("libdav1d", "r"))
    context.options = {
        # Keeps dav1d from allocating pictures of another size than the one announced.
        "max_pixels": str(width * height),
        "max_frame_delay": "1",
        # Film grain is handed over instead of being applied.
        "export_side_data": "film_grain",
    }
    context.thread_count = 1
    try:
        frames = [*context.decode(av.Packet(b"\x12\x00" + payload)), *context.decode(None)]
    except av.FFmpegError:
        raise TgvError("keyframe-invalid", offset, path, "the AV1 data does not decode") from None
    if len(frames) != 1:
        raise TgvError("keyframe-invalid", offset, path, f"the AV1 data holds {len(frames)} pictures")
    frame = frames[0]
    if (frame.width, frame.height, frame.format.name) != (width, height, "yuv420p"):
        got = f"{frame.width}x{frame.height} {frame.format.name}"
        raise TgvError(
            "keyframe-invalid", offset, path, f"the AV1 picture is {got}, not {width}x{height} yuv420p"
        )
    sizes = [(width, height), chroma_size(width, height), chroma_size(width, height)]
    planes = []
    for plane, (w, h) in zip(frame.planes, sizes, strict=True):
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(np.ascontiguousarray(rows[:h, :w]))
    return Picture(*planes)
