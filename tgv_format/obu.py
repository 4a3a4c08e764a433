"""AV1 open bitstream units, as far as a keyframe payload needs them (specification clause 7.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class ObuType(IntEnum):
    """The types that a keyframe payload may hold (AV1 specification, 6.2.2)."""

    SEQUENCE_HEADER = 1
    FRAME_HEADER = 3
    TILE_GROUP = 4
    FRAME = 6


@dataclass(frozen=True)
class Obu:
    """One unit in low-overhead format; ``data`` are all its bytes, header included."""

    obu_type: int
    data: bytes


class ObuError(ValueError):
    """The data is no sequence of units in low-overhead format; ``offset`` is where it stops being one."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(detail)
        self.offset = offset


def split(data: bytes) -> Iterator[Obu]:
    """The units of ``data``, each with its size field; ObuError when it does not divide into units."""
    position = 0
    while position < len(data):
        start = position
        head = data[position]
        extension, has_size = head >> 2 & 1, head >> 1 & 1
        if head & 0x81 or not has_size:
            raise ObuError(start, "an OBU header with forbidden bits or without a size")
        position += 1 + extension
        size, shift = 0, 0
        while True:
            if position >= len(data) or shift > 49:
                raise ObuError(start, "an OBU size is cut off or too long")
            byte = data[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if position + size > len(data):
            raise ObuError(start, "an OBU is cut off")
        position += size
        yield Obu(head >> 3 & 15, data[start:position])
