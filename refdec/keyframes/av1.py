"""AV1 keyframes (specification clause 7.3)."""

from __future__ import annotations

from refdec.keyframes import ffmpeg
from tgv_format import obu
from tgv_format.errors import TgvError
from tgv_format.picture import Picture

_OPTIONS = {
    "max_frame_delay": "1",
    # Film grain is handed over instead of being applied.
    "export_side_data": "film_grain",
}


def decode(payload: bytes, width: int, height: int, offset: int, path: str) -> Picture:
    """The picture of an AV1 payload of ``width`` x ``height``, which stands at byte ``offset``.

    Raises TgvError ``keyframe-invalid``.
    """
    try:
        types = [unit.obu_type for unit in obu.split(payload)]
    except obu.ObuError as error:
        raise TgvError("keyframe-invalid", offset + error.offset, path, str(error)) from None
    if types[0] != obu.ObuType.SEQUENCE_HEADER or not set(types) <= set(obu.ObuType):
        raise TgvError("keyframe-invalid", offset, path, f"OBU types {types} make no keyframe")
    # Keeps dav1d from allocating pictures of another size than the one announced.
    options = {"max_pixels": str(width * height), **_OPTIONS}
    data = b"\x12\x00" + payload
    try:
        planes = ffmpeg.planes("libdav1d", data, width, height, "yuv420p", **options)
    except ffmpeg.DecodeError as error:
        raise TgvError("keyframe-invalid", offset, path, f"the AV1 {error}") from None
    return Picture(*planes)
