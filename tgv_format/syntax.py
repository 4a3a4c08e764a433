"""Building blocks of the construct declarations (specification clause 3.4) and the way they fail.

The declarations of all headers are `construct` objects made of the descriptors here; the syntax tables of
the specification are checked against them. Nothing else reads or writes header bytes.
"""

from __future__ import annotations

import io
from typing import Any

import construct
from construct import Construct, ConstructError, StreamError

from tgv_format.errors import TgvError


class SyntaxFaultError(ConstructError):
    """A syntax element that breaks a requirement, before it is known where the element stands."""

    def __init__(self, identifier: str, detail: str, path: str) -> None:
        super().__init__(detail)
        self.identifier = identifier
        self.element = ".".join(path.split(" -> ")[1:])


class ParameterError(ValueError):
    """A decoded parameter outside its legal values: ``identifier``, ``element`` and a sentence."""

    def __init__(self, identifier: str, element: str, detail: str) -> None:
        super().__init__(f"{element}: {detail}")
        self.identifier = identifier
        self.element = element
        self.detail = detail


class Range(Construct):
    """A number whose value has to lie in ``low .. high``; ``code`` is its representation.

    Other values break a requirement with the error ``identifier``.
    """

    def __init__(self, code: Construct, low: int, high: int, identifier: str = "out-of-range") -> None:
        super().__init__()
        self.code, self.low, self.high, self.identifier = code, low, high, identifier

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        value: int = self.code._parsereport(stream, context, path)
        self._check(value, path)
        return value

    def _build(self, obj: int, stream: Any, context: Any, path: str) -> int:
        self._check(obj, path)
        self.code._build(obj, stream, context, path)
        return obj

    def _check(self, value: int, path: str) -> None:
        if not self.low <= value <= self.high:
            raise SyntaxFaultError(self.identifier, f"{value} is not in {self.low}..{self.high}", path)


class _Uleb128(Construct):
    """Little-endian base 128, at most five bytes, in the shortest form only."""

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        value = 0
        for index in range(5):
            byte = construct.stream_read(stream, 1, path)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if index and byte == 0:
                    raise SyntaxFaultError("uleb128-invalid", "the number is not in its shortest form", path)
                return value
        raise SyntaxFaultError("uleb128-invalid", "the number is longer than five bytes", path)

    def _build(self, obj: int, stream: Any, context: Any, path: str) -> int:
        stream.write(uleb128_bytes(obj))
        return obj


class Reserved(Construct):
    """``bits`` reserved bits of a bit structure, all zero."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.code = construct.BitsInteger(bits)
        self.flagbuildnone = True

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        if self.code._parsereport(stream, context, path):
            raise SyntaxFaultError("reserved-value", "reserved bits are set", path)
        return 0

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> int:
        self.code._build(0, stream, context, path)
        return 0


Uleb128 = _Uleb128()
U8 = construct.Int8ub


def uleb128(low: int, high: int) -> Range:
    return Range(Uleb128, low, high)


def u8(low: int, high: int) -> Range:
    return Range(U8, low, high)


def uleb128_bytes(value: int) -> bytes:
    """The shortest ULEB128 form of ``value`` ≥ 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def parse(declaration: Construct, data: bytes, offset: int, path: str) -> tuple[Any, int]:
    """Parse the head of ``data``, which stands at byte ``offset``; returns the fields and the bytes used.

    Raises TgvError with the offset at which reading stopped.
    """
    stream = io.BytesIO(data)
    try:
        fields = declaration.parse_stream(stream)
    except SyntaxFaultError as fault:
        raise TgvError(
            fault.identifier, offset + stream.tell(), _join(path, fault.element), str(fault.args[0])
        ) from None
    except StreamError as error:
        element = ".".join((error.path or "").split(" -> ")[1:])
        raise TgvError("truncated", offset + len(data), _join(path, element), "the data ends here") from None
    return fields, stream.tell()


def build(declaration: Construct, **fields: Any) -> bytes:
    """The bytes of ``fields``; ParameterError when one is outside its range."""
    try:
        data: bytes = declaration.build(fields)
    except SyntaxFaultError as fault:
        raise ParameterError(fault.identifier, fault.element, str(fault.args[0])) from None
    return data


def _join(path: str, element: str) -> str:
    return f"{path}.{element}" if element else path
