"""Reads spec/tgv.ksy and parses data by it: the part of YAML and Kaitai Struct that the file makes use of.

Anything else in an element is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

KNOWN = {"id", "type", "enum", "size", "size-eos", "contents", "repeat", "repeat-until", "if", "valid", "doc"}


class InvalidError(Exception):
    """The data end early, or an element has an illegal value."""


def load(text: str) -> dict[str, Any]:
    """The mapping that the YAML text stands for."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return _block(lines, 0)


def _block(lines: list[str], indent: int) -> Any:
    """Take a mapping or a list of mappings that is indented by ``indent`` off the lines."""
    if lines[0].startswith(" " * indent + "- "):
        items = []
        while lines and lines[0].startswith(" " * indent + "- "):
            lines[0] = lines[0].replace("-", " ", 1)
            items.append(_block(lines, indent + 2))
        return items
    found: dict[Any, Any] = {}
    while lines and len(lines[0]) - len(lines[0].lstrip()) == indent:
        key, _, value = lines.pop(0)[indent:].partition(": ")
        plain = _scalar(key.removesuffix(":"))
        assert plain not in found
        found[plain] = _scalar(value) if value else _block(lines, indent + 2)
    return found


def _scalar(text: str) -> Any:
    return json.loads(text) if re.match(r'["\[\d]|(true|false)$', text) else text


class Stream:
    """Bytes, read by bits; what is not bits begins at the next whole byte."""

    def __init__(self, data: bytes) -> None:
        self._data, self._bits = data, 0
        self.size = len(data)

    @property
    def pos(self) -> int:
        return -(-self._bits // 8)

    def bits(self, count: int) -> int:
        end = self._bits + count
        if end > 8 * self.size:
            raise InvalidError
        value = int.from_bytes(self._data[: -(-end // 8)], "big") >> -end % 8 & (1 << count) - 1
        self._bits = end
        return value

    def bytes(self, count: int) -> bytes:
        begin = self.pos
        if begin + count > self.size:
            raise InvalidError
        self._bits = 8 * (begin + count)
        return self._data[begin : begin + count]


class Sized(list[Any]):
    @property
    def size(self) -> int:
        return len(self)


class Description:
    """A description; ``parse`` gives numbers, bytes, lists and mappings without the absent elements."""

    def __init__(self, text: str) -> None:
        self.root = load(text)

    def parse(self, data: bytes, kind: str | None = None, most: int | None = None) -> Any:
        """The file, or the first ``most`` elements of a type."""
        spec = self.root if kind is None else self.root["types"][kind]
        spec = {**spec, "seq": spec["seq"][:most]}
        return _plain(self._type(spec, [self.root], Stream(data), None))

    def _type(self, spec: Any, scopes: list[Any], io: Stream, root: Any) -> SimpleNamespace:
        node = SimpleNamespace(_io=io)
        node._root = root or node
        for element in spec["seq"]:
            assert set(element) <= KNOWN, element
            if "if" in element and not self._value(element["if"], node):
                continue
            if "repeat" not in element:
                value = self._element(element, [*scopes, spec], node)
                setattr(node, element["id"], value)
                self._check(element, value, node)
                continue
            items = Sized()
            setattr(node, element["id"], items)
            while element["repeat"] == "until" or io.pos < io.size:
                items.append(self._element(element, [*scopes, spec], node))
                self._check(element, items[-1], node)
                if "repeat-until" in element and self._value(element["repeat-until"], node, items[-1]):
                    break
        for name, instance in spec.get("instances", {}).items():
            setattr(node, name, self._value(instance["value"], node))
        return node

    def _element(self, element: Any, scopes: list[Any], node: SimpleNamespace) -> Any:
        io, kind = node._io, element.get("type")
        if "contents" in element:
            data = io.bytes(len(element["contents"]))
            if data != bytes(element["contents"]):
                raise InvalidError
            return data
        if kind and (number := re.fullmatch(r"([ub])(\d+)", kind if isinstance(kind, str) else "")):
            count = int(number[2])
            return int.from_bytes(io.bytes(count), "big") if number[1] == "u" else io.bits(count)
        if "size" in element or "size-eos" in element:
            size = io.size - io.pos if element.get("size-eos") else self._value(element["size"], node)
            data = io.bytes(size)
            if isinstance(kind, dict):
                cases = {self._value(case, node): name for case, name in kind["cases"].items()}
                kind = cases.get(self._value(kind["switch-on"], node))
            if kind is None:
                return data
            io = Stream(data)
        scope = next(scope for scope in reversed(scopes) if kind in scope.get("types", {}))
        return self._type(scope["types"][kind], scopes, io, node._root)

    def _check(self, element: Any, value: Any, node: SimpleNamespace) -> None:
        valid = element.get("valid")
        if valid is None:
            return
        if not isinstance(valid, dict):
            legal = value == self._value(valid, node)
        elif "expr" in valid:
            legal = bool(self._value(valid["expr"], node, value))
        elif "in-enum" in valid:
            legal = value in self.root["enums"][element["enum"]]
        else:
            legal = valid.get("min", value) <= value <= valid.get("max", value)
        if not legal:
            raise InvalidError

    def _value(self, expression: Any, node: SimpleNamespace, item: Any = None) -> Any:
        """The value of an expression, which is one of Python but for names of enums, casts and choices."""
        code = re.sub(
            r"(\w+)::(\w+)",
            lambda m: str({v: k for k, v in self.root["enums"][m[1]].items()}[m[2]]),
            str(expression),
        )
        code = code.replace(".as<u8>", "")
        code = re.sub(r"([^()?]+) \? ([^()?]+) : ([^()?]+)", r"(\2 if \1 else \3)", code)
        return eval(code, {"__builtins__": {}}, {**vars(node), "_": item})


def _plain(value: Any) -> Any:
    if isinstance(value, Sized):
        return [_plain(item) for item in value]
    if not isinstance(value, SimpleNamespace):
        return value
    fields: Mapping[str, Any] = {k: v for k, v in vars(value).items() if k not in ("_io", "_root")}
    return fields["value"] if "value" in fields else {k: _plain(v) for k, v in fields.items()}
