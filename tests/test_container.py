"""Files and units: framing, order, integrity, streaming."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any, BinaryIO, cast

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Span,
    Stream,
    raw_keyframe,
    read,
    replace_payload,
    settings,
    small_header,
    spans,
    streams,
    unit,
    write,
)

from tgv_format import clip, end, generator_hint, keyframe, sequence, syntax
from tgv_format.canonical import SequenceDigest, digest, dumps
from tgv_format.clip import Clip
from tgv_format.container import SIGNATURE, UnitReader, UnitType
from tgv_format.end import EndOfSequence
from tgv_format.errors import IDENTIFIERS, TgvError
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.levels import LEVELS
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader
from tgv_format.text import Text
from tgv_format.writer import Writer

HEADER = small_header(8, 6)
BARE = small_header(8, 6, crc=False)
HINT = GeneratorHint("svd", bytes(32), Sampler.DDIM, 10, 48, 2**64 - 1)


def leading(frame: int, seed: int = 0) -> Keyframe:
    return raw_keyframe(HEADER, frame, Role.LEADING, seed)


def trailing(frame: int, seed: int = 0) -> Keyframe:
    return raw_keyframe(HEADER, frame, Role.TRAILING, seed)


def dependent(keyframe: Keyframe) -> Keyframe:
    return replace(keyframe, codec=Codec.AV1, dependent=True)


def raw_unit(element: Any, crc: bool = True) -> bytes:
    """The unit of an element, whether or not it may stand where it is put."""
    if isinstance(element, SequenceHeader):
        return unit(UnitType.SEQUENCE, sequence.encode(element))
    if isinstance(element, Keyframe):
        return unit(UnitType.KEYFRAME, keyframe.encode(element), crc)
    if isinstance(element, Clip):
        return unit(UnitType.CLIP, clip.encode(element, HEADER), crc)
    if isinstance(element, GeneratorHint):
        return unit(UnitType.GENERATOR_HINT, generator_hint.encode(element), crc)
    return unit(UnitType.END, end.encode(element), crc)


def file_of(*elements: Any, crc: bool = True) -> bytes:
    return SIGNATURE + b"".join(raw_unit(e, crc) for e in elements)


def ending(*elements: Any) -> EndOfSequence:
    """The right end for these elements, header first."""
    total = SequenceDigest()
    for element in elements:
        total.update(element.to_json())
    return EndOfSequence(sum(_frames(e) for e in elements), total.value())


def _frames(element: Any) -> int:
    if isinstance(element, Clip):
        return element.frame_count
    return int(isinstance(element, Keyframe) and element.role is Role.LEADING)


def fault(data: bytes) -> TgvError:
    with pytest.raises(TgvError) as caught:
        read(data)
    return caught.value


# --- ULEB128


def slow_uleb128(value: int) -> bytes:
    """By definition: groups of seven bits, least significant first, all but the last marked."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


@given(st.integers(0, 2**35 - 1) | st.integers(0, 5).flatmap(lambda n: st.sampled_from([128**n, 128**n - 1])))
def test_uleb128(value: int) -> None:
    declaration = syntax.uleb128(0, 2**35)
    if value >= 2**35:
        return
    data = syntax.uleb128_bytes(value)
    assert data == slow_uleb128(value)
    assert syntax.parse(declaration, data + b"\x81", 0, "test") == (value, len(data))
    assert declaration.build(value) == data
    for cut in range(len(data)):
        with pytest.raises(TgvError) as caught:
            syntax.parse(declaration, data[:cut], 10, "test")
        assert (caught.value.identifier, caught.value.offset) == ("truncated", 10 + cut)


@pytest.mark.parametrize(
    "data", [b"\x80\0", b"\x81\0", b"\xff\x80\0", b"\x80\x80\x80\x80\0", b"\x80" * 5, b"\xff" * 5 + b"\1"]
)
def test_uleb128_in_other_than_the_shortest_form(data: bytes) -> None:
    with pytest.raises(TgvError) as caught:
        syntax.parse(syntax.uleb128(0, 2**40), data, 0, "test")
    assert caught.value.identifier == "uleb128-invalid"


@given(st.integers(-300, 300), st.integers(-10, 10), st.integers(0, 200))
def test_ranges_hold_in_both_directions(value: int, low: int, width: int) -> None:
    declaration = syntax.uleb128(low, low + width)
    if low <= value <= low + width and value >= 0:
        data = syntax.build(construct.Struct("x" / declaration), x=value)
        assert syntax.parse(declaration, data, 0, "test") == (value, len(data))
        return
    if value >= 0:
        with pytest.raises(TgvError) as caught:
            syntax.parse(declaration, syntax.uleb128_bytes(value), 0, "test")
        assert caught.value.identifier == "out-of-range"
    if not low <= value <= low + width:
        with pytest.raises(syntax.ParameterError) as refused:
            syntax.build(construct.Struct("x" / declaration), x=value)
        assert (refused.value.identifier, refused.value.element) == ("out-of-range", "x")


# --- Signature and framing


def test_signature() -> None:
    data = write(HEADER, [leading(0)])
    assert data[:8] == b"\x89TGV\r\n\x1a\n"
    for index in range(8):
        for bit in range(8):
            bad = bytearray(data)
            bad[index] ^= 1 << bit
            error = fault(bytes(bad))
            assert (error.identifier, error.offset) == ("bad-magic", 0)
        assert fault(data[:index]).identifier == "bad-magic"
    assert fault(data[:8]).identifier == "truncated"


def test_crc_is_that_of_zlib_over_type_size_and_payload() -> None:
    data = write(HEADER, [leading(0), Clip(3)])
    assert [s.unit_type for s in spans(data)] == [1, 2, 3, 4]
    for span in spans(data):
        assert zlib.crc32(data[span.begin : span.end - 4]).to_bytes(4, "big") == data[span.end - 4 : span.end]


@pytest.mark.parametrize("index", range(4))
def test_a_wrong_crc(index: int) -> None:
    data = bytearray(write(HEADER, [leading(0), Clip(3)]))
    span = spans(bytes(data))[index]
    data[span.end - 1] ^= 1
    error = fault(bytes(data))
    assert (error.identifier, error.offset, error.path) == ("crc-mismatch", span.begin, "unit")


def test_without_crc_only_the_sequence_header_keeps_its_own() -> None:
    units = [leading(0), Clip(3), HINT]
    checked, bare = write(HEADER, units), write(BARE, units)
    assert len(checked) - len(bare) == 4 * 4
    assert read(bare)[0] == BARE
    assert [e.to_json() for e in read(bare)[1][:-1]] == [e.to_json() for e in read(checked)[1][:-1]]
    damaged = bytearray(bare)
    damaged[spans(bare)[0].end - 1] ^= 1
    assert fault(bytes(damaged)).identifier == "crc-mismatch"


def test_framing_is_small() -> None:
    """A clip's framing takes at most 12 bytes, the sequence header at most 24, as the design promises."""
    out = io.BytesIO()
    header = replace(HEADER, width=512, height=320)
    writer = Writer(out, header)
    writer.keyframe(raw_keyframe(header, 0, Role.LEADING, 0))
    points_and_text = Clip(16, text=Text("x" * 1000))
    writer.clip(points_and_text)
    writer.finish()
    assert writer.bytes_by_part["clip_framing"] <= 12
    assert writer.bytes_by_part["sequence_header"] <= 24
    assert writer.bytes_by_part["text"] > 0
    parts = {"keyframes", "keyframe_framing", "text", "clip_framing", "end_of_sequence"}
    assert set(writer.bytes_by_part) == {"signature", "sequence_header", *parts}


def test_a_unit_larger_than_the_level_allows() -> None:
    limits = HEADER.limits
    start = file_of(HEADER)
    for size, identifier in ((limits.unit_bytes + 1, "limit-exceeded"), (limits.unit_bytes, "truncated")):
        error = fault(start + bytes([UnitType.KEYFRAME]) + syntax.uleb128_bytes(size) + bytes(50))
        assert error.identifier == identifier
    body = bytes(limits.unit_bytes)
    assert fault(start + unit(0x70, body)).identifier == "unknown-critical"
    assert fault(start + unit(0x70, body + b"\0")).identifier == "limit-exceeded"


# --- Unknown units and sections


@given(streams(), st.integers(0x80, 0xFF).filter(lambda t: t != 0x81), st.binary(max_size=300), st.data())
def test_unknown_ancillary_units_are_skipped(s: Stream, kind: int, body: bytes, data: st.DataObject) -> None:
    """Anywhere but before the sequence header and after the end."""
    file = s.write()
    place = data.draw(st.sampled_from([span.begin for span in spans(file)[1:]]))
    longer = file[:place] + unit(kind, body, s.header.crc) + file[place:]
    assert dumps([e.to_json() for e in read(longer)[1]]) == dumps([e.to_json() for e in read(file)[1]])


@given(st.integers(0, 0x7F).filter(lambda t: t not in set(UnitType)), st.binary(max_size=20), st.booleans())
def test_unknown_critical_units_are_errors(kind: int, body: bytes, crc: bool) -> None:
    header = HEADER if crc else BARE
    start = file_of(header, leading(0), crc=crc)
    error = fault(start + unit(kind, body, crc) + raw_unit(ending(header, leading(0)), crc))
    assert (error.identifier, error.offset) == ("unknown-critical", len(start) + 2)
    assert fault(SIGNATURE + unit(kind, body)).identifier == "unit-order"


def clip_with_sections(*sections: tuple[int, bytes]) -> bytes:
    """The payload of a clip of two frames with sections of (type with flags, body)."""
    out = b"\x02"
    for index, (tag, body) in enumerate(sections):
        last = index == len(sections) - 1
        out += bytes([tag | 0x40]) + body if last else bytes([tag]) + syntax.uleb128_bytes(len(body)) + body
    return out


def decode_clip(payload: bytes) -> Clip:
    return clip.decode(payload, 0, "clip[0]", HEADER)


@given(st.binary(max_size=200))
def test_unknown_sections(body: bytes) -> None:
    text = (0x05, b"\0hello")
    plain = decode_clip(clip_with_sections(text))
    for kind in sorted({0, 2, 3, 4, 6, 63} - {int(kind) for kind in clip.SectionType}):
        order = [text, (kind, body)] if kind > 5 else [(kind, body), text]
        ancillary = [(t | 0x80 * (t == kind), b) for t, b in order]
        assert decode_clip(clip_with_sections(*ancillary)).to_json() == plain.to_json()
        with pytest.raises(TgvError) as caught:
            decode_clip(clip_with_sections(*order))
        assert caught.value.identifier == "unknown-critical"
        with pytest.raises(TgvError) as caught:
            decode_clip(clip_with_sections(*ancillary[::-1]))
        assert caught.value.identifier == "section-order"


def test_sections_that_are_repeated_or_not_marked_as_last() -> None:
    text = (0x05, b"\0hello")
    cases = {
        clip_with_sections(text, text): "section-order",
        b"\x02\x05\x06\0hello": "non-canonical",
        b"\x02\x05\x07\0hello": "truncated",
        b"\x02\x05": "truncated",
        b"\x02\x05\x80": "truncated",
        b"\x02\x05\x80\0": "uleb128-invalid",
        b"": "truncated",
        b"\0": "out-of-range",
        b"\x41": "limit-exceeded",
        b"\xff\1": "limit-exceeded",
        b"\x80\2": "out-of-range",
    }
    for payload, identifier in cases.items():
        with pytest.raises(TgvError) as caught:
            decode_clip(payload)
        assert caught.value.identifier == identifier, payload
        assert caught.value.path.startswith("clip[0]")
        assert 0 <= caught.value.offset <= len(payload)


# --- Trailing data


@pytest.mark.parametrize("header", [HEADER, BARE])
def test_data_after_the_end(header: SequenceHeader) -> None:
    data = write(header, [leading(0)])
    for extra in (b"\0", b"\x04", raw_unit(HINT, header.crc), data):
        error = fault(data + extra)
        assert (error.identifier, error.offset) == ("trailing-data", len(data))


@pytest.mark.parametrize("index", [0, 2, 3])
def test_data_after_the_last_element_of_a_unit(index: int) -> None:
    data = write(HEADER, [leading(0), HINT])
    span = spans(data)[index]
    payload = data[span.payload : span.end - 4]
    error = fault(replace_payload(data, span, payload + b"\0"))
    assert (error.identifier, error.offset) == ("trailing-data", span.payload + len(payload))


# --- Order and frame numbers

WRONG_ORDER: dict[str, tuple[list[Any], str, str]] = {
    "clip first": ([Clip(2)], "unit-order", "clip[0]"),
    "trailing keyframe first": ([trailing(0)], "unit-order", "keyframe[0]"),
    "two trailing keyframes": ([leading(0), trailing(3), trailing(3)], "unit-order", "keyframe[2]"),
    "leading after trailing": ([leading(0), trailing(3), leading(1)], "unit-order", "keyframe[2]"),
    "hint does not count": ([leading(0), HINT, trailing(3), HINT, leading(1)], "unit-order", "keyframe[2]"),
    "end after trailing": ([leading(0), trailing(3), EndOfSequence(1, bytes(8))], "unit-order", "end"),
    "first keyframe not 0": ([leading(1)], "frame-number", "keyframe[0].frame_number"),
    "leading keyframe repeats": ([leading(0), leading(0)], "frame-number", "keyframe[1].frame_number"),
    "leading keyframe leaps": ([leading(0), Clip(4), leading(6)], "frame-number", "keyframe[1].frame_number"),
    "trailing too early": ([leading(0), trailing(3), Clip(4)], "frame-number", "clip[0].frame_number"),
    "trailing too late": ([leading(0), trailing(5), Clip(4)], "frame-number", "clip[0].frame_number"),
    "frame count": ([leading(0), Clip(4), EndOfSequence(4, bytes(8))], "frame-number", "end.frame_count"),
    "dependent first": ([dependent(leading(0))], "unit-order", "keyframe[0]"),
    "dependent after raw": ([leading(0), Clip(1), dependent(trailing(2))], "unit-order", "keyframe[1]"),
    "dependent of another size": (
        [replace(leading(0), codec=Codec.AV1, downscale_log2=1), dependent(trailing(1))],
        "unit-order",
        "keyframe[1]",
    ),
    "second header": ([leading(0), HEADER], "unit-order", "sequence"),
    "no end": ([leading(0)], "truncated", "unit"),
    "nothing but an end": ([EndOfSequence(1, bytes(8))], "frame-number", "end.frame_count"),
    "digest": ([leading(0), EndOfSequence(1, bytes(8))], "digest-mismatch", "end.digest"),
}


@pytest.mark.parametrize("name", WRONG_ORDER)
def test_wrong_order(name: str) -> None:
    elements, identifier, path = WRONG_ORDER[name]
    error = fault(file_of(HEADER, *elements))
    assert (error.identifier, error.path) == (identifier, path)


def last_written(name: str) -> type:
    return type(WRONG_ORDER[name][0][-1])


@pytest.mark.parametrize(
    "name", [name for name in WRONG_ORDER if last_written(name) in (Keyframe, Clip) and name != "no end"]
)
def test_the_writer_refuses_wrong_order(name: str) -> None:
    elements, identifier, _ = WRONG_ORDER[name]
    with pytest.raises(TgvError) as caught:
        write(HEADER, elements)
    assert caught.value.identifier == identifier


def test_the_writer_refuses_an_end_without_frames() -> None:
    writer = Writer(io.BytesIO(), HEADER)
    with pytest.raises((TgvError, syntax.ParameterError)):
        writer.finish()
    writer = Writer(io.BytesIO(), HEADER)
    writer.keyframe(leading(0))
    writer.keyframe(trailing(3))
    with pytest.raises(TgvError, match="unit-order"):
        writer.finish()


def test_frame_numbers_are_modulo_256() -> None:
    units: list[Any] = [leading(0)]
    frames = 1
    while frames < 700:
        units += [trailing(frames + 49), Clip(50), leading(frames + 50)]
        frames += 51
    assert read(write(HEADER, units))[1][-1].to_json()["frame_count"] == frames
    units[-1] = leading(frames)
    with pytest.raises(TgvError, match="frame-number"):
        write(HEADER, units)


def test_the_first_unit_is_the_sequence_header() -> None:
    short = Keyframe(Codec.AV1, Role.LEADING, 0, 0, b"x")
    for element in (short, Clip(2), EndOfSequence(1, bytes(8))):
        assert fault(file_of(element)).identifier == "unit-order"
    assert fault(SIGNATURE + unit(UnitType.SEQUENCE, bytes(65))).identifier == "limit-exceeded"


# --- Digests


def test_canonical_json() -> None:
    assert dumps({"b": [1, -2], "a": "é\U0001f600\n"}) == b'{"a":"\\u00e9\\ud83d\\ude00\\n","b":[1,-2]}'
    assert digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


@given(streams())
def test_the_end_has_count_and_digest(s: Stream) -> None:
    header, elements = read(s.write())
    assert header == s.header
    hinted = [e for e in s.units if isinstance(e, GeneratorHint)]
    assert [e for e in elements if isinstance(e, GeneratorHint)] == hinted
    expected = ending(header, *(e for e in s.units if not isinstance(e, GeneratorHint)))
    assert elements[-1] == expected
    assert expected.frame_count == s.frames


@given(streams())
def test_hints_do_not_change_the_digest(s: Stream) -> None:
    plain = write(s.header, [u for u in s.units if not isinstance(u, GeneratorHint)])
    assert read(s.write())[1][-1] == read(plain)[1][-1]


# --- Streaming


class Pipe:
    """A stream of one byte at a time without seek; asking for more than has arrived is an error."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.arrived = 0

    def read(self, size: int) -> bytes:
        assert size > 0
        assert self.position + size <= self.arrived or self.arrived == len(self.data), "reads ahead"
        self.position += 1
        return self.data[self.position - 1 : self.position]


@given(streams())
def test_units_are_decoded_as_they_arrive(s: Stream) -> None:
    data = s.write()
    places = spans(data)
    pipe = Pipe(data)
    pipe.arrived = places[0].end
    reader = Reader(cast(BinaryIO, pipe))
    assert pipe.position == places[0].end
    units = iter(reader)
    for index, element in enumerate(s.units, 1):
        pipe.arrived = places[index].end
        assert next(units).to_json() == element.to_json()
        assert pipe.position == places[index].end
    pipe.arrived = places[-1].end
    assert isinstance(next(units), EndOfSequence)
    assert next(units, None) is None


class Sink:
    """Can be written to, and nothing else."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)


class Endless:
    """A stream of ever the same units after the beginning, for as many bytes as wanted."""

    def __init__(self, head: bytes, repeated: bytes, copies: int) -> None:
        self.left = copies
        self.repeated = repeated
        self.buffer = head

    def read(self, size: int) -> bytes:
        while len(self.buffer) < size and self.left:
            self.buffer += self.repeated
            self.left -= 1
        out, self.buffer = self.buffer[:size], self.buffer[size:]
        return out


def test_memory_does_not_grow_with_length() -> None:
    header = small_header(64, 48)
    first = raw_keyframe(header, 0, Role.LEADING, 0)
    repeated = b""
    for frame in (64, 128, 192, 256):
        repeated += raw_unit(raw_keyframe(header, frame, Role.TRAILING, frame))
        repeated += raw_unit(Clip(64, text=Text("a caption")))
    copies = 300
    stream = Endless(SIGNATURE + raw_unit(header) + raw_unit(first), repeated, copies)
    tracemalloc.start()
    try:
        with pytest.raises(TgvError, match="truncated"):
            for _ in Reader(cast(BinaryIO, stream)):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(repeated) * copies > 5_000_000
    assert peak < 1_000_000


def test_the_writer_needs_nothing_but_write() -> None:
    sink = Sink()
    writer = Writer(cast(BinaryIO, sink), HEADER)
    writer.keyframe(leading(0))
    writer.clip(Clip(4))
    assert writer.frames == 5
    writer.finish()
    assert sink.size == writer.size == len(write(HEADER, [leading(0), Clip(4)]))


# --- Resynchronisation


def concealed(data: bytes) -> tuple[list[Any], list[TgvError]]:
    errors: list[TgvError] = []
    return list(Reader(io.BytesIO(data), conceal=errors.append)), errors


def long_stream() -> tuple[list[Any], bytes, list[Span]]:
    units: list[Any] = [leading(0)]
    for n in range(1, 5):
        units += [trailing(4 * n, n), Clip(4, text=Text(f"clip {n}")), HINT]
    data = write(HEADER, units)
    return units, data, spans(data)


@settings(max_examples=60)
@given(st.integers(1, 13), st.sampled_from(["lose", "insert", "replace", "flip", "cut"]), st.data())
def test_a_damaged_unit_costs_itself_alone(index: int, kind: str, data: st.DataObject) -> None:
    units, file, places = long_stream()
    span = places[index]
    whole = file[span.begin : span.end]
    position = data.draw(st.integers(0, len(whole) - 1))
    if kind == "lose":
        piece, lost = b"", True
    elif kind == "insert":
        piece, lost = data.draw(st.binary(min_size=1, max_size=60)) + whole, False
    elif kind == "replace":
        piece, lost = data.draw(st.binary(min_size=1, max_size=60)), True
    elif kind == "flip":
        flipped = bytearray(whole)
        flipped[position] ^= 1 << data.draw(st.integers(0, 7))
        piece, lost = bytes(flipped), True
    else:
        piece, lost = whole[:position], True
    expected = [u.to_json() for i, u in enumerate(units, 1) if not (lost and i == index)]
    elements, errors = concealed(file[: span.begin] + piece + file[span.end :])
    if index == len(places) - 1:
        return
    assert [e.to_json() for e in elements[:-1]] == expected
    assert isinstance(elements[-1], EndOfSequence)
    if kind != "lose" and piece:
        assert errors


@pytest.mark.parametrize("kind", ["flip", "lose", "type"])
@pytest.mark.parametrize("index", [1, 2, 3, 4, 5])
def test_keyframes_that_depend_on_a_damaged_one_are_left_out(index: int, kind: str) -> None:
    """After any damage but that of a clip's content, up to the next independent keyframe."""
    first = replace(leading(0), codec=Codec.AV1)
    units: list[Any] = [first, dependent(trailing(1)), Clip(1), dependent(trailing(2)), Clip(1)]
    units += [replace(trailing(3), codec=Codec.AV1), Clip(1), dependent(trailing(4)), Clip(1)]
    data = write(HEADER, units)
    span = spans(data)[index]
    piece = {
        "flip": data[span.begin : span.end - 1] + b"\xa5",
        "lose": b"\xa5" * 9,
        "type": b"\x05" + data[span.begin + 1 : span.end],
    }[kind]
    elements, errors = concealed(data[: span.begin] + piece + data[span.end :])
    left_out = {i for i in (2, 4) if i > index} | {index}
    kept = [unit for i, unit in enumerate(units, 1) if i not in left_out]
    assert [element.to_json() for element in elements[:-1]] == [unit.to_json() for unit in kept]
    assert errors


def test_a_damaged_clip_leaves_keyframes_alone() -> None:
    units = [replace(leading(0), codec=Codec.AV1), Clip(1), dependent(trailing(2)), Clip(1)]
    data = write(HEADER, units)
    span = spans(data)[2]
    elements, errors = concealed(replace_payload(data, span, data[span.payload : span.end - 4] + b"\0"))
    assert [e.to_json() for e in elements[:-1]] == [unit.to_json() for unit in (units[0], *units[2:])]
    assert len(errors) == 1


def test_concealment_of_the_end() -> None:
    units, file, places = long_stream()
    elements, errors = concealed(file[: places[-1].begin])
    assert len(elements) == len(units)
    assert [e.identifier for e in errors] == ["truncated"]
    elements, errors = concealed(file + b"more")
    assert len(elements) == len(units) + 1
    assert [e.identifier for e in errors] == ["trailing-data"]


def test_a_search_for_the_next_unit_ends() -> None:
    """Every position could begin a long unit; the work of the search must not grow with their product."""
    hostile = b"\x02\xff\xff\x3f" * 32768
    head = file_of(replace(HEADER, level=3))
    source = CountingUnits(head + hostile)
    source.signature()
    source.read()
    source.max_bytes = LEVELS[3].unit_bytes
    assert not source.resynchronise()
    assert source.peeked < 4 * (1 << 26)


class CountingUnits(UnitReader):
    """Counts the bytes that are copied to look at them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.peeked = 0

    def _peek(self, size: int) -> bytes:
        out = super()._peek(size)
        self.peeked += len(out)
        return out


# --- Errors


def test_error_identifiers() -> None:
    assert str(TgvError("truncated", 7, "unit", "it ends")) == "truncated at byte 7, unit: it ends"
    with pytest.raises(KeyError):
        TgvError("no-such-thing", 0, "unit", "")
    assert all(meaning for meaning in IDENTIFIERS.values())


def test_every_unit_type_has_a_place() -> None:
    """Types are distinct, and ancillary by their first bit alone."""
    assert sorted(UnitType) == [1, 2, 3, 4, 5, 0x81]
    assert sorted(Codec) == [0, 1, 2, 3, 4]
    assert all(a != b for a, b in pairwise(sorted(UnitType)))
