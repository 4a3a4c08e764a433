"""Keyframe units (specification clause 7.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from construct import BitsInteger, BitStruct, Flag, Struct

from tgv_format.errors import TgvError
from tgv_format.syntax import ParameterError, Range, build, parse, u8


class Codec(IntEnum):
    """Registered keyframe codecs. RAW, AV1 and VVC have a decoding process in this version."""

    RAW = 0
    AV1 = 1
    VVC = 2
    ILLM = 3
    DIFFEIC = 4


class Role(IntEnum):
    """When a keyframe is shown: at once, or as the last frame of the clip that follows."""

    LEADING = 0
    TRAILING = 1


HEADER = Struct(
    "head"
    / BitStruct(
        "codec" / BitsInteger(4),
        "trailing" / Flag,
        "downscale_log2" / Range(BitsInteger(2), 0, 2, "reserved-value"),
        "dependent" / Flag,
    ),
    "frame_number" / u8(0, 255),
)


@dataclass(frozen=True)
class Keyframe:
    """A coded picture.

    ``frame_number`` is the index of the frame it shows, modulo 256; the coded picture is smaller than the
    sequence's by a factor of ``2 ** downscale_log2``, sizes rounded up; ``payload`` belongs to the codec.
    A ``dependent`` keyframe is predicted from those before it, and only decodes after them.
    """

    codec: Codec
    role: Role
    frame_number: int
    downscale_log2: int
    payload: bytes
    payload_offset: int = 0
    dependent: bool = False

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        dependent = {"dependent": 1} if self.dependent else {}
        return {
            "unit": "keyframe",
            "codec": int(self.codec),
            "role": int(self.role),
            "frame_number": self.frame_number,
            "downscale_log2": self.downscale_log2,
            "payload_bytes": len(self.payload),
            "payload_sha256": hashlib.sha256(self.payload).hexdigest(),
            **dependent,
        }


def coded_size(width: int, height: int, downscale_log2: int) -> tuple[int, int]:
    """Size of the coded picture of a sequence of ``width`` x ``height``."""
    round_up = (1 << downscale_log2) - 1
    return (width + round_up) >> downscale_log2, (height + round_up) >> downscale_log2


def encode(keyframe: Keyframe) -> bytes:
    """The payload of a keyframe unit."""
    validate(keyframe)
    head = {
        "codec": int(keyframe.codec),
        "trailing": keyframe.role is Role.TRAILING,
        "downscale_log2": keyframe.downscale_log2,
        "dependent": keyframe.dependent,
    }
    return build(HEADER, head=head, frame_number=keyframe.frame_number) + keyframe.payload


def decode(data: bytes, offset: int, path: str) -> Keyframe:
    """Decode the payload of a keyframe unit that stands at byte ``offset``."""
    fields, used = parse(HEADER, data, offset, path)
    if fields.head.codec not in Codec.__members__.values():
        raise TgvError(
            "reserved-value", offset, f"{path}.head.codec", f"codec {fields.head.codec} is not registered"
        )
    keyframe = Keyframe(
        codec=Codec(fields.head.codec),
        role=Role.TRAILING if fields.head.trailing else Role.LEADING,
        frame_number=fields.frame_number,
        downscale_log2=fields.head.downscale_log2,
        payload=data[used:],
        payload_offset=offset + used,
        dependent=fields.head.dependent,
    )
    try:
        validate(keyframe)
    except ParameterError as error:
        at = keyframe.payload_offset if error.element == "payload" else offset
        raise TgvError(error.identifier, at, f"{path}.{error.element}", error.detail) from None
    return keyframe


def validate(keyframe: Keyframe) -> None:
    """Raise ParameterError for an empty payload, and for a codec that has no dependent keyframes."""
    if keyframe.dependent and keyframe.codec is not Codec.AV1:
        detail = f"{keyframe.codec.name} keyframes are not dependent"
        raise ParameterError("reserved-value", "head.dependent", detail)
    if not keyframe.payload:
        raise ParameterError("keyframe-invalid", "payload", "the payload is empty")
