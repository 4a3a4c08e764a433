"""The patches of a recipe: how a vector differs from its base.

Every ``[[patch]]`` of a recipe is a table with one of these members:

``set``       a table of elements and values, numbers, or bytes in hexadecimal instead
``size``      ``{at = ELEMENT, add = n, bytes = n}``: a ``unit_size`` or ``section_size``, ``add`` more than
              it is, in ``bytes`` bytes, whether it needs them or not
``checksum``  a unit whose CRC stays what it is in the base; this patch comes before those of the unit
``keep``      names of elements of the end of the sequence that are not worked out anew
``values``    entropy-coded values of a section: ``{at = SECTION, ELEMENT = {SET = [values]}}``; the section
              is encoded anew with all values of that element and context set replaced
``beyond``    ``{at = SECTION, symbol = n}``: after ``n`` symbols the message leaves the intervals of all
``body``      ``{at = PLACE, bytes = "hex"}``: what follows the header of a unit or section
``asset``     ``{at = PLACE, name = "NAME.obu"}``, or ``.nal``: a file of ``vectors/assets`` as body
``text``      ``{at = SECTION, bytes = "hex"}``: a text of these bytes, UTF-8 or not; ``times`` repeats them
``latents``   ``{at = KEYFRAME, ...}``: a payload of the small model, as ``sources.latents`` makes it of the
              other members, with escapes of any length
``append``    ``{at = PLACE, bytes = "hex"}``: more of it; ``times`` repeats the bytes
``cut``       ``{at = PLACE, keep = n}``: ``n`` bytes of it, or all but ``-n``
``flip``      ``{at = PLACE, byte = i, mask = m}``: an exclusive or on byte ``i``
``splice``    ``{at = PLACE, byte = i, count = n, bytes = "hex"}``: other bytes instead of ``n`` from ``i`` on
``remove``    a unit or section
``copy``      ``{from = PLACE, to = PLACE}``: before unit or section ``to``, which may be one past the last
``move``      the same, without leaving it where it was
``insert``    ``{at = PLACE, unit = type, body = "hex"}``, or ``section`` and ``ancillary`` for ``unit``

Places are paths of :mod:`conformance.syntax_tree`, or ``file``, whose bytes are those of the finished
stream.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any
from unittest import mock

from conformance import coders, sources
from conformance.faults import tolerate
from conformance.manifest import VECTORS
from conformance.syntax_tree import Section, Tree, Unit, Value, parts, read
from tgv_format import clip, container, sequence, symbol_coder, syntax, text
from tgv_format.canonical import SequenceDigest
from tgv_format.clip import Clip
from tgv_format.entropy import Encoder
from tgv_format.errors import TgvError
from tgv_format.keyframe import Keyframe, Role
from tgv_format.reader import Reader
from tgv_format.text_model import END, TextModel, primed

Row = dict[str, Any]


def apply(base: bytes, patches: list[Row]) -> bytes:
    """The stream ``base`` with ``patches`` applied in order.

    Frame count and digest at the end become those that a decoder finds which passes over the fault, unless a
    patch sets them.
    """
    tree = read(base)
    kept = {name for row in patches for name in row.get("keep", ())}
    before = {name: value for name, value in tree.unit("end").values.items() if f"end.{name}" not in kept}
    edits: list[Callable[[bytes], bytes]] = []
    for row in patches:
        (kind,) = row
        edit = _PATCHES[kind](tree, row[kind])
        if edit:
            edits.append(edit)
    _end(tree, before)
    data = tree.write()
    for edit in edits:
        data = edit(data)
    return data


def _end(tree: Tree, before: dict[str, Value]) -> None:
    ends = [unit for unit in tree.units if unit.kind == container.UnitType.END]
    found, _ = tolerate(lambda: measure(tree.write()))
    values: tuple[Value, ...] = found or ()
    for name, value in zip(("frame_count", "digest"), values, strict=False):
        for end in ends:
            if end.values[name] == before.get(name):
                end.values[name] = value


def measure(data: bytes) -> tuple[int, bytes]:
    """Frame count and digest that the units before the end amount to."""
    reader = Reader(io.BytesIO(data))
    digest = SequenceDigest()
    digest.update(reader.header.to_json())
    frames = 0
    try:
        for element in reader:
            if isinstance(element, Keyframe | Clip):
                digest.update(element.to_json())
            if isinstance(element, Clip):
                frames += element.frame_count
            elif isinstance(element, Keyframe) and element.role is Role.LEADING:
                frames += 1
    except TgvError as error:
        if not error.path.startswith("end"):
            raise
    return frames, digest.value()


def _checksum(tree: Tree, path: str) -> None:
    unit = tree.unit(path)
    unit.framing["crc"] = int.from_bytes(unit.write(True)[-4:], "big")


def _value(value: int | str) -> Value:
    return value if isinstance(value, int) else bytes.fromhex(value)


def _set(tree: Tree, row: Row) -> None:
    for path, value in row.items():
        tree.set(path, _value(value))


Edit = Callable[[bytes], bytes]


def _bytes(change: Callable[[bytes, Row], bytes]) -> Callable[[Tree, Row], Edit | None]:
    """A patch of the bytes at a place."""

    def patch(tree: Tree, row: Row) -> Edit | None:
        if row["at"] == "file":
            return lambda data: change(data, row)
        node = tree.section(row["at"]) or tree.unit(row["at"])
        node.body = change(node.body, row)
        return None

    return patch


def _cut(data: bytes, row: Row) -> bytes:
    return data[: row["keep"]]


def _flip(data: bytes, row: Row) -> bytes:
    index = row["byte"] % len(data)
    return data[:index] + bytes([data[index] ^ row["mask"]]) + data[index + 1 :]


def _splice(data: bytes, row: Row) -> bytes:
    return data[: row["byte"]] + bytes.fromhex(row["bytes"]) + data[row["byte"] + row["count"] :]


def _append(data: bytes, row: Row) -> bytes:
    return data + bytes.fromhex(row["bytes"]) * row.get("times", 1)


def _body(data: bytes, row: Row) -> bytes:
    return bytes.fromhex(row["bytes"]) * row.get("times", 1)


def _text(data: bytes, row: Row) -> bytes:
    coder = Encoder(text.SECTION)
    model = TextModel(primed())
    for byte in _body(data, row):
        model.code(coder, 0xFF - byte)
    model.code(coder, END)
    return coder.finish()


def _asset(data: bytes, row: Row) -> bytes:
    return (VECTORS / "assets" / row["name"]).read_bytes()


def _latents(tree: Tree, row: Row) -> None:
    header = sequence.decode(tree.units[0].payload(), 0)
    arguments = {name: value for name, value in row.items() if name != "at"}
    with mock.patch.object(symbol_coder, "ESCAPE_BITS", 24):
        tree.unit(row["at"]).body = sources.latents(header.width, header.height, **arguments)


def _size(tree: Tree, row: Row) -> None:
    path = row["at"].rpartition(".")[0]
    node = tree.section(path + ".x") or tree.unit(path)
    size = len(node.payload()) + row.get("add", 0)
    form = bytearray(syntax.uleb128_bytes(size))
    while len(form) < row.get("bytes", 0):
        form[-1] |= 0x80
        form.append(0)
    tree.set(row["at"], bytes(form))


def _keep(tree: Tree, names: list[str]) -> None:
    """Nothing here: :func:`apply` looks at it."""


def _list(tree: Tree, path: str) -> tuple[list[Any], int]:
    """The list that a unit, interval or section is in, and its index there; one past the end is legal."""
    head, inner, tail = parts(path)
    if tail:
        sections = tree.unit(path).sections
        found = tree.section(path)
        return sections, sections.index(found) if found is not None else int(tail[8:-1])
    if inner:
        return tree.unit(head).intervals, int(inner[9:-1])
    if head.startswith("unit["):
        return tree.units, int(head[5:-1])
    return tree.units, next(i for i, unit in enumerate(tree.units) if unit is tree.unit(head))


def _remove(tree: Tree, path: str) -> None:
    nodes, index = _list(tree, path)
    del nodes[index]


def _copy(tree: Tree, row: Row) -> None:
    (source, index), (target, place) = _list(tree, row["from"]), _list(tree, row["to"])
    target.insert(place, copy.deepcopy(source[index]))


def _move(tree: Tree, row: Row) -> None:
    (source, index), (target, place) = _list(tree, row["from"]), _list(tree, row["to"])
    node = source.pop(index)
    target.insert(place, node)


def _insert(tree: Tree, row: Row) -> None:
    nodes, index = _list(tree, row["at"])
    body = bytes.fromhex(row.get("body", "")) * row.get("times", 1)
    if "section" in row:
        node: Unit | Section = Section(row["section"], {}, body, {"tag.ancillary": row.get("ancillary", 0)})
        if row["section"] in (1, 2, 3, 4, 5):
            raise ValueError("copy sections of registered types")
    else:
        node = Unit(row["unit"], {}, body)
    nodes.insert(index, node)


def _section(tree: Tree, path: str) -> tuple[Section, Callable[[], object]]:
    """A section and a function that decodes it as it is."""
    section = tree.section(path)
    assert section is not None
    header = sequence.decode(tree.units[0].payload(), 0)
    frames = clip.HEADER.build({"frame_count": tree.unit(path).values["frame_count"]})

    def decode() -> object:
        return clip.decode(frames + section.write(True), 0, "base", header)

    return section, decode


def _values(tree: Tree, row: Row) -> None:
    section, decode = _section(tree, row["at"])
    _, decode_base = _section(read(tree.source), row["at"])
    recorders: list[coders.Recorder] = []
    with coders.opened_by(_remembering(coders.Recorder, recorders)):
        decode_base()
    found = {**recorders[-1].values}
    for element, sets in row.items():
        if element != "at":
            found.update({(element, name): values for name, values in sets.items()})
    writers: list[coders.Rewriter] = []

    def rewriter(name: str, data: bytes, offset: int, path: str) -> coders.Rewriter:
        writers.append(coders.Rewriter(name, path, found))
        return writers[-1]

    with coders.opened_by(rewriter):
        tolerate(decode)
    section.body = writers[-1].message


def _remembering(factory: Callable[..., Any], made: list[Any]) -> coders.Factory:
    def make(section: str, data: bytes, offset: int, path: str) -> Any:
        made.append(factory(section, data, offset, path))
        return made[-1]

    return make


def _beyond(tree: Tree, row: Row) -> None:
    section, decode = _section(tree, row["at"])
    made: list[coders.Observer] = []
    with coders.opened_by(_remembering(coders.Observer, made)):
        tolerate(decode)
    section.body = coders.beyond(made[-1].bits[: row["symbol"]])


_PATCHES: dict[str, Callable[[Tree, Any], Edit | None]] = {
    "set": _set,
    "values": _values,
    "beyond": _beyond,
    "body": _bytes(_body),
    "append": _bytes(_append),
    "cut": _bytes(_cut),
    "flip": _bytes(_flip),
    "splice": _bytes(_splice),
    "asset": _bytes(_asset),
    "text": _bytes(_text),
    "latents": _latents,
    "size": _size,
    "checksum": _checksum,
    "keep": _keep,
    "remove": _remove,
    "copy": _copy,
    "move": _move,
    "insert": _insert,
}
