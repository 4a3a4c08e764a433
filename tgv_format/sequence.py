"""Sequence header (specification clause 6.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from construct import BitStruct, Flag, If, Struct, this

from tgv_format.errors import TgvError
from tgv_format.levels import LEVELS, PROFILES, Level
from tgv_format.picture import Colour
from tgv_format.syntax import ParameterError, Reserved, build, parse, u8, uleb128
from tgv_format.tables import load

VERSION = 0
FRAME_RATES: dict[int, Fraction] = {
    row["code"]: Fraction(row["numerator"], row["denominator"]) for row in load("frame_rates")["frame_rates"]
}
_RATE_CODES = {rate: code for code, rate in FRAME_RATES.items()}

HEADER = Struct(
    "version" / u8(0, 255),
    "profile" / u8(0, 255),
    "level" / u8(0, 255),
    "flags"
    / BitStruct(
        "crc" / Flag, "colour_present" / Flag, "sample_aspect_present" / Flag, "reserved" / Reserved(5)
    ),
    "width_minus1" / uleb128(0, 8191),
    "height_minus1" / uleb128(0, 8191),
    "frame_rate_code" / u8(0, max(FRAME_RATES)),
    "frame_rate"
    / If(
        this.frame_rate_code == 0,
        Struct("numerator" / uleb128(1, 1000000), "denominator" / uleb128(1, 1000000)),
    ),
    "colour"
    / If(
        this.flags.colour_present,
        Struct(
            "primaries" / u8(1, 22), "transfer" / u8(1, 18), "matrix" / u8(1, 17), "full_range" / u8(0, 1)
        ),
    ),
    "sample_aspect"
    / If(this.flags.sample_aspect_present, Struct("width" / uleb128(1, 65535), "height" / uleb128(1, 65535))),
)


@dataclass(frozen=True)
class SequenceHeader:
    """What holds for the whole sequence. Sizes in luma samples; ``sample_aspect`` is width : height."""

    width: int
    height: int
    frame_rate: Fraction
    level: int
    profile: int = 0
    colour: Colour = field(default_factory=Colour)
    sample_aspect: tuple[int, int] = (1, 1)
    crc: bool = True

    @property
    def limits(self) -> Level:
        return LEVELS[self.level]

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        c = self.colour
        return {
            "unit": "sequence",
            "version": VERSION,
            "profile": self.profile,
            "level": self.level,
            "width": self.width,
            "height": self.height,
            "frame_rate": [self.frame_rate.numerator, self.frame_rate.denominator],
            "colour": [c.primaries, c.transfer, c.matrix, int(c.full_range)],
            "sample_aspect": list(self.sample_aspect),
            "crc": int(self.crc),
        }


def encode(header: SequenceHeader) -> bytes:
    """The payload of a sequence header unit."""
    validate(header)
    code = _RATE_CODES.get(header.frame_rate, 0)
    c = header.colour
    colour = {
        "primaries": c.primaries,
        "transfer": c.transfer,
        "matrix": c.matrix,
        "full_range": int(c.full_range),
    }
    return build(
        HEADER,
        version=VERSION,
        profile=header.profile,
        level=header.level,
        flags={
            "crc": header.crc,
            "colour_present": header.colour != Colour(),
            "sample_aspect_present": header.sample_aspect != (1, 1),
        },
        width_minus1=header.width - 1,
        height_minus1=header.height - 1,
        frame_rate_code=code,
        frame_rate={"numerator": header.frame_rate.numerator, "denominator": header.frame_rate.denominator},
        colour=colour,
        sample_aspect={"width": header.sample_aspect[0], "height": header.sample_aspect[1]},
    )


def decode(data: bytes, offset: int) -> SequenceHeader:
    """Decode the payload of a sequence header unit that stands at byte ``offset``."""
    if data and data[0] != VERSION:
        raise TgvError("unsupported-version", offset, "sequence.version", f"{data[0]} is not {VERSION}")
    fields, used = parse(HEADER, data, offset, "sequence")
    if used != len(data):
        raise TgvError("trailing-data", offset + used, "sequence", f"{len(data) - used} bytes too many")
    rate = FRAME_RATES.get(fields.frame_rate_code)
    if rate is None:
        rate = Fraction(fields.frame_rate.numerator, fields.frame_rate.denominator)
    colour, aspect = Colour(), (1, 1)
    if fields.colour is not None:
        c = fields.colour
        colour = Colour(c.primaries, c.transfer, c.matrix, bool(c.full_range))
    if fields.sample_aspect is not None:
        aspect = (fields.sample_aspect.width, fields.sample_aspect.height)
    header = SequenceHeader(
        width=fields.width_minus1 + 1,
        height=fields.height_minus1 + 1,
        frame_rate=rate,
        level=fields.level,
        profile=fields.profile,
        colour=colour,
        sample_aspect=aspect,
        crc=bool(fields.flags.crc),
    )
    try:
        validate(header)
    except ParameterError as error:
        raise TgvError(error.identifier, offset, f"sequence.{error.element}", error.detail) from None
    if encode(header) != data:
        raise TgvError(
            "non-canonical", offset, "sequence", "a default is coded, or a fraction is not reduced"
        )
    return header


def validate(header: SequenceHeader) -> None:
    """Raise ParameterError unless profile, level and picture size fit together."""
    if header.profile not in PROFILES:
        raise ParameterError("unsupported-profile", "profile", f"profile {header.profile} is unknown")
    if header.level not in LEVELS:
        raise ParameterError("reserved-value", "level", f"level {header.level} is unknown")
    limits = header.limits
    if (
        max(header.width, header.height) > limits.dimension
        or header.width * header.height > limits.luma_samples
    ):
        detail = f"{header.width}x{header.height} exceeds level {header.level}"
        raise ParameterError("limit-exceeded", "width_minus1", detail)
    if math.gcd(*header.sample_aspect) != 1:
        raise ParameterError("non-canonical", "sample_aspect", "the fraction is not reduced")
