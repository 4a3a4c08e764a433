"""Files and units (specification clause 5): signature, unit framing, CRC-32, resynchronisation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from construct import Int8ub, Int32ub, Struct

from tgv_format.errors import TgvError
from tgv_format.syntax import parse, uleb128, uleb128_bytes

SIGNATURE = b"\x89TGV\r\n\x1a\n"

#: Unit types with this bit may be skipped by a decoder that does not know them.
ANCILLARY = 0x80

#: Limit of the sequence header unit, before the level is known.
MAX_SEQUENCE_BYTES = 64

UNIT_HEADER = Struct("unit_type" / Int8ub, "unit_size" / uleb128(0, 2**35 - 1))
UNIT_CRC = Struct("crc" / Int32ub)

_COMPACT = 1 << 16
_MAX_HEADER = 6

# Bytes that all searches for intact units in a stream may look at, candidates counted in full.
_RESYNC_BUDGET = 1 << 26


class UnitType(IntEnum):
    """Registered unit types."""

    SEQUENCE = 0x01
    KEYFRAME = 0x02
    CLIP = 0x03
    END = 0x04
    GROUP = 0x05
    GENERATOR_HINT = 0x81


@dataclass(frozen=True)
class Unit:
    """A unit whose framing is intact; its payload begins at byte ``offset`` of the file."""

    unit_type: int
    payload: bytes
    offset: int
    framing_bytes: int

    @property
    def ancillary(self) -> bool:
        return bool(self.unit_type & ANCILLARY)


def write_unit(unit_type: UnitType, payload: bytes, crc: bool) -> bytes:
    """The bytes of a unit."""
    body = bytes([unit_type]) + uleb128_bytes(len(payload)) + payload
    return body + UNIT_CRC.build({"crc": zlib.crc32(body)}) if crc else body


class UnitReader:
    """Reads units from a stream that need not be seekable, one at a time.

    ``crc`` and ``max_bytes`` hold for the units after the sequence header, whose reader sets them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._begin = 0
        self._ended = False
        self.offset = 0
        self.crc = True
        self.max_bytes = MAX_SEQUENCE_BYTES
        self._budget = _RESYNC_BUDGET

    def signature(self) -> None:
        """Read the file signature; TgvError ``bad-magic`` when it is another."""
        if self._peek(len(SIGNATURE)) != SIGNATURE:
            raise TgvError("bad-magic", 0, "file", "this is not a TGV file")
        self._skip(len(SIGNATURE))

    def read(self) -> Unit | None:
        """The next unit; None at the end of the data. After TgvError nothing of the unit is consumed."""
        offset = self.offset
        head = self._header()
        if not head:
            return None
        fields, used = parse(UNIT_HEADER, head, offset, "unit")
        if fields.unit_size > self.max_bytes:
            raise TgvError(
                "limit-exceeded", offset + 1, "unit.unit_size", f"a unit of {fields.unit_size} bytes"
            )
        trailer = UNIT_CRC.sizeof() if self.crc else 0
        whole = self._peek(used + fields.unit_size + trailer)
        missing = used + fields.unit_size + trailer - len(whole)
        if missing:
            raise TgvError("truncated", offset + len(whole), "unit", f"{missing} bytes missing")
        body = whole[: used + fields.unit_size]
        if self.crc and UNIT_CRC.parse(whole[len(body) :]).crc != zlib.crc32(body):
            raise TgvError("crc-mismatch", offset, "unit", f"unit of type {fields.unit_type:#04x} is damaged")
        self._skip(len(whole))
        return Unit(fields.unit_type, body[used:], offset + used, used + trailer)

    def resynchronise(self) -> bool:
        """Move to the next unit of a registered type with a right CRC (clause 5.5); False if there is none.

        Searches from the byte after the one at which the faulty unit began.
        """
        if not self.crc:
            return False
        known = {int(t) for t in UnitType}
        while self._budget > 0 and self._peek(1):
            self._skip(1)
            head = self._header()
            if not head or head[0] not in known:
                continue
            try:
                fields, used = parse(UNIT_HEADER, head, self.offset, "unit")
            except TgvError:
                continue
            if fields.unit_size > self.max_bytes:
                continue
            whole = self._peek(used + fields.unit_size + 4)
            self._budget -= len(whole)
            intact = len(whole) == used + fields.unit_size + 4
            if intact and zlib.crc32(whole[:-4]) == int.from_bytes(whole[-4:], "big"):
                return True
        return False

    def _header(self) -> bytes:
        """The type and size of the next unit, not a byte more: the unit may be shorter than the longest."""
        length = 2
        while (head := self._peek(length))[1:] and length < _MAX_HEADER and head[-1] & 0x80:
            length += 1
        return head

    def at_end(self) -> bool:
        return not self._peek(1)

    def _peek(self, size: int) -> bytes:
        """Up to ``size`` bytes without consuming them; fewer at the end of the data.

        Reads no more than it needs, so that a unit is decoded as soon as it has arrived.
        """
        while not self._ended and len(self._buffer) - self._begin < size:
            part = self._stream.read(self._begin + size - len(self._buffer))
            self._ended = not part
            self._buffer += part
        return bytes(self._buffer[self._begin : self._begin + size])

    def _skip(self, size: int) -> None:
        self._begin += size
        self.offset += size
        if self._begin > _COMPACT:
            del self._buffer[: self._begin]
            self._begin = 0
