"""Mask sections: what is encoded comes back, and no other bytes mean the same; and how masks are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import SCENES
from strategies import assert_cost, masks, settings
from test_analysis import two_movers

from refenc.masks import MaskOptions, dense_labels, extract, find_motion, simplify
from refenc.tracking import Tracks
from tgv_format import masks as section
from tgv_format.canonical import digest
from tgv_format.entropy import Encoder, TraceSink
from tgv_format.errors import TgvError
from tgv_format.levels import LEVELS, Level
from tgv_format.masks import Masks, moved, plane_size, upsample
from tgv_format.picture import Picture
from tgv_format.syntax import ParameterError

Size = tuple[int, int]
Labels = NDArray[np.uint8]
Symbols = tuple[Callable[[Encoder], object], ...]

SIZES = [(1, 1), (8, 8), (9, 7), (64, 48), (512, 320), (1024, 16)]
PATH = "clip[0].masks"


def encode(params: Masks, size: Size, limits: Level = LEVELS[1]) -> bytes:
    return section.encode(params, *size, limits)


def decode(
    data: bytes, size: Size, last: int, limits: Level = LEVELS[1], trace: TraceSink | None = None
) -> Masks:
    return section.decode(data, 100, PATH, *size, last, limits, trace)


def outcome(data: bytes, size: Size, last: int, trace: TraceSink | None = None) -> Masks | str:
    """The decoded parameters, or the identifier of the error."""
    try:
        return decode(data, size, last, trace=trace)
    except TgvError as caught:
        error = caught
    assert error.path.startswith(PATH)
    return error.identifier


def assert_same(a: Masks, b: Masks) -> None:
    for left, right in ((a.labels, b.labels), (a.motion, b.motion)):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    assert a.scale_log2 == b.scale_log2


def plain(labels: Labels, count: int | None = None) -> Masks:
    """Planes of one luma sample a label sample, nothing moved."""
    c = int(labels.max()) if count is None else count
    return Masks(labels, np.zeros((len(labels) - 1, c, 2), np.int16), 0)


@st.composite
def sized_masks(draw: st.DrawFn) -> tuple[Size, Masks]:
    size = draw(st.sampled_from(SIZES) | st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return size, draw(masks(*size, draw(st.integers(0, 6) | st.just(64)), 300))


# --- The section


@settings(max_examples=300)
@given(sized_masks())
def test_round_trip(case: tuple[Size, Masks]) -> None:
    size, params = case
    labels, motion = params.labels.copy(), params.motion.copy()
    data = encode(params, size)
    decoded = decode(data, size, params.last_frame)
    assert_same(decoded, params)
    assert encode(decoded, size) == data
    assert digest(decoded.to_json()) == digest(params.to_json())
    assert np.array_equal(labels, params.labels), "encoding leaves the parameters alone"
    assert np.array_equal(motion, params.motion)
    records: list[dict[str, object]] = []
    decode(data, size, params.last_frame, trace=records.append)
    assert_cost(section.cost(params), data, records)


@settings(max_examples=50)
@given(sized_masks())
def test_tracing_decodes_the_same(case: tuple[Size, Masks]) -> None:
    size, params = case
    records: list[dict[str, object]] = []
    data = encode(params, size)
    assert_same(decode(data, size, params.last_frame, trace=records.append), params)
    assert bool(records) == bool(params.label_count)
    assert all(str(r["path"]).startswith(f"{PATH}.") for r in records)


@settings(max_examples=150)
@given(sized_masks(), st.data())
def test_damage_is_noticed_or_changes_the_parameters(case: tuple[Size, Masks], data: st.DataObject) -> None:
    """Also TGV-ENT-3: of the symbols of one parameter set there is one message only."""
    size, params = case
    body = bytearray(encode(params, size))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    else:
        place = data.draw(st.integers(0, 8 * len(body) - 1))
        body[place >> 3] ^= 1 << (place & 7)
    decoded = outcome(bytes(body), size, params.last_frame)
    if isinstance(decoded, Masks):
        assert decoded.to_json() != params.to_json()
        assert encode(decoded, size) == body


@settings(max_examples=300)
@example((512, 320), 0, bytes.fromhex("6796026000110068656601650056"), True)
@given(st.sampled_from([*SIZES, (5, 3)]), st.integers(0, 6), st.binary(max_size=40), st.booleans())
def test_arbitrary_bytes(size: Size, last: int, data: bytes, headed: bool) -> None:
    body = b"\x60\x03" + data if headed else data
    decoded = outcome(body, size, last)
    traced = outcome(body, size, last, lambda record: None)
    if isinstance(decoded, Masks):
        assert encode(decoded, size) == body
        assert isinstance(traced, Masks)
    else:
        assert decoded == traced


def test_degenerate_planes() -> None:
    rng = np.random.default_rng(1)
    for size, planes in (
        ((1, 1), np.array([[[0]], [[255]], [[7]], [[7]]], np.uint8)),
        ((40, 24), rng.integers(0, 256, (3, 24, 40), np.uint8)),
        ((40, 24), rng.integers(0, 2, (3, 24, 40), np.uint8)),
        ((40, 24), np.full((5, 24, 40), 255, np.uint8)),
        ((40, 24), np.zeros((1, 24, 40), np.uint8)),
        ((40, 24), np.arange(960).reshape(1, 24, 40).astype(np.uint8)),
    ):
        params = plain(planes)
        data = encode(params, size)
        assert_same(decode(data, size, params.last_frame), params)
        assert len(data) < 2.5 * planes.size + 8


def test_size_of_simple_masks() -> None:
    size = (512, 320)
    assert len(encode(plain(np.zeros((30, 320, 512), np.uint8)), size, LEVELS[3])) == 2
    box = np.zeros((30, 40, 64), np.uint8)
    box[:, 10:30, 20:40] = 1
    still = Masks(box, np.zeros((29, 1, 2), np.int16), 3)
    assert len(encode(still, size)) <= 14
    motion = np.ones((29, 1, 2), np.int16)
    for t in range(1, 30):
        box[t] = moved(box[t - 1], motion[t - 1].tolist())
    assert len(encode(Masks(box, motion, 3), size)) <= 30


def test_motion() -> None:
    plane = np.array([[1, 0, 2], [1, 2, 2], [0, 0, 3]], np.uint8)
    assert moved(plane, [[1, 1], [0, 0], [0, 0]]).tolist() == [[0, 0, 2], [0, 1, 2], [0, 1, 3]]
    assert moved(plane, [[2, 0], [-1, 0], [0, -2]]).tolist() == [[0, 2, 3], [2, 2, 1], [0, 0, 0]]
    assert moved(plane, [[-2, 0], [0, 2], [0, 0]]).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 2]]


def test_upsampling() -> None:
    plane = np.array([[1, 2], [3, 4]], np.uint8)
    assert upsample(plane, 3, 4, 1).tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4], [3, 3, 4]]
    assert plane_size(512, 321, 3) == (41, 64)


def test_canonical_json() -> None:
    params = plain(np.array([[[0, 1], [1, 1]], [[1, 1], [0, 0]]], np.uint8))
    assert params.to_json() == {
        "scale_log2": 0,
        "label_count": 1,
        "size": [2, 2, 2],
        "runs": [[0, 1], [1, 5], [0, 2]],
        "motion": [[[0, 0]]],
    }


BOX = plain(np.ones((3, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scale_log2": 7}, "out-of-range"),
        ({"labels": BOX.labels[:, :3]}, "out-of-range"),
        ({"labels": BOX.labels + np.uint8(1)}, "out-of-range"),
        ({"labels": BOX.labels.astype(np.int32)}, "out-of-range"),
        ({"motion": BOX.motion[:1]}, "out-of-range"),
        ({"motion": BOX.motion + np.int16(4)}, "out-of-range"),
        ({"motion": np.zeros((2, 256, 2), np.int16)}, "out-of-range"),
    ],
)
def test_masks_that_cannot_be_coded(change: dict[str, Any], expected: str) -> None:
    encode(BOX, (4, 4))
    with pytest.raises(ParameterError) as caught:
        encode(replace(BOX, **change), (4, 4))
    assert caught.value.identifier == expected


def test_limits() -> None:
    """TGV-MSK-1 and TGV-MSK-2, on both sides."""
    noise = plain(np.random.default_rng(2).integers(0, 4, (3, 16, 16)).astype(np.uint8))
    data = encode(noise, (16, 16))
    for limits in (
        replace(LEVELS[1], section_bytes=len(data) - 1),
        replace(LEVELS[1], mask_samples=3 * 16 * 16 - 1),
    ):
        with pytest.raises(ParameterError) as refused:
            encode(noise, (16, 16), limits)
        with pytest.raises(TgvError) as caught:
            decode(data, (16, 16), 2, limits)
        assert (refused.value.identifier, caught.value.identifier) == ("limit-exceeded",) * 2
    exact = replace(LEVELS[1], section_bytes=len(data), mask_samples=3 * 16 * 16)
    assert encode(noise, (16, 16), exact) == data
    assert_same(decode(data, (16, 16), 2, exact), noise)


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: str(level.level))
def test_a_level_has_room_for_its_longest_clips(level: Level) -> None:
    """At eight luma samples a label sample, whatever the shape of the picture."""
    for width in (1, 8, 320, 1000, level.dimension):
        height = min(level.dimension, level.luma_samples // width)
        if width * height * 8 > level.luma_samples:
            samples = (level.clip_frames + 1) * np.prod(plane_size(width, height, 3))
            assert samples <= level.mask_samples


# A plane of 2x2 label samples and one label, symbol by symbol (clause 9.6.2).


def crafted(*symbols: Callable[[Encoder], object]) -> bytes:
    coder = Encoder("masks")
    for symbol in symbols:
        symbol(coder)
    return b"\0\1" + coder.finish()


def bit(name: str, value: int, offset: int = 0) -> Callable[[Encoder], object]:
    return lambda coder: coder.bit(name, offset, value)


def number(name: str, value: int, offset: int = 0) -> Callable[[Encoder], object]:
    return lambda coder: coder.unsigned(name, offset, value)


def signed(name: str, value: int, offset: int = 0) -> Callable[[Encoder], object]:
    return lambda coder: coder.signed(name, offset, value)


FIRST = (bit("still", 0, 2), number("same_rows", 0), number("gap", 1), number("same_rows", 1, 10))


def test_a_section_symbol_by_symbol() -> None:
    """The right column; the same; moved to the left; without its upper end; shifted to the right."""
    data = crafted(
        *FIRST,
        *(bit("moving", 0), bit("still", 1)),
        *(bit("moving", 1), signed("vector", -1), signed("vector", 0, 1), bit("still", 1, 1)),
        *(bit("moving", 0, 1), bit("still", 0, 1), number("same_rows", 0, 20)),
        *(bit("stay", 0, 4), bit("shift", 0, 4), number("same_rows", 1, 30)),
        *(bit("moving", 0), bit("still", 0), number("same_rows", 1, 20)),
        *(bit("stay", 0, 4), bit("shift", 1, 4), number("distance", 0, 10)),
    )
    decoded = decode(data, (2, 2), 4)
    assert decoded.labels.tolist() == [
        [[0, 1], [0, 1]],
        [[0, 1], [0, 1]],
        [[1, 0], [1, 0]],
        [[0, 0], [1, 0]],
        [[0, 0], [0, 1]],
    ]
    assert decoded.motion.tolist() == [[[0, 0]], [[-1, 0]], [[0, 0]], [[0, 0]]]
    assert encode(decoded, (2, 2)) == data


@pytest.mark.parametrize(
    ("symbols", "expected", "element"),
    [
        ((bit("still", 0, 2), number("same_rows", 2)), "non-canonical", "labels[0].same_rows"),
        ((bit("still", 0, 2), number("same_rows", 3)), "out-of-range", "labels[0].same_rows"),
        ((*FIRST[:2], number("gap", 2)), "out-of-range", "labels[0].row"),
        ((*FIRST, bit("moving", 1), signed("vector", 2)), "out-of-range", "motion[1].vector"),
        (
            (*FIRST, bit("moving", 1), signed("vector", 0), signed("vector", 0, 1)),
            "non-canonical",
            "motion[1].vector",
        ),
    ],
)
def test_bad_sections(symbols: Symbols, expected: str, element: str) -> None:
    with pytest.raises(TgvError) as caught:
        decode(crafted(*symbols), (2, 2), 1)
    assert caught.value.identifier == expected
    assert caught.value.path == f"{PATH}.{element}"


# --- The encoder's masks


def test_simplification_keeps_to_its_budget() -> None:
    """Every sample has a label that the original has within the budget; with none, nothing changes."""
    import cv2

    labels = SCENES["two_objects_crossing"](1, 256, 160, 12).labels[:, 4::8, 4::8]
    options = MaskOptions()
    exact = simplify(labels, replace(options, budget=0))
    assert np.array_equal(exact.labels, labels)
    found = simplify(labels, options)
    near = np.ones((3, 3), np.uint8)
    for plane, original in zip(found.labels, labels, strict=True):
        for label in range(found.label_count + 1):
            around = cv2.dilate((original == label).astype(np.uint8), near) > 0
            core = cv2.erode((original == label).astype(np.uint8), near) > 0
            assert around[plane == label].all()
            assert (plane[core] == label).all()
    size = (256, 160)
    assert len(encode(found, size)) < 0.8 * len(encode(exact, size))


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_motion_of_an_object_is_found(dx: int, dy: int) -> None:
    before, after = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    before[6:12, 8:15] = 1
    after[6 + dy : 12 + dy, 8 + dx : 15 + dx] = 1
    assert find_motion(before, after, 1, MaskOptions()).tolist() == [[dx, dy]]


def test_two_movers_are_told_apart() -> None:
    frames = two_movers()
    grey = np.full((80, 112), 128, np.uint8)
    params = extract([Picture(y, grey, grey) for y in frames], MaskOptions())
    assert params is not None
    assert params.labels.shape == (9, 20, 28)
    assert params.label_count == 2
    assert (params.labels == 0).mean() > 0.7
    assert_same(decode(encode(params, (224, 160)), (224, 160), 8), params)


def test_nothing_to_tell_apart() -> None:
    grey = np.full((40, 56), 128, np.uint8)
    still = Picture(np.full((80, 112), 90, np.uint8), grey, grey)
    assert extract([still], MaskOptions()) is None
    assert extract([still] * 4, MaskOptions()) is None


def test_labels_are_numbered_from_the_largest_object_on() -> None:
    """Tracks in a still picture, of which three groups move away from the rest."""
    y, x = np.mgrid[4:160:8, 4:224:8]
    points = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    instances = np.zeros(len(points), np.int32)
    instances[points[:, 0] > 150] = 1
    instances[points[:, 1] > 110] = 2
    step = np.array([[0, 0], [9, 0], [0, -9]], np.float32)[instances]
    positions = np.stack([points, points + step, points + 2 * step], 1)
    tracks = Tracks(positions, np.ones(positions.shape[:2], np.bool_))
    grey = np.full((80, 112), 128, np.uint8)
    pictures = [Picture(np.full((160, 224), 90, np.uint8), grey, grey)] * 3
    labels = dense_labels(pictures, tracks, instances, MaskOptions())
    sizes = np.bincount(labels.ravel())
    assert len(sizes) == 3
    assert sizes[1] >= sizes[2] > 0
    assert labels[0, 2, 2] == 0
    only = dense_labels(pictures, tracks, instances, MaskOptions(objects=1))
    assert np.array_equal(only, np.where(labels == 1, 1, 0))
