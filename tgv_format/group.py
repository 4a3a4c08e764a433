"""Groups: trailing dependent keyframes and their clips in one unit (specification clause 5.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from construct import BitsInteger, BitStruct, Struct

from tgv_format import clip as clip_module
from tgv_format import keyframe as keyframe_module
from tgv_format.clip import Clip
from tgv_format.container import Unit, UnitType
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.sequence import SequenceHeader
from tgv_format.syntax import ParameterError, Range, Reserved, build, parse, u8, uleb128

#: An interval: a trailing keyframe and its clip.
Pair = tuple[Keyframe, Clip]

HEADER = Struct(
    "head"
    / BitStruct(
        "codec" / BitsInteger(4),
        "downscale_log2" / Range(BitsInteger(2), 0, 2, "reserved-value"),
        "reserved" / Reserved(2),
    ),
    "frame_number" / u8(0, 255),
    "frame_count" / uleb128(1, 255),
)
INTERVAL_HEADER = Struct(
    "keyframe_size" / uleb128(1, 2**28 - 1),
    "sections_plus1" / uleb128(0, 2**28),
)


@dataclass(frozen=True)
class Interval:
    """An interval as it stands in the unit.

    The keyframe's ``payload`` begins at byte ``offset`` of the file; ``sections`` are those of the clip,
    which begin at byte ``sections_offset`` and may be those of an interval before.
    """

    payload: bytes
    offset: int
    sections: bytes
    sections_offset: int


def encode(pairs: Sequence[Pair], header: SequenceHeader) -> list[bytes]:
    """The payload of a group unit: its header, then each of the intervals."""
    validate(pairs)
    keyframe, clip = pairs[0]
    head = {"codec": int(keyframe.codec), "downscale_log2": keyframe.downscale_log2, "reserved": 0}
    out = [build(HEADER, head=head, frame_number=keyframe.frame_number, frame_count=clip.frame_count)]
    before = b""
    for keyframe, clip in pairs:
        sections = _sections(clip, header)
        own, plus1 = (b"", 0) if sections == before else (sections, len(sections) + 1)
        sizes = build(INTERVAL_HEADER, keyframe_size=len(keyframe.payload), sections_plus1=plus1)
        out.append(sizes + keyframe.payload + own)
        before = sections
    return out


def _sections(clip: Clip, header: SequenceHeader) -> bytes:
    """What follows the frame count in a clip unit."""
    count = clip_module.HEADER.build({"frame_count": clip.frame_count})
    return clip_module.encode(clip, header)[len(count) :]


def decode(data: bytes, offset: int, path: str) -> Iterator[Unit]:
    """The keyframe and clip units that the payload of a group at byte ``offset`` stands for, in order.

    An interval is looked at when its keyframe is asked for. What a unit says outside the keyframe's payload
    and the clip's sections is not at its place in the file, but near the interval's own bytes.
    """
    fields, used = parse(HEADER, data, offset, path)
    head = {
        "codec": fields.head.codec,
        "trailing": True,
        "downscale_log2": fields.head.downscale_log2,
        "dependent": True,
    }
    number = fields.frame_number
    count = clip_module.HEADER.build({"frame_count": fields.frame_count})
    for interval in _intervals(data[used:], offset + used, path):
        start = keyframe_module.HEADER.build({"head": head, "frame_number": number})
        yield Unit(UnitType.KEYFRAME, start + interval.payload, interval.offset - len(start), 0)
        yield Unit(UnitType.CLIP, count + interval.sections, interval.sections_offset - len(count), 0)
        number = (number + fields.frame_count) % 256


def _intervals(data: bytes, offset: int, path: str) -> Iterator[Interval]:
    position, number = 0, 0
    sections, sections_offset = b"", offset
    while not number or position < len(data):
        name = f"{path}.interval[{number}]"
        begin = offset + position
        fields, used = parse(INTERVAL_HEADER, data[position : position + 10], begin, name)
        payload = position + used
        own = payload + fields.keyframe_size
        position = own + max(fields.sections_plus1 - 1, 0)
        if position > len(data):
            detail = f"{position - len(data)} bytes missing"
            raise TgvError("truncated", offset + len(data), name, detail)
        if fields.sections_plus1:
            if data[own:position] == sections:
                raise TgvError("non-canonical", begin, name, "the sections are those of the interval before")
            sections, sections_offset = data[own:position], offset + own
        yield Interval(data[payload:own], offset + payload, sections, sections_offset)
        number += 1


def validate(pairs: Sequence[Pair]) -> None:
    """Raise ParameterError unless there are intervals, which have in common what the unit says once."""
    if not pairs:
        raise ParameterError("truncated", "interval", "there are no intervals")
    (first, clip), number = pairs[0], pairs[0][0].frame_number
    common: tuple[Codec, int] = first.codec, first.downscale_log2
    for keyframe, other in pairs:
        keyframe_module.validate(keyframe)
        if keyframe.role is not Role.TRAILING or not keyframe.dependent:
            raise ParameterError("unit-order", "keyframe", "a keyframe is not trailing and dependent")
        if (keyframe.codec, keyframe.downscale_log2) != common or other.frame_count != clip.frame_count:
            detail = "the intervals differ in codec, scale or length"
            raise ParameterError("out-of-range", "interval", detail)
        if keyframe.frame_number != number % 256:
            raise ParameterError("frame-number", "keyframe", "the frames do not follow each other")
        number += clip.frame_count


def expanded(units: Iterable[Unit]) -> Iterator[Unit]:
    """The units with those in place of groups that they stand for; TgvError where a group is faulty."""
    for unit in units:
        if unit.unit_type == UnitType.GROUP:
            yield from decode(unit.payload, unit.offset, "group")
        else:
            yield unit
