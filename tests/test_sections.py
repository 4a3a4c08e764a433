"""Every unit and section: what is encoded comes back, and no other bytes mean the same."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Stream,
    assert_cost,
    bytes_as_text,
    clips,
    generator_hints,
    keyframes,
    read,
    sequence_headers,
    settings,
    settle,
    small_header,
    streams,
    texts,
    trajectories,
    write,
)

from tgv_format import clip, end, generator_hint, keyframe, sequence, text
from tgv_format import trajectories as points
from tgv_format.canonical import digest, dumps
from tgv_format.clip import Clip
from tgv_format.end import EndOfSequence
from tgv_format.entropy import Encoder, TraceSink
from tgv_format.errors import TgvError
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.levels import LEVELS, Level, level_for
from tgv_format.picture import Colour
from tgv_format.range_coder import RangeDecoder
from tgv_format.sequence import FRAME_RATES, SequenceHeader
from tgv_format.syntax import ParameterError
from tgv_format.tables import load
from tgv_format.text import Text
from tgv_format.trajectories import Grid, Trajectories, between

LIMITS = LEVELS[1]

# Pictures whose grids are extreme in one way or another.
SIZES = [(1, 1), (8, 8), (9, 7), (64, 48), (512, 320), (1024, 16)]


def identifier(caught: pytest.ExceptionInfo[Any]) -> str:
    return str(caught.value.identifier)


# --- Sequence header


@given(sequence_headers())
def test_sequence_header(header: SequenceHeader) -> None:
    data = sequence.encode(header)
    assert len(data) <= 24
    assert sequence.decode(data, 10) == header
    assert digest(sequence.decode(data, 0).to_json()) == digest(header.to_json())


def test_sequence_header_bytes() -> None:
    """The layout of clause 6.2, by hand."""
    plain = SequenceHeader(512, 320, Fraction(30), 1)
    assert sequence.encode(plain).hex() == "00000180ff03bf0209"
    rich = SequenceHeader(
        1, 1, Fraction(7, 3), 3, colour=Colour(9, 16, 9, True), sample_aspect=(300, 1), crc=False
    )
    assert sequence.encode(rich).hex() == "00000360" + "0000" + "000703" + "09100901" + "ac0201"


@pytest.mark.parametrize("rate", FRAME_RATES.values(), ids=str)
def test_common_frame_rates_take_one_byte(rate: Fraction) -> None:
    header = SequenceHeader(8, 8, rate, 1)
    assert len(sequence.encode(header)) == 7
    assert sequence.decode(sequence.encode(header), 0).frame_rate == rate


BAD_HEADERS = {
    "": "truncated",
    "00": "truncated",
    "00000180ff03bf02": "truncated",
    "01000180ff03bf0209": "unsupported-version",
    "ff": "unsupported-version",
    "00010180ff03bf0209": "unsupported-profile",
    "00000080ff03bf0209": "reserved-value",  # level 0
    "00000480ff03bf0209": "reserved-value",  # level 4
    "00000181ff03bf0209": "reserved-value",  # reserved flag
    "00000190ff03bf0209": "reserved-value",
    "00000180ff07ff0709": "limit-exceeded",  # 1024 x 1024 in level 1
    "00000180ff030009ff": "trailing-data",
    "00000180808000bf0209": "uleb128-invalid",
    "00000180ff3fff3f09": "limit-exceeded",
    "0000018080400009": "out-of-range",  # 8193 wide
    "00000180ff03bf020f": "out-of-range",  # rate code 15
    "00000180ff03bf02001e01": "non-canonical",  # 30/1 has a code
    "00000180ff03bf02000e06": "non-canonical",  # 14/6 is not reduced
    "00000180ff03bf02000001": "out-of-range",
    "00000180ff03bf02000100": "out-of-range",
    "000001c0ff03bf020901010100": "non-canonical",  # the default colour
    "000001c0ff03bf020900010100": "out-of-range",
    "000001c0ff03bf020901131200": "out-of-range",
    "000001c0ff03bf020901011200": "out-of-range",
    "000001c0ff03bf020901010102": "out-of-range",
    "000001a0ff03bf02090101": "non-canonical",  # the default aspect
    "000001a0ff03bf02090406": "non-canonical",  # 4:6 is not reduced
    "000001a0ff03bf02090001": "out-of-range",
    "000001c0ff03bf020901010000": "out-of-range",  # R'G'B' has no 4:2:0
    "000001a0ff03bf020980800401": "out-of-range",
}


@pytest.mark.parametrize("payload", BAD_HEADERS)
def test_bad_sequence_headers(payload: str) -> None:
    data = bytes.fromhex(payload)
    with pytest.raises(TgvError) as caught:
        sequence.decode(data, 100)
    assert identifier(caught) == BAD_HEADERS[payload]
    assert caught.value.path.startswith("sequence")
    assert 100 <= caught.value.offset <= 100 + len(data)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": -1},
        {"width": 8193},
        {"width": 1025},
        {"width": 1024, "height": 1024},
        {"level": 0},
        {"level": 4},
        {"profile": 1},
        {"frame_rate": Fraction(0)},
        {"frame_rate": Fraction(1000001)},
        {"frame_rate": Fraction(1, 1000001)},
        {"sample_aspect": (0, 1)},
        {"sample_aspect": (1, 65536)},
        {"colour": Colour(0, 1, 1)},
        {"colour": Colour(1, 19, 1)},
        {"colour": Colour(1, 1, 18)},
        {"colour": Colour(1, 1, 0)},
        {"sample_aspect": (4, 6)},
    ],
    ids=str,
)
def test_sequence_headers_that_cannot_be_coded(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        sequence.encode(replace(small_header(8, 8), **change))


def test_levels() -> None:
    assert level_for(1, 1).level == 1
    assert level_for(854, 480).level == 1
    assert level_for(1025, 1).level == 2
    assert level_for(1920, 1080).level == 2
    assert level_for(4096, 2176).level == 3
    with pytest.raises(ValueError, match="8193"):
        level_for(8193, 1)
    with pytest.raises(ValueError, match="8192"):
        level_for(8192, 8192)
    for low, high in ((LEVELS[1], LEVELS[2]), (LEVELS[2], LEVELS[3])):
        assert all(getattr(low, name) <= getattr(high, name) for name in Level.__annotations__)


# --- Keyframes, hints, end


@given(keyframes)
def test_keyframe(unit: Keyframe) -> None:
    data = keyframe.encode(unit)
    decoded = keyframe.decode(data, 50, "keyframe[0]")
    assert decoded == replace(unit, payload_offset=52)
    assert keyframe.encode(decoded) == data
    assert digest(decoded.to_json()) == digest(unit.to_json())


def test_keyframe_bytes() -> None:
    assert keyframe.encode(Keyframe(Codec.AV1, Role.TRAILING, 200, 2, b"xyz")).hex() == "1cc878797a"
    assert keyframe.encode(Keyframe(Codec.RAW, Role.LEADING, 0, 0, b"x")).hex() == "000078"
    dependent = Keyframe(Codec.AV1, Role.LEADING, 7, 1, b"x", payload_offset=2, dependent=True)
    assert keyframe.encode(dependent).hex() == "130778"
    assert keyframe.decode(bytes.fromhex("130778"), 0, "keyframe[0]") == dependent
    assert dependent.to_json()["dependent"] == 1


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("", "truncated"),
        ("10", "truncated"),
        ("1000", "keyframe-invalid"),
        ("010078", "reserved-value"),
        ("210078", "reserved-value"),
        ("310078", "reserved-value"),
        ("1100", "keyframe-invalid"),
        ("160078", "reserved-value"),
        ("500078", "reserved-value"),
        ("f00078", "reserved-value"),
    ],
)
def test_bad_keyframes(payload: str, expected: str) -> None:
    data = bytes.fromhex(payload)
    with pytest.raises(TgvError) as caught:
        keyframe.decode(data, 100, "keyframe[7]")
    assert identifier(caught) == expected
    assert caught.value.path.startswith("keyframe[7]")
    assert 100 <= caught.value.offset <= 100 + len(data)


def test_keyframes_that_cannot_be_coded() -> None:
    impossible: list[dict[str, Any]] = [{"payload": b""}, {"frame_number": 256}, {"frame_number": -1}]
    for change in (*impossible, {"downscale_log2": 3}, {"dependent": True}):
        with pytest.raises(ParameterError):
            keyframe.encode(replace(Keyframe(Codec.RAW, Role.LEADING, 0, 0, b"x"), **change))


@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(0, 2))
def test_coded_size(width: int, height: int, downscale_log2: int) -> None:
    factor = 2**downscale_log2
    assert keyframe.coded_size(width, height, downscale_log2) == (-(-width // factor), -(-height // factor))


@given(generator_hints)
def test_generator_hint(hint: GeneratorHint) -> None:
    data = generator_hint.encode(hint)
    assert generator_hint.decode(data, 0, "generator_hint") == hint
    assert digest(generator_hint.decode(data, 9, "x").to_json()) == digest(hint.to_json())


HINT = GeneratorHint("svd", bytes(range(32)), Sampler.DDIM, 10, 48, 2**64 - 2)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "ü" * 33},
        {"name": "a\nb"},
        {"name": "\ud800"},
        {"weights_sha256": bytes(31)},
        {"weights_sha256": bytes(33)},
        {"steps": 1001},
        {"steps": -1},
        {"guidance_scale_q4": 1601},
        {"seed": 2**64},
        {"seed": -1},
    ],
    ids=str,
)
def test_generator_hints_that_cannot_be_coded(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        generator_hint.encode(replace(HINT, **change))


def test_bad_generator_hints() -> None:
    good = generator_hint.encode(HINT)
    assert good.hex() == "03737664" + bytes(range(32)).hex() + "010a30" + "fffffffffffffffe"
    cases = {
        good[:-1]: "truncated",
        good + b"\0": "trailing-data",
        b"\0" + good[1:]: "out-of-range",
        b"\x41" + b"a" * 65 + good[4:]: "out-of-range",
        b"\3\xff\xfe\xfd" + good[4:]: "text-invalid",
        b"\3a\0b" + good[4:]: "text-invalid",
        good.replace(b"\x01\x0a\x30", b"\x04\x0a\x30"): "out-of-range",
        good.replace(b"\x01\x0a\x30", b"\x01\xe9\x07\x30"): "out-of-range",
        good.replace(b"\x01\x0a\x30", b"\x01\x8a\x00\x30"): "uleb128-invalid",
    }
    for data, expected in cases.items():
        with pytest.raises(TgvError) as caught:
            generator_hint.decode(data, 100, "generator_hint")
        assert identifier(caught) == expected
        assert 100 <= caught.value.offset <= 100 + len(data)


@given(st.integers(1, 2**32 - 1) | st.sampled_from([1, 2**32 - 1]), st.binary(min_size=8, max_size=8))
def test_end_of_sequence(count: int, value: bytes) -> None:
    unit = EndOfSequence(count, value)
    assert end.decode(end.encode(unit), 0) == unit


def test_bad_ends() -> None:
    for data, expected in {
        b"\1" + bytes(7): "truncated",
        b"\1" + bytes(9): "trailing-data",
        b"\0" + bytes(8): "out-of-range",
        b"\x80\x80\x80\x80\x10" + bytes(8): "out-of-range",
        b"": "truncated",
    }.items():
        with pytest.raises(TgvError) as caught:
            end.decode(data, 0)
        assert identifier(caught) == expected
    for count in (0, 2**32):
        with pytest.raises(ParameterError):
            end.encode(EndOfSequence(count, bytes(8)))


# --- Text

CAPTIONS = [
    "",
    "a",
    "A man walks his dog along the beach while the sun is going down.",
    "Ein Kind läuft über die Brücke; 12 Möwen fliegen auf",
    "一隻貓在沙發上睡覺。\n\U0001d11e\0\ufeff",
]


def decode_text(data: bytes, trace: TraceSink | None = None) -> Text:
    return text.decode(data, 100, "clip[0].text", LIMITS, trace)


@given(texts())
def test_text(params: Text) -> None:
    data = text.encode(params, LIMITS)
    decoded = decode_text(data)
    assert decoded == params
    assert text.encode(decoded, LIMITS) == data
    assert digest(decoded.to_json()) == digest(params.to_json())


@pytest.mark.parametrize("longest", ["x" * 65536, "\U0001d11e" * 16384])
def test_the_longest_texts(longest: str) -> None:
    data = text.encode(Text(longest), LIMITS)
    assert len(data) < 200
    assert decode_text(data) == Text(longest)


def test_captions_are_compressed() -> None:
    """None of them is among those that the model knows."""
    for caption in CAPTIONS[2:4]:
        assert len(text.encode(Text(caption), LIMITS)) < 0.6 * len(caption)
    assert text.encode(Text(""), LIMITS) == b""


@given(st.lists(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_texts_unlike_captions_take_little_more_than_their_utf8(characters: list[str]) -> None:
    plain = unicodedata.normalize("NFC", "".join(characters))
    assert len(text.encode(Text(plain), LIMITS)) <= 8 + 1.5 * len(plain.encode())


def model_of_the_specification(decode_symbol: Callable[[int], int]) -> bytes:
    """text() of clause 9.3, as it is written there."""
    constants = load("text")
    squashed, weights = constants["squash"], constants["weights"]
    states: dict[tuple[bytes, int], list[int]] = {}
    before = b"\0\0\0\0"

    def squash(logit: int) -> int:
        x = max(-2048, min(logit, 2047)) + 2048
        i = x >> 7
        return int((squashed[i] * (128 - x % 128) + squashed[i + 1] * (x % 128) + 64) >> 7)

    rising = [squash(logit) for logit in range(-2048, 2048)]
    stretch = [min(bisect_left(rising, p) - 2048, 2047) for p in range(4096)]

    def state(k: int, node: int) -> list[int]:
        return states.setdefault((before[-constants["orders"][k] :], node), [32768, 0])

    def mixed(node: int) -> int:
        met = [state(k, node) for k in range(3) if state(k, node)[1]]
        return squash(sum(w * stretch[s[0] >> 4] for w, s in zip(weights[len(met)], met, strict=True)) >> 8)

    def learn(node: int, symbol: int) -> None:
        for k in range(3):
            s = state(k, node)
            s[0] += 4 * (65535 - s[0]) // (4 * s[1] + 5) if symbol else -(4 * s[0] // (4 * s[1] + 5))
            s[1] = min(s[1] + 1, constants["count_limit"])

    def byte(code: Callable[[int], int]) -> int:
        nonlocal before
        node = 1
        while node < 256:
            symbol = code(node)
            learn(node, symbol)
            node = node << 1 | symbol
        before = before[1:] + bytes([node - 256])
        return node - 256

    for caption in constants["captions"]:
        before = b"\0\0\0\0"
        for b in [*(255 - b for b in caption.encode()), 0]:
            byte(lambda node, b=b: b >> 8 - node.bit_length() & 1)  # type: ignore[misc]
    before = b"\0\0\0\0"
    return bytes(255 - b for b in iter(lambda: byte(lambda node: decode_symbol(mixed(node))), 0))


def test_the_model_is_that_of_the_specification() -> None:
    """TGV-TXT-5, and what the trace says."""
    caption = " ".join(CAPTIONS)
    data = text.encode(Text(caption), LIMITS)
    decoder = RangeDecoder(data)
    symbols: list[tuple[int, int]] = []

    def symbol(probability: int) -> int:
        symbols.append((probability, decoder.decode_bit(probability)))
        return symbols[-1][1]

    assert model_of_the_specification(symbol).decode() == caption
    assert decoder.is_canonical_end()
    records: list[dict[str, Any]] = []
    assert decode_text(data, records.append) == Text(caption)
    assert [(r["probability"], r["value"]) for r in records] == symbols
    assert records[-1]["path"] == f"clip[0].text.bytes[{len(caption.encode())}]"


def test_the_model_knows_the_training_captions_that_are_not_held_out() -> None:
    folder = Path(__file__).parents[1] / "training"
    captions = (folder / "captions.txt").read_text(encoding="utf-8").splitlines()
    held_out = captions[7::16]
    assert load("text")["captions"] == [c for i, c in enumerate(captions) if i % 16 != 7]
    assert len(held_out) >= 30
    assert not set(held_out) & set(load("text")["captions"])


@pytest.mark.parametrize(
    ("plain", "after", "expected"),
    [
        (b"\x80", b"", "text-invalid"),
        (b"\xed\xa0\x80", b"", "text-invalid"),  # a surrogate
        (b"\xc0\x80", b"", "text-invalid"),  # an overlong form
        (b"x" * 65537, b"", "limit-exceeded"),
        (b"x" * 65537 + b"\x80", b"", "limit-exceeded"),
        (b"", b"\0", "non-canonical"),
        (b"A dog runs.", b"\0", "non-canonical"),
        (b"A dog runs.", b"A dog runs.", "non-canonical"),
        (b"\x80", b"\0", "non-canonical"),
        (b"", b"\xff" * 8, "entropy-invalid"),
    ],
    ids=lambda value: str(value[:8]),
)
def test_bad_texts(plain: bytes, after: bytes, expected: str) -> None:
    body = bytes_as_text(plain) + after
    with pytest.raises(TgvError) as caught:
        decode_text(body)
    assert identifier(caught) == expected
    assert 100 <= caught.value.offset <= 100 + len(body)
    assert caught.value.path.startswith("clip[0].text")


@pytest.mark.parametrize("caption", CAPTIONS)
def test_no_other_bytes_are_the_same_text(caption: str) -> None:
    data = text.encode(Text(caption), LIMITS)
    flips = [
        bytes(b ^ (1 << k if i == j else 0) for j, b in enumerate(data))
        for i in range(len(data))
        for k in range(8)
    ]
    for bad in (*flips, *(data[:n] for n in range(len(data))), data + b"\1"):
        try:
            found = decode_text(bad)
        except TgvError:
            continue
        assert found.text != caption
        assert text.encode(found, LIMITS) == bad or not unicodedata.is_normalized("NFC", found.text)


def test_decoders_do_not_check_the_normalization() -> None:
    """It depends on the version of Unicode."""
    assert decode_text(bytes_as_text(b"e\xcc\x81")) == Text("e\u0301")


def test_texts_that_cannot_be_coded() -> None:
    for bad in ("e\u0301", "\ud800", "x" * 65537, "é" * 32769):
        with pytest.raises(ParameterError):
            text.encode(Text(bad), LIMITS)


# --- Trajectories

ARRAYS = ("positions", "span", "visible", "instance", "follows")


def decode_points(
    data: bytes, size: tuple[int, int], last: int, trace: TraceSink | None = None
) -> Trajectories:
    return points.decode(data, 100, "clip[0].trajectories", *size, last, LIMITS, trace)


def encode_points(params: Trajectories, size: tuple[int, int]) -> bytes:
    return points.encode(params, *size, LIMITS)


def assert_same(a: Trajectories, b: Trajectories) -> None:
    for name in ARRAYS:
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype, name
        assert np.array_equal(left, right), name
    assert (a.precision, a.lattice_log2, a.stepwise) == (b.precision, b.lattice_log2, b.stepwise)


@st.composite
def sized_trajectories(draw: st.DrawFn, most: int = 6) -> tuple[tuple[int, int], Trajectories]:
    size = draw(st.sampled_from(SIZES) | st.tuples(st.integers(1, 100), st.integers(1, 100)))
    last = draw(st.integers(1, 9) | st.sampled_from([1, 2, 3, 16, 17, 64]))
    return size, draw(trajectories(*size, last, most))


@settings(max_examples=300)
@given(sized_trajectories())
def test_trajectories(case: tuple[tuple[int, int], Trajectories]) -> None:
    size, params = case
    data = encode_points(params, size)
    decoded = decode_points(data, size, params.last_frame)
    assert_same(decoded, params)
    assert encode_points(decoded, size) == data
    assert digest(decoded.to_json()) == digest(params.to_json())
    assert dumps(decoded.to_json()) == dumps(params.to_json())
    records: list[dict[str, object]] = []
    assert_same(decode_points(data, size, params.last_frame, records.append), params)
    assert all(str(r["path"]).startswith("clip[0].trajectories.points[") for r in records)


@settings(max_examples=50)
@given(sized_trajectories())
def test_encoding_leaves_the_parameters_alone(case: tuple[tuple[int, int], Trajectories]) -> None:
    """Also when their arrays may only be read."""
    size, params = case
    for name in ARRAYS:
        getattr(params, name).setflags(write=False)
    before = dumps(params.to_json())
    encode_points(params, size)
    points.cost(params, *size)
    assert dumps(params.to_json()) == before


@settings(max_examples=50)
@given(sized_trajectories())
def test_cost_of_trajectories(case: tuple[tuple[int, int], Trajectories]) -> None:
    size, params = case
    data = encode_points(params, size)
    records: list[dict[str, object]] = []
    decode_points(data, size, params.last_frame, records.append)
    assert_cost(points.cost(params, *size), data, records)


@settings(max_examples=50)
@given(sized_trajectories(), st.randoms(use_true_random=False))
def test_the_order_of_points_is_not_coded(case: tuple[tuple[int, int], Trajectories], random: Any) -> None:
    size, params = case
    order = list(range(params.count))
    random.shuffle(order)
    arrays: dict[str, Any] = {name: getattr(params, name)[order] for name in ARRAYS}
    # The numbers of the instances follow from the order as well.
    shuffled = replace(params, **arrays | {"instance": arrays["instance"][...] ^ 128})
    again, permutation = points.canonical(shuffled, *size)
    assert np.array_equal(shuffled.positions[permutation], again.positions)
    cells = [points._cell(Grid.of(*size, params.precision, params.lattice_log2), again, n) for n in order]
    if len(set(cells)) == len(cells):
        assert_same(again, params)
        shuffled.follows[:] = False
        if order != sorted(order):
            with pytest.raises(ParameterError) as caught:
                encode_points(shuffled, size)
            assert identifier(caught) == "non-canonical"


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_points_of_one_cell_may_stand_in_any_order(order: list[int]) -> None:
    # The first ends at the centre of the cell where the second begins.
    paths = np.array([[[7, 21], [12, 12]], [[12, 12], [8, 13]]], np.int32)
    params = Trajectories(
        positions=paths[order],
        span=np.array([[0, 1], [0, 1]], np.int32),
        visible=np.ones((2, 2), np.bool_),
        instance=np.zeros(2, np.uint8),
        follows=np.zeros(2, np.bool_),
        precision=3,
        lattice_log2=3,
    )
    assert_same(decode_points(encode_points(params, (40, 24)), (40, 24), 1), params)


def still(count: int, last: int, size: tuple[int, int], **changes: Any) -> Trajectories:
    """``count`` points that stay on the lattice; ``changes`` replace arrays."""
    grid = Grid.of(*size, 0, 0)
    cells = np.linspace(0, grid.cells - 1, count).astype(int)
    path = np.array([grid.anchor(int(c)) for c in cells], np.int32)
    params = Trajectories(
        positions=np.repeat(path[:, None], last + 1, 1),
        span=np.tile(np.array([0, last], np.int32), (count, 1)),
        visible=np.ones((count, last + 1), np.bool_),
        instance=np.zeros(count, np.uint8),
        follows=np.zeros(count, np.bool_),
        precision=0,
        lattice_log2=0,
    )
    return replace(params, **changes)


def test_points_of_one_cell_stand_in_any_order() -> None:
    """One is anchored there at its first frame, the other one at its last."""
    params = still(2, 2, (32, 32), lattice_log2=1)
    params.positions[:] = [[[1, 1], [1, 1], [2, 2]], [[2, 2], [1, 1], [1, 1]]]
    for order in ([0, 1], [1, 0]):
        ordered = replace(params, positions=params.positions[order])
        assert_same(decode_points(encode_points(ordered, (32, 32)), (32, 32), 2), ordered)


@pytest.mark.parametrize(("level", "size"), [(1, (512, 320)), (2, (1920, 1080)), (3, (4096, 2160))])
def test_as_many_trajectories_as_the_level_allows(level: int, size: tuple[int, int]) -> None:
    limits = LEVELS[level]
    params = still(limits.trajectories, 3, size)
    data = points.encode(params, *size, limits)
    assert_same(points.decode(data, 0, "p", *size, 3, limits), params)
    with pytest.raises(ParameterError) as refused:
        points.encode(still(limits.trajectories + 1, 3, size), *size, limits)
    assert identifier(refused) == "limit-exceeded"
    if level < 3:
        more = points.encode(still(limits.trajectories + 1, 3, size), *size, LEVELS[3])
        with pytest.raises(TgvError) as caught:
            points.decode(more, 0, "p", *size, 3, limits)
        assert identifier(caught) == "limit-exceeded"


def test_the_longest_clip() -> None:
    size, limits = (64, 64), LEVELS[3]
    rng = np.random.default_rng(0)
    params = still(2, 255, size)
    params.positions[:, 1:] += rng.integers(-2, 3, (2, 255, 2)).cumsum(1).clip(-8, 16).astype(np.int32)
    params = settle(params, *size)
    data = points.encode(params, *size, limits)
    assert_same(points.decode(data, 0, "p", *size, 255, limits), params)


def test_straight_paths_are_cheap() -> None:
    """Sixteen points that stay put for 64 frames: little more than where they are."""
    for stepwise in (False, True):
        assert len(encode_points(still(16, 64, (512, 320), stepwise=stepwise), (512, 320))) < 36


def test_a_neighbour_helps() -> None:
    """A wiggly path that follows another one costs next to nothing."""
    size = (512, 320)
    wiggle = np.random.default_rng(1).integers(-3, 4, (33, 2)).astype(np.int32)
    wiggle[0] = wiggle[-1] = 0
    params = still(8, 32, size)
    params.positions[...] = params.positions[:, :1] + wiggle
    alone = len(encode_points(settle(params, *size), size))
    params.follows[1:] = True
    together = len(encode_points(settle(params, *size), size))
    assert together < alone / 2


def test_leaders_help() -> None:
    """Points that drift alike, each rounded on its own, cost less together."""
    size = (512, 320)
    drift = np.arange(33)[:, None] * (0.37, -0.21)
    params = still(8, 32, size, stepwise=True)
    phases = np.linspace(0, 0.99, 8)[:, None, None]
    params.positions[...] = params.positions[:, :1] + np.floor(drift + phases).astype(np.int32)
    together, alone = (points.cost(settle(p, *size), *size) for p in (params, first_point(params)))
    assert together < 8 * alone * 0.7


def first_point(params: Trajectories) -> Trajectories:
    return replace(params, **{name: getattr(params, name)[:1] for name in ARRAYS})


BAD_POINTS: dict[str, tuple[dict[str, Any], str]] = {
    "no points": (vars(still(0, 4, (64, 48))), "limit-exceeded"),
    "precision": ({"precision": 8}, "out-of-range"),
    "lattice": ({"lattice_log2": -1}, "out-of-range"),
    "span backwards": ({"span": np.array([[3, 2], [0, 4]], np.int32)}, "out-of-range"),
    "span outside": ({"span": np.array([[0, 5], [0, 4]], np.int32)}, "out-of-range"),
    "span negative": ({"span": np.array([[-1, 4], [0, 4]], np.int32)}, "out-of-range"),
    "shapes": ({"instance": np.zeros(3, np.uint8)}, "out-of-range"),
    "visible outside the span": ({"span": np.array([[0, 4], [1, 4]], np.int32)}, "out-of-range"),
    "order of instances": ({"instance": np.array([1, 0], np.uint8)}, "non-canonical"),
    "a gap in the instances": ({"instance": np.array([0, 2], np.uint8)}, "non-canonical"),
    "order of points": ({"positions": still(2, 4, (64, 48)).positions[::-1]}, "non-canonical"),
    "steps that follow": ({"follows": np.array([False, True]), "stepwise": True}, "out-of-range"),
    "too far away": ({"positions": still(2, 4, (64, 48)).positions + 200}, "out-of-range"),
    "off the lattice": ({"lattice_log2": 2}, "out-of-range"),
    "only one frame": (vars(still(2, 0, (64, 48))), "out-of-range"),
    "the first point follows": ({"follows": np.array([True, False])}, "out-of-range"),
    "a point of two frames follows": (
        {
            "follows": np.array([False, True]),
            "span": np.array([[0, 4], [0, 1]], np.int32),
            "visible": np.array([[True] * 5, [True] * 2 + [False] * 3]),
        },
        "out-of-range",
    ),
}


@pytest.mark.parametrize("name", BAD_POINTS)
def test_trajectories_that_cannot_be_coded(name: str) -> None:
    changes, expected = BAD_POINTS[name]
    with pytest.raises(ParameterError) as caught:
        encode_points(still(2, 4, (64, 48), **changes), (64, 48))
    assert identifier(caught) == expected


def test_positions_outside_the_span_repeat_its_ends() -> None:
    params = still(1, 4, (64, 48), span=np.array([[1, 3]], np.int32))
    params.visible[0] = [False, True, True, True, False]
    encode_points(params, (64, 48))
    for frame in (0, 4):
        changed = params.positions.copy()
        changed[0, frame, 1] += 1
        with pytest.raises(ParameterError):
            encode_points(replace(params, positions=changed), (64, 48))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 7), st.integers(0, 7))
def test_grid(width: int, height: int, precision: int, lattice_log2: int) -> None:
    """Every cell has one anchor, anchors are legal and in raster order, and the cells cover the picture."""
    grid = Grid.of(width, height, precision, lattice_log2)
    unit = 8 / 2**precision
    assert grid.width - 1 < width / unit <= grid.width
    assert grid.height - 1 < height / unit <= grid.height
    for cell in {0, grid.cells // 2, grid.cells - 1}:
        x, y = grid.anchor(cell)
        assert grid.legal([x, y])
        assert grid.cell([x, y]) == cell
        assert all(grid.cell([x + dx, y + dy]) != cell for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)))
    step = 2**lattice_log2
    assert grid.columns * step >= grid.width > (grid.columns - 1) * step
    assert grid.cell([grid.columns * step + step // 2, step // 2]) is None
    assert grid.cell([-step + step // 2, step // 2]) is None
    assert grid.inside([0, 0])
    assert grid.inside([grid.width - 1, grid.height - 1])
    assert not grid.inside([grid.width, 0])
    assert not grid.inside([0, -1])
    assert grid.legal([-grid.width, 2 * grid.height + 127])
    assert not grid.legal([-grid.width - 1, 0])
    assert not grid.legal([0, 2 * grid.height + 128])


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(2, 255), st.integers(0, 9))
def test_interpolation(first: int, last: int, steps: int, a: int) -> None:
    """The nearest integers, halves rounded up."""
    exact = [first + Fraction((last - first) * step, steps) for step in range(1, steps)]
    nearest = [(e + Fraction(1, 2)).__floor__() for e in exact]
    assert between([first, -last], [last, -last], a, a + steps, None) == [[n, -last] for n in nearest]


# One point in a picture of one lattice cell, over frames 0 and 1, symbol by symbol (clause 9.2.4).


def crafted(*symbols: Callable[[Encoder], object]) -> bytes:
    coder = Encoder("trajectories")
    for symbol in symbols:
        symbol(coder)
    return b"\0\0" + coder.finish()


def bit(name: str, value: int) -> Callable[[Encoder], object]:
    return lambda coder: coder.bit(name, 0, value)


def uniform(count: int, value: int) -> Callable[[Encoder], object]:
    return lambda coder: coder.uniform(count, value)


def gap(value: int) -> Callable[[Encoder], object]:
    return lambda coder: coder.unsigned("anchor_gap", 0, value)


START = (gap(0), bit("end_anchor", 0))
AT_END = (gap(0), bit("end_anchor", 1))
STILL = tuple(partial(Encoder.signed, name="displacement", offset=offset) for offset in (4, 5))
DEFAULT = (lambda coder: coder.bit("explicit_visibility", 3, 0),)
EXPLICIT = (lambda coder: coder.bit("explicit_visibility", 3, 1),)


def test_a_section_symbol_by_symbol() -> None:
    plain = decode_points(crafted(*START, bit("full_span", 1), *STILL, *DEFAULT), (8, 8), 1)
    assert plain.to_json() == still(1, 1, (8, 8)).to_json()
    shown = (*EXPLICIT, bit("first_visible", 0), bit("last_run", 0), uniform(1, 0))
    half = decode_points(crafted(*START, bit("full_span", 1), *STILL, *shown), (8, 8), 1)
    assert half.visible.tolist() == [[False, True]]
    short = (bit("full_span", 0), uniform(2, 1), uniform(1, 0))
    last = decode_points(crafted(*START, *short, *DEFAULT), (8, 8), 1)
    assert last.span.tolist() == [[1, 1]]
    assert last.visible.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("symbols", "expected", "element"),
    [
        ((gap(1),), "out-of-range", "anchor_gap"),
        ((*START, bit("full_span", 0), uniform(2, 0), uniform(2, 1)), "non-canonical", "span"),
        ((*AT_END, bit("full_span", 0), uniform(2, 1), uniform(1, 0)), "non-canonical", ""),
        ((*AT_END, bit("full_span", 1), *STILL), "non-canonical", "displacement"),
        (
            (*START, bit("full_span", 1), lambda coder: coder.signed("displacement", 4, 130)),
            "out-of-range",
            "displacement",
        ),
        (
            (*START, bit("full_span", 1), *STILL, *EXPLICIT, bit("first_visible", 1), bit("last_run", 1)),
            "non-canonical",
            "visibility",
        ),
    ],
)
def test_other_codings_of_the_same(
    symbols: tuple[Callable[[Encoder], object], ...], expected: str, element: str
) -> None:
    with pytest.raises(TgvError) as caught:
        decode_points(crafted(*symbols), (8, 8), 1)
    assert identifier(caught) == expected
    assert caught.value.path.startswith("clip[0].trajectories.points[0].")
    assert element in caught.value.path


def test_too_many_instances() -> None:
    size, count = (2048, 64), 257
    params = still(count, 1, size, instance=(np.arange(count) % 256).astype(np.uint8))
    coder = Encoder("trajectories")
    code = points._Code.of(coder, params, *size)
    code.instance[-1] = 256
    with pytest.raises(ParameterError) as caught:
        code.points()
    assert identifier(caught) == "out-of-range"


@settings(max_examples=100)
@given(sized_trajectories())
def test_steps_as_the_text_has_them(case: tuple[tuple[int, int], Trajectories]) -> None:
    """Contexts and bits of the steps, worked out from the decoded parameters as clause 9.2.8 says."""
    size, params = case
    params = settle(replace(params, stepwise=True), *size)
    records: list[dict[str, object]] = []
    decode_points(encode_points(params, size), size, params.last_frame, records.append)
    for n in range(params.count):
        path = f"clip[0].trajectories.points[{n}].steps"
        found = [(r["context"], r["value"]) for r in records if r["path"] == path]
        expected = list(steps_of(params, size, n))
        assert [f for f in found if str(f[0]).startswith(("step_zero", "step_sign"))] == expected


def steps_of(params: Trajectories, size: tuple[int, int], n: int) -> Iterator[tuple[str, int]]:
    position = params.positions.tolist()
    grid = Grid.of(*size, params.precision, params.lattice_log2)
    first, last = params.span[n].tolist()
    a, b = (first, last) if grid.cell(position[n][first]) is not None else (last, first)
    s = 1 if a < b else -1
    same = [m for m in range(n) if params.instance[m] == params.instance[n]] or list(range(n))
    same.sort(key=lambda m: (sum((position[m][a][i] - position[n][a][i]) ** 2 for i in (0, 1)), m))
    leaders = same[: {0: 0, 1: 1, 2: 2, 3: 2}.get(len(same), 4)]
    end = params.last_frame
    leader, apart, latest, since, moves = [[0], [0]], [0, 0], [0, 0], [4, 4], [0, 0]
    for i in (0, 1):
        if leaders:
            total = [16 // len(leaders) * sum(position[m][t][i] for m in leaders) for t in range(end + 1)]
            leader[i] = [
                (total[max(t - 1, 0)] + 2 * total[t] + total[min(t + 1, end)] + 2) // 4
                for t in range(end + 1)
            ]
            apart[i] = 16 * position[n][a][i] - leader[i][a]
    for t in range(a + s, b + s, s) if a != b else ():
        for i in (0, 1):
            x, made = position[n][t - s][i], position[n][t][i] - position[n][t - s][i]
            base = 0
            if leaders:
                drift = leader[i][t] - leader[i][t - s]
                base = int(np.sign(drift)) * ((abs(drift) + 4) // 16)
                trend = level(drift - 16 * base, (1, 3, 6, 10))
                lag = level(leader[i][t] + apart[i] - 16 * (x + base), (2, 5, 8, 12, 17))
                signs = [lag, trend, int(np.sign(base)), latest[i]]
                turned = next((v for v in signs if v), 0) < 0
                lag, trend, ahead, before = (-v if turned else v for v in signs)
                row = 9 * lag + trend + 4
                column = 9 * row + 3 * (ahead + 1) + before + 1
            else:
                turned, row, column = latest[i] < 0, 54, 486 + 4 * since[i] + min(moves[i], 3)
            rest = made - base
            yield f"step_zero[{column}]", int(rest == 0)
            if rest:
                yield f"step_sign[{row}]", int((rest < 0) != turned)
            if leaders:
                apart[i] += (16 * (x + made) - leader[i][t] - apart[i]) // 2
            since[i] = 0 if made else min(since[i] + 1, 4)
            moves[i] += bool(made)
            latest[i] = int(np.sign(made)) or latest[i]


def level(value: int, thresholds: tuple[int, ...]) -> int:
    return int(np.sign(value)) * len([t for t in thresholds if t <= abs(value)])


def test_an_interval_that_is_split_for_nothing() -> None:
    start = (*START, bit("full_span", 1), *STILL)
    zero = tuple(partial(Encoder.signed, name="deviation", offset=offset) for offset in (8, 12))
    whole, halves = (partial(Encoder.bit, name="split", offset=8, value=value) for value in (0, 1))
    assert decode_points(crafted(*start, whole, *DEFAULT), (8, 8), 2).last_frame == 2
    with pytest.raises(TgvError) as caught:
        decode_points(crafted(*start, halves, *zero), (8, 8), 2)
    assert identifier(caught) == "non-canonical"


def test_the_reference_point_is_the_first_of_the_nearest() -> None:
    """Of two points at the same distance, the earlier one predicts the displacement."""
    size = (24, 16)
    params = still(3, 1, size)
    params.positions[:, 0] = [[0, 0], [2, 0], [1, 1]]
    params.positions[:, 1] = [[1, 0], [2, 1], [2, 1]]
    records: list[dict[str, object]] = []
    decode_points(encode_points(params, size), size, 1, records.append)

    def zeros(n: int) -> list[object]:
        path = f"clip[0].trajectories.points[{n}].displacement"
        return [r["value"] for r in records if r["path"] == path and "zero" in str(r["context"])]

    assert zeros(1) == [0, 0]
    assert zeros(2) == [1, 1], "it moves as the first one does"


# --- Clips and whole streams


@given(st.sampled_from(SIZES), st.data())
def test_clip(size: tuple[int, int], data: st.DataObject) -> None:
    header = small_header(*size)
    unit = data.draw(clips(*size))
    payload = clip.encode(unit, header)
    decoded = clip.decode(payload, 0, "clip[0]", header)
    assert decoded.to_json() == unit.to_json()
    assert clip.encode(decoded, header) == payload


def test_clips_that_cannot_be_coded() -> None:
    header = small_header(64, 48)
    for bad in (Clip(0), Clip(65), Clip(5, still(1, 4, (64, 48))), Clip(1, text=Text("\ud800"))):
        with pytest.raises(ParameterError):
            clip.encode(bad, header)
    for level, most in ((1, 64), (2, 128), (3, 255)):
        deeper = replace(header, level=level)
        assert clip.decode(clip.encode(Clip(most), deeper), 0, "c", deeper).frame_count == most
        with pytest.raises(ParameterError):
            clip.encode(Clip(most + 1), deeper)


@given(streams())
def test_streams(s: Stream) -> None:
    """Decoding a file and encoding what was decoded gives the same file."""
    data = s.write()
    header, elements = read(data)
    assert header == s.header
    assert [e.to_json() for e in elements[:-1]] == [u.to_json() for u in s.units]
    assert write(header, elements[:-1]) == data


def test_a_section_beyond_its_limit() -> None:
    """TGV-TRJ-1, on both sides."""
    size, small = (64, 64), replace(LEVELS[1], section_bytes=8)
    params = replace(still(40, 2, size), precision=0)
    data = points.encode(params, *size, LEVELS[1])
    assert len(data) > 8
    with pytest.raises(ParameterError) as refused:
        points.encode(params, *size, small)
    assert identifier(refused) == "limit-exceeded"
    with pytest.raises(TgvError) as caught:
        points.decode(data, 0, "clip[0].trajectories", *size, params.last_frame, small)
    assert identifier(caught) == "limit-exceeded"
