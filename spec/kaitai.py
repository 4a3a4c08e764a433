"""The description of the format in Kaitai Struct, made of the construct declarations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

import construct

from tgv_format import container, syntax
from tgv_format.clip import SectionType
from tgv_format.container import UnitType

#: The names of units in clause 11.2, which types and enum values have here.
UNITS = {t: t.name.lower() for t in UnitType} | {UnitType.END: "end_of_sequence"}
SECTIONS = {t: t.name.lower() for t in SectionType}

#: The greatest value of types; a bound of as much says nothing.
WIDEST = {"u1": 2**8 - 1, "uleb128": 2**35 - 1}

Element = dict[str, Any]

MESSAGE: Element = {"id": "message", "size-eos": True, "doc": "Entropy-coded data (clause 8)."}

SECTIONS_OF_CLIP: Element = {"id": "sections", "type": "section", "repeat": "eos"}

#: What follows the declared elements of a type.
REST: dict[str, list[Element]] = {
    "keyframe": [
        {"id": "payload", "size-eos": True, "doc": "Belongs to the codec (clauses 7.2 to 7.7)."},
    ],
    "group": [{"id": "intervals", "type": "interval", "repeat": "eos"}],
    "interval": [
        {"id": "payload", "size": "keyframe_size.value", "doc": "Of the keyframe."},
        {
            "id": "sections",
            "size": "sections_plus1.value > 0 ? sections_plus1.value - 1 : 0",
            "type": "sections",
            "doc": "None where they are those of the interval before.",
        },
    ],
    "clip": [SECTIONS_OF_CLIP],
    "section": [
        {
            "id": "body",
            "size": "tag.last ? _io.size - _io.pos : section_size.value",
            "type": {
                "switch-on": "tag.section_type",
                "cases": {f"section_type::{name}": name for name in SECTIONS.values()},
            },
            "doc": "Bytes where the type is not registered.",
        },
    ],
    **{name: [MESSAGE] for name in SECTIONS.values()},
}

ULEB128: Element = {
    "doc": "A number in 1 to 5 bytes, seven bits in each, the least significant ones first.",
    "doc-ref": "spec/tgv.md, clause 3.4",
    "-webide-representation": "{value:dec}",
    "seq": [
        {
            "id": "groups",
            "type": "group",
            "repeat": "until",
            "repeat-until": "not _.more or groups.size == 5",
            "valid": {"expr": "_.more ? groups.size < 5 : groups.size == 1 or _.bits > 0"},
        },
    ],
    "instances": {
        "value": {
            "value": "groups[0].bits.as<u8>"
            + "".join(
                f" + (groups.size > {i} ? groups[{i}].bits.as<u8> * {128**i} : 0)" for i in range(1, 5)
            ),
        },
    },
    "types": {"group": {"seq": [{"id": "more", "type": "b1"}, {"id": "bits", "type": "b7"}]}},
}


def description(
    declarations: Mapping[str, Any], clauses: Mapping[str, str], enums: Mapping[str, type[IntEnum]]
) -> str:
    """The text of ``tgv.ksy``.

    ``declarations`` by the name of their syntax table, ``clauses`` by the same names and those of units and
    sections, ``enums`` by the element that takes their values.
    """
    names = {
        "unit_type": {int(t): name for t, name in UNITS.items()},
        **{element: {int(v): v.name.lower() for v in enum} for element, enum in enums.items()},
    }
    frame = _elements(container.UNIT_HEADER, names)
    crc = _elements(container.UNIT_CRC, names)
    first = [
        frame[0] | {"valid": f"unit_type::{UNITS[UnitType.SEQUENCE]}"},
        frame[1] | {"valid": {"expr": f"_.value <= {container.MAX_SEQUENCE_BYTES}"}},
        {"id": "payload", "size": "unit_size.value", "type": UNITS[UnitType.SEQUENCE]},
        *crc,
    ]
    cases = {f"unit_type::{name}": name for t, name in UNITS.items() if t is not UnitType.SEQUENCE}
    unit = [
        *frame,
        {
            "id": "payload",
            "size": "unit_size.value",
            "type": {"switch-on": "unit_type", "cases": cases},
            "doc": "Bytes where the type is not registered.",
        },
        *({**element, "if": "_root.sequence.payload.flags.crc"} for element in crc),
    ]
    types: dict[str, Element] = {
        "sequence_unit": {
            "doc": "The first unit.",
            "doc-ref": f"spec/tgv.md, clause {clauses['unit']}",
            "seq": first,
        },
        "unit": {"doc-ref": f"spec/tgv.md, clause {clauses['unit']}", "seq": unit},
    }
    for table, declaration in declarations.items():
        name = table.removesuffix("_header")
        seq = [*_elements(declaration, names), *REST.get(name, [])]
        types[name] = {"doc-ref": f"spec/tgv.md, clause {clauses.get(name, clauses[table])}", "seq": seq}
        groups = {r.name: _group(r.subcon) for r in declaration.subcons}
        nested = {key: {"seq": _elements(group, names)} for key, group in groups.items() if group}
        if nested:
            types[name]["types"] = nested
    types["sections"] = {
        "doc-ref": f"spec/tgv.md, clause {clauses['section_header']}",
        "seq": [SECTIONS_OF_CLIP],
    }
    for name in SECTIONS.values():
        types.setdefault(name, {"doc-ref": f"spec/tgv.md, clause {clauses[name]}", "seq": REST[name]})
    root = {
        "meta": {
            "id": "tgv",
            "title": "TGV, a bitstream for generative video coding",
            "file-extension": "tgv",
            "license": "Apache-2.0",
            "ks-version": "0.11",
            "endian": "be",
            "bit-endian": "be",
        },
        "doc": "Framing and headers of conforming streams. Entropy-coded data and pictures are bytes here,"
        " and what spec/tgv.md demands beyond single elements is not checked: CRCs, order, limits of the"
        " level, canonical forms.",
        "doc-ref": "spec/tgv.md",
        "seq": [
            {"id": "signature", "contents": list(container.SIGNATURE)},
            {"id": "sequence", "type": "sequence_unit"},
            {
                "id": "units",
                "type": "unit",
                "repeat": "until",
                "repeat-until": f"_.unit_type == unit_type::{UNITS[UnitType.END]}",
            },
        ],
        "types": types | {"uleb128": ULEB128},
        "enums": names,
    }
    return "# Generated by spec/generate.py from the declarations in tgv_format.\n" + "".join(_yaml(root))


def _elements(declaration: Any, names: Mapping[str, Any]) -> list[Element]:
    """The seq of a declaration: groups are types of their own, named as the element."""
    found = []
    for renamed in declaration.subcons:
        code, element = renamed.subcon, {"id": renamed.name}
        if isinstance(code, construct.IfThenElse):
            element["if"], code = _expression(code.condfunc).strip("()"), code.thensubcon
        element |= {"type": renamed.name} if _group(code) else _code(code)
        if renamed.name in names:
            # The bounds of a range cannot be compared with names.
            legal = {"valid": {"in-enum": True}} if "valid" in element else {}
            element |= {"enum": renamed.name, **legal}
        found.append(element)
    return found


def _group(code: Any) -> Any:
    """The declaration of a group of elements, which may have a condition; None for a single element."""
    if isinstance(code, construct.IfThenElse):
        code = code.thensubcon
    if isinstance(code, construct.Restreamed | construct.Transformed):
        code = code.subcon
    return code if isinstance(code, construct.Struct) else None


def _expression(expression: Any) -> str:
    """A condition or size, which names other elements."""
    return re.sub(r"this((?:\['\w+'\])+)", lambda m: ".".join(re.findall(r"'(\w+)'", m[1])), repr(expression))


def _code(code: Any) -> Element:
    """Type, size and legal values of one element."""
    if isinstance(code, syntax.Range):
        element = _code(code.code)
        bounds = []
        legal: Element
        if code.low > 0:
            bounds.append(("min", ">=", int(code.low)))
        if code.high < WIDEST.get(element["type"], code.high + 1):
            bounds.append(("max", "<=", int(code.high)))
        if code.code is syntax.Uleb128:
            legal = {"expr": " and ".join(f"_.value {sign} {bound}" for _, sign, bound in bounds)}
        else:
            legal = {name: bound for name, _, bound in bounds}
        return element | ({"valid": legal} if bounds else {})
    if code is syntax.Uleb128:
        return {"type": "uleb128"}
    if isinstance(code, syntax.Reserved):
        return {"type": f"b{code.bits}", "valid": False if code.bits == 1 else 0}
    if isinstance(code, construct.BitsInteger):
        return {"type": f"b{code.length}"}
    if code is construct.Flag:
        return {"type": "b1"}
    if isinstance(code, construct.FormatField) and code.fmtstr in (">B", ">H", ">L", ">Q"):
        return {"type": f"u{code.length}"}
    if isinstance(code, construct.Bytes):
        return {"size": code.length if isinstance(code.length, int) else _expression(code.length)}
    raise TypeError(code)


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Lines of a mapping or of a list of mappings."""
    if isinstance(value, list):
        for item in value:
            first, *rest = _yaml(item, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        return
    for key, member in value.items():
        block = isinstance(member, dict) or (isinstance(member, list) and isinstance(member[0], dict))
        if block:
            yield f"{indent}{_scalar(key)}:\n"
            yield from _yaml(member, f"{indent}  ")
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(member)}\n"


def _scalar(value: Any) -> str:
    """A plain scalar where that is safe; JSON, which is YAML too, otherwise."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_-]([^:#]|:(?! ))*[\w>).]", value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
