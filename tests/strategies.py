"""Hypothesis strategies for arbitrary valid parameters, and small helpers to write and read whole streams."""

from __future__ import annotations

import io
import math
import os
import unicodedata
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as settings
from hypothesis import strategies as st

from tgv_format import camera_poses as poses
from tgv_format import interpolation
from tgv_format.camera_poses import CameraPoses
from tgv_format.clip import Clip
from tgv_format.container import SIGNATURE
from tgv_format.entropy import BIT_COST, Encoder
from tgv_format.flow_tokens import FlowTokens, Tokenizer
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.interpolation import Interpolation, Mode
from tgv_format.keyframe import Codec, Keyframe, Role, coded_size
from tgv_format.levels import LEVELS, Level, level_for
from tgv_format.masks import Masks, moved, plane_size
from tgv_format.picture import Colour, Picture, chroma_size
from tgv_format.reader import Element, Reader
from tgv_format.sequence import FRAME_RATES, SequenceHeader
from tgv_format.syntax import uleb128_bytes
from tgv_format.text import Text
from tgv_format.text_model import TextModel, primed
from tgv_format.trajectories import Grid, Trajectories, canonical
from tgv_format.writer import Writer

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def assert_cost(bits: float, data: bytes, records: list[dict[str, object]]) -> None:
    """Check a section's estimated cost against its trace, and its message against the estimate.

    A message is never longer than its symbols ask for, but any amount shorter: where the final interval
    holds a value with many trailing zero bytes, they are dropped.
    """
    symbols = [(int(str(r["probability"])), int(str(r["value"]))) for r in records]
    ideal = sum(BIT_COST[p if value else 4096 - p] for p, value in symbols)
    header = bits - ideal
    assert any(header == pytest.approx(size) for size in (8, 16, 24))
    # The coder's 24-bit scale costs some bits of a long message.
    assert 8 * len(data) < 1.001 * bits + 40


# --- Sequence header, hint, text, keyframe


@st.composite
def sizes(draw: st.DrawFn, limits: Level) -> tuple[int, int]:
    """Width and height of pictures that the level allows, its extremes among them."""
    width = draw(st.integers(1, limits.dimension) | st.sampled_from([1, limits.dimension]))
    tallest = min(limits.dimension, limits.luma_samples // width)
    return width, draw(st.integers(1, tallest) | st.sampled_from([1, tallest]))


frame_rates = st.sampled_from(sorted(FRAME_RATES.values())) | st.fractions(
    Fraction(1, 1000000), 1000000, max_denominator=1000000
).filter(lambda rate: rate.numerator <= 1000000)
colours = st.builds(
    Colour,
    primaries=st.integers(1, 22),
    transfer=st.integers(1, 18),
    matrix=st.integers(1, 17),
    full_range=st.booleans(),
)
aspects = st.just((1, 1)) | st.tuples(st.integers(1, 65535), st.integers(1, 65535)).filter(
    lambda aspect: math.gcd(*aspect) == 1
)


@st.composite
def sequence_headers(draw: st.DrawFn) -> SequenceHeader:
    level = draw(st.sampled_from(sorted(LEVELS)))
    width, height = draw(sizes(LEVELS[level]))
    return SequenceHeader(
        width=width,
        height=height,
        frame_rate=draw(frame_rates),
        level=level,
        colour=draw(st.just(Colour()) | colours),
        sample_aspect=draw(aspects),
        crc=draw(st.booleans()),
    )


@st.composite
def texts(draw: st.DrawFn, longest: int = 1000) -> Text:
    """Text in NFC, of at most ``longest`` bytes of UTF-8: short ones mostly, some of exactly that length."""
    text = unicodedata.normalize("NFC", draw(st.text(max_size=60)))
    if draw(st.integers(0, 9)) == 0:
        text = unicodedata.normalize("NFC", text * draw(st.integers(1, 40)))
        text = text.encode()[:longest].decode(errors="ignore")
        # A cut may end a composition, a space never takes part in one.
        text += " " * (longest - len(text.encode()))
    return Text(text)


def bytes_as_text(body: bytes) -> bytes:
    """A text section that holds ``body``, which need not be UTF-8."""
    coder, model = Encoder("text"), TextModel(primed())
    for byte in (*body, 0xFF):
        model.code(coder, 0xFF - byte)
    return coder.finish()


hint_names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)
generator_hints = st.builds(
    GeneratorHint,
    name=hint_names,
    weights_sha256=st.binary(min_size=32, max_size=32),
    sampler=st.sampled_from(Sampler),
    steps=st.integers(0, 1000),
    guidance_scale_q4=st.integers(0, 1600),
    seed=st.integers(0, 2**64 - 1),
)

keyframes = st.builds(
    Keyframe,
    codec=st.sampled_from(Codec),
    role=st.sampled_from(Role),
    frame_number=st.integers(0, 255),
    downscale_log2=st.integers(0, 2),
    payload=st.binary(min_size=1, max_size=200),
)


# --- Trajectories


@st.composite
def paths(draw: st.DrawFn, grid: Grid, length: int) -> tuple[int, list[list[int]]]:
    """``length`` legal positions, one end of them on the lattice; returns also that end, 0 or -1."""
    low, high = (-grid.width, -grid.height), (2 * grid.width + 127, 2 * grid.height + 127)
    side = draw(st.sampled_from([0, -1]))
    cell = draw(st.integers(0, grid.cells - 1) | st.sampled_from([0, grid.cells - 1]))
    anchor = grid.anchor(cell)
    kind = draw(st.sampled_from(["still", "line", "walk", "wild"]))
    if kind == "still":
        path = [list(anchor) for _ in range(length)]
    elif kind == "line":
        end = [draw(st.integers(low[i], high[i]) | st.sampled_from([low[i], high[i]])) for i in (0, 1)]
        ends = (anchor, end) if side == 0 else (end, anchor)
        path = np.linspace(*ends, length).round().astype(int).tolist()
    else:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        if kind == "walk":
            steps = rng.integers(-3, 4, (length, 2)).cumsum(0) + anchor
            path = np.clip(steps, low, high).tolist()
        else:
            path = rng.integers(low, high, (length, 2), endpoint=True).tolist()
            corners = rng.choice([low[0], high[0]], length), rng.choice([low[1], high[1]], length)
            for t in np.flatnonzero(rng.integers(0, 3, length) == 0):
                path[t] = [int(corners[0][t]), int(corners[1][t])]
    path[side] = list(anchor)
    return side, path


def settle(params: Trajectories, width: int, height: int) -> Trajectories:
    """``params`` in canonical order, ``follows`` false where it is not coded."""
    ordered, _ = canonical(params, width, height)
    if params.stepwise:
        ordered.follows[:] = False
    ordered.follows[0] = False
    ordered.follows[ordered.span[:, 1] - ordered.span[:, 0] < 2] = False
    return ordered


@st.composite
def trajectories(
    draw: st.DrawFn, width: int, height: int, last_frame: int, most: int = 6, precision: int | None = None
) -> Trajectories:
    """Up to ``most`` points over frames 0 .. ``last_frame`` of pictures of ``width`` x ``height``."""
    if precision is None:
        precision = draw(st.integers(0, 7))
    lattice_log2 = draw(st.integers(0, 7))
    grid = Grid.of(width, height, precision, lattice_log2)
    count = draw(st.integers(1, most))
    positions = np.zeros((count, last_frame + 1, 2), np.int32)
    span = np.zeros((count, 2), np.int32)
    visible = np.zeros((count, last_frame + 1), np.bool_)
    twin = None
    for n in range(count):
        first, last = 0, last_frame
        if draw(st.booleans()):
            first = draw(st.integers(0, last_frame))
            last = draw(st.integers(first, last_frame))
        side, path = draw(paths(grid, last - first + 1))
        if twin is not None and len(twin) == len(path) and draw(st.booleans()):
            # A parallel path, for the prediction from a reference point; twice the same anchor is legal.
            offset = np.array(path[side]) - twin[side]
            moved = [[int(x + offset[0]), int(y + offset[1])] for x, y in twin]
            if all(grid.legal(p) for p in moved):
                path = moved
        twin = path
        positions[n, first : last + 1] = path
        positions[n, :first], positions[n, last:] = path[0], path[-1]
        span[n] = first, last
        shown = [grid.inside(p) for p in path]
        if draw(st.booleans()):
            shown = draw(st.lists(st.booleans(), min_size=len(path), max_size=len(path)))
        visible[n, first : last + 1] = shown

    def each(values: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
        return st.lists(values, min_size=count, max_size=count)

    params = Trajectories(
        positions=positions,
        span=span,
        visible=visible,
        instance=np.array(draw(each(st.integers(0, 2) | st.integers(0, 255))), np.uint8),
        follows=np.array(draw(each(st.booleans())), np.bool_),
        precision=precision,
        lattice_log2=lattice_log2,
        stepwise=draw(st.booleans()),
    )
    return settle(params, width, height)


# --- Flow tokens


@st.composite
def flow_tokens(draw: st.DrawFn, last_frame: int, most: int = 6) -> FlowTokens:
    """Up to ``most`` tokens per component in frames 1 .. ``last_frame``: still, straight, walking or wild."""
    count = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (last_frame, 2, count)
    kind = draw(st.sampled_from(["zero", "line", "walk", "wild", "extreme"]))
    if kind == "zero":
        tokens = np.zeros(shape, np.int64)
    elif kind == "line":
        slope = rng.integers(-40, 41, (2, count))
        tokens = slope * np.arange(1, last_frame + 1)[:, None, None] // 16
    elif kind == "walk":
        tokens = rng.integers(-1, 2, shape).cumsum(0)
    elif kind == "wild":
        tokens = rng.integers(-(1 << 15), 1 << 15, shape)
    else:
        tokens = rng.choice(np.array([-(1 << 15), 0, (1 << 15) - 1]), shape)
    return FlowTokens(
        tokens.astype(np.int16),
        draw(st.integers(1, 4096) | st.sampled_from([1, 4096])),
        draw(st.sampled_from(Tokenizer)),
    )


# --- Camera poses


@st.composite
def camera_poses(draw: st.DrawFn, width: int, height: int, last_frame: int) -> CameraPoses:
    """The path of a camera over frames 0 .. ``last_frame`` of pictures of ``width`` x ``height``."""
    step = draw(st.integers(0, poses.MAX_STEP))
    limits = [poses.rotation_limit(step)] * 3 + [poses.MAX_TRANSLATION] * 3
    frames, intervals = {last_frame}, [(0, last_frame)]
    while intervals:
        a, b = intervals.pop()
        if b - a > 1 and draw(st.booleans()):
            frames.add((a + b) >> 1)
            intervals += [(a, (a + b) >> 1), ((a + b) >> 1, b)]
    reach = draw(st.sampled_from([0, 1, 3, 40, 1 << 20]))
    moving = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    ranges = [min(limit, reach) if moves else 0 for limit, moves in zip(limits, moving, strict=True)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    keys = rng.integers([-r for r in ranges], ranges, (len(frames), 6), endpoint=True)
    if not keys.any():
        frames, keys = {last_frame}, keys[:1]
    intrinsics = poses.default_intrinsics(width, height)
    if draw(st.booleans()):
        bounds = poses.intrinsic_ranges(width, height)
        intrinsics = [draw(st.integers(*b) | st.sampled_from(b)) for b in bounds]
    plane = draw(st.none() | st.lists(st.integers(-poses.MAX_PLANE, poses.MAX_PLANE), min_size=3, max_size=3))
    return CameraPoses(
        frames=np.array(sorted(frames), np.int32),
        poses=keys.astype(np.int32),
        curved=draw(st.booleans()) and bool(keys.any()),
        rotation_step=step,
        translation_step=draw(st.integers(0, poses.MAX_STEP)),
        intrinsics=np.array(intrinsics, np.int32),
        plane=None if plane is None else np.array(plane, np.int32),
    )


# --- Masks


@st.composite
def masks(draw: st.DrawFn, width: int, height: int, last_frame: int, most: int = 512) -> Masks:
    """Label planes of at most ``most`` samples, if 64 luma samples a label sample allow that."""
    fine = [s for s in range(7) if np.prod(plane_size(width, height, s)) <= most] or [6]
    scale_log2 = draw(st.sampled_from(fine))
    h, w = plane_size(width, height, scale_log2)
    count = draw(st.integers(0, 3) | st.sampled_from([1, 255]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    far = rng.integers(1 - np.array([w, h]), [w, h], (last_frame, count, 2))
    near = np.clip(rng.integers(-1, 2, far.shape), 1 - np.array([w, h]), np.array([w, h]) - 1)
    motion = np.where(rng.integers(0, 4, (last_frame, 1, 1)) == 0, far, near)
    motion[rng.integers(0, 2, last_frame) == 0] = 0
    labels = np.zeros((last_frame + 1, h, w), np.uint8)
    kind = draw(st.sampled_from(["empty", "full", "boxes", "noise"]))
    for t in range(last_frame + 1):
        if t:
            labels[t] = moved(labels[t - 1], motion[t - 1].tolist())
        if kind == "full":
            labels[t] = count
        elif kind == "noise":
            labels[t] = rng.integers(0, count + 1, (h, w))
        elif kind == "boxes":
            for _ in range(rng.integers(0, 3)):
                (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in (h, w))
                labels[t, top:bottom, left:right] = rng.integers(0, count + 1)
    return Masks(labels, motion.astype(np.int16), scale_log2)


# --- Interpolation


@st.composite
def interpolations(draw: st.DrawFn, frame_count: int) -> Interpolation:
    """A section of a clip of ``frame_count`` frames."""
    count = frame_count - 1
    component = st.integers(interpolation.LOWEST, interpolation.HIGHEST)
    vectors = draw(st.none() | st.lists(st.tuples(component, component), min_size=count, max_size=count))
    sharp = draw(st.integers(0, interpolation.MAX_SHARP))
    if vectors is None or not any(map(any, vectors)):
        mode = draw(st.sampled_from([Mode.GUIDED, Mode.INTERPOLATED]))
        return Interpolation(mode, sharp, interpolation.no_vectors())
    return Interpolation(Mode.CORRECTED, sharp, np.array(vectors, np.int8))


@st.composite
def clips(draw: st.DrawFn, width: int, height: int, longest: int = 9, most: int = 4) -> Clip:
    """A clip of up to ``longest`` frames with any sections."""
    count = draw(st.integers(1, longest))
    points = draw(st.none() | trajectories(width, height, count, most))
    tokens = draw(st.none() | flow_tokens(count, most))
    camera = draw(st.none() | camera_poses(width, height, count))
    labels = draw(st.none() | masks(width, height, count))
    between = draw(st.none() | interpolations(count))
    return Clip(count, points, draw(st.none() | texts()), tokens, camera, labels, between)


# --- Whole sequences


def random_picture(width: int, height: int, seed: int) -> Picture:
    cw, ch = chroma_size(width, height)
    data = np.random.default_rng(seed).integers(0, 256, width * height + 2 * cw * ch, np.uint8)
    return Picture.from_bytes(data.tobytes(), width, height)


def raw_keyframe(
    header: SequenceHeader, frame: int, role: Role, seed: int, downscale_log2: int = 0
) -> Keyframe:
    """A raw keyframe of random samples that shows frame ``frame``."""
    size = coded_size(header.width, header.height, downscale_log2)
    return Keyframe(Codec.RAW, role, frame % 256, downscale_log2, random_picture(*size, seed).to_bytes())


def small_header(width: int, height: int, crc: bool = True) -> SequenceHeader:
    return SequenceHeader(width, height, Fraction(25), level_for(width, height).level, crc=crc)


@dataclass(frozen=True)
class Stream:
    """A sequence's header, its units without the last, and the number of its frames."""

    header: SequenceHeader
    units: list[Keyframe | Clip | GeneratorHint]
    frames: int

    def write(self) -> bytes:
        return write(self.header, self.units)


@st.composite
def streams(draw: st.DrawFn, most: int = 5, largest: int = 24) -> Stream:
    """Sequences of tiny pictures: raw keyframes, clips between two of them or after one, hints anywhere."""
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    header = small_header(width, height, draw(st.booleans()))
    units: list[Keyframe | Clip | GeneratorHint] = []

    def keyframe(frame: int, role: Role) -> None:
        units.append(raw_keyframe(header, frame, role, draw(st.integers(0, 99)), draw(st.integers(0, 2))))

    keyframe(0, Role.LEADING)
    frames = 1
    for kind in draw(st.lists(st.sampled_from(["between", "after", "leading", "hint"]), max_size=most)):
        if kind == "leading":
            keyframe(frames, Role.LEADING)
            frames += 1
        elif kind == "hint":
            units.append(draw(generator_hints))
        else:
            clip = draw(clips(width, height))
            frames += clip.frame_count
            if kind == "between":
                keyframe(frames - 1, Role.TRAILING)
            units.append(clip)
    return Stream(header, units, frames)


def write(header: SequenceHeader, units: list[Any]) -> bytes:
    """The file of a sequence."""
    out = io.BytesIO()
    writer = Writer(out, header)
    for unit in units:
        if isinstance(unit, Keyframe):
            writer.keyframe(unit)
        elif isinstance(unit, Clip):
            writer.clip(unit)
        else:
            writer.generator_hint(unit)
    writer.finish()
    assert writer.bytes_by_part.total() == writer.size == len(out.getvalue())
    return out.getvalue()


def read(data: bytes) -> tuple[SequenceHeader, list[Element]]:
    """Header and units of a file."""
    reader = Reader(io.BytesIO(data))
    return reader.header, list(reader)


@dataclass(frozen=True)
class Span:
    """Where a unit stands in a file: its bytes are ``begin .. end - 1``, its payload from ``payload``."""

    unit_type: int
    begin: int
    payload: int
    end: int


def spans(data: bytes) -> list[Span]:
    """The units of a file that is not damaged, found independently of the reader."""
    out: list[Span] = []
    position, crc = len(SIGNATURE), 4
    while position < len(data):
        size, payload = 0, position + 1
        for shift in range(0, 35, 7):
            size |= (data[payload] & 127) << shift
            payload += 1
            if data[payload - 1] < 128:
                break
        end = payload + size + crc
        out.append(Span(data[position], position, payload, end))
        if len(out) == 1:
            # The sequence header's third bit field says whether the following units have a CRC.
            crc = 4 if data[payload + 3] & 0x80 else 0
        position = end
    assert position == len(data)
    return out


def unit(unit_type: int, payload: bytes, crc: bool = True) -> bytes:
    """The bytes of any unit, also of types that the writer does not know."""
    body = bytes([unit_type]) + uleb128_bytes(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "big") * crc


def replace_payload(data: bytes, span: Span, payload: bytes, crc: bool = True) -> bytes:
    """The file with another payload in one unit, its size and CRC set right."""
    return data[: span.begin] + unit(span.unit_type, payload, crc) + data[span.end :]
