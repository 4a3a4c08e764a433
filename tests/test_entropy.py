"""The range coder, its canonical messages, and the binarisations on top of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import settings

from tgv_format import entropy
from tgv_format.entropy import (
    BIT_COST,
    BYPASS,
    UNSIGNED_MAX,
    BinaryCoder,
    Cost,
    Decoder,
    Encoder,
    Layout,
    TracingDecoder,
    adapt,
    fresh,
)
from tgv_format.errors import TgvError
from tgv_format.range_coder import QuantileError, RangeDecoder, canonical_point
from tgv_format.tables import load

SECTION = "trajectories"
SETS: dict[str, list[int]] = load("contexts")["sections"][SECTION]

Symbols = list[tuple[int, int]]

probabilities = st.integers(1, 4095) | st.sampled_from([1, 2, 2047, 2048, 2049, 4094, 4095])
symbol_lists = st.lists(st.tuples(probabilities, st.integers(0, 1)), max_size=300)
# The bytes ff at the front reach the points that belong to no symbol.
messages = st.binary(max_size=40) | st.binary(max_size=12).map(lambda tail: b"\xff" * 5 + tail)


class Interval:
    """The coder of clause 8 as arithmetic on one long integer, which needs no carry."""

    def __init__(self) -> None:
        self.lower, self.range, self.bits = 0, 2**64 - 1, 64

    def encode(self, symbols: Symbols) -> Interval:
        for probability, bit in symbols:
            scale, zeros = self.range // 2**24, (4096 - probability) * 4096
            self.lower += scale * zeros * bit
            self.range = scale * (probability * 4096 if bit else zeros)
            if self.range < 2**32:
                self.lower, self.range, self.bits = self.lower << 32, self.range << 32, self.bits + 32
        return self

    def message(self) -> bytes:
        """The shortest message whose number is in the interval; the least number among those."""
        for size in range(self.bits // 8 + 1):
            unit = 256 ** (self.bits // 8 - size)
            number = -(-self.lower // unit)
            if number * unit < self.lower + self.range:
                return int(number).to_bytes(size, "big")
        raise AssertionError("the interval is empty")

    def content(self) -> float:
        """The information in the symbols, in bits."""
        return self.bits - math.log2(self.range)


def encode(symbols: Symbols) -> bytes:
    encoder = Encoder(SECTION)
    for probability, bit in symbols:
        encoder._code(BYPASS, probability, bit)
    return encoder.finish()


def run_constriction(data: bytes, script: list[int]) -> tuple[list[int], str]:
    """Bits decoded with the probabilities of ``script``, and the verdict on the message."""
    return _run(Decoder(SECTION, data, 0, "test"), script)


def run_tracing(data: bytes, script: list[int]) -> tuple[list[int], str]:
    return _run(TracingDecoder(SECTION, data, 0, "test", lambda record: None), script)


def _run(decoder: Decoder, script: list[int]) -> tuple[list[int], str]:
    bits: list[int] = []
    try:
        for probability in script:
            bits.append(decoder._code(BYPASS, probability, 0))
        decoder.finish()
    except TgvError as error:
        return bits, error.identifier
    return bits, "good"


def run_plain(data: bytes, script: list[int]) -> tuple[list[int], str]:
    decoder = RangeDecoder(data)
    bits: list[int] = []
    try:
        for probability in script:
            bits.append(decoder.decode_bit(probability))
    except QuantileError:
        return bits, "entropy-invalid"
    return bits, "good" if decoder.is_canonical_end() else "non-canonical"


# --- The range coder


@given(symbol_lists)
def test_the_encoder_writes_the_canonical_message(symbols: Symbols) -> None:
    assert encode(symbols) == Interval().encode(symbols).message()


@given(symbol_lists)
def test_both_decoders_read_what_the_encoder_wrote(symbols: Symbols) -> None:
    script, bits = [p for p, _ in symbols], [b for _, b in symbols]
    data = encode(symbols)
    assert run_plain(data, script) == (bits, "good")
    assert run_constriction(data, script) == (bits, "good")
    assert run_tracing(data, script) == (bits, "good")


@given(messages, st.lists(probabilities, max_size=600))
@example(b"\xff" * 8, [2048])
@example(b"\xff" * 6, [2048])
@example(b"", [2048] * 200)
@example(b"\x55\x12", [3000] * 600)
def test_both_decoders_agree_on_any_bytes(data: bytes, script: list[int]) -> None:
    """Symbols, invalid data and the verdict at the end, also far beyond the end of the data."""
    expected = run_plain(data, script)
    assert run_constriction(data, script) == expected
    assert run_tracing(data, script) == expected


@given(symbol_lists, st.data())
def test_both_decoders_agree_on_damaged_messages(symbols: Symbols, data: st.DataObject) -> None:
    """No message but the canonical one is accepted for the symbols that it decodes to."""
    good = encode(symbols)
    change = data.draw(st.sampled_from(["zero", "byte", "cut", "flip", "borrow"]))
    bad = bytearray(good)
    if change == "zero":
        bad += b"\0"
    elif change == "byte":
        bad += data.draw(st.binary(min_size=1, max_size=9))
    elif bad and change == "cut":
        del bad[-1]
    elif bad and change == "flip":
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif bad:
        bad[-1] -= 1
        bad += b"\xff" * data.draw(st.integers(0, 9))
    script = [p for p, _ in symbols]
    bits, verdict = run_plain(bytes(bad), script)
    assert run_constriction(bytes(bad), script) == (bits, verdict)
    if verdict == "good":
        assert bytes(bad) == encode(list(zip(script, bits, strict=True)))
    if bits == [b for _, b in symbols] and bytes(bad) != good:
        assert verdict == "non-canonical"


ROUND = [
    b"\x80",
    b"\x40\x00\x01",
    b"\x00\x00\x00\x01",
    b"\x7f\xff\xff\xff\x01",
    b"\x80" + b"\0" * 6 + b"\x80",
]


@given(st.sampled_from(ROUND), st.lists(probabilities, max_size=300))
def test_carries(message: bytes, script: list[int]) -> None:
    """An interval around a round number straddles a carry, in constriction's words an inverted one."""
    check_carries(message, script)


@pytest.mark.parametrize("message", ROUND)
def test_carries_that_stay_open(message: bytes) -> None:
    scripts = [np.random.default_rng(n).integers(900, 3200, 60 + 10 * n).tolist() for n in range(20)]
    assert sum(check_carries(message, script) > 0 for script in scripts) > 10


def check_carries(message: bytes, script: list[int]) -> int:
    """Checks the message of the symbols that ``message`` decodes to; returns how long a carry was open."""
    decoder = RangeDecoder(message)
    symbols: Symbols = []
    inverted = 0
    for probability in script:
        try:
            symbols.append((probability, decoder.decode_bit(probability)))
        except QuantileError:
            break
        inverted += decoder.lower + decoder.range > 2**64
    assert encode(symbols) == Interval().encode(symbols).message()
    assert len(encode(symbols)) <= len(message)
    bits = [bit for _, bit in symbols]
    assert run_constriction(encode(symbols), script[: len(bits)]) == (bits, "good")
    return inverted


def test_no_symbols_take_no_bytes() -> None:
    assert encode([]) == b""
    assert run_constriction(b"", []) == run_plain(b"", []) == ([], "good")
    for data in (b"\0", b"\1", b"\0" * 12):
        assert run_constriction(data, [])[1] == run_plain(data, [])[1] == "non-canonical"


@given(st.integers(0, 2**64 - 1), st.integers(2**32, 2**64 - 1))
@example(0, 2**64 - 1)
@example(2**64 - 1, 2**32)
@example(2**64 - 2**32, 2**32)
def test_canonical_point(lower: int, width: int) -> None:
    for power in range(9, -1, -1):
        unit = 256**power
        least = -(-lower // unit) * unit
        if least < lower + width:
            assert canonical_point(lower, width) == least
            return


# --- Probabilities


@given(st.lists(st.integers(0, 1), max_size=400), st.sampled_from(sorted(SETS)))
def test_probabilities_stay_legal(bits: list[int], name: str) -> None:
    layout = Layout(SETS)
    context = layout.contexts()[layout.first[name]]
    for bit in bits:
        adapt(context, bit)
        assert 1 <= entropy.probability(context) <= 4095


@pytest.mark.parametrize("bit", [0, 1])
def test_probabilities_stay_legal_at_their_extremes(bit: int) -> None:
    """From every initial state, after any number of equal bits, and back."""
    contexts = Layout(SETS).contexts()
    assert len(contexts) == sum(map(len, SETS.values()))
    for context in contexts:
        for value in [bit] * 2000 + [1 - bit] * 2000:
            assert 1 <= entropy.probability(context) <= 4095
            adapt(context, value)
            assert 0 <= min(context[:2]) <= max(context[:2]) <= 65535


def test_probabilities_adapt() -> None:
    context = fresh(1 << 15)
    rng = np.random.default_rng(0)
    for bit in rng.random(3000) < 0.1:
        adapt(context, int(bit))
    assert 0.04 < entropy.probability(context) / 4096 < 0.2
    context = fresh(1 << 15)
    adapt(context, 1)
    first = entropy.probability(context) - 2048
    for bit in [0, 1] * 50:
        adapt(context, bit)
    later = entropy.probability(context)
    adapt(context, 1)
    assert first > 1.5 * (entropy.probability(context) - later) > 0, "the first bits count more"


def test_contexts_are_independent() -> None:
    layout = Layout(SETS)
    contexts = layout.contexts()
    adapt(contexts[3], 1)
    fresh_ones = layout.contexts()
    assert [i for i, context in enumerate(contexts) if context != fresh_ones[i]] == [3]
    assert layout.names[layout.first["anchor_gap"] + 2] == "anchor_gap[2]"
    assert len(set(layout.names)) == len(layout.names) == len(contexts)


# --- Binarisations


def round_trip(code: Callable[[BinaryCoder, int], int], values: list[int]) -> bytes:
    """``values`` through encoder, decoder and tracing decoder; the message."""
    encoder = Encoder(SECTION)
    assert [code(encoder, value) for value in values] == values
    data = encoder.finish()
    for decoder in (
        Decoder(SECTION, data, 0, "test"),
        TracingDecoder(SECTION, data, 0, "test", lambda record: None),
    ):
        assert [code(decoder, 0) for _ in values] == values
        decoder.finish()
        assert decoder._contexts == encoder._contexts
    return data


UNSIGNED_EXTREMES = [0, 1, 5, 6, 7, 12, 13, 14, 15, 16, 17, 2**20, UNSIGNED_MAX - 1, UNSIGNED_MAX]


@given(st.lists(st.integers(0, UNSIGNED_MAX) | st.integers(0, 40), max_size=20))
@example(UNSIGNED_EXTREMES)
@example(UNSIGNED_EXTREMES[::-1])
def test_unsigned(values: list[int]) -> None:
    round_trip(lambda coder, value: coder.unsigned("step_magnitude", 0, value), values)


@given(st.lists(st.integers(-UNSIGNED_MAX - 1, UNSIGNED_MAX + 1) | st.integers(-20, 20), max_size=20))
@example([s * (v + 1) for v in UNSIGNED_EXTREMES for s in (1, -1)] + [0])
def test_signed(values: list[int]) -> None:
    round_trip(lambda coder, value: coder.signed("displacement", 3, value), values)


@given(st.integers(0, 32), st.data())
def test_golomb(shift: int, data: st.DataObject) -> None:
    most = (UNSIGNED_MAX << shift) + (1 << shift) - 1
    values = data.draw(st.lists(st.integers(0, most) | st.sampled_from([0, 1, most]), max_size=10))
    round_trip(lambda coder, value: coder.golomb("anchor_gap", shift, value), values)


@given(st.integers(0, 64), st.data())
def test_bypass(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 2**bits - 1) | st.sampled_from([0, 2**bits - 1]), max_size=10))
    message = round_trip(lambda coder, value: coder.bypass(bits, value), values)
    assert 8 * len(message) <= bits * len(values) + 8


@pytest.mark.parametrize(
    "code",
    [
        lambda coder: coder.unsigned("step_magnitude", 0, UNSIGNED_MAX + 1),
        lambda coder: coder.signed("displacement", 0, -UNSIGNED_MAX - 2),
        lambda coder: coder.golomb("anchor_gap", 3, (UNSIGNED_MAX + 1) << 3),
    ],
)
@pytest.mark.parametrize("coder", [Encoder, Cost])
def test_values_too_large_are_refused(
    code: Callable[[BinaryCoder], int], coder: Callable[[str], BinaryCoder]
) -> None:
    with pytest.raises(ValueError, match="out-of-range"):
        code(coder(SECTION))


def test_an_escape_too_long_is_refused_by_decoders() -> None:
    encoder = Encoder(SECTION)
    for prefix in range(26):
        encoder.bit("step_magnitude", min(prefix, 9), 1)
    for _ in range(21):
        encoder.bypass(1, 1)
    decoder = Decoder(SECTION, encoder.finish(), 17, "clip[0].test")
    decoder.element = ("points", 3, "step_magnitude")
    with pytest.raises(TgvError) as caught:
        decoder.unsigned("step_magnitude", 0)
    assert (caught.value.identifier, caught.value.offset) == ("out-of-range", 17)
    assert caught.value.path == "clip[0].test.points[3].step_magnitude"


def test_uniform_holds_every_value_of_every_count() -> None:
    for count in range(1, 301):
        values = list(range(count))
        message = round_trip(lambda coder, value, count=count: coder.uniform(count, value), values)  # type: ignore[misc]
        assert 8 * len(message) < count * (math.log2(count) + 0.02) + 9


@given(st.integers(1, 2**33) | st.sampled_from([2**32, 2**32 + 1, 4096, 4097]), st.data())
def test_uniform_of_large_counts(count: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, count - 1) | st.sampled_from([0, count - 1]), max_size=10))
    round_trip(lambda coder, value: coder.uniform(count, value), values)


@given(messages, st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_uniform_never_decodes_beyond_its_count(data: bytes, counts: list[int]) -> None:
    decoder = Decoder(SECTION, data, 0, "test")
    with suppress(TgvError):
        for count in counts:
            assert 0 <= decoder.uniform(count) < count


def test_binarisations_use_the_contexts_they_name() -> None:
    """What one set of contexts has learnt leaves the others alone."""

    def touched(code: Callable[[BinaryCoder], int]) -> set[str]:
        coder = Encoder(SECTION)
        code(coder)
        layout = coder._layout
        states = zip(layout.names, layout.contexts(), coder._contexts, strict=True)
        return {name for name, old, new in states if old != new}

    assert touched(lambda c: c.unsigned("anchor_gap", 0, 3)) == {f"anchor_gap[{i}]" for i in range(4)}
    assert touched(lambda c: c.unsigned("anchor_gap", 0, 99)) == {f"anchor_gap[{i}]" for i in range(10)}
    assert touched(lambda c: c.signed("deviation", 7, 0)) == {"deviation_zero[7]"}
    assert touched(lambda c: c.signed("deviation", 7, -2)) == {
        "deviation_zero[7]",
        "deviation_sign[7]",
        "deviation_magnitude[70]",
        "deviation_magnitude[71]",
    }
    assert touched(lambda c: c.golomb("anchor_gap", 4, 15)) == {"anchor_gap[0]"}
    assert touched(lambda c: c.uniform(77, 5)) == set()


# --- Cost


@given(symbol_lists)
def test_cost_is_the_information_in_the_message(symbols: Symbols) -> None:
    cost = Cost(SECTION)
    for probability, bit in symbols:
        cost._code(BYPASS, probability, bit)
    assert abs(cost.bits - Interval().encode(symbols).content()) < 1
    assert 8 * len(encode(symbols)) < cost.bits + 9


@settings(max_examples=30)
@given(st.lists(st.integers(-100, 100), min_size=20, max_size=60))
def test_cost_adapts_as_the_encoder_does(values: list[int]) -> None:
    encoder, cost = Encoder(SECTION), Cost(SECTION)
    for value in values:
        encoder.signed("displacement", 0, value)
        cost.signed("displacement", 0, value)
    assert encoder._contexts == cost._contexts
    # The message may be shorter by luck, eight bits shorter in one of 256 cases.
    assert -24 < 8 * len(encoder.finish()) - cost.bits < 9


def test_bit_cost() -> None:
    assert math.isinf(BIT_COST[0])
    assert BIT_COST[4096] == 0
    assert BIT_COST[2048] == 1
    assert BIT_COST[1] == 12


# --- Trace


@given(st.lists(st.integers(-50, 50), max_size=20))
def test_the_trace_has_every_symbol(values: list[int]) -> None:
    encoder = Encoder(SECTION)
    symbols: Symbols = []
    plain_code = encoder._code

    def recording(index: int, probability: int, bit: int) -> int:
        symbols.append((probability, bit))
        return plain_code(index, probability, bit)

    encoder._code = recording  # type: ignore[method-assign]
    for value in values:
        encoder.signed("displacement", 0, value)
        encoder.bypass(3, value & 7)
    data = encoder.finish()
    records: list[dict[str, object]] = []
    decoder = TracingDecoder(SECTION, data, 100, "clip[1].trajectories", records.append)
    decoder.element = ("points", 2, "displacement")
    for value in values:
        assert decoder.signed("displacement", 0) == value
        assert decoder.bypass(3) == value & 7
    decoder.finish()
    assert [(r["probability"], r["value"]) for r in records] == symbols
    state = Interval()
    for record, symbol in zip(records, symbols, strict=True):
        assert record["path"] == "clip[1].trajectories.points[2].displacement"
        lower, width, point = (int(str(record[name]), 16) for name in ("lower", "range", "point"))
        assert len(str(record["point"])) == 16
        assert (lower, width) == (state.lower % 2**64, state.range)
        assert (point - lower) % 2**64 < width
        assert record["bit_offset"] == 8 * 100 + state.bits - 64
        state.encode([symbol])
    names = {r["context"] for r in records}
    assert names <= {None, *Layout(SETS).names}
    assert (None in names) == bool(values)
