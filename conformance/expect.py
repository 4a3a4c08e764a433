"""What the reference decoder makes of a vector: the contents of its expectation file."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance import coders
from conformance.faults import tolerate
from conformance.reference import framing
from refdec import keyframes
from refdec.decoder import Decoder
from refdec.keyframes import KeyframeDecoder
from tgv_format import canonical, clip, container, sequence
from tgv_format.errors import TgvError
from tgv_format.group import expanded
from tgv_format.keyframe import Codec, Keyframe
from tgv_format.picture import Picture, Plane
from tgv_format.reader import Element, Reader

#: A larger document is left to the reference decoder; its digest stays.
MOST_DOCUMENT = 4096
PICTURES = 3

Row = dict[str, Any]


@dataclass
class Decoded:
    """Header, units, frame MD5s and rows of latents of a stream."""

    header: sequence.SequenceHeader
    units: list[Element]
    frames: list[str]
    latents: list[Row]


def decode(data: bytes, classes: tuple[int, ...]) -> Decoded:
    """All of a stream; pictures and latents only where ``classes`` ask for them.

    Of streams with learned keyframes there are no pictures, which are not exact.
    """
    reader = Reader(io.BytesIO(data))
    found = Decoded(reader.header, [], [], [])

    def elements() -> Iterator[Element]:
        for element in reader:
            if PICTURES in classes and isinstance(element, Keyframe) and element.codec is Codec.ILLM:
                found.latents.append(_latents(element, found))
            found.units.append(element)
            yield element

    stream = elements()
    if PICTURES in classes and not _learned(data):
        found.frames = [picture.md5() for picture in Decoder(reader.header).pictures(stream)]
    for _ in stream:
        pass
    return found


def _learned(data: bytes) -> bool:
    """Whether a stream has learned keyframes, as far as it can be read."""
    with contextlib.suppress(TgvError):
        for unit in expanded(framing(data)):
            if unit.unit_type == container.UnitType.KEYFRAME and unit.payload[0] >> 4 == Codec.ILLM:
                return True
    return False


def _latents(unit: Keyframe, found: Decoded) -> Row:
    number = sum(isinstance(element, Keyframe) for element in found.units)
    size = found.header.width, found.header.height
    latents = keyframes.latents(unit, *size, f"keyframe[{number}]")
    return {"number": number, "z": latents.z_md5(), "y": latents.y_md5()}


def valid(data: bytes, classes: tuple[int, ...]) -> Row:
    """The expectation of a valid stream."""
    decoded = decode(data, classes)
    objects = [decoded.header.to_json(), *(unit.to_json() for unit in decoded.units)]
    document = b"[\n" + b",\n".join(canonical.dumps(value) for value in objects) + b"\n]\n"
    rows = list(_units(data, objects))
    expectation: Row = {"document_sha256": hashlib.sha256(document).hexdigest(), "units": rows}
    if len(document) <= MOST_DOCUMENT:
        expectation["document"] = document.decode("ascii")
    expectation["frames"] = decoded.frames
    found = [unit for unit in decoded.units if isinstance(unit, Keyframe)] if decoded.frames else []
    decoder = KeyframeDecoder(decoded.header.width, decoded.header.height)
    expectation["keyframes"] = [
        {"number": number, **_planes(decoder.decode(unit))} for number, unit in enumerate(found)
    ]
    if decoded.latents:
        expectation["latents"] = decoded.latents
    return expectation


def _planes(picture: Picture) -> dict[str, str]:
    return {name: _md5(plane) for name, plane in zip("yuv", picture.planes, strict=True)}


def _md5(plane: Plane) -> str:
    return hashlib.md5(plane.tobytes(), usedforsecurity=False).hexdigest()


def _units(data: bytes, objects: list[Row]) -> Iterator[Row]:
    """The rows of the known units, in step with ``objects``."""
    header: sequence.SequenceHeader | None = None
    found = iter(objects)
    for unit in expanded(framing(data)):
        if header is None:
            header = sequence.decode(unit.payload, unit.offset)
        if unit.unit_type not in set(container.UnitType):
            continue
        value = next(found)
        row = {"kind": value["unit"], "sha256": canonical.digest(value)}
        row |= {"offset": unit.offset, "bytes": len(unit.payload)}
        if unit.unit_type == container.UnitType.CLIP:
            row["sections"] = _sections(unit, header, value)
        yield row


def _sections(unit: container.Unit, header: sequence.SequenceHeader, value: Row) -> Row:
    states: dict[str, coders.State] = {}
    made: list[tuple[str, coders.Observer]] = []

    def observe(section: str, data: bytes, offset: int, path: str) -> coders.Observer:
        made.append((section, coders.Observer(section, data, offset, path)))
        return made[-1][1]

    with coders.opened_by(observe):
        clip.decode(unit.payload, unit.offset, "clip", header)
    states = {section: observer.state for section, observer in made}
    rows: Row = {}
    for section in clip.split(unit.payload, unit.offset, "clip", header.limits)[1]:
        if section.ancillary:
            continue
        name = clip.SectionType(section.section_type).name.lower()
        rows[name] = {
            "sha256": canonical.digest(value[name]),
            "offset": section.offset,
            "bytes": len(section.body),
        }
        if name in states:
            state = states[name]
            words = {key: f"{getattr(state, key):016x}" for key in ("lower", "range", "point")}
            rows[name]["coder"] = {"symbols": state.symbols, **words, "next": state.next}
    return rows


def invalid(data: bytes, classes: tuple[int, ...]) -> Row:
    """The expectation of an invalid stream; ValueError when it is valid."""
    try:
        decode(data, classes)
    except TgvError as error:
        fault = {"identifier": error.identifier, "offset": error.offset, "path": error.path}
        return {"fault": fault}
    raise ValueError("the stream is valid")


def faults(data: bytes, classes: tuple[int, ...]) -> list[TgvError]:
    """All faults that the reference decoder finds in a stream when it passes over each."""
    return tolerate(lambda: decode(data, classes))[1]
