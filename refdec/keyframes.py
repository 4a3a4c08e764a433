"""Decoding of keyframes to pictures (specification clause 7)."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from tgv_format import obu
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, coded_size
from tgv_format.picture import Picture, Plane, chroma_size
from tgv_format.tables import load

_TAPS: tuple[int, ...] = tuple(load("upsampling")["upsampling_taps"])
_SHIFT: int = load("upsampling")["shift"]


def decode(keyframe: Keyframe, width: int, height: int, path: str = "keyframe") -> Picture:
    """The picture of a keyframe in a sequence of ``width`` x ``height``.

    Raises TgvError ``keyframe-invalid`` or ``unsupported-codec`` at the offset of the payload.
    """
    sizes = [coded_size(width, height, k) for k in range(keyframe.downscale_log2, -1, -1)]
    picture = decode_coded(keyframe, *sizes[0], path)
    for size in sizes[1:]:
        picture = upsample(picture, *size)
    return picture


def decode_coded(keyframe: Keyframe, width: int, height: int, path: str = "keyframe") -> Picture:
    """The coded picture, which has to be ``width`` x ``height``."""
    offset, path = keyframe.payload_offset, f"{path}.payload"
    if keyframe.codec is Codec.RAW:
        try:
            return Picture.from_bytes(keyframe.payload, width, height)
        except ValueError as error:
            raise TgvError("keyframe-invalid", offset, path, str(error)) from None
    if keyframe.codec is Codec.AV1:
        return _av1(keyframe.payload, width, height, offset, path)
    raise TgvError("unsupported-codec", offset, path, f"{keyframe.codec.name} keyframes are not supported")


def upsample(picture: Picture, width: int, height: int) -> Picture:
    """Twice the size, cropped to ``width`` x ``height`` (clause 7.5)."""
    cw, ch = chroma_size(width, height)
    y, u, v = (_double(plane) for plane in picture.planes)
    return Picture(*(np.ascontiguousarray(p) for p in (y[:height, :width], u[:ch, :cw], v[:ch, :cw])))


def _double(plane: Plane) -> Plane:
    wide = _double_rows(_double_rows(plane.astype(np.int32)).T).T
    return np.clip((wide + (1 << (_SHIFT - 1))) >> _SHIFT, 0, 255).astype(np.uint8)


def _double_rows(p: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rows 2i and 2i + 1 lie a quarter of a row above and below row i."""
    padded = np.pad(p, ((2, 2), (0, 0)), mode="edge")
    size = len(p)
    out = np.zeros((2 * size, *p.shape[1:]), np.int32)
    for tap, weight in enumerate(_TAPS):
        # The taps of the lower of the two rows run from row i - 1 to i + 2; those of the upper are mirrored.
        out[1::2] += weight * padded[1 + tap : 1 + tap + size]
        out[0::2] += weight * padded[3 - tap : 3 - tap + size]
    return out


def _av1(payload: bytes, width: int, height: int, offset: int, path: str) -> Picture:
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
