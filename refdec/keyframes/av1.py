"""AV1 keyframes (specification clause 7.3)."""

from __future__ import annotations

from functools import cached_property

from refdec.keyframes import ffmpeg
from tgv_format import obu
from tgv_format.errors import TgvError
from tgv_format.obu import ObuType
from tgv_format.picture import Picture

_OPTIONS = {
    # A picture is there as soon as its data are.
    "max_frame_delay": "1",
    # Film grain is handed over instead of being applied.
    "export_side_data": "film_grain",
}
_DELIMITER = b"\x12\0"
_DEPENDENT = {ObuType.FRAME_HEADER, ObuType.TILE_GROUP, ObuType.FRAME}
# Eight hidden pictures, as many as AV1 can refer to, and the one that is shown.
_MOST_FRAMES = 9


class Sequence:
    """An AV1 sequence of pictures of ``width`` x ``height``: one keyframe, and those that depend on it."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height

    @cached_property
    def _decoder(self) -> ffmpeg.PictureDecoder:
        width, height = self._size
        # Keeps dav1d from allocating pictures of another size than the one announced.
        return ffmpeg.PictureDecoder("libdav1d", max_pixels=str(width * height), **_OPTIONS)

    def decode(self, payload: bytes, dependent: bool, offset: int, path: str) -> Picture:
        """The picture of the next payload, which stands at byte ``offset``.

        Raises TgvError ``keyframe-invalid``, after which no dependent keyframe of this sequence decodes.
        """
        try:
            types = [unit.obu_type for unit in obu.split(payload)]
        except obu.ObuError as error:
            raise TgvError("keyframe-invalid", offset + error.offset, path, str(error)) from None
        begins = dependent or types[0] == ObuType.SEQUENCE_HEADER
        if not begins or set(types) - (_DEPENDENT if dependent else set(ObuType)):
            detail = f"OBU types {types} make no {'dependent keyframe' if dependent else 'keyframe'}"
            raise TgvError("keyframe-invalid", offset, path, detail)
        if types.count(ObuType.FRAME_HEADER) + types.count(ObuType.FRAME) > _MOST_FRAMES:
            raise TgvError("keyframe-invalid", offset, path, f"more than {_MOST_FRAMES} AV1 frames")
        # dav1d gives one picture a packet; where there are more, the next delimiter brings the second one.
        packets = [_DELIMITER + payload, _DELIMITER]
        try:
            planes = self._decoder.planes(packets, *self._size, "yuv420p")
        except ffmpeg.DecodeError as error:
            raise TgvError("keyframe-invalid", offset, path, f"the AV1 {error}") from None
        return Picture(*planes)
