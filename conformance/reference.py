"""What the reference implementation makes of a vector: needed to say *where* a decoder differs.

Verdicts come from the manifest's digests alone. The document, the trace and the pictures here only serve the
search for the first difference; :func:`load` checks the document against the manifest.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from conformance.manifest import Vector
from tgv_format import canonical, clip, sequence
from tgv_format.clip import Clip, SectionType
from tgv_format.container import Unit, UnitReader, UnitType
from tgv_format.errors import TgvError
from tgv_format.group import expanded
from tgv_format.picture import Picture
from tgv_format.reader import Reader


@dataclass(frozen=True)
class DecodedUnit:
    """A unit that has an element in the document of clause 11.2.

    ``path`` such as ``clip[0]``; ``offset`` that of its payload, ``sections`` those of the sections' bodies,
    in bytes of the file.
    """

    path: str
    value: dict[str, Any]
    offset: int
    sections: dict[str, int]


@dataclass(frozen=True)
class Reference:
    """The decoded parameters of a stream with the places where they stand, and its symbols."""

    data: bytes
    units: list[DecodedUnit]

    @cached_property
    def trace(self) -> list[dict[str, Any]]:
        """All symbols in order, as in clause 11.5; they take longer than the rest together."""
        records: list[dict[str, Any]] = []
        for _ in Reader(io.BytesIO(self.data), records.append):
            pass
        return records

    def clips(self) -> list[Clip]:
        """The clips with all their parameters."""
        return [element for element in Reader(io.BytesIO(self.data)) if isinstance(element, Clip)]

    def pictures(self) -> list[Picture]:
        """All frames of the sequence; ImportError where a decoder of its keyframes is not installed."""
        from refdec.decoder import Decoder

        reader = Reader(io.BytesIO(self.data))
        return list(Decoder(reader.header).pictures(reader))


class MismatchError(Exception):
    """The reference implementation itself does not decode a vector as the manifest says."""


def load(vector: Vector) -> Reference:
    """What a valid vector decodes to; MismatchError if that is not what the manifest says."""
    try:
        found = decode(vector.stream_path.read_bytes())
    except TgvError as error:
        raise MismatchError(str(error)) from None
    text = document([unit.value for unit in found.units])
    if hashlib.sha256(text).hexdigest() != vector.expectation.document_sha256:
        raise MismatchError("the reference implementation gives another document than the manifest")
    return found


def document(values: Sequence[Any]) -> bytes:
    """The document of clause 11.2."""
    return b"[\n" + b",\n".join(canonical.dumps(value) for value in values) + b"\n]\n"


def decode(data: bytes) -> Reference:
    """Decode a valid stream; TgvError if it is not."""
    reader = Reader(io.BytesIO(data))
    values = [reader.header.to_json(), *(element.to_json() for element in reader)]
    units = [unit for unit in expanded(framing(data)) if unit.unit_type in set(UnitType)]
    counts: dict[str, int] = {}
    decoded = []
    for unit, value in zip(units, values, strict=True):
        name = value["unit"]
        number = counts.get(name, 0)
        counts[name] = number + 1
        path = name if name in ("sequence", "end_of_sequence") else f"{name}[{number}]"
        sections = {}
        if unit.unit_type == UnitType.CLIP:
            _, bodies = clip.split(unit.payload, unit.offset, path, reader.header.limits)
            known = {int(kind): kind.name.lower() for kind in SectionType}
            sections = {known[s.section_type]: s.offset for s in bodies if s.section_type in known}
        decoded.append(DecodedUnit(path, value, unit.offset, sections))
    return Reference(data, decoded)


def framing(data: bytes) -> Iterator[Unit]:
    """The units of a stream with payloads undecoded, the sequence header's first; TgvError on bad framing."""
    reader = UnitReader(io.BytesIO(data))
    reader.signature()
    unit = reader.read()
    if unit is None:
        return
    yield unit
    header = sequence.decode(unit.payload, unit.offset)
    reader.crc, reader.max_bytes = header.crc, header.limits.unit_bytes
    yield from iter(reader.read, None)
