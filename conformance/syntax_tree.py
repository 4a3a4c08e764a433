"""A stream as a tree of syntax elements, each of which can be given a value that no writer would write.

:func:`read` takes a valid stream apart, :meth:`Tree.write` puts it together again. Elements that follow from
others (sizes, CRCs, ``tag.last``) are made anew unless they were given a value. An element is named by its
path, as in error reports: ``clip[0].trajectories.head.reserved``, ``keyframe[1].frame_number``,
``group[0].frame_number``, ``end.digest``; those of the framing are ``unit_type``, ``unit_size`` and ``crc``
of any unit, ``tag.last`` and ``section_size`` of any section. ``unit[2]`` and ``clip[0].section[1]`` name
those of all types.
``group[0].interval[1]`` is like a unit: with elements, sections and, as what follows them, its keyframe.
Keyframes and clips are counted outside groups.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import construct

from tgv_format import (
    camera_poses,
    clip,
    container,
    end,
    flow_tokens,
    generator_hint,
    group,
    interpolation,
    keyframe,
    masks,
    sequence,
    syntax,
    trajectories,
)
from tgv_format.levels import Level

#: The value of an element: a number, or the very bytes that stand in its place.
Value = int | bytes

_NOTHING = construct.Struct()
UNITS: dict[int, tuple[str, Any]] = {
    container.UnitType.SEQUENCE: ("sequence", sequence.HEADER),
    container.UnitType.KEYFRAME: ("keyframe", keyframe.HEADER),
    container.UnitType.CLIP: ("clip", clip.HEADER),
    container.UnitType.END: ("end", end.HEADER),
    container.UnitType.GROUP: ("group", group.HEADER),
    container.UnitType.GENERATOR_HINT: ("generator_hint", generator_hint.HEADER),
}
SECTIONS: dict[int, tuple[str, Any]] = {
    clip.SectionType.TRAJECTORIES: ("trajectories", trajectories.HEADER),
    clip.SectionType.FLOW_TOKENS: ("flow_tokens", flow_tokens.HEADER),
    clip.SectionType.CAMERA_POSES: ("camera_poses", camera_poses.HEADER),
    clip.SectionType.MASKS: ("masks", masks.HEADER),
    clip.SectionType.TEXT: ("text", _NOTHING),
    clip.SectionType.INTERPOLATION: ("interpolation", interpolation.HEADER),
}


def elements(
    declaration: Any, context: construct.Container | None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Names and codes of a declaration's elements: of those that ``context`` makes present, or of all."""
    for renamed in declaration.subcons:
        code, name = renamed.subcon, prefix + renamed.name
        if isinstance(code, construct.IfThenElse):
            if context is not None and not code.condfunc(context):
                continue
            code = code.thensubcon
        if isinstance(code, construct.Restreamed | construct.Transformed):
            code = code.subcon
        if isinstance(code, construct.Struct):
            yield from elements(code, context, f"{name}.")
        else:
            yield name, code


def _context(values: dict[str, Value]) -> construct.Container:
    context = construct.Container()
    for name, value in values.items():
        group, _, member = name.rpartition(".")
        (context.setdefault(group, construct.Container()) if group else context)[member] = value
    return context


def _bits(code: Any) -> int:
    """How many bits an element of a group of bits has, 0 for one of whole bytes."""
    if isinstance(code, syntax.Range):
        return _bits(code.code)
    if isinstance(code, syntax.Reserved):
        return code.bits
    if isinstance(code, construct.BitsInteger):
        return int(code.length)
    return int(code is construct.Flag)


def encode(declaration: Any, values: dict[str, Value]) -> bytes:
    """The bytes of ``values``, whatever they are; numbers that do not fit lose their upper bits."""
    out, group, width = b"", 0, 0
    for name, code in elements(declaration, _context(values)):
        value = values.get(name, 0)
        if bits := _bits(code):
            assert isinstance(value, int), f"{name} is a number of {bits} bits"
            group, width = group << bits | value & ((1 << bits) - 1), width + bits
            if width % 8 == 0:
                out, group, width = out + group.to_bytes(width // 8, "big"), 0, 0
        elif isinstance(value, bytes):
            out += value
        else:
            while isinstance(code, syntax.Range):
                code = code.code
            size = getattr(code, "length", 0)
            out += syntax.uleb128_bytes(value) if code is syntax.Uleb128 else value.to_bytes(size, "big")
    return out


def decode(declaration: Any, data: bytes) -> tuple[dict[str, Value], int]:
    """The elements of a valid header at the beginning of ``data``, and its size."""
    fields, used = syntax.parse(declaration, data, 0, "base")
    values: dict[str, Value] = {}
    for name, _ in elements(declaration, fields):
        value: Any = fields
        for part in name.split("."):
            value = value[part]
        values[name] = value if isinstance(value, bytes) else int(value)
    return values, used


@dataclass
class Section:
    """A section: the elements of its header, and ``body``, what comes after them."""

    kind: int
    values: dict[str, Value]
    body: bytes
    framing: dict[str, Value] = field(default_factory=dict)

    @property
    def declaration(self) -> Any:
        return SECTIONS.get(self.kind, ("", _NOTHING))[1]

    def payload(self) -> bytes:
        return encode(self.declaration, self.values) + self.body

    def write(self, last: bool) -> bytes:
        body = self.payload()
        framing = {"tag.section_type": self.kind, "tag.ancillary": 0, "tag.last": int(last)}
        return encode(clip.SECTION_HEADER, {**framing, "section_size": len(body), **self.framing}) + body


@dataclass
class Unit:
    """A unit: the elements of its header, its sections, and ``body``, what comes after them."""

    kind: int
    values: dict[str, Value]
    body: bytes = b""
    sections: list[Section] = field(default_factory=list)
    framing: dict[str, Value] = field(default_factory=dict)
    intervals: list[Interval] = field(default_factory=list)

    @property
    def declaration(self) -> Any:
        return UNITS.get(self.kind, ("", _NOTHING))[1]

    def payload(self) -> bytes:
        intervals = b"".join(interval.payload() for interval in self.intervals)
        return encode(self.declaration, self.values) + intervals + _written(self.sections) + self.body

    def write(self, crc: bool) -> bytes:
        payload = self.payload()
        head = {"unit_type": self.kind, "unit_size": len(payload), **self.framing}
        data = encode(container.UNIT_HEADER, head) + payload
        own: Value = self.framing.get("crc", zlib.crc32(data))
        return data + encode(container.UNIT_CRC, {"crc": own}) if crc else data


@dataclass
class Interval(Unit):
    """An interval of a group: ``body`` is the payload of its keyframe; without sections it repeats them."""

    @property
    def declaration(self) -> Any:
        return group.INTERVAL_HEADER

    def payload(self) -> bytes:
        sections = _written(self.sections)
        sizes: dict[str, Value] = {"keyframe_size": len(self.body), "sections_plus1": len(sections)}
        sizes["sections_plus1"] = len(sections) + 1 if sections else 0
        return encode(self.declaration, {**sizes, **self.values}) + self.body + sections


def _written(sections: list[Section]) -> bytes:
    last = len(sections) - 1
    return b"".join(section.write(i == last) for i, section in enumerate(sections))


@dataclass
class Tree:
    """A file; ``source`` are the bytes that it was read from."""

    source: bytes
    units: list[Unit]

    def write(self) -> bytes:
        crc = bool(self.units and self.units[0].values.get("flags.crc", 1))
        units = [unit.write(crc or index == 0) for index, unit in enumerate(self.units)]
        return container.SIGNATURE + b"".join(units)

    def unit(self, path: str) -> Unit:
        """The unit or interval that a path begins with; KeyError when there is none."""
        head, inner, _ = parts(path)
        name, index = _step(head)
        found = [u for u in self.units if name in ("unit", UNITS.get(u.kind, ("", None))[0])]
        if not -len(found) <= index < len(found):
            raise KeyError(path)
        return found[index].intervals[_step(inner)[1]] if inner else found[index]

    def section(self, path: str) -> Section | None:
        """The section that a path leads into, if it does."""
        rest = parts(path)[2]
        if not rest:
            return None
        name, index = _step(rest.split(".")[0])
        sections = self.unit(path).sections
        if name == "section":
            return sections[index] if index < len(sections) else None
        return next((s for s in sections if SECTIONS.get(s.kind, ("", None))[0] == name), None)

    def set(self, path: str, value: Value) -> None:
        """Give an element a value; KeyError when there is no such element."""
        unit, section = self.unit(path), self.section(path)
        node = section or unit
        name = parts(path)[2].split(".", 1 if section else 0)[-1]
        framing = (
            clip.SECTION_HEADER
            if section
            else construct.Struct(*container.UNIT_HEADER.subcons, *container.UNIT_CRC.subcons)
        )
        for declaration, values in ((framing, node.framing), (node.declaration, node.values)):
            if name in (known for known, _ in elements(declaration, None)):
                values[name] = value
                return
        raise KeyError(path)


def parts(path: str) -> tuple[str, str, str]:
    """A path as unit, interval or "", and the rest or ""."""
    head, _, rest = path.partition(".")
    if not rest.startswith("interval["):
        return head, "", rest
    inner, _, rest = rest.partition(".")
    return head, inner, rest


def _step(part: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\w+)(?:\[(-?\d+)\])?", part)
    if match is None:
        raise KeyError(part)
    return match[1], int(match[2] or 0)


def read(data: bytes) -> Tree:
    """Take a valid stream apart."""
    reader = container.UnitReader(io.BytesIO(data))
    reader.signature()
    tree = Tree(data, [])
    limits = None
    while (unit := reader.read()) is not None:
        node = Unit(unit.unit_type, {})
        node.values, used = decode(node.declaration, unit.payload)
        if unit.unit_type == container.UnitType.SEQUENCE:
            header = sequence.decode(unit.payload, unit.offset)
            reader.crc, limits = header.crc, header.limits
            reader.max_bytes = limits.unit_bytes
        if unit.unit_type == container.UnitType.CLIP and limits is not None:
            node.sections = [_section(s) for s in clip.split(unit.payload, unit.offset, "clip", limits)[1]]
        elif unit.unit_type == container.UnitType.GROUP and limits is not None:
            node.intervals = list(_intervals(unit, limits))
        else:
            node.body = unit.payload[used:]
        tree.units.append(node)
    return tree


def _intervals(unit: container.Unit, limits: Level) -> Iterator[Interval]:
    units = list(group.decode(unit.payload, unit.offset, "group"))
    frame_count, _ = clip.split(units[1].payload, 0, "clip", limits)
    before = clip.HEADER.build({"frame_count": frame_count})
    for coded, described in zip(units[::2], units[1::2], strict=True):
        sections = clip.split(described.payload, 0, "clip", limits)[1] if described.payload != before else []
        # Without sections, an interval is written as one that repeats them.
        values: dict[str, Value] = {} if sections or described.payload == before else {"sections_plus1": 1}
        _, used = decode(keyframe.HEADER, coded.payload)
        yield Interval(unit.unit_type, values, coded.payload[used:], [_section(s) for s in sections])
        before = described.payload


def _section(section: clip.Section) -> Section:
    node = Section(section.section_type, {}, section.body)
    if section.ancillary:
        node.framing["tag.ancillary"] = 1
    else:
        node.values, used = decode(node.declaration, section.body)
        node.body = section.body[used:]
    return node
