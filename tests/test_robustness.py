"""Bad streams: one kind of exception, always located, in bounded memory."""

from __future__ import annotations

import io
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
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
    trajectories,
    unit,
    write,
)

from refdec import keyframes
from refdec.decoder import Decoder
from tgv_format import clip, keyframe, sequence, text
from tgv_format import trajectories as points
from tgv_format.clip import Clip
from tgv_format.container import MAX_SEQUENCE_BYTES, SIGNATURE, UnitType
from tgv_format.entropy import Encoder, TraceSink
from tgv_format.errors import IDENTIFIERS, TgvError
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.levels import LEVELS
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader
from tgv_format.syntax import uleb128_bytes
from tgv_format.text import Text
from tgv_format.text_model import TextModel, primed
from tgv_format.trajectories import Trajectories


def attempt(data: bytes) -> list[dict[str, Any]] | TgvError:
    """The units of a file as canonical values, or the error that it raises; any other exception passes."""
    try:
        header, elements = read(data)
    except TgvError as caught:
        error = caught
    else:
        return [header.to_json(), *(e.to_json() for e in elements)]
    assert error.identifier in IDENTIFIERS
    assert 0 <= error.offset <= len(data)
    assert error.path
    assert error.detail
    assert "\n" not in str(error)
    return error


def conceal(data: bytes) -> None:
    """Read and decode with concealment: nothing is raised but what the sequence header deserves."""
    errors: list[TgvError] = []
    try:
        reader = Reader(io.BytesIO(data), conceal=errors.append)
    except TgvError:
        return
    pixels = reader.header.width * reader.header.height
    if pixels > 4096:
        for _ in reader:
            pass
        return
    decoder = Decoder(reader.header, frames=600, conceal=errors.append)
    for picture in decoder.pictures(reader):
        assert (picture.width, picture.height) == (reader.header.width, reader.header.height)
    assert all(0 <= e.offset <= len(data) for e in errors)


# --- A small stream with everything in it

HINT = GeneratorHint("svd", bytes(range(32)), Sampler.EULER, 10, 48, 7)
CAPTION = Text("a black swan in a river, a black swan in the river with a stone wall in the background")


def small_points() -> Trajectories:
    positions = np.zeros((3, 6, 2), np.int32)
    positions[0, :, 0] = [0, 1, 1, 2, 3, 3]
    positions[1] = [[1, 1], [2, 1], [4, 2], [1, 0], [-1, -1], [0, 2]]
    positions[2, :] = [2, 1]
    return Trajectories(
        positions=positions,
        span=np.array([[0, 5], [0, 5], [1, 3]], np.int32),
        visible=np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0]], np.bool_),
        instance=np.array([0, 0, 1], np.uint8),
        follows=np.array([0, 1, 0], np.bool_),
        precision=1,
        lattice_log2=0,
    )


@cache
def small_file(crc: bool) -> bytes:
    header = small_header(16, 12, crc)
    units: list[Any] = [
        raw_keyframe(header, 0, Role.LEADING, 0, 2),
        raw_keyframe(header, 5, Role.TRAILING, 1, 2),
        Clip(5, small_points(), CAPTION),
        HINT,
    ]
    return write(header, units)


def test_the_small_stream_is_good() -> None:
    for crc in (False, True):
        header, elements = read(small_file(crc))
        assert header.crc == crc
        assert len(elements) == 5
        assert len(small_file(crc)) < 250


@pytest.mark.parametrize("crc", [True, False])
def test_every_truncation_is_rejected(crc: bool) -> None:
    data = small_file(crc)
    for size in range(len(data)):
        error = attempt(data[:size])
        assert isinstance(error, TgvError), size
        assert error.identifier == ("bad-magic" if size < 8 else "truncated")
        if size >= 8:
            assert error.offset == size
            assert error.path.startswith("sequence" if size == 8 else "unit")


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """All single-bit errors: the byte they are in, and the file."""
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        yield bit >> 3, bytes(bad)


def test_every_bit_error_is_rejected() -> None:
    for place, bad in flips(small_file(True)):
        assert isinstance(attempt(bad), TgvError), place


def test_bit_errors_without_crc() -> None:
    """Without CRC, the digest at the end guards everything but hints, which it does not cover.

    A bit that means nothing may still go unnoticed.
    """
    data = small_file(False)
    (hint,) = [span for span in spans(data) if span.unit_type == UnitType.GENERATOR_HINT]
    good = attempt(data)
    assert isinstance(good, list)
    unnoticed = 0
    for place, bad in flips(data):
        result = attempt(bad)
        if isinstance(result, TgvError):
            continue
        if hint.begin <= place < hint.end:
            assert [u for u in result if u.get("unit") != "generator_hint"] == good[:-2] + good[-1:]
        else:
            assert result == good, place
            unnoticed += 1
    assert unnoticed <= 8


@pytest.mark.parametrize("crc", [True, False])
def test_concealment_of_bit_errors_and_truncations(crc: bool) -> None:
    data = small_file(crc)
    for _, bad in islice(flips(data), 0, None, 5):
        conceal(bad)
    for size in range(len(data)):
        conceal(data[:size])


# --- Arbitrary bytes

unit_types = st.sampled_from([int(t) for t in UnitType] * 3 + [0x00, 0x06, 0x80, 0xFF])


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes(data: bytes, signed: bool) -> None:
    if signed:
        data = SIGNATURE + data
    attempt(data)
    conceal(data)


@settings(max_examples=150)
@given(streams(), st.data(), st.binary(max_size=100))
def test_arbitrary_bytes_after_a_good_beginning(s: Stream, data: st.DataObject, tail: bytes) -> None:
    file = s.write()
    begin = data.draw(st.sampled_from([0, 8, *(span.end for span in spans(file)[:-1])]))
    assert isinstance(attempt(file[:begin] + tail), TgvError)
    conceal(file[:begin] + tail)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(unit_types, st.binary(max_size=60)), max_size=8),
    st.integers(1, 20),
    st.booleans(),
)
def test_arbitrary_units(units: list[tuple[int, bytes]], width: int, crc: bool) -> None:
    """The framing is right, so that every decoder of a unit sees arbitrary bytes."""
    header = small_header(width, 7, crc)
    data = SIGNATURE + unit(UnitType.SEQUENCE, sequence.encode(header))
    data += b"".join(unit(kind, body, crc) for kind, body in units)
    assert isinstance(attempt(data), TgvError)
    conceal(data)


@st.composite
def mutations(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` with a few bytes changed, inserted or removed."""
    out = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(out)))
        kind = draw(st.sampled_from(["flip", "set", "insert", "delete", "cut", "repeat"]))
        if kind == "flip" and place < len(out):
            out[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and place < len(out):
            out[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "insert":
            out[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "delete":
            del out[place : place + draw(st.integers(1, 4))]
        elif kind == "cut":
            del out[place:]
        else:
            out += out[place:]
    return bytes(out)


@settings(max_examples=300)
@given(streams(most=3), st.data())
def test_damaged_units_with_the_right_crc(s: Stream, data: st.DataObject) -> None:
    """What is damaged is rejected, skipped, or means the same."""
    file = s.write()
    span = data.draw(st.sampled_from(spans(file)))
    crc = s.header.crc or span.unit_type == UnitType.SEQUENCE
    payload = file[span.payload : span.end - 4 * crc]
    bad = replace_payload(file, span, data.draw(mutations(payload)), crc)
    good, result = attempt(file), attempt(bad)
    if isinstance(result, list) and span.unit_type != UnitType.GENERATOR_HINT:
        assert result == good
    conceal(bad)


@settings(max_examples=100)
@given(st.data())
def test_damaged_units_of_the_small_stream(data: st.DataObject) -> None:
    file = small_file(True)
    span = data.draw(st.sampled_from([s for s in spans(file) if s.unit_type == UnitType.CLIP]))
    payload = file[span.payload : span.end - 4]
    bad = replace_payload(file, span, data.draw(mutations(payload)))
    result = attempt(bad)
    assert isinstance(result, TgvError) or result == attempt(file)
    conceal(bad)


# --- Arbitrary bytes in sections


def outcome(function: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    """An error's identifier, or the decoded parameters."""
    try:
        return "", function(*args).to_json()
    except TgvError as caught:
        error = caught
    assert error.path.startswith("clip[3].")
    return error.identifier, None


def check_points(body: bytes, size: tuple[int, int], last: int) -> None:
    """Both decoders agree, and what they accept is encoded as the same bytes."""
    args = (body, 10, "clip[3].trajectories", *size, last, LEVELS[1])
    identifier, params = outcome(points.decode, *args)
    sink: TraceSink = lambda record: None  # noqa: E731
    assert outcome(points.decode, *args, sink) == (identifier, params)
    if not identifier:
        assert points.encode(points.decode(*args), *size, LEVELS[1]) == body


@settings(max_examples=400)
@given(
    st.integers(0, 63),
    st.integers(0, 5) | st.integers(0, 300),
    st.binary(max_size=30),
    st.sampled_from([(16, 12), (1, 1), (512, 320)]),
    st.integers(1, 64),
)
def test_arbitrary_bytes_as_trajectories(
    head: int, count: int, body: bytes, size: tuple[int, int], last: int
) -> None:
    check_points(bytes([head << 2]) + uleb128_bytes(count) + body, size, last)


@settings(max_examples=200)
@given(st.data(), st.integers(1, 12))
def test_damaged_trajectories(data: st.DataObject, last: int) -> None:
    size = data.draw(st.sampled_from([(16, 12), (65, 48)]))
    body = points.encode(data.draw(trajectories(*size, last)), *size, LEVELS[1])
    check_points(data.draw(mutations(body)), size, last)


def test_short_sections_of_trajectories() -> None:
    """All bodies of up to one byte for one point, and many of two."""
    for size, step in ((0, 1), (1, 1), (2, 37)):
        for value in range(0, 256**size, step):
            check_points(b"\0\0" + value.to_bytes(size, "big"), (8, 8), 2)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_as_text(body: bytes) -> None:
    check_text(body)


@settings(max_examples=100)
@given(st.text(min_size=8, max_size=100), st.data())
def test_damaged_text(caption: str, data: st.DataObject) -> None:
    body = text.encode(Text(unicodedata.normalize("NFC", caption)), LEVELS[1])
    check_text(data.draw(mutations(body)))


def check_text(body: bytes) -> None:
    """Both decoders agree, and what they accept is encoded as the same bytes."""
    args = (body, 10, "clip[3].text", replace(LEVELS[1], text_bytes=1000))
    identifier, params = outcome(text.decode, *args)
    sink: TraceSink = lambda record: None  # noqa: E731
    assert outcome(text.decode, *args, sink) == (identifier, params)
    if not identifier and unicodedata.is_normalized("NFC", params["text"]):
        assert text.encode(Text(params["text"]), LEVELS[1]) == body


# --- Memory


def peak_of(function: Callable[[], Any]) -> int:
    """Bytes allocated at the worst moment of a call that raises TgvError."""
    tracemalloc.start()
    try:
        with pytest.raises(TgvError):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_announced_sizes_are_not_allocated(tmp_path: Path) -> None:
    """A few bytes that announce much, read from a file as the command line does."""
    header = SIGNATURE + unit(UnitType.SEQUENCE, sequence.encode(small_header(512, 320)))
    limit = LEVELS[1].unit_bytes
    cases = {
        SIGNATURE + b"\1" + uleb128_bytes(MAX_SEQUENCE_BYTES): MAX_SEQUENCE_BYTES,
        SIGNATURE + b"\1" + uleb128_bytes(MAX_SEQUENCE_BYTES + 1): 0,
        SIGNATURE + b"\1" + uleb128_bytes(2**32 - 1): 0,
        header + b"\2" + uleb128_bytes(limit): limit,
        header + b"\2" + uleb128_bytes(limit + 1): 0,
        header + b"\2" + uleb128_bytes(2**32): 0,
        header + unit(3, b"\x40\x05" + uleb128_bytes(2**28 - 1)): 0,
        header + unit(3, b"\x40\x41\0" + uleb128_bytes(1023)): 0,
        header + unit(0x81, b"\x40"): 0,
    }
    path = tmp_path / "hostile.tgv"
    for data, expected in cases.items():
        path.write_bytes(data)

        def open_and_read() -> None:
            with path.open("rb") as stream:
                list(Reader(stream))

        assert peak_of(open_and_read) < 2 * expected + 300_000


def test_the_most_points_in_the_fewest_bytes() -> None:
    """All arrays of the largest section that a level allows, and no more."""
    level = LEVELS[3]
    body = b"\0" + uleb128_bytes(level.trajectories - 1) + b"\x55"
    peak = peak_of(lambda: points.decode(body, 0, "p", 512, 320, level.clip_frames, level))
    # Two coordinates as Python integers in a list are about 100 bytes.
    assert peak < 300 * level.trajectories * (level.clip_frames + 1)


def test_text_that_expands() -> None:
    """Decoding ends with the first byte that is too much, and what is kept is in proportion to the bytes."""
    coder, model = Encoder(text.SECTION), TextModel(primed())
    for i in range(50_000):
        model.code(coder, 0xFF - ord("yes "[i % 4]))
    body = coder.finish()
    assert len(body) < 200
    assert peak_of(lambda: text.decode(body, 0, "p", replace(LEVELS[1], text_bytes=1000))) < 50_000


def test_decoding_keeps_little_for_every_symbol() -> None:
    """A long section takes memory in proportion to its parameters, not to its symbols."""
    size, level = (512, 320), LEVELS[1]
    rng = np.random.default_rng(0)
    params = replace(
        small_points(),
        positions=np.zeros((64, 65, 2), np.int32),
        span=np.tile(np.array([0, 64], np.int32), (64, 1)),
        visible=np.ones((64, 65), np.bool_),
        instance=np.zeros(64, np.uint8),
        follows=np.zeros(64, np.bool_),
        precision=4,
    )
    params.positions[:, 1:] = rng.integers(-1000, 2000, (64, 64, 2)).clip([-1000, -600], [2000, 1200])
    body = points.encode(params, *size, level)
    peak = peak_of(lambda: points.decode(body + b"\1", 0, "p", *size, 64, level))
    assert peak < 300 * 64 * 65 + 2 * len(body)


def test_pictures_are_not_allocated_before_their_size_is_known() -> None:
    header = SequenceHeader(8192, 1088, small_header(8, 8).frame_rate, 3)
    raw = Keyframe(Codec.RAW, Role.LEADING, 0, 0, b"x" * 100)
    assert peak_of(lambda: keyframes.decode(raw, header.width, header.height)) < 100_000


# --- Paths and offsets


def test_errors_name_the_element() -> None:
    file = small_file(True)
    places = spans(file)
    clip_span, end_span = places[3], places[5]
    payload = bytearray(file[clip_span.payload : clip_span.end - 4])
    payload[3] |= 3

    def fault(span: Span, body: bytes) -> TgvError:
        error = attempt(replace_payload(file, span, body))
        assert isinstance(error, TgvError)
        return error

    error = fault(clip_span, bytes(payload))
    assert (error.identifier, error.path) == ("reserved-value", "clip[0].trajectories.head.reserved")
    assert error.offset == clip_span.payload + 4
    error = fault(clip_span, b"\0")
    assert (error.identifier, error.path) == ("out-of-range", "clip[0].frame_count")
    error = fault(places[2], b"\x60\x05x")
    assert (error.identifier, error.path) == ("reserved-value", "keyframe[1].head.codec")
    error = fault(end_span, b"\6" + bytes(8))
    assert (error.identifier, error.path, error.offset) == ("digest-mismatch", "end.digest", end_span.payload)


def test_paths_count_units_of_a_kind() -> None:
    header = small_header(8, 8)
    good = [raw_keyframe(header, 0, Role.LEADING, 0), Clip(2), Clip(2)]
    data = SIGNATURE + unit(1, sequence.encode(header))
    data += unit(2, keyframe.encode(good[0])) + 2 * unit(3, clip.encode(Clip(2), header))  # type: ignore[arg-type]
    error = attempt(data + unit(3, b"\2\x7e\0"))
    assert isinstance(error, TgvError)
    assert (error.identifier, error.path) == ("unknown-critical", "clip[2]")
