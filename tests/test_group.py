"""Groups stand for keyframe and clip units (clause 5.6)."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import clips, read, replace_payload, settings, small_header, spans

from tgv_format import group
from tgv_format.clip import Clip
from tgv_format.container import UnitType
from tgv_format.errors import TgvError
from tgv_format.group import Pair
from tgv_format.interpolation import Interpolation, Mode, no_vectors
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.reader import Reader
from tgv_format.syntax import ParameterError
from tgv_format.text import Text
from tgv_format.writer import Writer

HEADER = small_header(16, 16)
FIRST = Keyframe(Codec.AV1, Role.LEADING, 0, 0, b"first")
PAIRS = [
    (Keyframe(Codec.AV1, Role.TRAILING, 2 * n, 0, b"picture", dependent=True), Clip(2, text=caption))
    for n, caption in enumerate([Text("a"), Text("a"), Text("b")], start=1)
]


def written(header: Any, pieces: list[list[Pair]], grouped: bool = True) -> bytes:
    """A leading keyframe, then the pairs, each list a group or all in units of their own."""
    out = io.BytesIO()
    writer = Writer(out, header)
    first = pieces[0][0][0]
    writer.keyframe(replace(first, role=Role.LEADING, frame_number=0, dependent=False))
    for pairs in pieces:
        if grouped:
            before, costs = writer.size, writer.group(pairs)
            assert sum(cost.total() for cost in costs) == writer.size - before
            continue
        for coded, described in pairs:
            writer.keyframe(coded)
            writer.clip(described)
    writer.finish()
    assert writer.size == len(out.getvalue())
    return out.getvalue()


@st.composite
def groups(draw: st.DrawFn) -> list[list[Pair]]:
    frame, scale, pieces = 0, draw(st.integers(0, 2)), []
    for _ in range(draw(st.integers(1, 3))):
        described = draw(clips(16, 16))
        others = Clip(described.frame_count), replace(described, text=Text("other"))
        pairs = []
        for chosen in [described, *draw(st.lists(st.sampled_from([described, *others]), max_size=4))]:
            frame += chosen.frame_count
            payload = draw(st.binary(min_size=1, max_size=200))
            coded = Keyframe(Codec.AV1, Role.TRAILING, frame % 256, scale, payload, dependent=True)
            pairs.append((coded, chosen))
        pieces.append(pairs)
    return pieces


@given(pieces=groups(), crc=st.booleans())
@settings(max_examples=40)
@pytest.mark.requirement("TGV-GRP-1")
def test_a_group_decodes_as_its_units(pieces: list[list[Pair]], crc: bool) -> None:
    header = small_header(16, 16, crc)
    data = written(header, pieces)
    alone = written(header, pieces, grouped=False)
    objects = [[unit.to_json() for unit in read(stream)[1]] for stream in (data, alone)]
    assert objects[0] == objects[1]
    assert written(header, pieces) == data
    kinds = [span.unit_type for span in spans(data)]
    assert kinds.count(UnitType.GROUP) == len(pieces)
    assert UnitType.CLIP not in kinds


def test_bytes_of_a_group() -> None:
    """Header 1, numbers 2; sizes 2 an interval, which says its sections again only when they change."""
    data = written(HEADER, [PAIRS])
    span = spans(data)[2]
    size = len(b"picture") + 2
    texts = [len(group._sections(described, HEADER)) for _, described in PAIRS]
    assert data[span.payload : span.payload + 3] == bytes([0x10, 2, 2])
    assert span.end - 4 - span.payload == 3 + 3 * size + texts[0] + texts[2]


def concealed(data: bytes) -> tuple[list[Any], list[TgvError]]:
    errors: list[TgvError] = []
    return list(Reader(io.BytesIO(data), conceal=errors.append)), errors


def test_places_of_errors_and_what_they_cost() -> None:
    """A fault in a clip costs this clip, one in the sizes the rest, one of the CRC all."""
    pairs = [
        (coded, Clip(2, interpolation=Interpolation(Mode(0), sharp, no_vectors())))
        for sharp, (coded, _) in enumerate(PAIRS, start=1)
    ]
    data = written(HEADER, [pairs])
    span = spans(data)[2]
    payload = bytearray(data[span.payload : span.end - 4])
    whole = [unit.to_json() for unit in read(data)[1]]

    second = 3 + 11 + 2 + 7
    assert payload[second] == 0x46
    reserved = bytes(payload[: second + 1]) + bytes([payload[second + 1] | 1]) + bytes(payload[second + 2 :])
    units, errors = concealed(replace_payload(data, span, reserved))
    assert [error.path for error in errors] == ["clip[1].interpolation.head.reserved"]
    assert errors[0].offset == span.payload + second + 2
    assert [unit.to_json() for unit in units] == whole[:4] + whole[5:]

    zero = bytes(payload[: 3 + 11]) + b"\0" + bytes(payload[3 + 12 :])
    units, errors = concealed(replace_payload(data, span, zero))
    assert [error.path for error in errors] == ["group[0].interval[1].keyframe_size"]
    assert [unit.to_json() for unit in units] == whole[:3] + whole[-1:]

    damaged = data[: span.payload + 9] + b"?" + data[span.payload + 10 :]
    units, errors = concealed(damaged)
    assert [error.identifier for error in errors] == ["crc-mismatch"]
    assert [unit.to_json() for unit in units] == whole[:1] + whole[-1:]


@pytest.mark.parametrize(
    ("change", "identifier"),
    [
        (lambda pairs: [], "truncated"),
        (lambda pairs: [(replace(pairs[0][0], dependent=False), pairs[0][1])], "unit-order"),
        (lambda pairs: [(replace(pairs[0][0], role=Role.LEADING), pairs[0][1])], "unit-order"),
        (lambda pairs: [pairs[0], (replace(pairs[1][0], downscale_log2=1), pairs[1][1])], "out-of-range"),
        (lambda pairs: [pairs[0], (pairs[1][0], Clip(3))], "out-of-range"),
        (lambda pairs: [pairs[0], pairs[2]], "frame-number"),
        (lambda pairs: [(replace(pairs[0][0], codec=Codec.RAW), pairs[0][1])], "reserved-value"),
        (lambda pairs: [(replace(pairs[0][0], payload=b""), pairs[0][1])], "keyframe-invalid"),
    ],
)
def test_what_is_no_group_is_not_written(change: Any, identifier: str) -> None:
    out = io.BytesIO()
    writer = Writer(out, HEADER)
    writer.keyframe(FIRST)
    before = out.getvalue()
    with pytest.raises(ParameterError) as caught:
        writer.group(change(PAIRS))
    assert caught.value.identifier == identifier
    assert out.getvalue() == before


def test_intervals_are_not_looked_at_before_their_turn() -> None:
    """What is wrong with the second interval is found when the first one has been decoded."""
    payload = b"".join(group.encode(PAIRS[:1], HEADER)) + b"\0"
    units = group.decode(payload, 0, "group[0]")
    assert [next(units).unit_type, next(units).unit_type] == [UnitType.KEYFRAME, UnitType.CLIP]
    with pytest.raises(TgvError, match=r"out-of-range .*group\[0\]\.interval\[1\]\.keyframe_size"):
        next(units)
