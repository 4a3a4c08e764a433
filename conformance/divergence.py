"""The first difference between what a decoder wrote and what it should have written.

"First" is meant in decoding order, because everything after a wrong value may be wrong by consequence. The
clauses of the elements come from ``spec/tables/elements.json`` (clause 11.6).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from conformance import reconstruction
from conformance.manifest import Expectation
from conformance.reference import DecodedUnit, Reference, document
from tgv_format.keyframe import Codec, Role
from tgv_format.picture import Picture
from tgv_format.tables import load

_ELEMENTS: dict[str, dict[str, Any]] = {row["element"]: row for row in load("elements")["elements"]}
_SYMBOLS: dict[tuple[str, str], str] = {
    (row["section"], row["symbol"]): row["clause"] for row in load("elements")["symbols"]
}
#: Which sections come first when a clip is decoded.
_SECTION_ORDER = ("trajectories", "flow_tokens", "camera_poses", "masks", "text", "interpolation")
_ABSENT = "absent"
_LONGEST = 400
_FORM = "the values are right, their form is not"

Index = tuple[str | int, ...]


class _Symbol(NamedTuple):
    """The first symbol of an element: number in the trace, bit offset, value."""

    number: int
    bits: int
    value: int


@dataclass(frozen=True)
class Divergence:
    """Where a decoder left the path.

    ``stage`` is one of "parameters", "canonical form", "keyframe", "baseline", "symbols" and "frames" (a
    wrong number of them). ``unit`` is that of the stream (``clip[0]``), ``element`` the full path with its
    ``index``, ``bit_offset`` counts from the beginning of the file, ``clause`` is that of the specification.
    """

    stage: str
    clause: str
    unit: str
    expected: Any
    got: Any
    section: str | None = None
    element: str | None = None
    index: list[int] | None = None
    frame: int | None = None
    bit_offset: int | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"expected": _bounded(self.expected), "got": _bounded(self.got)}
        return {key: value for key, value in values.items() if value is not None and value != ""}

    def sentence(self) -> str:
        """One line for people."""
        where = self.element or self.unit
        frame = "" if self.frame is None else f"frame {self.frame}, "
        offset = "" if self.bit_offset is None else f", bit {self.bit_offset}"
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"{frame}{where}: expected {_short(self.expected)}, got {_short(self.got)}{offset}; "
            f"clause {self.clause}{detail}"
        )


# --- Decoded parameters


def in_parameters(reference: Reference, written: bytes) -> Divergence | None:
    """The first difference between a written document and that of clause 11.2; None if there is none."""
    expected = document([unit.value for unit in reference.units])
    if written == expected:
        return None
    try:
        got = json.loads(written, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return _form("11.2", expected, written, f"not JSON: {error}")
    if not isinstance(got, list):
        return _form("11.2", expected, written, "the document is no array")
    if (found := _in_units(reference, got)) is not None:
        return found
    if len(got) > len(reference.units):
        last = reference.units[-1]
        return Divergence(
            "parameters", "11.2", last.path, len(reference.units), len(got), detail="units in the document"
        )
    return _form("11.1", expected, written, _FORM)


def in_part(reference: Reference, written: bytes) -> Divergence | None:
    """The first difference in the beginning of a document, as a decoder leaves it that refused the stream.

    Where all lines are right, that is the first unit that has none; None if there is one for each.
    """
    got = []
    for line in written.splitlines()[1:]:
        try:
            got.append(json.loads(line.rstrip(b","), parse_constant=_no_number))
        except (ValueError, RecursionError):
            break
    found = _in_units(reference, got)
    if found is None or found.element != found.unit:
        return found
    # All values are right as far as they go; their form may be why the digest is not.
    right = document([unit.value for unit in reference.units[: len(got)]]).removesuffix(b"\n]\n")
    return found if not got or written.startswith(right) else _form("11.1", right, written, _FORM)


def _in_units(reference: Reference, got: list[Any]) -> Divergence | None:
    """The first unit of the stream whose element differs or is not there."""
    for number, unit in enumerate(reference.units):
        if number == len(got):
            return Divergence(
                "parameters",
                ", ".join([_ELEMENTS[name]["clause"] for name in _parts(unit)]),
                unit.path,
                unit.value["unit"],
                _ABSENT,
                element=unit.path,
                index=[],
                bit_offset=8 * unit.offset,
                detail="the document ends before it",
            )
        value = got[number]
        if not isinstance(value, dict) or value.get("unit") != unit.value["unit"]:
            name = value.get("unit", _ABSENT) if isinstance(value, dict) else value
            clause = _ELEMENTS[f"{_kind(unit)}.unit"]["clause"]
            return Divergence(
                "parameters",
                clause,
                unit.path,
                unit.value["unit"],
                name,
                None,
                f"{unit.path}.unit",
                [],
                bit_offset=8 * unit.offset,
            )
        if not same(unit.value, value):
            return _in_unit(reference, unit, value)
    return None


def _parts(unit: DecodedUnit) -> list[str]:
    """What a unit consists of, by names of the table: the sections of a clip, or the unit itself."""
    return [f"clip.{name}" for name in unit.sections] or [_kind(unit)]


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def same(a: Any, b: Any) -> bool:
    """Equality that tells 1 from 1.0 and from true."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def differences(expected: Any, got: Any, index: Index = ()) -> Iterator[tuple[Index, Any, Any]]:
    """Every leaf that differs; an absent or superfluous part counts as one leaf."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(expected.keys() | got.keys()):
            yield from differences(expected.get(key, _ABSENT), got.get(key, _ABSENT), (*index, key))
    elif isinstance(expected, list) and isinstance(got, list):
        for i in range(max(len(expected), len(got))):
            want, have = (values[i] if i < len(values) else _ABSENT for values in (expected, got))
            yield from differences(want, have, (*index, i))
    elif not same(expected, got):
        yield index, expected, got


def _form(clause: str, expected: bytes, written: bytes, detail: str) -> Divergence:
    """A document with the wrong bytes; names the first line that differs."""
    pairs = zip([*expected.splitlines(), b""], [*written.splitlines(), b""], strict=False)
    line, (want, have) = next((n, p) for n, p in enumerate(pairs) if p[0] != p[1] or not p[0])
    column = next((i for i, (a, b) in enumerate(zip(want, have, strict=False)) if a != b), 0)
    begin = max(0, column - 20)
    return Divergence(
        "canonical form",
        clause,
        f"line {line + 1}",
        want[begin : column + 40].decode("ascii", "replace"),
        have[begin : column + 40].decode("ascii", "replace"),
        detail=detail,
    )


def _kind(unit: DecodedUnit) -> str:
    return unit.path.split("[")[0]


def _in_unit(reference: Reference, unit: DecodedUnit, value: dict[str, Any]) -> Divergence:
    """The earliest of the leaves that differ, by section and place in the trace."""
    found = list(differences(unit.value, value))
    names = {index[0] for index, _, _ in found}
    section = next((name for name in _SECTION_ORDER if name in names), None)
    places: list[tuple[int, int, dict[str, Any] | None]]
    # Elements of the unit's own header come before its sections.
    if _kind(unit) != "clip" or names - set(_SECTION_ORDER):
        section = None
        found = [leaf for leaf in found if leaf[0][0] not in _SECTION_ORDER]
        offset = 8 * unit.offset
        places = [(-1, offset, None)] * len(found)
    else:
        found = [leaf for leaf in found if leaf[0][0] == section]
        trace = _first_symbols(reference.trace, f"{unit.path}.{section}.")
        offset = 8 * unit.sections.get(str(section), unit.offset)
        parts = unit.value.get(str(section))
        places = [
            _place(str(section), (index[1:], expected, got), parts, trace, offset)
            for index, expected, got in found
        ]
    # Of several leaves of one symbol the first.
    first = min(range(len(found)), key=lambda n: places[n][0])
    index, expected, got = found[first]
    _, bits, row = places[first]
    row = row or _row(_kind(unit), index)
    return Divergence(
        "parameters",
        row["clause"],
        unit.path,
        expected,
        got,
        section,
        unit.path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in index),
        [part for part in index if isinstance(part, int)],
        bit_offset=bits,
    )


def _row(kind: str, index: Index) -> dict[str, Any]:
    """The row of the table for an element: that of its longest known prefix."""
    names = [kind, *(part for part in index if isinstance(part, str))]
    for end in range(len(names), 1, -1):
        if ".".join(names[:end]) in _ELEMENTS:
            return _ELEMENTS[".".join(names[:end])]
    # A member that clause 11.2 does not know.
    return {"clause": "11.2"}


def _first_symbols(trace: list[dict[str, Any]], prefix: str) -> dict[str, _Symbol]:
    """The first symbol of each traced element of a section."""
    out: dict[str, _Symbol] = {}
    for number, record in enumerate(trace):
        if record["path"].startswith(prefix):
            symbol = _Symbol(number, record["bit_offset"], record["value"])
            out.setdefault(record["path"].removeprefix(prefix), symbol)
    return out


def _place(
    section: str, leaf: tuple[Index, Any, Any], params: Any, trace: dict[str, _Symbol], offset: int
) -> tuple[int, int, dict[str, Any]]:
    """Number and bit offset of the symbol of one leaf of a section, and the row of the table."""
    index, expected, got = leaf
    row = _row("clip", (section, *index))
    name, numbers = index[0] if index else "", [i for i in index if isinstance(i, int)]
    where = _where(section, numbers, params, trace)
    row = next((other for other in row.get("elsewhere", []) if other["where"] == where), row)
    if "symbol" not in row or not isinstance(params, dict):
        return -1, offset, row
    names = _names(str(name), numbers, params) | {"byte": _common_bytes(expected, got)}
    symbol = row["symbol"].format(*numbers, 0, 0, 0, **names)
    if symbol in trace:
        return trace[symbol].number, trace[symbol].bits, row
    # Values that follow from others have no symbol of their own; others of the same point or frame have.
    owner = symbol.rpartition(".")[0]
    candidates = [
        (found.number, found.bits) for key, found in trace.items() if key.rpartition(".")[0] == owner
    ]
    return *min(candidates, default=(len(trace), offset)), row


def _where(section: str, numbers: list[int], params: Any, trace: dict[str, _Symbol]) -> str:
    """In which of the ways of the table a value of several ways is coded."""
    try:
        if section == "flow_tokens":
            return "between ends" if numbers[0] + 1 < len(params["tokens"]) else ""
        n, t = numbers[:2]
        first, last = params["span"][n]
        t = min(max(t, first), last)
        anchor = last if trace[f"points[{n}].end_anchor"].value else first
        if t == anchor:
            return ""
        return "stepwise" if params["stepwise"] else "between ends" if first < t < last else "other end"
    except (IndexError, KeyError, TypeError, ValueError):
        return ""


def _common_bytes(expected: Any, got: Any) -> int:
    """How many bytes two texts have in common before the first that differs."""
    a, b = (text.encode(errors="replace") if isinstance(text, str) else b"" for text in (expected, got))
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _names(name: str, numbers: list[int], params: dict[str, Any]) -> dict[str, int]:
    """Numbers that stand in the names of symbols, made from the indices of an element."""
    i, j, k = [*numbers, 0, 0, 0][:3]
    frames = params.get("frames", [])
    return {
        "token": 2 * k + j,
        "key_frame": frames[i] if i < len(frames) else 0,
        "frame": i + 1 if name == "motion" else _plane_of_run(params, i) if name == "runs" else 0,
    }


def _plane_of_run(masks: dict[str, Any], run: int) -> int:
    """The frame in which a run of labels begins."""
    _, height, width = masks["size"]
    return sum(length for _, length in masks["runs"][:run]) // int(height * width)


# --- Symbols


def in_trace(reference: Reference, lines: Sequence[str]) -> Divergence | None:
    """The first symbol that differs from the reference's; None if all are there."""
    for number, expected in enumerate(reference.trace):
        try:
            got = json.loads(lines[number]) if number < len(lines) else _ABSENT
        except (ValueError, RecursionError):
            got = lines[number]
        if not isinstance(got, dict):
            return _symbol(number, expected, {"value": expected["value"]}, got)
        # What a decoder leaves out of its records cannot be compared; the symbol itself has to be there.
        keys = [key for key in expected if key in got or key == "value"]
        if wrong := [key for key in keys if not same(expected[key], got.get(key, _ABSENT))]:
            return _symbol(
                number,
                expected,
                {key: expected[key] for key in wrong},
                {key: got.get(key, _ABSENT) for key in wrong},
            )
    if len(lines) > len(reference.trace):
        last = reference.trace[-1] if reference.trace else {"path": "clip[0]", "bit_offset": None}
        return _symbol(len(reference.trace), last, _ABSENT, lines[len(reference.trace)])
    return None


def _symbol(number: int, record: dict[str, Any], expected: Any, got: Any) -> Divergence:
    """A symbol with the members that differ; the state of the decoder leads to the clause that changes it."""
    unit, _, rest = record["path"].partition(".")
    section, _, name = rest.partition(".")
    clause = _SYMBOLS.get((section, re.sub(r"\[\d+\]", "", name)), "9.1")
    if isinstance(got, dict):
        coder = {"lower", "range", "point", "bit_offset"}
        if got.keys() <= coder:
            clause = "8.2"
        elif got.keys() <= coder | {"probability"} and section != "text":
            # Contexts make it; those of texts are not of clause 8.4.
            clause = "8.4"
    return Divergence(
        "symbols",
        clause,
        unit,
        expected,
        got,
        section,
        record["path"],
        [number],
        bit_offset=record["bit_offset"],
        detail=f"symbol {number}",
    )


# --- Pictures


@dataclass(frozen=True)
class _Origin:
    """Where a frame comes from: a keyframe, or a clip, in which it has the number ``t``."""

    frame: int
    unit: DecodedUnit
    stage: str
    clause: str
    t: int = 0
    two_sided: bool = False


def origins(units: Sequence[DecodedUnit]) -> list[_Origin]:
    """The origins of all frames in decoding order: a trailing keyframe before the frames up to it."""
    out: list[_Origin] = []
    frames, pending = 0, None
    for unit in units:
        kind = _kind(unit)
        if kind == "keyframe" and unit.value["role"] == Role.LEADING:
            out.append(_Origin(frames, unit, "keyframe", _keyframe_clause(unit)))
            frames += 1
        elif kind == "keyframe":
            pending = unit
        elif kind == "clip":
            last = frames + unit.value["frame_count"] - 1
            if pending is not None:
                out.append(_Origin(last, pending, "keyframe", _keyframe_clause(pending)))
            two_sided = pending is not None
            clause = ", ".join(reconstruction.steps(unit.value, two_sided))
            out += [
                _Origin(frame, unit, "baseline", clause, frame - frames + 1, two_sided)
                for frame in range(frames, last + 1 - two_sided)
            ]
            frames, pending = last + 1, None
    return out


def _keyframe_clause(unit: DecodedUnit) -> str:
    clause = {Codec.RAW: "7.2", Codec.AV1: "7.3", Codec.VVC: "7.7"}[unit.value["codec"]]
    return clause if unit.value["downscale_log2"] == 0 else f"{clause}, 7.5"


def in_frames(
    reference: Reference,
    expected: Expectation,
    got: Sequence[str],
    pictures: Sequence[Picture] | None = None,
    between: bool = True,
) -> Divergence | None:
    """The first frame whose MD5 differs, and, with the ``pictures`` that a decoder wrote, where in it.

    ``got`` are MD5s by frame. Without ``between`` only keyframes are compared, as in conformance class 3.
    """
    for origin in origins(reference.units):
        n = origin.frame
        have = got[n] if n < len(got) else _ABSENT
        if have == expected.frames[n] or (origin.stage != "keyframe" and not between):
            continue
        plane, index, detail = "", list[int](), ""
        picture = pictures[n] if pictures is not None and n < len(pictures) else None
        if picture is not None:
            plane, index, detail = _sample(reference, origin, expected, picture)
        clause = origin.clause
        if origin.stage == "baseline" and (found := _suspicion(reference, origin, have, picture)):
            clause, detail = ", ".join(found.clauses), "; ".join(filter(None, [detail, found.reason]))
        return Divergence(
            origin.stage,
            clause,
            origin.unit.path,
            expected.frames[n],
            have,
            element=f"{origin.unit.path}.frame[{n}]{plane and f'.{plane}'}",
            index=index,
            frame=n,
            bit_offset=8 * origin.unit.offset,
            detail=detail,
        )
    if len(got) != len(expected.frames):
        end = reference.units[-1]
        return Divergence("frames", "11.4", end.path, len(expected.frames), len(got), detail="frames")
    return None


def in_latents(expected: Expectation, text: str) -> Divergence | None:
    """The first difference in a list of latents (clause 11.7); None if there is none."""
    if text == expected.latents_text():
        return None
    lines = text.splitlines()
    for line, row in zip_longest(lines, expected.latents):
        if row is None:
            break
        got = {"number": _ABSENT, "z": _ABSENT, "y": _ABSENT}
        got |= zip(got, line.split(" ") if line else (), strict=False)
        for name, clause in (("number", "11.7"), ("z", "7.6.1, 7.6.3"), ("y", "7.6.5, 7.6.6")):
            value = str(getattr(row, name))
            if got[name] != value:
                unit = f"keyframe[{row.number}]"
                return Divergence("keyframe", clause, unit, value, got[name], element=f"{unit}.{name}")
    last = f"keyframe[{expected.latents[-1].number}]"
    count = len(expected.latents)
    return Divergence("keyframe", "11.7", last, count, len(lines), detail="lines of the list, or its form")


def _suspicion(
    reference: Reference, origin: _Origin, md5: str, got: Picture | None
) -> reconstruction.Suspicion | None:
    """What can be told of the step of the reconstruction that went wrong; None where nothing can."""
    try:
        pictures = reference.pictures()
    except ImportError:
        return None
    clip = reference.clips()[int(re.findall(r"\d+", origin.unit.path)[0])]
    first = origin.frame - origin.t
    frames = [first, first + clip.frame_count][: 1 + origin.two_sided]
    anchors = [pictures[frame] for frame in frames]
    return reconstruction.Case(clip, anchors, origin.t, pictures[origin.frame]).suspicion(md5, got)


def _sample(
    reference: Reference, origin: _Origin, expected: Expectation, got: Picture
) -> tuple[str, list[int], str]:
    """Plane, row and column of the first sample that differs, as far as they can be told."""
    try:
        want = reference.pictures()[origin.frame]
    except ImportError:
        # No decoder for the keyframes here: the planes of keyframes have digests of their own.
        number = int(origin.unit.path.partition("[")[2].rstrip("]") or 0)
        digests = next((p for p in expected.keyframes if p.number == number), None)
        if origin.stage != "keyframe" or digests is None:
            return "", [], ""
        md5s = (digests.y, digests.u, digests.v)
        wrong = [name for name, plane, md5 in zip("YUV", got.planes, md5s, strict=True) if _md5(plane) != md5]
        return (wrong[0], [], f"plane {', '.join(wrong)}") if wrong else ("", [], "")
    for name, right, have in zip("YUV", want.planes, got.planes, strict=True):
        if right.shape != have.shape:
            return name, [], f"a plane of {have.shape[1]}x{have.shape[0]} samples"
        rows, columns = (right != have).nonzero()
        if len(rows):
            row, column = int(rows[0]), int(columns[0])
            detail = (
                f"plane {name}, row {row}, column {column}: {right[row, column]} expected, "
                f"{have[row, column]} got; {len(rows)} samples differ"
            )
            return name, [row, column], detail
    return "", [], ""


def _md5(plane: Any) -> str:
    return hashlib.md5(plane.tobytes(), usedforsecurity=False).hexdigest()


def _bounded(value: Any) -> Any:
    """``value``, or the beginning of its text where it is long: a decoder may write anything."""
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
