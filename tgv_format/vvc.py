"""VVC units and parameter sets, as far as a keyframe payload needs them (specification clause 7.7).

Names of syntax elements are those of ITU-T H.266.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from construct import Int8ub, Struct

from tgv_format.errors import TgvError
from tgv_format.syntax import parse, uleb128, uleb128_bytes
from tgv_format.tables import load


class NalType(IntEnum):
    """The types of NAL units that a keyframe payload may hold (H.266, table 5)."""

    IDR_W_RADL = 7
    IDR_N_LP = 8
    SPS = 15
    PPS = 16
    PREFIX_APS = 17
    PH = 19


#: The bits of the default parameter sets before and after the size of the picture.
_DEFAULTS: dict[NalType, list[str]] = {
    NalType.SPS: load("vvc")["default_sps"],
    NalType.PPS: load("vvc")["default_pps"],
}

HEADER = Struct("nal_type" / Int8ub, "rbsp_size" / uleb128(0, 2**35 - 1))

#: What a keyframe's types look like, one byte each: parameter sets, picture header, slices.
_ORDER = re.compile(rb"\x0f\x10\x11*\x13?(?:\x07+|\x08+)")
_MAIN_10 = 1
_MAIN_10_STILL_PICTURE = 65
_SIZE_UNIT = 8
_MOST_UE_BITS = 16


@dataclass(frozen=True)
class Nal:
    """A NAL unit without its header and without emulation prevention bytes.

    ``rbsp`` stands ``offset`` bytes after the beginning of the payload.
    """

    nal_type: int
    rbsp: bytes
    offset: int = 0


class VvcError(ValueError):
    """A payload that breaks clause 7.7, ``offset`` bytes after its beginning."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(detail)
        self.offset = offset


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Size of the VVC picture of a coded picture of ``width`` x ``height``."""
    return -(-width // _SIZE_UNIT) * _SIZE_UNIT, -(-height // _SIZE_UNIT) * _SIZE_UNIT


def default_parameter_sets(width: int, height: int) -> list[Nal]:
    """SPS and PPS of a coded picture of ``width`` x ``height`` whose payload has none."""
    numbers = [f"{size + 1:b}" for size in padded_size(width, height)]
    size = "".join("0" * (len(number) - 1) + number for number in numbers)
    found = []
    for nal_type, (head, tail) in _DEFAULTS.items():
        bits = f"{head}{size}{tail}1"
        length = -(-len(bits) // 8)
        found.append(Nal(nal_type, int(bits.ljust(8 * length, "0"), 2).to_bytes(length)))
    return found


def join(units: Sequence[Nal]) -> bytes:
    """The payload made of ``units``."""
    return b"".join(bytes([u.nal_type]) + uleb128_bytes(len(u.rbsp)) + u.rbsp for u in units)


def split(data: bytes, offset: int, path: str) -> list[Nal]:
    """The units of a payload that stands at byte ``offset``, as they are.

    Raises TgvError ``uleb128-invalid`` or ``truncated``.
    """
    units: list[Nal] = []
    position = 0
    while position < len(data):
        fields, used = parse(HEADER, data[position : position + 6], offset + position, path)
        position += used
        missing = fields.rbsp_size - (len(data) - position)
        if missing > 0:
            raise TgvError("truncated", offset + len(data), f"{path}.rbsp", f"{missing} bytes missing")
        units.append(Nal(fields.nal_type, data[position : position + fields.rbsp_size], position))
        position += fields.rbsp_size
    return units


def byte_stream(units: Sequence[Nal]) -> bytes:
    """The units in the byte stream format of H.266, Annex B, with headers of layer 0 and sublayer 0."""
    out = bytearray()
    for unit in units:
        out += b"\x00\x00\x00\x01\x00" + bytes([unit.nal_type << 3 | 1])
        out += re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", unit.rbsp)
    return bytes(out)


def check(units: Sequence[Nal], width: int, height: int) -> None:
    """VvcError unless ``units`` make one 10-bit 4:2:0 picture that holds one of ``width`` x ``height``.

    Slices are not looked into.
    """
    types = bytes(unit.nal_type for unit in units)
    if not _ORDER.fullmatch(types):
        raise VvcError(0, f"NAL units of types {list(types)} make no keyframe")
    for unit, read in zip(units, (_sequence, _picture), strict=False):
        try:
            size = read(_Bits(unit.rbsp))
        except IndexError:
            raise VvcError(unit.offset, "a parameter set is cut off") from None
        except ValueError as error:
            raise VvcError(unit.offset, str(error)) from None
        if size != padded_size(width, height):
            got = "x".join(map(str, size))
            raise VvcError(unit.offset, f"a VVC picture of {got} does not hold one of {width}x{height}")


def _sequence(bits: _Bits) -> tuple[int, int]:
    """Width and height of a sequence parameter set (H.266, 7.3.2.4 and 7.3.3.1)."""
    bits.u(4)
    bits.expect("sps_video_parameter_set_id", bits.u(4), 0)
    sublayers = bits.u(3)
    bits.expect("sps_chroma_format_idc", bits.u(2), 1)
    bits.u(2)
    bits.expect("sps_ptl_dpb_hrd_params_present_flag", bits.u(1), 1)
    bits.expect("general_profile_idc", bits.u(7), _MAIN_10, _MAIN_10_STILL_PICTURE)
    bits.u(1 + 8 + 2)
    bits.expect("gci_present_flag", bits.u(1), 0)
    bits.align()
    with_level = bits.u(sublayers)
    bits.align()
    bits.u(8 * with_level.bit_count())
    bits.expect("ptl_num_sub_profiles", bits.u(8), 0)
    bits.u(1)
    bits.expect("sps_ref_pic_resampling_enabled_flag", bits.u(1), 0)
    size = bits.ue(), bits.ue()
    bits.expect("sps_conformance_window_flag", bits.u(1), 0)
    bits.expect("sps_subpic_info_present_flag", bits.u(1), 0)
    bits.expect("sps_bitdepth_minus8", bits.ue(), 2)
    return size


def _picture(bits: _Bits) -> tuple[int, int]:
    """Width and height of a picture parameter set (H.266, 7.3.2.5)."""
    bits.u(6 + 4 + 1)
    size = bits.ue(), bits.ue()
    bits.expect("pps_conformance_window_flag", bits.u(1), 0)
    return size


class _Bits:
    """Reads numbers from bytes, most significant bits first; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> (~at & 7) & 1
        self._at += count
        return value

    def ue(self) -> int:
        """An Exp-Golomb number; ValueError from 2**16 - 1 on, which no size is."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros == _MOST_UE_BITS:
                raise ValueError("a number in a parameter set is too large")
        return (1 << zeros) - 1 + self.u(zeros)

    def align(self) -> None:
        self._at = (self._at + 7) & ~7

    def expect(self, name: str, value: int, *legal: int) -> None:
        """ValueError unless ``value`` is one of ``legal``."""
        if value not in legal:
            raise ValueError(f"{name} {value} is not supported in keyframes")
