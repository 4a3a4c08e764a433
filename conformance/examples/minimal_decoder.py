r"""A second decoder of TGV, written from ``spec/tgv.md`` alone: decoded parameters in plain Python.

It needs the standard library only, decodes the container, all headers, trajectories and text, and shares no
code with the reference decoder. It is the worked example of an adapter for the conformance suite:

    tgv-conformance run --decoder 'python minimal_decoder.py {input} {params}' \
        --expect minimal_decoder.txt

After a change of the vectors ``--write-expect minimal_decoder.txt`` writes that list anew; all in it is
"unsupported".

With a third argument it writes the symbols (clause 11.5) there, for ``--trace-decoder``.

Exit status: 0 decoded; 1 the stream is in error, with the identifier on standard error; 69 the stream uses
what this decoder does not have: flow tokens, camera poses, masks and interpolation.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[2]
TABLES = next(
    folder for folder in (_ROOT / "spec" / "tables", _ROOT / "tgv_format" / "tables") if folder.is_dir()
)


class StreamError(Exception):
    """The stream breaks a requirement (clause 12)."""


class UnsupportedError(Exception):
    """The stream uses what this decoder does not have."""


def table(name: str) -> Any:
    """A normative table."""
    return json.loads((TABLES / f"{name}.json").read_text())


LEVELS = {row["level"]: row for row in table("levels")["levels"]}
FRAME_RATES = {r["code"]: (r["numerator"], r["denominator"]) for r in table("frame_rates")["frame_rates"]}


def require(condition: bool, identifier: str) -> None:
    if not condition:
        raise StreamError(identifier)


# --- Clause 3.4: descriptors


class Bytes:
    """A position in some bytes; reading past their end is an error."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        require(count <= self.left(), "truncated")
        self.position += count
        return self.data[self.position - count : self.position]

    def rest(self) -> bytes:
        return self.take(self.left())

    def u8(self, low: int = 0, high: int = 255) -> int:
        value = self.take(1)[0]
        require(low <= value <= high, "out-of-range")
        return value

    def uleb128(self, low: int = 0, high: int = 2**35 - 1) -> int:
        value = 0
        for i in range(5):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                require(i == 0 or byte != 0, "uleb128-invalid")
                require(low <= value <= high, "out-of-range")
                return value
        raise StreamError("uleb128-invalid")


# --- Clauses 5 and 6: the file, units and their order

SIGNATURE = b"\x89TGV\r\n\x1a\n"
SEQUENCE, KEYFRAME, CLIP, END, GROUP, GENERATOR_HINT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x81
ANCILLARY = 0x80
AV1 = 1


def canonical(value: Any) -> bytes:
    """Canonical JSON (clause 11.1)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Iterator[dict[str, Any]]:
    """The objects of clause 11.2 of all units, as they are decoded."""
    require(data[:8] == SIGNATURE, "bad-magic")
    file = Bytes(data)
    file.take(8)
    kind, payload = read_unit(file, crc=True, limit=64)
    require(kind == SEQUENCE, "unit-order")
    header = sequence_header(payload)
    yield header
    digest = hashlib.sha256(canonical(header) + b"\n")
    limit = LEVELS[header["level"]]["unit_bytes"]
    frames, pending, before = 0, None, None
    for kind, payload in units(file, bool(header["crc"]), limit):
        require(kind != SEQUENCE, "unit-order")
        if kind == GENERATOR_HINT:
            yield generator_hint(payload)
            continue
        if kind not in (KEYFRAME, CLIP, END):
            require(bool(kind & ANCILLARY), "unknown-critical")
            continue
        unit = {KEYFRAME: keyframe, CLIP: lambda p: clip(p, header), END: end_of_sequence}[kind](payload)
        yield unit
        # Clause 5.3.
        if kind == KEYFRAME:
            codec = unit["codec"], unit["downscale_log2"]
            require(before == codec or "dependent" not in unit, "unit-order")
            before = codec
        if kind == CLIP:
            require(frames > 0, "unit-order")
            frames += unit["frame_count"]
            require(pending in (None, (frames - 1) % 256), "frame-number")
            pending = None
        else:
            require(pending is None, "unit-order")
        if kind == KEYFRAME and unit["role"]:
            require(frames > 0, "unit-order")
            pending = unit["frame_number"]
        elif kind == KEYFRAME:
            require(unit["frame_number"] == frames % 256, "frame-number")
            frames += 1
        if kind == END:
            require(unit["frame_count"] == frames, "frame-number")
            require(unit["digest"] == digest.hexdigest()[:16], "digest-mismatch")
            require(file.left() == 0, "trailing-data")
            return
        digest.update(canonical(unit) + b"\n")


def units(file: Bytes, crc: bool, limit: int) -> Iterator[tuple[int, Bytes]]:
    """Types and payloads of all further units, and those that groups stand for."""
    while True:
        kind, payload = read_unit(file, crc, limit)
        if kind == GROUP:
            yield from group(payload)
        else:
            yield kind, payload


def group(data: Bytes) -> Iterator[tuple[int, Bytes]]:
    """Clause 5.6."""
    head = data.u8()
    require(head >> 2 & 3 != 3, "reserved-value")
    require(head & 3 == 0, "reserved-value")
    number, frame_count = data.u8(), data.uleb128(1, 255)
    start = head & 0xF0 | 0x08 | head >> 1 & 0x06 | 0x01
    count = bytes([frame_count] if frame_count < 128 else [frame_count & 0x7F | 0x80, frame_count >> 7])
    sections, first = b"", True
    while first or data.left():
        keyframe_size, sections_plus1 = data.uleb128(1, 268435455), data.uleb128(0, 268435456)
        payload, own = data.take(keyframe_size), data.take(max(0, sections_plus1 - 1))
        if sections_plus1:
            require(own != sections, "non-canonical")
            sections = own
        yield KEYFRAME, Bytes(bytes([start, number]) + payload)
        yield CLIP, Bytes(count + sections)
        number, first = (number + frame_count) % 256, False


def read_unit(file: Bytes, crc: bool, limit: int) -> tuple[int, Bytes]:
    begin = file.position
    kind = file.u8()
    size = file.uleb128()
    require(size <= limit, "limit-exceeded")
    require(size + 4 * crc <= file.left(), "truncated")
    payload = file.take(size)
    if crc:
        (expected,) = struct.unpack(">I", file.take(4))
        require(zlib.crc32(file.data[begin : file.position - 4]) == expected, "crc-mismatch")
    return kind, Bytes(payload)


def sequence_header(data: Bytes) -> dict[str, Any]:
    if data.left():
        require(data.data[0] == 0, "unsupported-version")
    version, profile, level, flags = data.u8(), data.u8(), data.u8(), data.u8()
    require(flags & 0x1F == 0, "reserved-value")
    width, height = data.uleb128(0, 8191) + 1, data.uleb128(0, 8191) + 1
    code = data.u8(0, max(FRAME_RATES))
    rate = FRAME_RATES[code] if code else (data.uleb128(1, 1000000), data.uleb128(1, 1000000))
    colour, aspect = [1, 1, 1, 0], [1, 1]
    if flags & 0x40:
        colour = [data.u8(1, 22), data.u8(1, 18), data.u8(1, 17), data.u8(0, 1)]
    if flags & 0x20:
        aspect = [data.uleb128(1, 65535), data.uleb128(1, 65535)]
    require(data.left() == 0, "trailing-data")
    require(profile == 0, "unsupported-profile")
    require(level in LEVELS, "reserved-value")
    require(width * height <= LEVELS[level]["luma_samples"], "limit-exceeded")
    require(max(width, height) <= LEVELS[level]["dimension"], "limit-exceeded")
    require(bool(code) or rate not in FRAME_RATES.values(), "non-canonical")
    require(math.gcd(*rate) == 1, "non-canonical")
    require(not flags & 0x40 or colour != [1, 1, 1, 0], "non-canonical")
    require(not flags & 0x20 or aspect != [1, 1], "non-canonical")
    require(math.gcd(*aspect) == 1, "non-canonical")
    return {
        "unit": "sequence",
        "version": version,
        "profile": profile,
        "level": level,
        "width": width,
        "height": height,
        "frame_rate": list(rate),
        "colour": colour,
        "sample_aspect": aspect,
        "crc": flags >> 7,
    }


def generator_hint(data: Bytes) -> dict[str, Any]:
    name = data.take(data.u8(1, 64))
    unit = {
        "unit": "generator_hint",
        "weights_sha256": data.take(32).hex(),
        "sampler": data.u8(0, 3),
        "steps": data.uleb128(0, 1000),
        "guidance_scale_q4": data.uleb128(0, 1600),
        "seed": data.take(8).hex(),
    }
    require(data.left() == 0, "trailing-data")
    require(all(0x20 <= byte <= 0x7E for byte in name), "text-invalid")
    return {**unit, "name": name.decode("ascii")}


def end_of_sequence(data: Bytes) -> dict[str, Any]:
    unit = {
        "unit": "end_of_sequence",
        "frame_count": data.uleb128(1, 2**32 - 1),
        "digest": data.take(8).hex(),
    }
    require(data.left() == 0, "trailing-data")
    return unit


def keyframe(data: Bytes) -> dict[str, Any]:
    """Clause 7.1; pictures are not decoded."""
    head = data.u8()
    require(head >> 1 & 3 != 3, "reserved-value")
    number = data.u8()
    require(head >> 4 <= 4, "reserved-value")
    require(head & 1 == 0 or head >> 4 == AV1, "reserved-value")
    payload = data.rest()
    require(len(payload) > 0, "keyframe-invalid")
    return {
        "unit": "keyframe",
        "codec": head >> 4,
        "role": head >> 3 & 1,
        "frame_number": number,
        "downscale_log2": head >> 1 & 3,
        "payload_bytes": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        **({"dependent": 1} if head & 1 else {}),
    }


# --- Clause 9.1: clips

TRAJECTORIES, FLOW_TOKENS, CAMERA_POSES, MASKS, TEXT, INTERPOLATION = 1, 2, 3, 4, 5, 6


def clip(data: Bytes, header: dict[str, Any]) -> dict[str, Any]:
    level = LEVELS[header["level"]]
    frame_count = data.uleb128(1, 255)
    require(frame_count <= level["clip_frames"], "limit-exceeded")
    sections: list[tuple[int, int, Bytes]] = []
    while data.left():
        tag = data.u8()
        ancillary, last, kind = tag >> 7, tag >> 6 & 1, tag & 63
        size = None if last else data.uleb128(0, 268435455)
        if size is None:
            size = data.left()
        require(size <= data.left(), "truncated")
        require(not sections or kind > sections[-1][0], "section-order")
        sections.append((kind, ancillary, Bytes(data.take(size))))
        require(bool(last) == (data.left() == 0), "non-canonical")
    unit: dict[str, Any] = {"unit": "clip", "frame_count": frame_count}
    for kind, ancillary, body in sections:
        if ancillary:
            require(not TRAJECTORIES <= kind <= INTERPOLATION, "reserved-value")
        elif kind == TRAJECTORIES:
            unit["trajectories"] = Trajectories(body, header, frame_count, level).to_json()
        elif kind == TEXT:
            unit["text"] = {"text": text(body, level["text_bytes"])}
        elif kind in (FLOW_TOKENS, CAMERA_POSES, MASKS, INTERPOLATION):
            raise UnsupportedError(f"section type {kind}")
        else:
            raise StreamError("unknown-critical")
    return unit


# --- Clause 8: entropy coding

_CONTEXTS = table("contexts")
FAST_RATE, SLOW_RATE, START_RATE = (
    _CONTEXTS["estimator"][f"{name}_rate"] for name in ("fast", "slow", "start")
)
PREFIX_CONTEXTS, UNARY_LIMIT, ESCAPE_BITS = (
    _CONTEXTS["binarisation"][name] for name in ("prefix_contexts", "unary_limit", "escape_bits")
)
U64 = 2**64 - 1


class EntropyDecoder:
    """Symbols of a section: the range decoder, contexts and binarisations."""

    trace: IO[bytes] | None = None

    def __init__(self, section: str, data: bytes) -> None:
        self.data = data
        self.lower, self.range = 0, U64
        self.point = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
        self.next = 8
        # fast, slow, count
        states = _CONTEXTS["sections"].get(section, {}).items()
        self.contexts = {name: [[state, state, 0] for state in initial] for name, initial in states}

    def symbol(self, probability: int, context: str | None = None) -> int:
        scale = self.range >> 24
        inside = (self.point - self.lower) & U64
        split = scale * ((4096 - probability) << 12)
        require(inside < scale << 24, "entropy-invalid")
        if inside >= split:
            symbol = 1
            self.lower = (self.lower + split) & U64
            self.range = scale * (probability << 12)
        else:
            symbol = 0
            self.range = split
        if self.trace is not None:
            # Of the members of clause 11.5 as many as there are at hand; the runner compares what it finds.
            record = {"context": context, "probability": probability, "value": symbol}
            self.trace.write(canonical(record) + b"\n")
        if self.range < 2**32:
            self.lower = self.lower << 32 & U64
            self.range <<= 32
            word = self.data[self.next : self.next + 4].ljust(4, b"\0")
            self.point = (self.point << 32 | int.from_bytes(word, "big")) & U64
            self.next += 4
        return symbol

    def check_end(self) -> None:
        n = len(self.data)
        require(n <= self.next, "non-canonical")
        require(n == 0 or self.data[-1] != 0, "non-canonical")
        for k in range(8, -1, -1):
            rest = -self.lower & ((1 << 8 * k) - 1)
            if rest < self.range:
                break
        require((self.point - self.lower) & U64 == rest, "non-canonical")

    def bit(self, name: str, index: int) -> int:
        context = self.contexts[name][index]
        fast, slow, count = context
        symbol = self.symbol((fast + slow) >> 5, f"{name}[{index}]")
        rate = START_RATE + count
        f, s = min(rate, FAST_RATE), min(rate, SLOW_RATE)
        if symbol:
            context[:2] = fast + ((65535 - fast) >> f), slow + ((65535 - slow) >> s)
        else:
            context[:2] = fast - (fast >> f), slow - (slow >> s)
        if rate <= SLOW_RATE:
            context[2] += 1
        return symbol

    def bypass(self, n: int) -> int:
        value = 0
        for _ in range(n):
            value = value << 1 | self.symbol(2048)
        return value

    def uniform(self, count: int) -> int:
        value = 0
        for shift in range((count - 1).bit_length() - 1, -1, -1):
            zeros = min(count - value, 1 << shift)
            ones = min(count - value - zeros, 1 << shift)
            if ones > 0:
                value += self.symbol(max(1, (ones << 12) // (zeros + ones))) << shift
        return value

    def unsigned(self, name: str, offset: int) -> int:
        for prefix in range(UNARY_LIMIT):
            if not self.bit(name, offset + prefix):
                return prefix
        length = 0
        while self.bit(name, offset + min(UNARY_LIMIT + length, PREFIX_CONTEXTS - 1)):
            length += 1
            require(length <= ESCAPE_BITS, "out-of-range")
        return UNARY_LIMIT - 1 + (1 << length) + self.bypass(length)

    def golomb(self, name: str, shift: int) -> int:
        high = self.unsigned(name, 0)
        return high << shift | self.bypass(shift)

    def signed(self, name: str, offset: int) -> int:
        if self.bit(f"{name}_zero", offset):
            return 0
        negative = self.bit(f"{name}_sign", offset)
        magnitude = 1 + self.unsigned(f"{name}_magnitude", offset * PREFIX_CONTEXTS)
        return -magnitude if negative else magnitude


# --- Clause 9.2: trajectories

Position = tuple[int, int]


class Trajectories:
    """A trajectory section; methods are called like the functions of clause 9.2."""

    def __init__(self, data: Bytes, header: dict[str, Any], frames: int, level: dict[str, int]) -> None:
        require(data.left() <= level["section_bytes"], "limit-exceeded")
        head = data.u8()
        require(head & 1 == 0, "reserved-value")
        self.precision, self.lattice_log2, self.stepwise = head >> 5, head >> 2 & 7, head >> 1 & 1
        self.count = data.uleb128(0, 1023) + 1
        require(self.count <= level["trajectories"], "limit-exceeded")
        self.last = frames
        self.grid_width = ((header["width"] << self.precision) + 7) // 8
        self.grid_height = ((header["height"] << self.precision) + 7) // 8
        self.columns = ((self.grid_width - 1) >> self.lattice_log2) + 1
        self.rows = ((self.grid_height - 1) >> self.lattice_log2) + 1
        self.cells = self.columns * self.rows
        self.anchor: list[Position] = [(0, 0)] * self.count
        self.instance = [0] * self.count
        self.span = [(0, 0)] * self.count
        self.follows = [0] * self.count
        self.visible = [[0] * (frames + 1) for _ in range(self.count)]
        self.position: list[list[Position]] = [[(0, 0)] * (frames + 1) for _ in range(self.count)]
        self.known = self.side_before = 0
        self.explicit = [0] * self.count
        self.coarse = int(self.precision < 2)
        self.coder = EntropyDecoder("trajectories", data.rest())
        cell = 0
        for n in range(self.count):
            cell = self.point(n, cell)
        self.coder.check_end()

    def to_json(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "lattice_log2": self.lattice_log2,
            "stepwise": self.stepwise,
            "instance": self.instance,
            "span": self.span,
            "follows": self.follows,
            "visible": self.visible,
            "positions": self.position,
        }

    # Clause 9.2.2

    def cell_position(self, cell: int) -> Position:
        centre = (1 << self.lattice_log2) >> 1
        row, column = divmod(cell, self.columns)
        return (column << self.lattice_log2) + centre, (row << self.lattice_log2) + centre

    def is_on_lattice(self, position: Position) -> bool:
        column, row = position[0] >> self.lattice_log2, position[1] >> self.lattice_log2
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return False
        return self.cell_position(row * self.columns + column) == position

    # Clause 9.2.10

    def check_position(self, position: Position) -> None:
        for value, size in zip(position, (self.grid_width, self.grid_height), strict=True):
            require(-size <= value < 2 * size + 128, "out-of-range")

    # Clause 9.2.4

    def point(self, n: int, cell: int) -> int:
        shift = max(0, ((self.cells - cell) // (self.count - n)).bit_length() - 2)
        cell += self.coder.golomb("anchor_gap", shift)
        require(cell < self.cells, "out-of-range")
        self.anchor[n] = self.cell_position(cell)
        self.read_instance(n)
        side = self.side_before = self.coder.bit("end_anchor", self.side_before)
        first, last = self.span[n] = self.read_span()
        anchor, other = (last, first) if side else (first, last)
        path = self.position[n]
        path[anchor] = self.anchor[n]
        references = self.reference_points(n, anchor)
        if first < last:
            leaders = [self.position[m] for m in references]
            if self.stepwise:
                self.steps(path, anchor, other, leaders)
            else:
                self.intervals(n, anchor, other, leaders[0] if leaders else None)
            require(not side or not self.is_on_lattice(path[other]), "non-canonical")
        else:
            require(not side, "non-canonical")
        self.visibility(n, references)
        path[:first] = [path[first]] * first
        path[last + 1 :] = [path[last]] * (self.last - last)
        return cell

    def read_span(self) -> tuple[int, int]:
        if self.coder.bit("full_span", 0):
            return 0, self.last
        first = self.coder.uniform(self.last + 1)
        last = first + self.coder.uniform(self.last + 1 - first)
        require((first, last) != (0, self.last), "non-canonical")
        return first, last

    # Clause 9.2.5

    def read_instance(self, n: int) -> None:
        if n > 0:
            # ``sorted`` leaves equals in their order.
            near = sorted(range(n), key=lambda m: squared_distance(self.anchor[m], self.anchor[n]))
            close = self.instance[near[0]]
            agreeing = sum(self.instance[m] == close for m in near[1:3])
            if self.coder.bit("same_instance", agreeing + (3 if self.known > 1 else 0)):
                self.instance[n] = close
            else:
                other = self.coder.uniform(self.known)
                self.instance[n] = other + 1 if other >= close else other
        require(self.instance[n] <= 255, "out-of-range")
        if self.instance[n] == self.known:
            self.known += 1

    # Clause 9.2.6

    def reference_points(self, n: int, a: int) -> list[int]:
        """The points before n, the nearest first."""
        own = [m for m in range(n) if self.instance[m] == self.instance[n]]
        place = self.position[n][a]
        return sorted(own or range(n), key=lambda m: squared_distance(self.position[m][a], place))

    # Clauses 9.2.4 and 9.2.7

    def intervals(self, n: int, a: int, b: int, reference: list[Position] | None) -> None:
        path = self.position[n]
        self.displacement(path, a, b, reference)
        first, last = self.span[n]
        if last - first > 1:
            if reference is not None:
                self.follows[n] = self.coder.bit("follow", 0)
            self.interval(path, first, last, reference if self.follows[n] else None)

    def displacement(self, path: list[Position], a: int, b: int, reference: list[Position] | None) -> None:
        values = []
        for i in range(2):
            predicted, context = path[a][i], 4 * self.coarse + i
            if reference is not None:
                predicted += reference[b][i] - reference[a][i]
                context += 2
            values.append(predicted + self.coder.signed("displacement", context))
        path[b] = values[0], values[1]
        self.check_position(path[b])

    def interval(self, path: list[Position], a: int, b: int, reference: list[Position] | None) -> None:
        line = [straight(path, a, b, t, reference) for t in range(a + 1, b)]
        size = min(3, (b - a).bit_length() - 2)
        if not self.coder.bit("split", 8 * self.coarse + (4 if reference is not None else 0) + size):
            path[a + 1 : b] = line
            if reference is not None:
                for position in line:
                    self.check_position(position)
            return
        m = (a + b) >> 1
        x, y = line[m - a - 1]
        x += self.coder.signed("deviation", 8 * self.coarse + size)
        y += self.coder.signed("deviation", 8 * self.coarse + 4 + size)
        path[m] = x, y
        self.check_position(path[m])
        if m - a > 1:
            self.interval(path, a, m, reference)
        if b - m > 1:
            self.interval(path, m, b, reference)
        require(path[a + 1 : b] != line, "non-canonical")

    # Clause 9.2.8

    def steps(self, path: list[Position], a: int, b: int, references: list[list[Position]]) -> None:
        s = 1 if a < b else -1
        leaders = references[: 4 if len(references) >= 4 else 2 if len(references) >= 2 else 1]
        axes = [
            Steps(self.coder, [[p[i] for p in leader] for leader in leaders], path[a][i], a) for i in (0, 1)
        ]
        for t in range(a + s, b + s, s):
            x, y = path[t - s]
            x += axes[0].step(x, t, s)
            y += axes[1].step(y, t, s)
            path[t] = x, y
            self.check_position(path[t])

    # Clause 9.2.9

    def visibility(self, n: int, references: list[int]) -> None:
        first, last = self.span[n]
        path = self.position[n][first : last + 1]
        shown = [int(0 <= x < self.grid_width and 0 <= y < self.grid_height) for x, y in path]
        close = [self.explicit[m] for m in references[:2]]
        near = 2 * close[0] if len(close) == 1 else sum(close)
        self.explicit[n] = self.coder.bit("explicit_visibility", 3 * self.coarse + near)
        if self.explicit[n]:
            default, shown = shown, []
            state = self.coder.bit("first_visible", 0)
            while len(shown) < len(default):
                run = len(default) - len(shown)
                if run > 1 and not self.coder.bit("last_run", 1 if shown else 0):
                    run = 1 + self.coder.uniform(run - 1)
                shown += [state] * run
                state = 1 - state
            require(shown != default, "non-canonical")
        self.visible[n][first : last + 1] = shown


class Steps:
    """The steps of one point along one axis, i of clause 9.2.8."""

    def __init__(self, coder: EntropyDecoder, leaders: list[list[int]], start: int, a: int) -> None:
        self.coder = coder
        self.leader: list[int] = []
        self.apart = 0
        self.latest, self.since, self.moves = 0, 4, 0
        if leaders:
            total = [16 // len(leaders) * sum(values) for values in zip(*leaders, strict=True)]
            before, after = total[:1] + total[:-1], total[1:] + total[-1:]
            self.leader = [(p + 2 * q + r + 2) >> 2 for p, q, r in zip(before, total, after, strict=True)]
            self.apart = 16 * start - self.leader[a]

    def step(self, position: int, t: int, s: int) -> int:
        """From ``position`` in frame t - s to frame t."""
        base = 0
        if self.leader:
            drift = self.leader[t] - self.leader[t - s]
            base = sign(drift) * ((abs(drift) + 4) >> 4)
            lag = level_of(self.leader[t] + self.apart - 16 * (position + base), (2, 5, 8, 12, 17))
            trend = level_of(drift - 16 * base, (1, 3, 6, 10))
            signs = [lag, trend, sign(base), self.latest]
            turned = next((value for value in signs if value), 0) < 0
            if turned:
                signs = [-value for value in signs]
            lag, trend, ahead, latest = signs
            row = 9 * lag + trend + 4
            column = 9 * row + 3 * (ahead + 1) + latest + 1
        else:
            turned = self.latest < 0
            row = 54
            column = 486 + 4 * self.since + min(self.moves, 3)
        rest = 0
        if not self.coder.bit("step_zero", column):
            negative = bool(self.coder.bit("step_sign", row))
            rest = 1 + self.coder.unsigned("step_magnitude", 0)
            if negative != turned:
                rest = -rest
        made = base + rest
        if self.leader:
            self.apart += (16 * (position + made) - self.leader[t] - self.apart) >> 1
        self.since = min(self.since + 1, 4)
        if made:
            self.latest, self.since, self.moves = sign(made), 0, self.moves + 1
        return made


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


def level_of(value: int, thresholds: tuple[int, ...]) -> int:
    return sign(value) * sum(threshold <= abs(value) for threshold in thresholds)


def squared_distance(p: Position, q: Position) -> int:
    return (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2


def interpolate(p: int, q: int, step: int, steps: int) -> int:
    return p + ((q - p) * step * 2 + steps) // (2 * steps)


def straight(path: list[Position], a: int, b: int, t: int, reference: list[Position] | None) -> Position:
    x, y = (
        interpolate(path[a][i], path[b][i], t - a, b - a)
        if reference is None
        else reference[t][i]
        + interpolate(path[a][i] - reference[a][i], path[b][i] - reference[b][i], t - a, b - a)
        for i in range(2)
    )
    return x, y


# --- Clause 9.3: text

State = tuple[int, int]
"""Probability and count."""
_TEXT = table("text")
ORDERS, COUNT_LIMIT, WEIGHTS, SQUASH = (
    _TEXT[name] for name in ("orders", "count_limit", "weights", "squash")
)
LONGEST = max(ORDERS)


def squash(logit: int) -> int:
    x = min(max(logit, -2048), 2047) + 2048
    i = x >> 7
    return int(SQUASH[i] * (128 - x % 128) + SQUASH[i + 1] * (x % 128) + 64) >> 7


@functools.cache
def stretch_table() -> list[int]:
    table, logit = [], -2048
    for probability in range(4096):
        while logit < 2047 and squash(logit) < probability:
            logit += 1
        table.append(logit)
    return table


class TextModel:
    """The states of clause 9.3.2, by the bytes before and the node; those of ``base`` until they change."""

    def __init__(self, base: TextModel | None = None) -> None:
        self.base = base.states if base else {}
        self.states: dict[tuple[bytes, int], State] = {}

    def state(self, context: bytes, node: int) -> State:
        """Contexts of different orders differ in their length."""
        key = context, node
        return self.states.get(key) or self.base.get(key) or (32768, 0)

    def mixed(self, contexts: list[bytes], node: int) -> int:
        logits = []
        for context in contexts:
            probability, count = self.state(context, node)
            if not count:
                break
            logits.append(stretch_table()[probability >> 4])
        weighted = zip(WEIGHTS[len(logits)], logits, strict=True)
        return squash(sum(weight * logit for weight, logit in weighted) >> 8)

    def learn(self, contexts: list[bytes], node: int, symbol: int) -> None:
        for context in contexts:
            probability, count = self.state(context, node)
            if symbol:
                probability += 4 * (65535 - probability) // (4 * count + 5)
            else:
                probability -= 4 * probability // (4 * count + 5)
            self.states[context, node] = probability, min(count + 1, COUNT_LIMIT)


def contexts_after(history: bytes) -> list[bytes]:
    return [history[-order:] for order in ORDERS]


@functools.cache
def begin() -> TextModel:
    model = TextModel()
    for caption in _TEXT["captions"]:
        history = bytes(LONGEST)
        for byte in [255 - b for b in caption.encode()] + [0]:
            contexts, node = contexts_after(history), 1
            for shift in range(7, -1, -1):
                symbol = byte >> shift & 1
                model.learn(contexts, node, symbol)
                node = node << 1 | symbol
            history += bytes([byte])
    return model


def text(data: Bytes, limit: int) -> str:
    """Clause 9.3.1."""
    coder, model = EntropyDecoder("text", data.rest()), TextModel(begin())
    history = bytes(LONGEST)
    while True:
        contexts, node = contexts_after(history), 1
        while node < 256:
            symbol = coder.symbol(model.mixed(contexts, node))
            model.learn(contexts, node, symbol)
            node = node << 1 | symbol
        if node == 256:
            break
        require(len(history) - LONGEST < limit, "limit-exceeded")
        history += bytes([node - 256])
    coder.check_end()
    try:
        return bytes(255 - byte for byte in history[LONGEST:]).decode("utf-8")
    except UnicodeDecodeError:
        raise StreamError("text-invalid") from None


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        print("usage: minimal_decoder.py FILE.tgv PARAMS.json [TRACE]", file=sys.stderr)
        return 2
    stream, params, *trace = arguments
    with contextlib.ExitStack() as files:
        EntropyDecoder.trace = files.enter_context(open(trace[0], "wb")) if trace else None
        return write(Path(stream).read_bytes(), files.enter_context(open(params, "wb")))


def write(data: bytes, file: IO[bytes]) -> int:
    """Write the document of clause 11.2; returns the exit status."""
    # What was decoded before an error is left there: the runner looks where it went wrong.
    try:
        for number, unit in enumerate(decode(data)):
            file.write((b",\n" if number else b"[\n") + canonical(unit))
    except StreamError as error:
        print(error, file=sys.stderr)
        return 1
    except UnsupportedError as error:
        print(f"unsupported: {error}", file=sys.stderr)
        return 69
    file.write(b"\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
