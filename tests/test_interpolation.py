"""Interpolation: the section, and its frames against clause 10.6 one sample at a time in Python integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import assert_cost, flow_tokens, interpolations, random_picture, settings
from test_flow_tokens import scalar_flow

from refdec.baseline import reconstruct
from refdec.sampling import Anchor
from refenc.guidance import Guidance
from refenc.interpolation import corrected, plain, sharpness
from tgv_format import interpolation as section
from tgv_format.camera_poses import CameraPoses, default_intrinsics
from tgv_format.clip import Clip
from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.flow_tokens import FlowTokens, Tokenizer, flow
from tgv_format.interpolation import Interpolation, Mode, no_vectors
from tgv_format.masks import Masks
from tgv_format.picture import Picture
from tgv_format.syntax import ParameterError
from tgv_format.tables import load

TABLE = load("interpolation")
PATH = "clip[0].interpolation"

Grid = list[list[int]]
Rows = list[list[tuple[int, int]]]


# --- The section


def outcome(data: bytes, frame_count: int, trace: TraceSink | None = None) -> Interpolation | str:
    """The decoded parameters, or the identifier of the error."""
    try:
        return section.decode(data, 100, PATH, frame_count, trace)
    except TgvError as caught:
        error = caught
    assert error.path.startswith(PATH)
    return error.identifier


@st.composite
def sized(draw: st.DrawFn) -> tuple[int, Interpolation]:
    count = draw(st.integers(1, 12) | st.just(255))
    return count, draw(interpolations(count))


@settings(max_examples=40)
@given(sized())
def test_round_trip(case: tuple[int, Interpolation]) -> None:
    count, params = case
    data = section.encode(params, count)
    decoded = section.decode(data, 100, PATH, count)
    assert decoded.to_json() == params.to_json()
    assert decoded.vectors.dtype == np.int8
    assert decoded.vectors.shape == params.vectors.shape
    assert section.encode(decoded, count) == data
    records: list[dict[str, object]] = []
    traced = section.decode(data, 100, PATH, count, records.append)
    assert traced.to_json() == params.to_json()
    if params.mode == Mode.CORRECTED:
        assert_cost(section.cost(params), data, records)
    else:
        assert len(data) == 1


@settings(max_examples=300)
@given(st.integers(1, 6), st.binary(max_size=12))
@example(1, b"\x80\x00")
def test_what_is_accepted_is_what_would_be_written(count: int, data: bytes) -> None:
    found = outcome(data, count)
    traced = outcome(data, count, trace=lambda record: None)
    if isinstance(found, str):
        assert traced == found
    else:
        assert isinstance(traced, Interpolation)
        assert section.encode(found, count) == data


@pytest.mark.parametrize(
    ("data", "count", "identifier"),
    [
        (b"\xc0", 2, "reserved-value"),
        (b"\x01", 2, "reserved-value"),
        (b"\x2a", 2, "out-of-range"),
        (b"", 2, "truncated"),
        (b"\x00\x00", 2, "trailing-data"),
        (b"\x40\x00", 2, "trailing-data"),
        (b"\x80", 1, "non-canonical"),
    ],
)
def test_illegal_headers(data: bytes, count: int, identifier: str) -> None:
    assert outcome(data, count) == identifier


@pytest.mark.requirement("TGV-INT-4", "TGV-INT-5")
@pytest.mark.parametrize(
    ("vectors", "identifier"),
    [
        ([[64, 0], [0, 0]], "out-of-range"),
        ([[0, -65], [0, 0]], "out-of-range"),
        ([[1, 0], [0, 64]], "out-of-range"),
        ([[0, 0], [0, 0]], "non-canonical"),
    ],
)
def test_illegal_vectors(vectors: Grid, identifier: str) -> None:
    coder = section.Encoder(section.SECTION)
    section._vectors(coder, 3, vectors)
    assert outcome(b"\x80" + coder.finish(), 3) == identifier
    with pytest.raises(ParameterError) as caught:
        section.encode(Interpolation(Mode.CORRECTED, 0, np.array(vectors, np.int16)), 3)  # type: ignore[arg-type]
    assert caught.value.identifier == identifier


@pytest.mark.parametrize(
    ("mode", "sharp", "count"), [(1, 21, 0), (1, -1, 0), (1, 0, 1), (0, 0, 2), (2, 0, 1), (2, 0, 0)]
)
def test_parameters_that_cannot_be_coded(mode: int, sharp: int, count: int) -> None:
    vectors = np.ones((count, 2), np.int8)
    with pytest.raises(ParameterError):
        section.encode(Interpolation(Mode(mode), sharp, vectors), 3)


# --- The frames


class Slow:
    """Clause 10.6 word for word."""

    def __init__(
        self,
        first: Picture,
        last: Picture,
        length: int,
        params: Interpolation,
        tokens: FlowTokens | None = None,
    ) -> None:
        self.first, self.last, self.length, self.params, self.tokens = first, last, length, params, tokens
        fitting = min(first.y.shape).bit_length() - TABLE["coarsest_bits"]
        self.top = max(TABLE["last_level"], min(fitting, TABLE["pyramid_levels"]))
        self.nodes = self.search()

    @staticmethod
    def at(p: list[list[int]], y: int, x: int) -> int:
        return p[max(0, min(y, len(p) - 1))][max(0, min(x, len(p[0]) - 1))]

    def box(self, p: Grid, r: int) -> Grid:
        reach = range(-r, r + 1)
        return [
            [sum(self.at(p, y + i, x + j) for i in reach for j in reach) for x in range(len(p[0]))]
            for y in range(len(p))
        ]

    def median(self, p: Grid) -> Grid:
        reach = (-1, 0, 1)
        return [
            [sorted(self.at(p, y + i, x + j) for i in reach for j in reach)[4] for x in range(len(p[0]))]
            for y in range(len(p))
        ]

    def pyramid(self, plane: NDArray[np.uint8]) -> list[Grid]:
        height, width = plane.shape
        side = 2**self.top
        rows, columns = -(-height // side) * side, -(-width // side) * side
        levels = [[[self.at(plane.tolist(), y, x) for x in range(columns)] for y in range(rows)]]
        for _ in range(self.top):
            p = levels[-1]
            levels.append(
                [
                    [
                        (p[y][x] + p[y][x + 1] + p[y + 1][x] + p[y + 1][x + 1] + 2) // 4
                        for x in range(0, len(p[0]), 2)
                    ]
                    for y in range(0, len(p), 2)
                ]
            )
        return levels

    def search(self) -> tuple[Grid, Grid]:
        a, b = self.pyramid(self.first.y), self.pyramid(self.last.y)
        top = self.top
        p, q = a[top], b[top]
        order = [0] + [s * d for d in range(1, TABLE["search_range"] + 1) for s in (-1, 1)]
        best = [[1 << 30] * len(p[0]) for _ in p]
        vx, vy = ([[0] * len(p[0]) for _ in p] for _ in range(2))
        for dy in order:
            for dx in order:
                distance = [
                    [
                        abs(
                            self.at(p, y - dy // 2, x - dx // 2)
                            - self.at(q, y + dy - dy // 2, x + dx - dx // 2)
                        )
                        for x in range(len(p[0]))
                    ]
                    for y in range(len(p))
                ]
                penalty = TABLE["search_penalty"] * (abs(dx) + abs(dy)) // 16
                for y, row in enumerate(self.box(distance, TABLE["search_radius"])):
                    for x, value in enumerate(row):
                        if value + penalty < best[y][x]:
                            best[y][x], vx[y][x], vy[y][x] = value + penalty, 16 * dx, 16 * dy
        vx, vy = self.median(vx), self.median(vy)
        for level in range(top, TABLE["last_level"] - 1, -1):
            if level < top:
                vx, vy = self.doubled(vx), self.doubled(vy)
            for _ in range(TABLE["flow_steps"]):
                vx, vy = self.refined(a[level], b[level], vx, vy)
        return vx, vy

    def doubled(self, v: Grid) -> Grid:
        def one(y: int, x: int) -> int:
            i, j = y // 2, x // 2
            k, m = i + 2 * (y % 2) - 1, j + 2 * (x % 2) - 1
            near, far = self.at(v, k, j) + self.at(v, i, m), self.at(v, k, m)
            return (9 * v[i][j] + 3 * near + far + 4) // 8

        return [[one(y, x) for x in range(2 * len(v[0]))] for y in range(2 * len(v))]

    def sample(self, p: Grid, y: int, x: int, vy: int, vx: int, shift: int = 8) -> int:
        py = max(0, min(16 * y + vy, 16 * (len(p) - 1)))
        px = max(0, min(16 * x + vx, 16 * (len(p[0]) - 1)))
        (y0, fy), (x0, fx) = divmod(py, 16), divmod(px, 16)
        upper = p[y0][x0] * (16 - fx) + self.at(p, y0, x0 + 1) * fx
        lower = self.at(p, y0 + 1, x0) * (16 - fx) + self.at(p, y0 + 1, x0 + 1) * fx
        return (upper * (16 - fy) + lower * fy + 2 ** (shift - 1)) // 2**shift

    def refined(self, a: Grid, b: Grid, vx: Grid, vy: Grid) -> tuple[Grid, Grid]:
        def plane(value: Callable[[int, int], int]) -> Grid:
            return [[value(y, x) for x in range(len(vx[0]))] for y in range(len(vx))]

        p = plane(lambda y, x: self.sample(a, y, x, -(vy[y][x] // 2), -(vx[y][x] // 2), 6))
        q = plane(lambda y, x: self.sample(b, y, x, vy[y][x] - vy[y][x] // 2, vx[y][x] - vx[y][x] // 2, 6))
        m = plane(lambda y, x: (p[y][x] + q[y][x]) // 2)
        e = plane(lambda y, x: q[y][x] - p[y][x])
        gx = plane(lambda y, x: (self.at(m, y, x + 1) - self.at(m, y, x - 1)) // 2)
        gy = plane(lambda y, x: (self.at(m, y + 1, x) - self.at(m, y - 1, x)) // 2)

        def summed(u: Grid, w: Grid) -> Grid:
            return self.box(plane(lambda y, x: u[y][x] * w[y][x] // 16), TABLE["flow_radius"])

        xx, yy, xy, xe, ye = summed(gx, gx), summed(gy, gy), summed(gx, gy), summed(gx, e), summed(gy, e)

        def step(y: int, x: int, to_x: bool) -> int:
            sxx, syy = xx[y][x] + TABLE["flow_damping"], yy[y][x] + TABLE["flow_damping"]
            s, sxe, sye = xy[y][x], xe[y][x], ye[y][x]
            determinant = sxx * syy - s * s
            assert determinant > 0
            move = 16 * (sye * s - sxe * syy if to_x else sxe * s - sye * sxx) // determinant
            return max(-TABLE["step_max"], min(move, TABLE["step_max"]))

        out = []
        for v, to_x in ((vx, True), (vy, False)):
            u = self.median([[v[y][x] + step(y, x, to_x) for x in range(len(v[0]))] for y in range(len(v))])
            area = (2 * TABLE["smooth_radius"] + 1) ** 2
            for _ in range(2):
                u = [[(s + area // 2) // area for s in row] for row in self.box(u, TABLE["smooth_radius"])]
            out.append(u)
        return out[0], out[1]

    def picture(self, t: int) -> Picture:
        return self.sharpened(self.last if t == self.length else self.between(t))

    def corrections(self, t: int) -> tuple[Grid, Grid]:
        """g of clause 10.6.3."""
        height, width = self.first.y.shape
        vector = [0, 0]
        if self.params.mode == Mode.CORRECTED:
            vector = [4 * int(v) for v in self.params.vectors[t - 1]]
        tokens = self.tokens
        if tokens is not None and tokens.tokenizer_id == Tokenizer.LEARNED:
            tokens = None

        def flow(c: int, x: int, y: int) -> int:
            return 0 if tokens is None else scalar_flow(tokens, t, c, (16 * x, 16 * y), height, width)

        gx, gy = ([[vector[c] + flow(c, x, y) for x in range(width)] for y in range(height)] for c in (0, 1))
        return gx, gy

    def between(self, t: int) -> Picture:
        gx, gy = self.corrections(t)
        vx, vy = self.nodes
        moment, last = 256 * t // self.length - 128, TABLE["last_level"]
        half = 2 ** (last + 3)

        def projected(i: int, j: int) -> tuple[int, int]:
            x, y = vx[i][j], vy[i][j]
            place = i * 2**last + 2**last // 2, j * 2**last + 2**last // 2
            i += (self.at(gy, *place) + half) >> (last + 4)
            j += (self.at(gx, *place) + half) >> (last + 4)
            for _ in range(TABLE["projection_steps"]):
                k, m = i - ((y * moment + 2048) >> 12), j - ((x * moment + 2048) >> 12)
                x, y = self.at(vx, k, m), self.at(vy, k, m)
            return x, y

        found = [[projected(i, j) for j in range(len(vx[0]))] for i in range(len(vx))]
        ux, uy = ([[v[c] for v in row] for row in found] for c in (0, 1))
        for _ in range(last):
            ux, uy = self.doubled(ux), self.doubled(uy)
        planes = [np.zeros_like(p) for p in self.first.planes]
        sources = [(a.tolist(), b.tolist()) for a, b in zip(self.first.planes, self.last.planes, strict=True)]
        height, width = self.first.y.shape
        base = (t * 256 + self.length // 2) // self.length

        def depth(y: int, x: int, v: list[int]) -> int:
            px, py = 16 * x + v[0], 16 * y + v[1]
            nearest = min(px, 16 * (width - 1) - px, py, 16 * (height - 1) - py)
            return max(1, min(nearest - TABLE["border_width"], TABLE["border_ramp"]))

        for y in range(height):
            for x in range(width):
                u = ux[y][x], uy[y][x]
                g = gx[y][x], gy[y][x]
                to_first = [c - (d * base + 128) // 256 for c, d in zip(g, u, strict=True)]
                to_last = [c + d for c, d in zip(to_first, u, strict=True)]
                a, b, weight = depth(y, x, to_first), depth(y, x, to_last), base
                if b < a:
                    weight = (base * b + a // 2) // a
                elif a < b:
                    weight = 256 + ((base - 256) * a + b // 2) // b
                for i, (p, q) in enumerate(sources):
                    if i and (x % 2 or y % 2):
                        continue
                    at = (y, x) if i == 0 else (y // 2, x // 2)
                    f, s = ([c if i == 0 else c // 2 for c in v] for v in (to_first, to_last))
                    mixed = self.sample(p, *at, f[1], f[0]) * (256 - weight)
                    mixed += self.sample(q, *at, s[1], s[0]) * weight
                    planes[i][at] = (mixed + 128) // 256
        return Picture(*planes)

    def sharpened(self, picture: Picture) -> Picture:
        y = picture.y.tolist()
        radius, sharp = TABLE["sharp_radius"], self.params.sharp
        n = (2 * radius + 1) ** 2
        blurred = self.box(self.box(y, radius), radius)
        out = [
            [
                max(0, min((n * n * (8 + sharp) * s - sharp * m + 4 * n * n) // (8 * n * n), 255))
                for s, m in zip(*rows, strict=True)
            ]
            for rows in zip(y, blurred, strict=True)
        ]
        return Picture(np.array(out, np.uint8), picture.u, picture.v)


def blobs(width: int, height: int, seed: int, shift: tuple[int, int] = (0, 0)) -> Picture:
    """A texture that has structure at several scales, moved by ``shift``."""
    phases = np.random.default_rng(seed).uniform(0, 6, 12)

    def plane(w: int, h: int, scale: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[:h, :w] * float(scale)
        x, y = x - shift[0], y - shift[1]
        waves = [
            np.sin(x * np.cos(a) / period + y * np.sin(a) / period + a)
            for a, period in zip(phases, (3, 4, 6, 9, 12, 16, 20, 3, 5, 8, 14, 25), strict=True)
        ]
        values: NDArray[np.uint8] = np.clip(128 + 30 * sum(waves), 0, 255).astype(np.uint8)
        return values

    half = (width + 1) // 2, (height + 1) // 2
    return Picture(plane(width, height, 1), plane(*half, 2), plane(*half, 2))


@settings(max_examples=12)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 36)) | st.just((68, 66)),
    st.integers(2, 6),
    st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    st.integers(0, 99),
    st.booleans(),
    st.data(),
)
@example((1, 1), 2, (0, 0), 0, False, None)
@example((70, 65), 3, (9, -8), 1, False, None)
@example((40, 3), 5, (0, 0), 2, True, None)
def test_frames_are_those_of_clause_10_6(
    size: tuple[int, int], length: int, shift: tuple[int, int], seed: int, noise: bool, data: st.DataObject
) -> None:
    params = Interpolation(Mode.INTERPOLATED, 9, no_vectors())
    # Towards the left and right, so that nodes differ by where their correction is taken.
    tokens = FlowTokens(np.full((length, 2, 5), 30, np.int16), 16)
    t = 1
    if data is not None:
        params = data.draw(interpolations(length).filter(lambda p: p.mode != Mode.GUIDED))
        tokens = data.draw(st.none() | gentle_tokens(length) | flow_tokens(length, 20))
        t = data.draw(st.integers(1, length))
    if noise:
        first, last = random_picture(*size, seed), random_picture(*size, seed + 1)
    else:
        first, last = blobs(*size, seed), blobs(*size, seed, shift)
    clip = Clip(length, flow_tokens=tokens, interpolation=params)
    (made,) = reconstruct(clip, first, last, range(t, t + 1))
    wanted = Slow(first, last, length, params, tokens).picture(t)
    for a, b in zip(made.planes, wanted.planes, strict=True):
        assert np.array_equal(a, b)


@st.composite
def gentle_tokens(draw: st.DrawFn, length: int) -> FlowTokens:
    """Tokens whose flow is a few luma samples."""
    count = draw(st.integers(1, 12))
    values = st.lists(st.integers(-8, 8), min_size=2 * length * count, max_size=2 * length * count)
    tokens = np.array(draw(values), np.int16).reshape(length, 2, count)
    return FlowTokens(tokens, draw(st.integers(1, 32)), draw(st.sampled_from(Tokenizer)))


def test_learned_tokens_and_other_sections_leave_interpolated_frames_alone() -> None:
    first, last = blobs(40, 24, 1), blobs(40, 24, 1, (3, 1))
    section_ = Interpolation(Mode.CORRECTED, 3, np.array([[3, -9]], np.int8))
    plain = [p.md5() for p in reconstruct(Clip(2, interpolation=section_), first, last)]
    tokens = FlowTokens(np.full((2, 2, 3), 20, np.int16), 16)
    for tokenizer in Tokenizer:
        clip = Clip(2, flow_tokens=replace(tokens, tokenizer_id=tokenizer), interpolation=section_)
        made = [p.md5() for p in reconstruct(clip, first, last)]
        assert (made[0] == plain[0]) == (tokenizer == Tokenizer.LEARNED)
        assert made[1] == plain[1]
        labels, poses = np.zeros((3, 6, 10), np.uint8), np.array([[9, 0, 0, 40, 0, 0]], np.int32)
        labels[:, :3] = 1
        camera = CameraPoses(
            np.array([2], np.int32), poses, False, 8, 8, np.array(default_intrinsics(40, 24)), None
        )
        masks = Masks(labels, np.zeros((2, 1, 2), np.int16), 2)
        guided = replace(clip, camera_poses=camera, masks=masks)
        assert [p.md5() for p in reconstruct(guided, first, last)] == made


def test_constant_tokens_are_vectors() -> None:
    """The first cosine is constant: as flow of a whole picture it does what vectors do."""
    first, last = blobs(50, 37, 4), blobs(50, 37, 4, (7, 2))
    vectors = np.array([[5, -7], [60, 1], [-9, -64]], np.int8)
    tokens = np.concatenate([vectors.astype(np.int16), np.zeros((1, 2), np.int16)])[..., None]
    by_vectors = Clip(4, interpolation=Interpolation(Mode.CORRECTED, 0, vectors))
    by_tokens = Clip(
        4, flow_tokens=FlowTokens(tokens, 4), interpolation=Interpolation(Mode.INTERPOLATED, 0, no_vectors())
    )
    made = [[p.md5() for p in reconstruct(clip, first, last)] for clip in (by_vectors, by_tokens)]
    assert made[0] == made[1]


def proposed(pictures: list[Picture]) -> list[tuple[Guidance, list[Picture]]]:
    """All guidance that the encoder considers between these pictures as keyframes, and what it makes."""
    ends = Anchor.of(pictures[0]), Anchor.of(pictures[-1])
    return [*plain(pictures, *ends), *corrected(pictures, *ends, 3)]


@pytest.mark.parametrize("shake", [0, 6])
def test_the_encoder_corrects_what_does_not_move_evenly(shake: int) -> None:
    still = [blobs(128, 96, 5, (3 * t + shake * (t % 2), 0)) for t in range(5)]
    found = proposed(still)
    sections_ = [guidance.interpolation for guidance, _ in found]
    modes = [params.mode for params in sections_ if params is not None]
    assert modes[:3] == [Mode.GUIDED, Mode.INTERPOLATED, Mode.CORRECTED][: 2 + (shake > 0)]
    if shake:
        # The first and third frame are further to the right.
        assert sections_[2] is not None
        assert (sections_[2].vectors[[0, 2], 0] < -12).all()
        assert (abs(sections_[2].vectors[1]) <= 4).all()
    errors = []
    for guidance, made in found:
        frames = list(reconstruct(guidance.clip(4), still[0], still[-1]))
        assert [a.md5() for a in made] == [b.md5() for b in frames]
        errors.append(sum(luma_error(a, b) for a, b in zip(frames, still[1:], strict=True)))
    assert not shake or errors[2] < errors[1] / 2


def swinging(width: int, height: int, reach: float) -> Picture:
    """A texture with its left side ``reach`` luma samples further to the right, and its right side left."""

    def plane(w: int, h: int, scale: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[:h, :w] * float(scale)
        x -= reach * np.cos(np.pi * (x + 0.5) / width)
        waves = np.sin(x / 4) + np.sin(y / 5) + np.sin((x + y) / 7) + np.sin((x - 2 * y) / 9 + 1)
        values: NDArray[np.uint8] = np.clip(128 + 28 * waves, 0, 255).astype(np.uint8)
        return values

    half = (width + 1) // 2, (height + 1) // 2
    return Picture(plane(width, height, 1), plane(*half, 2), plane(*half, 2))


def test_the_encoder_proposes_tokens_for_what_swings_between_keyframes() -> None:
    width, height = 128, 96
    reaches = [0, 4, 6, 4, 0]
    pictures = [swinging(width, height, reach) for reach in reaches]
    errors: dict[bool, list[float]] = {False: [], True: []}
    for guidance, made in proposed(pictures):
        clip = guidance.clip(4)
        frames = list(reconstruct(clip, pictures[0], pictures[-1]))
        assert [a.md5() for a in made] == [b.md5() for b in frames]
        error = sum(luma_error(a, b) for a, b in zip(frames, pictures[1:], strict=True))
        errors[clip.flow_tokens is not None].append(error)
        if clip.flow_tokens is not None:
            assert clip.interpolation is not None
            assert clip.interpolation.mode != Mode.GUIDED
            assert not clip.flow_tokens.tokens[-1].any()
            # What is further right in the original has to be taken from the left.
            place = np.array([[16 * 8, 16 * 48], [16 * 119, 16 * 48]])
            for t in (1, 2, 3):
                left, right = flow(clip.flow_tokens, t, place, height, width)[:, 0] / 16
                assert -1.5 < left / reaches[t] < -0.6
                assert 0.6 < right / reaches[t] < 1.5
    assert len(errors[True]) == 2
    assert max(errors[True]) < min(errors[False]) / 3


def test_the_encoder_proposes_no_tokens_where_they_say_nothing() -> None:
    for width, height, reach in ((128, 96, 0), (64, 40, 6)):
        pictures = [swinging(width, height, reach * (t % 2)) for t in range(3)]
        found = proposed(pictures)
        assert len(found) == 2
        assert all(guidance.clip(2).flow_tokens is None for guidance, _ in found)


def test_the_encoder_sharpens_what_lost_its_detail() -> None:
    cv2 = pytest.importorskip("cv2")
    original = random_picture(64, 64, 1)
    blurred = [replace(original, y=cv2.GaussianBlur(original.y, (0, 0), sigma)) for sigma in (0.4, 0.6, 3)]
    found = [sharpness([original], [made]) for made in (original, *blurred)]
    assert found[0] == 0 < found[1] < found[2] < found[3] == section.MAX_SHARP
    grey = replace(original, y=np.zeros_like(original.y))
    assert sharpness([grey], [grey]) == 0


def luma_error(a: Picture, b: Picture, border: int = 0) -> float:
    inner = slice(border, -border or None)
    return float(np.square(a.y.astype(int) - b.y)[inner, inner].mean())


def test_a_moving_texture_is_found_between_its_keyframes() -> None:
    pictures = [blobs(160, 96, 3, (3 * t, -2 * t)) for t in range(5)]
    section_ = Interpolation(Mode.INTERPOLATED, 0, no_vectors())
    made = list(reconstruct(Clip(4, interpolation=section_), pictures[0], pictures[-1]))
    faded = list(reconstruct(Clip(4), pictures[0], pictures[-1]))
    for t in (1, 2, 3):
        assert luma_error(made[t - 1], pictures[t], 24) < luma_error(faded[t - 1], pictures[t], 24) / 10


def test_a_correction_moves_the_contents_left_and_up() -> None:
    still, moved = blobs(96, 64, 5), blobs(96, 64, 5, (-3, -2))
    params = Interpolation(Mode.CORRECTED, 0, np.array([[12, 8]], np.int8))
    made = next(reconstruct(Clip(2, interpolation=params), still, still))
    assert luma_error(made, moved, 8) < 1 < luma_error(still, moved, 8)


@pytest.mark.parametrize("mode", [Mode.GUIDED, Mode.INTERPOLATED])
def test_sharpening_leaves_the_keyframe_of_the_next_clip_alone(mode: Mode) -> None:
    first, last = blobs(48, 32, 1), blobs(48, 32, 2)
    params = Interpolation(mode, 8, no_vectors())
    sharp = list(reconstruct(Clip(3, interpolation=params), first, last))
    plain = list(reconstruct(Clip(3, interpolation=replace(params, sharp=0)), first, last))
    assert np.array_equal(plain[-1].y, last.y)
    for a, b in zip(sharp, plain, strict=True):
        assert np.abs(np.diff(a.y.astype(int))).sum() > np.abs(np.diff(b.y.astype(int))).sum()
        assert np.array_equal(a.u, b.u)


def test_the_section_takes_no_part_in_one_sided_clips() -> None:
    first = blobs(48, 32, 1)
    params = Interpolation(Mode.INTERPOLATED, 8, no_vectors())
    made = list(reconstruct(Clip(2, interpolation=params), first, None))
    assert all(np.array_equal(picture.y, first.y) for picture in made)


def test_mode_0_leaves_the_frames_to_the_other_sections() -> None:
    first, last = blobs(48, 32, 1), blobs(48, 32, 2)
    made = list(reconstruct(Clip(3, interpolation=Interpolation(Mode.GUIDED, 0, no_vectors())), first, last))
    faded = list(reconstruct(Clip(3), first, last))
    assert [p.md5() for p in made] == [p.md5() for p in faded]
