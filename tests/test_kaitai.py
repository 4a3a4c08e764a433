"""spec/tgv.ksy describes what the library reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ksy import Description, InvalidError
from strategies import Stream, generator_hints, sequence_headers, settings, spans, streams, unit, write
from test_spec import CLAUSES, generate

from tgv_format import clip
from tgv_format.clip import SectionType
from tgv_format.container import UnitType
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import Uleb128, parse, uleb128_bytes

KSY = Description(generate.DESCRIPTION.read_text(encoding="utf-8"))
DECLARATIONS = {table.removesuffix("_header"): code for table, code in generate.DECLARATIONS.items()}
PAYLOADS = {
    UnitType.SEQUENCE: "sequence",
    UnitType.KEYFRAME: "keyframe",
    UnitType.CLIP: "clip",
    UnitType.END: "end_of_sequence",
    UnitType.GROUP: "group",
    UnitType.GENERATOR_HINT: "generator_hint",
}


def plain(value: Any) -> Any:
    """A parsed declaration in the form that Description gives."""
    if not isinstance(value, construct.Container):
        return value
    return {k: plain(v) for k, v in value.items() if v is not None and not k.startswith("_")}


def declared(name: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The declared elements at the head of ``data``, and what follows them."""
    values, used = parse(DECLARATIONS[name], data, 0, name)
    return plain(values), data[used:]


def as_read(data: bytes) -> dict[str, Any]:
    """What the library reads from a conforming stream, without decoding it."""
    header, found = generate._framed(data)
    units: list[dict[str, Any]] = []
    for u in found:
        read = {
            "unit_type": u.unit_type,
            "unit_size": len(u.payload),
            "payload": payload(u.unit_type, u.payload, header.limits),
        }
        if header.crc or not units:
            end = u.offset + len(u.payload)
            read["crc"] = int.from_bytes(data[end : end + 4], "big")
        units.append(read)
    return {"signature": data[:8], "sequence": units[0], "units": units[1:]}


def payload(kind: int, data: bytes, limits: Level) -> Any:
    if kind not in set(UnitType):
        return data
    read, rest = declared(PAYLOADS[UnitType(kind)], data)
    if kind == UnitType.KEYFRAME:
        read["payload"] = rest
    elif kind == UnitType.CLIP:
        _, sections = clip.split(data, 0, "clip", limits)
        read["sections"] = [section(s, s is sections[-1]) for s in sections]
    elif kind == UnitType.GROUP:
        read["intervals"] = list(intervals(rest, limits))
    else:
        assert not rest
    return read


def intervals(data: bytes, limits: Level) -> Iterator[dict[str, Any]]:
    while data:
        read, data = declared("interval", data)
        size, own = read["keyframe_size"], max(0, read["sections_plus1"] - 1)
        count, described = bytes([1]), data[size : size + own]
        _, sections = clip.split(count + described, 0, "clip", limits)
        found = [section(s, s is sections[-1]) for s in sections]
        yield read | {"payload": data[:size], "sections": {"sections": found}}
        data = data[size + own :]


def section(coded: clip.Section, last: bool) -> dict[str, Any]:
    kind, body = coded.section_type, coded.body
    tag = {"ancillary": coded.ancillary, "last": last, "section_type": kind}
    read: dict[str, Any] = {"tag": tag, "body": body} | ({} if last else {"section_size": len(body)})
    if kind in set(SectionType):
        name = SectionType(kind).name.lower()
        elements, message = declared(name, body) if name in DECLARATIONS else ({}, body)
        read["body"] = elements | {"message": message}
    return read


def test_worked_example() -> None:
    data = generate.EXAMPLE.read_bytes()
    assert KSY.parse(data) == as_read(data)


@given(stream=streams())
@settings(max_examples=60)
def test_streams(stream: Stream) -> None:
    data = stream.write()
    assert KSY.parse(data) == as_read(data)


@given(stream=streams(most=1), header=sequence_headers(), hint=generator_hints)
@settings(max_examples=40)
def test_headers_and_what_is_not_registered(stream: Stream, header: Any, hint: Any) -> None:
    """Any header and hint; an unknown ancillary unit; a clip of a known and an unknown ancillary section."""
    data = write(header, [*stream.units[:1], hint])
    end = spans(data)[-1]
    known, unknown = bytes([SectionType.TEXT, 2, 0, 0]), bytes([0x80 | 0x40 | 63, 1, 2, 3])
    clip_unit = unit(UnitType.CLIP, bytes([5]) + known + unknown, header.crc)
    data = data[: end.begin] + unit(0xFE, b"skip", header.crc) + clip_unit + data[end.begin :]
    read = KSY.parse(data)
    assert read == as_read(data)
    assert read["units"][-3]["payload"] == b"skip"
    assert [s["body"] for s in read["units"][-2]["payload"]["sections"]] == [
        {"message": bytes(2)},
        bytes([1, 2, 3]),
    ]


def heads(name: str) -> Iterator[bytes]:
    """A header with all its groups, its beginnings, and each of its elements at and beside its bounds."""
    rows = [[cell.strip("`") for cell in row] for row in generate.elements(DECLARATIONS[name])]
    conditions = dict(row[3].split(" == ") for row in rows if row[3])
    values, others = {}, {}
    for element, descriptor, legal, _ in rows:
        bits = int(re.sub(r"\D*", "", descriptor) or 0)
        ends = [int(n) for n in re.findall(r"\d+", legal)] or [0, 2**bits - 1]
        values[element] = int(conditions.get(element, ends[0]))
        if not descriptor.startswith("bytes"):
            others[element] = {max(n + d, 0) for n in ends for d in (-1, 0, 1)}
    whole = head(rows, values)
    yield from (whole[:size] for size in range(len(whole) + 1))
    for element in others:
        yield from (head(rows, values | {element: value}) for value in others[element])


def head(rows: list[list[str]], values: dict[str, int]) -> bytes:
    """The bytes of ``rows`` with these values, which need not be legal; numbers are cut to their width."""
    out, bits = b"", ""
    for element, descriptor, _, condition in rows:
        other, _, wanted = condition.partition(" == ")
        size = re.sub(r"\D*", "", descriptor)
        if other and values[other] != int(wanted):
            continue
        if descriptor == "uleb128":
            out += uleb128_bytes(values[element])
        elif descriptor.startswith("u("):
            bits += f"{values[element] % 2 ** int(size):0{size}b}"
            if len(bits) == 8:
                out, bits = out + bytes([int(bits, 2)]), ""
        elif descriptor.startswith("bytes"):
            out += bytes(int(size or values["name_bytes"]))
        else:
            out += (values[element] % 2 ** int(size)).to_bytes(int(size) // 8, "big")
    return out


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (TgvError, InvalidError):
        return "refused"


@pytest.mark.parametrize("name", DECLARATIONS)
def test_types_take_and_refuse_what_declarations_do(name: str) -> None:
    count, outcomes = len(DECLARATIONS[name].subcons), []
    for data in heads(name):
        outcomes.append(outcome(lambda data=data: declared(name, data)[0]))
        assert outcome(lambda data=data: KSY.parse(data, name, count)) == outcomes[-1]
    assert {type(found) for found in outcomes} == {dict, str}


@given(data=st.lists(st.sampled_from([0, 1, 127, 128, 129, 255]), max_size=6).map(bytes))
def test_uleb128(data: bytes) -> None:
    assert outcome(lambda: KSY.parse(data, "uleb128")) == outcome(lambda: parse(Uleb128, data, 0, "")[0])


def test_every_unit_section_and_clause_is_described() -> None:
    types = KSY.root["types"]
    assert types.keys() >= {*PAYLOADS.values(), *(kind.name.lower() for kind in SectionType)}
    assert PAYLOADS.keys() == set(UnitType)
    for spec in types.values():
        assert spec["doc-ref"].removeprefix("spec/tgv.md, clause ") in CLAUSES
