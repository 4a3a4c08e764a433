"""Flow tokens: the section, what its tokens mean, and how the encoder finds them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import assert_cost, flow_tokens, settings

from refdec.motion import node_positions
from refenc import flow_tokens as encoder
from refenc.flow_tokens import FlowAnalysis, FlowOptions
from tgv_format import flow_tokens as section
from tgv_format.canonical import digest, dumps
from tgv_format.clip import Clip
from tgv_format.entropy import Decoder, Encoder, TraceSink
from tgv_format.errors import TgvError
from tgv_format.flow_tokens import FREQUENCIES, FlowTokens, PlaneFlow, Tokenizer, flow, with_flow
from tgv_format.levels import LEVELS, Level
from tgv_format.picture import Picture
from tgv_format.syntax import ParameterError
from tgv_format.tables import load

LIMITS = LEVELS[1]
PATH = "clip[3].flow_tokens"


def decode(data: bytes, last: int, trace: TraceSink | None = None, limits: Level = LIMITS) -> FlowTokens:
    return section.decode(data, 10, PATH, last, limits, trace)


def assert_same(a: FlowTokens, b: FlowTokens) -> None:
    assert a.tokens.dtype == b.tokens.dtype == np.int16
    assert np.array_equal(a.tokens, b.tokens)
    assert (a.step, a.tokenizer_id) == (b.step, b.tokenizer_id)


@st.composite
def cases(draw: st.DrawFn, most: int = 6) -> FlowTokens:
    last = draw(st.integers(1, 9) | st.sampled_from([1, 2, 3, 16, 17, 64]))
    return draw(flow_tokens(last, draw(st.sampled_from([1, most]))))


def constant(last: int, count: int, value: int = 0, step: int = 1) -> FlowTokens:
    return FlowTokens(np.full((last, 2, count), value, np.int16), step)


# --- Round trips


@settings(max_examples=300)
@given(cases())
@example(constant(1, 1))
@example(constant(1, 1, -(1 << 15), 4096))
@example(constant(64, 32, (1 << 15) - 1))
def test_round_trip(params: FlowTokens) -> None:
    data = section.encode(params, LIMITS)
    decoded = decode(data, params.last_frame)
    assert_same(decoded, params)
    assert section.encode(decoded, LIMITS) == data
    assert dumps(decoded.to_json()) == dumps(params.to_json())
    assert digest(decoded.to_json()) == digest(params.to_json())
    records: list[dict[str, object]] = []
    assert_same(decode(data, params.last_frame, records.append), params)
    assert all(str(record["path"]).startswith(f"{PATH}.tokens[") for record in records)


@settings(max_examples=50)
@given(cases())
def test_encoding_leaves_the_parameters_alone(params: FlowTokens) -> None:
    params.tokens.setflags(write=False)
    before = dumps(params.to_json())
    data = section.encode(params, LIMITS)
    records: list[dict[str, object]] = []
    decode(data, params.last_frame, records.append)
    assert_cost(section.cost(params), data, records)
    assert dumps(params.to_json()) == before


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: str(level.level))
def test_as_many_tokens_as_the_level_allows(level: Level) -> None:
    rng = np.random.default_rng(0)
    shape = (level.clip_frames, 2, level.flow_tokens)
    params = FlowTokens(rng.integers(-3, 4, shape).cumsum(0).astype(np.int16), 16)
    data = section.encode(params, level)
    assert_same(decode(data, level.clip_frames, limits=level), params)
    more = constant(1, level.flow_tokens + 1)
    with pytest.raises(ParameterError) as refused:
        section.encode(more, level)
    assert refused.value.identifier == "limit-exceeded"
    if level.level < 3:
        with pytest.raises(TgvError) as caught:
            decode(section.encode(more, LEVELS[3]), 1, limits=level)
        assert (caught.value.identifier, caught.value.path) == (
            "limit-exceeded",
            f"{PATH}.head.tokens_minus1",
        )


def test_small_sections_are_small() -> None:
    """A still clip, and one of steady motion whose tokens change in almost every frame."""
    assert len(section.encode(constant(29, 20), LIMITS)) <= 10
    steady = np.zeros((29, 2, 20), np.int16)
    steady[:, :, 0] = np.arange(1, 30)[:, None] * 7 // 2
    assert len(section.encode(FlowTokens(steady, 16), LIMITS)) <= 20


def test_the_section_in_a_clip_is_as_long_as_the_clip() -> None:
    from strategies import small_header

    from tgv_format import clip

    header = small_header(16, 16)
    with pytest.raises(ParameterError) as caught:
        clip.encode(Clip(4, flow_tokens=constant(3, 1)), header)
    assert caught.value.identifier == "out-of-range"
    data = clip.encode(Clip(3, flow_tokens=constant(3, 1, 5)), header)
    decoded = clip.decode(data, 0, "clip[0]", header)
    assert decoded.to_json()["flow_tokens"]["tokens"] == [[[5], [5]]] * 3


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no frames": ({"tokens": np.zeros((0, 2, 3), np.int16)}, "out-of-range"),
    "no tokens": ({"tokens": np.zeros((4, 2, 0), np.int16)}, "out-of-range"),
    "one component": ({"tokens": np.zeros((4, 1, 3), np.int16)}, "out-of-range"),
    "two dimensions": ({"tokens": np.zeros((4, 2), np.int16)}, "out-of-range"),
    "type": ({"tokens": np.zeros((4, 2, 3), np.int32)}, "out-of-range"),
    "step 0": ({"step": 0}, "out-of-range"),
    "step": ({"step": 4097}, "out-of-range"),
    "tokenizer": ({"tokenizer_id": 2}, "reserved-value"),
}


@pytest.mark.parametrize("name", BAD)
def test_parameters_that_cannot_be_coded(name: str) -> None:
    change, expected = BAD[name]
    with pytest.raises(ParameterError) as caught:
        section.encode(replace(constant(4, 3), **change), LIMITS)
    assert caught.value.identifier == expected


# --- The syntax


def by_the_clause(data: bytes, last: int) -> list[list[list[int]]]:
    """Clause 9.4.2 as it stands there: value[c][k][t] of a section with a step below 128."""
    count = (data[0] & 63) + 1
    coder = Decoder(section.SECTION, data[2:], 12, PATH)
    value = [[[0] * (last + 1) for _ in range(count)] for _ in range(2)]
    size: dict[tuple[int, int, int], int] = {}
    split_at: dict[tuple[int, int, int], int] = {}

    def neighbours(table: dict[tuple[int, int, int], int], c: int, k: int, t: int) -> int:
        other = (1, k - 1, t) if c == 0 else (0, k, t)
        return sum(table.get(place, 0) for place in ((c, k - 1, t), (c, k - 2, t), other))

    def token_interval(c: int, k: int, a: int, b: int, parent: int) -> None:
        path = value[c][k]
        p, q = path[a], path[b]
        line = {t: p + ((q - p) * (t - a) * 2 + b - a) // (2 * (b - a)) for t in range(a + 1, b)}
        m = (a + b) >> 1
        length = min(3, (b - a).bit_length() - 2)
        slope = 0 if p == q else 1 if 2 * abs(q - p) <= b - a else 2
        i = (length * 3 + min(parent, 2)) * 3 + slope
        if not coder.bit("split", i * 3 + min(neighbours(split_at, c, k, m), 2)):
            for t, v in line.items():
                path[t] = v
            return
        split_at[c, k, m] = 1
        near = neighbours(size, c, k, m) + parent
        d = coder.signed("deviation", min(near.bit_length(), 5) + (6 if b - a > 2 else 0))
        path[m] = line[m] + d
        size[c, k, m] = abs(d)
        for begin, end in ((a, m), (m, b)):
            if end - begin > 1:
                token_interval(c, k, begin, end, abs(d))

    for k in range(count):
        for c in (0, 1):
            v = coder.signed("last_token", min(neighbours(size, c, k, last).bit_length(), 5))
            value[c][k][last] = v
            size[c, k, last] = abs(v)
            if last > 1:
                token_interval(c, k, 0, last, (abs(v) + 3) >> 2)
    coder.finish()
    return value


@settings(max_examples=100)
@given(cases())
def test_the_syntax_is_that_of_the_clause(params: FlowTokens) -> None:
    params = replace(params, step=1 + params.step % 127)
    value = by_the_clause(section.encode(params, LIMITS), params.last_frame)
    assert np.array_equal(np.array(value)[:, :, 1:].transpose(2, 0, 1), params.tokens)


# --- Faulty sections


def outcome(body: bytes, last: int, trace: TraceSink | None = None) -> tuple[str, Any]:
    """An error's identifier, or the decoded parameters."""
    try:
        return "", decode(body, last, trace).to_json()
    except TgvError as caught:
        error = caught
    assert error.path.startswith(PATH)
    assert 10 <= error.offset <= 10 + len(body)
    return error.identifier, None


def check(body: bytes, last: int) -> tuple[str, Any]:
    """Both decoders agree, and what they accept is encoded as the same bytes."""
    result = outcome(body, last)
    sink: TraceSink = lambda record: None  # noqa: E731
    assert outcome(body, last, sink) == result
    if not result[0]:
        assert section.encode(decode(body, last), LIMITS) == body
    return result


@settings(max_examples=400)
@given(
    st.integers(0, 255) | st.integers(0, 4), st.integers(0, 255), st.binary(max_size=40), st.integers(1, 64)
)
def test_arbitrary_bytes(head: int, step: int, body: bytes, last: int) -> None:
    check(bytes([head, step]) + body, last)


@settings(max_examples=150)
@given(cases(most=3), st.data())
def test_damage_is_noticed_or_changes_the_parameters(params: FlowTokens, data: st.DataObject) -> None:
    body = section.encode(params, LIMITS)
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    flipped = bytearray(body)
    flipped[bit // 8] ^= 128 >> bit % 8
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for damaged in (bytes(flipped), cut, body + b"\0", body + b"\1"):
        identifier, decoded = check(damaged, params.last_frame)
        assert identifier or decoded != params.to_json()


def test_short_bodies() -> None:
    """All bodies of up to one byte, and many of two."""
    for last in (1, 2, 3):
        for size, step in ((0, 1), (1, 1), (2, 37)):
            for value in range(0, 256**size, step):
                check(b"\0\1" + value.to_bytes(size, "big"), last)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "truncated"),
        ("00", "truncated"),
        ("8001", "reserved-value"),
        ("c001", "reserved-value"),
        ("0000", "out-of-range"),
        ("008120", "out-of-range"),  # step 4097
        ("008100", "uleb128-invalid"),
        ("2001", "limit-exceeded"),  # 33 tokens in level 1
    ],
)
def test_faulty_headers(body: str, expected: str) -> None:
    assert outcome(bytes.fromhex(body), 1)[0] == expected


def test_the_limit_on_bytes() -> None:
    small = replace(LIMITS, section_bytes=8)
    params = FlowTokens(np.arange(64, dtype=np.int16).reshape(8, 2, 4) * 99, 16)
    with pytest.raises(ParameterError) as refused:
        section.encode(params, small)
    assert refused.value.identifier == "limit-exceeded"
    with pytest.raises(TgvError) as caught:
        decode(section.encode(params, LIMITS), 8, limits=small)
    assert caught.value.identifier == "limit-exceeded"


def written(symbols: Callable[[Encoder], None]) -> bytes:
    """A section of one token per component, coded by hand."""
    coder = Encoder(section.SECTION)
    symbols(coder)
    return b"\0\1" + coder.finish()


def test_a_straight_interval_that_is_split() -> None:
    def symbols(coder: Encoder) -> None:
        coder.signed("last_token", 0, 0)
        coder.bit("split", 0, 1)
        coder.signed("deviation", 0, 0)
        coder.signed("last_token", 0, 0)
        coder.bit("split", 1, 0)

    assert outcome(written(symbols), 2)[0] == "non-canonical"


@pytest.mark.parametrize("value", [-(1 << 15), (1 << 15) - 1])
def test_tokens_of_more_than_16_bits(value: int) -> None:
    beyond = value + (1 if value > 0 else -1)

    def last(token: int) -> bytes:
        def symbols(coder: Encoder) -> None:
            coder.signed("last_token", 0, token)
            coder.signed("last_token", 5, 0)

        return written(symbols)

    def deviation(token: int) -> bytes:
        def symbols(coder: Encoder) -> None:
            coder.signed("last_token", 0, 0)
            coder.bit("split", 0, 1)
            coder.signed("deviation", 0, token)
            coder.signed("last_token", 0, 0)
            coder.bit("split", 1, 0)

        return written(symbols)

    assert not outcome(last(value), 1)[0]
    assert outcome(last(beyond), 1)[0] == "out-of-range"
    assert not outcome(deviation(value), 2)[0]
    assert outcome(deviation(beyond), 2)[0] == "out-of-range"


# --- What tokens mean


def scalar_flow(params: FlowTokens, t: int, c: int, p: tuple[int, int], height: int, width: int) -> int:
    """flow() of clause 9.4.3, as it stands there."""
    table = load("flow_basis")["cosine"]

    def cosine(f: int, position: int, size: int) -> int:
        if f == 0:
            return 1 << 14
        phase = ((position + 8) * f * 128 + (size >> 1)) // size % 4096
        phase = min(phase, 4096 - phase)
        return int(table[phase] if phase <= 1024 else -table[2048 - phase])

    total = 0
    for k, token in enumerate(params.tokens[t - 1, c].tolist()):
        u, v = FREQUENCIES[k]
        total += token * cosine(u, p[0], width) * cosine(v, p[1], height)
    assert abs(total) < 2**50
    assert abs(total * params.step) < 2**63 - 2**27
    return max(-(1 << 18), min(1 << 18, (total * params.step + (1 << 27)) >> 28))


@settings(max_examples=60)
@given(
    cases(most=64),
    st.sampled_from([(1, 1), (1, 17), (16, 16), (33, 48), (320, 512), (1000, 3), (1088, 8192)]),
    st.data(),
)
@pytest.mark.requirement("TGV-FLW-7")
def test_flow_is_that_of_the_clause(params: FlowTokens, size: tuple[int, int], data: st.DataObject) -> None:
    params = replace(params, tokenizer_id=Tokenizer.COSINE)
    t = data.draw(st.integers(1, params.last_frame))
    inside = st.tuples(*(st.integers(0, 16 * side) for side in reversed(size)))
    anywhere = st.tuples(*(st.integers(-(1 << 21), 1 << 21),) * 2)
    positions = data.draw(st.lists(inside | anywhere, min_size=6, max_size=6))
    found = flow(params, t, np.array(positions).reshape(2, 3, 2), *size)
    assert found.dtype == np.int64
    expected = [[scalar_flow(params, t, c, p, *size) for c in (0, 1)] for p in positions]
    assert found.reshape(-1, 2).tolist() == expected


@settings(max_examples=60)
@given(cases(most=64), st.integers(1, 40), st.integers(1, 40), st.data())
@example(constant(3, 64, -(1 << 15), 4096), 33, 16, None)
@pytest.mark.requirement("TGV-FLW-7")
def test_the_flow_of_a_plane_is_that_of_its_samples(
    params: FlowTokens, height: int, width: int, data: st.DataObject | None
) -> None:
    params = replace(params, tokenizer_id=Tokenizer.COSINE)
    plane = PlaneFlow(params, height, width)
    places = 16 * np.moveaxis(np.mgrid[:height, :width][::-1], 0, -1)
    # In any order, and again.
    for t in [*data.draw(st.permutations(range(1, params.last_frame + 1)))[:2], 1] if data else [2, 1]:
        found = plane.frame(t)
        assert (found.dtype, found.shape) == (np.int64, (2, height, width))
        assert np.array_equal(np.moveaxis(found, 0, -1), flow(params, t, places, height, width))


def test_the_extreme_flow_does_not_overflow() -> None:
    for value in (-(1 << 15), (1 << 15) - 1):
        params = constant(1, 64, value, 4096)
        field = flow(params, 1, node_positions(320, 512), 320, 512)
        assert np.abs(field).max() == section.FLOW_LIMIT
        assert field[3, 4].tolist() == [scalar_flow(params, 1, c, (1024, 768), 320, 512) for c in (0, 1)]


def test_cosines_are_close_to_orthonormal() -> None:
    positions = np.arange(320)
    for f in range(9):
        found = section.basis(f, 16 * positions, 320) / 2**14
        exact = np.cos(np.pi * f * (positions + 0.5) / 320) * (math.sqrt(2) if f else 1)
        assert np.abs(found - exact).max() < 0.0012


def test_the_table_of_the_basis() -> None:
    table = load("flow_basis")
    assert table["cosine"] == [
        round(2**14 * math.sqrt(2) * math.cos(math.pi * i / 2048)) for i in range(1025)
    ]
    assert len({tuple(f) for f in FREQUENCIES}) == len(FREQUENCIES) == section.MAX_TOKENS
    radius = [u * u + v * v for u, v in FREQUENCIES]
    assert radius == sorted(radius)


def test_learned_tokens_have_no_normative_flow() -> None:
    learned = replace(constant(1, 1), tokenizer_id=Tokenizer.LEARNED)
    with pytest.raises(ValueError, match="no normative flow"):
        flow(learned, 1, np.zeros(2, np.int64), 16, 16)
    with pytest.raises(ValueError, match="no normative flow"):
        PlaneFlow(learned, 16, 16)
    assert with_flow(learned) is with_flow(None) is None
    assert with_flow(constant(1, 1)) is not None


# --- The encoder


def pan(frames: int, dx: float, dy: float, height: int = 96, width: int = 128) -> list[Picture]:
    """Smooth texture that moves by (dx, dy) luma samples a frame."""
    y, x = np.mgrid[:height, :width].astype(float)
    grey = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    pictures = []
    for t in range(frames):
        a, b = x - t * dx, y - t * dy
        waves = np.sin(a / 5) + np.sin(b / 6) + np.sin((a + b) / 9) + np.sin((a - 2 * b) / 7 + 1)
        pictures.append(Picture(np.clip(128 + 28 * waves, 0, 255).astype(np.uint8), grey, grey))
    return pictures


def test_a_pan_points_back_to_frame_0() -> None:
    frames = pan(9, 1.5, -0.75)
    params = encoder.choose(encoder.analyse(frames, 6), FlowOptions(tokens=6))
    assert params.tokens.shape == (8, 2, 6)
    field = flow(params, 8, node_positions(96, 128), 96, 128)[1:-1, 1:-1] / 16
    assert np.abs(field - [-12, 6]).max() < 1.5


def test_flow_of_large_pictures_is_found_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = pan(5, 2, 1)
    full = encoder.analyse(frames, 6)
    monkeypatch.setattr("refenc.flow._SAMPLES", 96 * 128 // 2)
    half = encoder.analyse(frames, 6)
    assert np.abs(full.coefficients[-1, :, 0] - [-8, -4]).max() < 0.5
    assert np.abs(full.coefficients - half.coefficients).max() < 0.5


def noise(frames: int, count: int, seed: int) -> FlowAnalysis:
    rng = np.random.default_rng(seed)
    return FlowAnalysis(rng.normal(0, 0.4, (frames, 2, count)).cumsum(0), 0.5)


@pytest.mark.parametrize("frames", [1, 2, 3, 16, 29])
def test_the_step_keeps_the_budget(frames: int) -> None:
    analysis, options = noise(frames, 5, frames), FlowOptions(tokens=5)
    params = encoder.choose(analysis, options)
    budget = options.floor**2 + options.share * analysis.missed
    assert (
        encoder.error(params, analysis)
        <= budget
        < encoder.error(encoder.quantise(analysis, 4 * params.step, options.price), analysis)
    )
    assert_same(decode(section.encode(params, LIMITS), frames), params)


def brute_force(wanted: np.ndarray[Any, Any], price: float) -> float:
    """Least cost of one token over four frames, by trying all values."""
    trellis = encoder._Trellis(wanted[:, None], price)
    best = math.inf
    for values in np.ndindex(*[5] * 4):
        tokens = [0, *(int(trellis.candidates[t + 1][0, values[t]]) for t in range(4))]
        best = min(best, path_cost(tokens, wanted, price))
    return best


def path_cost(tokens: list[int], wanted: np.ndarray[Any, Any], price: float) -> float:
    def bits(a: int, b: int) -> float:
        if b - a < 2:
            return 0.0
        line = [
            tokens[a] + ((tokens[b] - tokens[a]) * 2 * (t - a) + b - a) // (2 * (b - a)) for t in range(a, b)
        ]
        whole, split = encoder._SPLIT[min(3, (b - a).bit_length() - 2)]
        if tokens[a + 1 : b] == line[1:]:
            return whole
        m = (a + b) >> 1
        deviation = float(encoder._bits(np.array(tokens[m] - line[m - a])))
        return split + deviation + bits(a, m) + bits(m, b)

    error = float(np.square(np.array(tokens[1:]) - wanted).sum())
    return error + price * (float(encoder._bits(np.array(tokens[-1]))) + bits(0, len(tokens) - 1))


@pytest.mark.parametrize("seed", range(8))
def test_the_trellis_finds_the_best_tokens(seed: int) -> None:
    """Straight tokens need not be among the candidates; they can only be better."""
    wanted, price = np.random.default_rng(seed).normal(0, 0.9, 4).cumsum(), 0.3
    tokens = encoder._Trellis(wanted[:, None], price).solve()[:, 0].tolist()
    assert path_cost([0, *tokens], wanted, price) <= brute_force(wanted, price) + 1e-9
