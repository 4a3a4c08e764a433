"""The baseline reconstruction against another one: one sample at a time, in Python integers."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import SCENES, Rendered
from strategies import (
    camera_poses,
    flow_tokens,
    masks,
    random_picture,
    settings,
    settle,
    trajectories,
)
from test_flow_tokens import scalar_flow

from refdec import baseline
from refdec.motion import Motion, node_grid
from tgv_format.camera_poses import CameraPoses
from tgv_format.clip import Clip
from tgv_format.flow_tokens import Tokenizer
from tgv_format.levels import LEVELS
from tgv_format.picture import Picture
from tgv_format.tables import load
from tgv_format.trajectories import Grid, Trajectories

TABLE = load("reconstruction")
SPACING = 2 ** int(TABLE["node_spacing_log2"])


Vector = tuple[int, int]
Nodes = dict[tuple[int, int], Vector]
Matrix = list[list[int]]


@dataclass
class Slow:
    """Clause 10, without vectors, fixed widths or floating point; coordinates in 1/16 luma samples."""

    clip: Clip
    first: Picture
    last: Picture | None

    def __post_init__(self) -> None:
        self.camera = SlowCamera(self.clip.camera_poses, self.clip.frame_count)

    def picture(self, t: int) -> Picture:
        if self.last is not None and t == self.clip.frame_count:
            return self.last
        width, height = self.first.width, self.first.height
        planes = [np.zeros(p.shape, np.uint8) for p in self.first.planes]
        to_first = self.nodes(t, 0)
        to_last = self.nodes(t, self.clip.frame_count) if self.last is not None else None
        for y in range(height):
            for x in range(width):
                self.sample(planes, t, x, y, to_first, to_last)
        return Picture(*planes)

    def position(self, n: int, t: int) -> tuple[int, int]:
        """Of a point, in the middle of the 1/2^precision of a latent sample that it is in."""
        points = self.clip.trajectories
        assert points is not None
        unit = Fraction(8 * 16, 2**points.precision)
        middle = max(0, floor((unit - 16) / 2))
        x, y = (int(v) * unit + middle for v in points.positions[n, t])
        return int(x), int(y)

    def smooth(self, t: int, end: int, p: tuple[int, int]) -> tuple[int, int]:
        """What camera and flow tokens make of position ``p``."""

        def flow(frame: int, at: Vector) -> Vector:
            size = self.first.height, self.first.width
            if tokens is None:
                return 0, 0
            return scalar_flow(tokens, frame, 0, at, *size), scalar_flow(tokens, frame, 1, at, *size)

        def forth(at: Vector) -> Vector:
            return add(at, self.camera.motion(self.camera.forth[self.clip.frame_count], at))

        tokens = self.clip.flow_tokens
        if tokens is not None and tokens.tokenizer_id != Tokenizer.COSINE:
            tokens = None
        there = add(p, flow(t, p), self.camera.motion(self.camera.back[t], p))
        if end:
            origin, there = there, forth(there)
            for _ in range(3 if tokens is not None else 0):
                vx, vy = flow(self.clip.frame_count, there)
                there = forth((origin[0] - vx, origin[1] - vy))
        x, y = (max(-(1 << 16), min(1 << 16, q - r)) for q, r in zip(there, p, strict=True))
        return x, y

    def label(self, n: int) -> int:
        """The label that a point belongs to."""
        points, masks = self.clip.trajectories, self.clip.masks
        assert points is not None
        assert masks is not None
        met = []
        for t in range(points.span[n, 0], points.span[n, 1] + 1):
            x, y = (v // 16 for v in self.position(n, t))
            x, y = max(0, min(x, self.first.width - 1)), max(0, min(y, self.first.height - 1))
            met.append(int(masks.labels[t, y >> masks.scale_log2, x >> masks.scale_log2]))
        return min(set(met), key=lambda label: (-met.count(label), label))

    def nodes(self, t: int, end: int) -> dict[int, Nodes] | None:
        """Motion of the nodes (column, row) from frame t to frame ``end`` by label: the smooth motion, and
        the weighted mean of what it misses of the points that live in both frames."""
        points, clip = self.clip.trajectories, self.clip
        alive = [
            n
            for n in range(0 if points is None else points.count)
            if points is not None and all(points.span[n, 0] <= f <= points.span[n, 1] for f in (t, end))
        ]
        learned = clip.flow_tokens is None or clip.flow_tokens.tokenizer_id != Tokenizer.COSINE
        rest = 0 if clip.camera_poses is None and learned else TABLE["smooth_weight"]
        if not alive and not rest:
            return None
        of: dict[int, list[int]] = {k: [] for k in range(256 if clip.masks is not None else 1)}
        for n in alive:
            of[0 if clip.masks is None else self.label(n)].append(n)
        now = {n: self.position(n, t) for n in alive}
        missing = {}
        for n in alive:
            then, moved = self.position(n, end), self.smooth(t, end, now[n])
            missing[n] = [then[i] - now[n][i] - moved[i] for i in (0, 1)]
        grid = [
            (column, row)
            for row in range((self.first.height - 1) // SPACING + 2)
            for column in range((self.first.width - 1) // SPACING + 2)
        ]
        smooth = {(i, j): self.smooth(t, end, (16 * SPACING * i, 16 * SPACING * j)) for i, j in grid}
        fields: dict[int, Nodes] = {}
        for label, members in of.items():
            if label and not members:
                fields[label] = fields[0]
                continue
            fields[label] = {}
            for column, row in grid:
                total, sums = rest, [0, 0]
                for n in members:
                    dx, dy = column * SPACING - now[n][0] // 16, row * SPACING - now[n][1] // 16
                    distance = (dx * dx + dy * dy) // 2 ** TABLE["distance_shift"] + TABLE["distance_offset"]
                    distance = min(distance, TABLE["distance_max"])
                    weight = max(1, 2 ** TABLE["weight_numerator_log2"] // distance**3)
                    total += weight
                    for i in (0, 1):
                        sums[i] += weight * missing[n][i]
                mean = [half_up(Fraction(v, total)) if total else 0 for v in sums]
                fields[label][column, row] = add(smooth[column, row], (mean[0], mean[1]))
        return fields

    def vector(self, fields: dict[int, Nodes] | None, t: int, x: int, y: int) -> Vector:
        if fields is None:
            return 0, 0
        masks = self.clip.masks
        label = 0 if masks is None else int(masks.labels[t, y >> masks.scale_log2, x >> masks.scale_log2])
        return interpolated(fields[label], x, y)

    def sample(
        self,
        planes: list[NDArray[np.uint8]],
        t: int,
        x: int,
        y: int,
        to_first: dict[int, Nodes] | None,
        to_last: dict[int, Nodes] | None,
    ) -> None:
        values, inside = [], []
        for picture, nodes in ((self.first, to_first), (self.last, to_last)):
            if picture is None:
                continue
            mx, my = self.vector(nodes, t, x, y)
            values.append([fetch(picture.y, 16 * x + mx, 16 * y + my)])
            in_x = 0 <= 16 * x + mx <= 16 * (picture.width - 1)
            in_y = 0 <= 16 * y + my <= 16 * (picture.height - 1)
            inside.append(in_x and in_y)
            if x % 2 == y % 2 == 0:
                cx, cy = 16 * (x // 2) + floor(mx / 2), 16 * (y // 2) + floor(my / 2)
                values[-1] += [fetch(plane, cx, cy) for plane in picture.planes[1:]]
        weight = 0
        if self.last is not None:
            weight = half_up(Fraction(256 * t, self.clip.frame_count))
            if to_first is not None and to_last is not None and inside[0] != inside[1]:
                weight = 0 if inside[0] else 256
        for plane, pair in zip(planes, zip(*values, strict=True), strict=False):
            a, b = pair[0], pair[-1]
            scale = 1 if plane is planes[0] else 2
            plane[y // scale, x // scale] = (a * (256 - weight) + b * weight + 128) // 256


class SlowCamera:
    """Clause 10.2.1, each value checked to fit 64 bits."""

    def __init__(self, params: CameraPoses | None, last: int) -> None:
        self.params = params
        self.forth: list[Matrix] = [[]] * (last + 1)
        self.back: list[Matrix] = [[]] * (last + 1)
        if params is None:
            return
        key = {0: [0] * 6} | dict(zip(params.frames.tolist(), params.poses.tolist(), strict=True))
        poses: list[list[int]] = [[]] * (last + 1)
        poses[0] = [0] * 6
        self.fill(poses, key, 0, last, [0] * 6, 1)
        plane = [0, 0, 0] if params.plane is None else params.plane.tolist()
        turn, length = (2 ** (s // 4) * (4 + s % 4) for s in (params.rotation_step, params.translation_step))
        for t, pose in enumerate(poses):
            r = self.rotation([q * turn for q in pose[:3]])
            m = [
                [r[i][j] + fits(pose[3 + i] * length * plane[j] + 32) // 64 for j in range(3)]
                for i in range(3)
            ]
            f = self.forth[t] = self.scaled(m)
            cofactors: Matrix = [[0] * 3 for _ in range(3)]
            for i in range(3):
                for j in range(3):
                    i1, i2, j1, j2 = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
                    cofactors[i][j] = fits(f[j1][i1] * f[j2][i2] - f[j1][i2] * f[j2][i1])
            self.back[t] = self.scaled(cofactors)

    def fill(
        self, poses: list[list[int]], key: dict[int, list[int]], a: int, b: int, bend: list[int], weight: int
    ) -> None:
        """Q between key frames a and b, by pose_interval() of clause 9.5.3."""
        assert self.params is not None
        middle = (a + b) // 2
        if b - a > 1 and middle in key:
            own = []
            for p, q, m in zip(key[a], key[b], key[middle], strict=True):
                chord = p + (2 * (q - p) * (middle - a) + b - a) // (2 * (b - a))
                own.append(m - chord if self.params.curved else 0)
            part = (middle - a) * (b - middle)
            self.fill(poses, key, a, middle, own, part)
            self.fill(poses, key, middle, b, own, part)
            return
        for t in range(a, b + 1):
            poses[t] = [
                256 * key[a][i]
                + fits(512 * (key[b][i] - key[a][i]) * (t - a) + (b - a)) // (2 * (b - a))
                + fits(512 * bend[i] * (t - a) * (b - t) + weight) // (2 * weight)
                for i in range(6)
            ]

    @staticmethod
    def scaled(m: Matrix) -> Matrix:
        n = max(0, max(abs(v) for row in m for v in row).bit_length() - 30)
        return [[half_up(Fraction(v, 2**n)) for v in row] for row in m]

    @staticmethod
    def rotation(v: list[int]) -> Matrix:
        one = 2**30
        s = fits(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + 2**35) >> 36
        k = one - s // 30
        k = one - (fits(s * k) >> 30) // 12
        w = one - (fits(s * k) >> 30) // 2
        k = one - s // 42
        k = one - (fits(s * k) >> 30) // 20
        k = one - (fits(s * k) >> 30) // 6
        x, y, z = (fits(c * k + 2**32) >> 33 for c in v)
        for _ in range(6):
            squared = fits(w * w - x * x - y * y - z * z + 2**29) >> 30
            x, y, z = (fits(2 * w * c + 2**29) >> 30 for c in (x, y, z))
            w = squared

        def r(a: int) -> int:
            return half_up(Fraction(a, 2**31))

        unit = 2**28
        return [
            [unit - r(y * y + z * z), r(x * y - w * z), r(x * z + w * y)],
            [r(x * y + w * z), unit - r(x * x + z * z), r(y * z - w * x)],
            [r(x * z - w * y), r(y * z + w * x), unit - r(x * x + y * y)],
        ]

    def motion(self, m: Matrix, p: Vector) -> Vector:
        if self.params is None:
            return 0, 0
        f, c = self.params.intrinsics.tolist()[:2], self.params.intrinsics.tolist()[2:]
        ray = [max(-(2**23), min(2**23, fits(2**20 * (p[i] - c[i]) + f[i] // 2) // f[i])) for i in (0, 1)]
        point = [
            fits(m[i][0] * ray[0] + m[i][1] * ray[1] + m[i][2] * 2**20 + 2**19) // 2**20 for i in range(3)
        ]
        z = max(point[2], 1)
        out = []
        for i in (0, 1):
            d = point[i] - fits(ray[i] * z + 2**19) // 2**20
            out.append(max(-(2**18), min(2**18, fits(2 * f[i] * d + z) // fits(2 * z))))
        return out[0], out[1]


def fits(value: int) -> int:
    """``value``, which has to be one of int64_t."""
    assert -(2**63) <= value < 2**63
    return value


def add(*vectors: Vector) -> Vector:
    return sum(v[0] for v in vectors), sum(v[1] for v in vectors)


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def interpolated(nodes: Nodes, x: int, y: int) -> tuple[int, int]:
    """Bilinear between the four nodes around a luma sample."""
    column, row = x // SPACING, y // SPACING
    fx, fy = Fraction(x % SPACING, SPACING), Fraction(y % SPACING, SPACING)
    out = []
    for i in (0, 1):
        upper = nodes[column, row][i] * (1 - fx) + nodes[column + 1, row][i] * fx
        lower = nodes[column, row + 1][i] * (1 - fx) + nodes[column + 1, row + 1][i] * fx
        out.append(half_up(upper * (1 - fy) + lower * fy))
    return out[0], out[1]


def fetch(plane: NDArray[np.uint8], x: int, y: int) -> int:
    """A sample at 1/16 positions; those outside are the nearest inside."""
    height, width = plane.shape
    x, y = min(max(x, 0), 16 * (width - 1)), min(max(y, 0), 16 * (height - 1))
    (ix, fx), (iy, fy) = divmod(x, 16), divmod(y, 16)
    jx, jy = min(ix + 1, width - 1), min(iy + 1, height - 1)
    upper = int(plane[iy, ix]) * (16 - fx) + int(plane[iy, jx]) * fx
    lower = int(plane[jy, ix]) * (16 - fx) + int(plane[jy, jx]) * fx
    return (upper * (16 - fy) + lower * fy + 128) // 256


def assert_same(picture: Picture, expected: Picture) -> None:
    for plane, other in zip(picture.planes, expected.planes, strict=True):
        assert plane.dtype == np.uint8
        assert plane.flags.c_contiguous
        assert np.array_equal(plane, other), np.argwhere(plane != other)[:5]


def check(clip: Clip, first: Picture, last: Picture | None, frames: Iterable[int] | None = None) -> None:
    got = list(baseline.reconstruct(clip, first, last))
    assert len(got) == clip.frame_count
    slow = Slow(clip, first, last)
    for t in frames or range(1, clip.frame_count + 1):
        assert_same(got[t - 1], slow.picture(t))


# --- The same as the slow one

sizes = st.tuples(st.integers(1, 40), st.integers(1, 36))


@settings(max_examples=60)
@given(sizes, st.integers(1, 5), st.booleans(), st.data())
def test_reconstruction(size: tuple[int, int], count: int, two_sided: bool, data: st.DataObject) -> None:
    clip = data.draw(clips(*size, count))
    first, last = random_picture(*size, 1), random_picture(*size, 2) if two_sided else None
    check(clip, first, last, data.draw(st.sets(st.integers(1, count), min_size=1, max_size=2)))


@st.composite
def clips(draw: st.DrawFn, width: int, height: int, count: int) -> Clip:
    """Clips of ``count`` frames with any guidance; half of the cameras and flows move by a few samples."""
    points = draw(st.none() | trajectories(width, height, count))
    tokens = draw(st.none() | flow_tokens(count))
    if tokens is not None and draw(st.booleans()):
        tokens = replace(tokens, tokens=tokens.tokens // 2**11, tokenizer_id=Tokenizer.COSINE)
    camera = draw(st.none() | camera_poses(width, height, count))
    if camera is not None and camera.poses.any() and draw(st.booleans()):
        camera = replace(camera, poses=np.clip(camera.poses, -9, 9), rotation_step=40, translation_step=40)
    return Clip(count, points, None, tokens, camera, draw(st.none() | masks(width, height, count)))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 17), (16, 16), (17, 33), (35, 18)])
@pytest.mark.parametrize("two_sided", [True, False])
def test_sizes(size: tuple[int, int], two_sided: bool) -> None:
    points = drifting(size, 3, 4, step=(2, -1))
    check(
        Clip(4, points), random_picture(*size, 3), random_picture(*size, 4) if two_sided else None, [1, 3, 4]
    )


@pytest.mark.parametrize("precision", range(8))
def test_precisions(precision: int) -> None:
    size = (24, 20)
    points = drifting(size, 4, 3, step=(3, 2), precision=precision)
    check(Clip(3, points), random_picture(*size, 5), random_picture(*size, 6), [1, 2])


def drifting(
    size: tuple[int, int], count: int, last: int, step: tuple[int, int] = (0, 0), precision: int = 3
) -> Trajectories:
    """Points all over the picture that move by ``step`` units a frame, each a bit differently."""
    grid = Grid.of(*size, precision, 0)
    cells = np.linspace(0, grid.cells - 1, count).astype(int)
    start = np.array([grid.anchor(int(cell)) for cell in cells], np.int32)
    steps = np.array(step, np.int32) * (1 + np.arange(count, dtype=np.int32) % 3)[:, None]
    low, high = [-grid.width, -grid.height], [2 * grid.width + 127, 2 * grid.height + 127]
    positions = start[:, None] + steps[:, None] * np.arange(last + 1, dtype=np.int32)[:, None]
    return settle(
        Trajectories(
            positions=positions.clip(low, high).astype(np.int32),
            span=np.tile(np.array([0, last], np.int32), (count, 1)),
            visible=np.ones((count, last + 1), np.bool_),
            instance=np.zeros(count, np.uint8),
            follows=np.zeros(count, np.bool_),
            precision=precision,
            lattice_log2=0,
        ),
        *size,
    )


def shortened(points: Trajectories, spans: list[tuple[int, int]]) -> Trajectories:
    """The same paths, living in ``spans`` alone."""
    span = np.array(spans, np.int32)
    index = np.clip(np.arange(points.last_frame + 1), span[:, :1], span[:, 1:])
    return replace(points, positions=np.take_along_axis(points.positions, index[..., None], 1), span=span)


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 2), (0, 1), (0, 2)],  # towards the first frame only
        [(2, 4), (3, 4), (3, 4)],  # towards the last frame only
        [(1, 3), (2, 2), (1, 1)],  # towards neither
        [(0, 2), (2, 4), (1, 3)],  # other points towards each
        [(0, 0), (4, 4), (0, 4)],
    ],
    ids=str,
)
def test_points_that_live_in_part_of_the_clip(spans: list[tuple[int, int]]) -> None:
    size = (24, 20)
    points = shortened(drifting(size, 3, 4, step=(2, 1)), spans)
    first, last = random_picture(*size, 7), random_picture(*size, 8)
    check(Clip(4, points), first, last)
    check(Clip(4, points), first, None)


@pytest.mark.parametrize("size", [(1, 1), (40, 3)])
def test_the_farthest_legal_positions_of_small_pictures(size: tuple[int, int]) -> None:
    for precision in (0, 7):
        points = drifting(size, 5, 2, step=(10**6, -(10**6)), precision=precision)
        check(Clip(2, points), random_picture(*size, 1), random_picture(*size, 2), [1])


def test_the_farthest_legal_positions_of_the_widest_picture() -> None:
    """As many points as there may be, in one place, moving across all that is legal: nothing overflows."""
    width, height, limits = 8192, 40, LEVELS[3]
    assert width == limits.dimension
    grid = Grid.of(width, height, 7, 0)
    count = limits.trajectories
    positions = np.zeros((count, 3, 2), np.int32)
    positions[:, 0] = grid.anchor(grid.cells - 1)
    positions[:, 1] = [2 * grid.width + 127, 2 * grid.height + 127]
    positions[:, 2] = [-grid.width, -grid.height]
    points = Trajectories(
        positions=positions,
        span=np.tile(np.array([0, 2], np.int32), (count, 1)),
        visible=np.ones((count, 3), np.bool_),
        instance=np.zeros(count, np.uint8),
        follows=np.zeros(count, np.bool_),
        precision=7,
        lattice_log2=0,
    )
    for field, end in zip(Motion(Clip(2, points), height, width).fields(1), (0, 2), strict=True):
        assert field is not None
        exact = positions[0, end].astype(int) - positions[0, 1]
        assert (field.nodes == exact).all()
        vectors = baseline.upsample(field, height, width)
        assert vectors.shape == (2, height, width)
        assert (vectors == exact[:, None, None]).all()
    positions[::2, 2] = positions[0, 1]
    to_last = Motion(Clip(2, points), height, width).fields(1)[1]
    assert to_last is not None
    for i in (0, 1):
        assert (
            to_last.nodes[..., i] == half_up(Fraction(int(positions[1, 2, i] - positions[1, 1, i]), 2))
        ).all()


@given(st.integers(1, 500), st.integers(1, 500))
def test_nodes_cover_the_picture(height: int, width: int) -> None:
    rows, columns = node_grid(height, width)
    assert (rows - 1) * SPACING >= height > (rows - 2) * SPACING
    assert (columns - 1) * SPACING >= width > (columns - 2) * SPACING


# --- Properties


def crossfade(first: Picture, last: Picture, t: int, count: int) -> Picture:
    weight = (256 * t + count // 2) // count
    mixed = [
        ((256 - weight) * p.astype(int) + weight * q.astype(int) + 128) // 256
        for p, q in zip(first.planes, last.planes, strict=True)
    ]
    return Picture(*(m.astype(np.uint8) for m in mixed))


@given(sizes, st.integers(1, 7))
@example((1, 1), 1)
def test_without_points_it_is_a_cross_fade(size: tuple[int, int], count: int) -> None:
    first, last = random_picture(*size, 1), random_picture(*size, 2)
    pictures = list(baseline.reconstruct(Clip(count), first, last))
    for t, picture in enumerate(pictures[:-1], 1):
        assert_same(picture, crossfade(first, last, t, count))
    assert pictures[-1] is last
    for picture in baseline.reconstruct(Clip(count), first, None):
        assert_same(picture, first)


@given(sizes, st.integers(2, 7), st.integers(1, 5), st.integers(0, 7))
def test_points_that_stay_change_nothing(
    size: tuple[int, int], last: int, count: int, precision: int
) -> None:
    points = drifting(size, count, last, precision=precision)
    first, final = random_picture(*size, 1), random_picture(*size, 2)
    with_points = baseline.reconstruct(Clip(last, points), first, final)
    for a, b in zip(with_points, baseline.reconstruct(Clip(last), first, final), strict=True):
        assert_same(a, b)


def test_a_shift_by_whole_samples_is_exact() -> None:
    """A picture that moves by 8 samples a frame, seen from its first frame alone."""
    size = (48, 40)
    first = random_picture(*size, 9)
    points = drifting(size, 1, 3, step=(1, 0), precision=0)
    for t, picture in enumerate(baseline.reconstruct(Clip(3, points), first, None), 1):
        assert np.array_equal(picture.y[:, 8 * t :], first.y[:, : -8 * t])
        assert np.array_equal(picture.u[:, 4 * t :], first.u[:, : -4 * t])
        assert (picture.y[:, : 8 * t] == first.y[:, :1]).all(), "the edge is repeated"


def test_what_one_keyframe_cannot_show_comes_from_the_other() -> None:
    """A pan uncovers samples at the edge: there the later keyframe counts alone."""
    size = (48, 40)
    first, last = random_picture(*size, 9), random_picture(*size, 10)
    points = drifting(size, 1, 2, step=(1, 0), precision=0)
    middle = next(iter(baseline.reconstruct(Clip(2, points), first, last)))
    # Sample x shows x - 8 of the first picture and x + 8 of the last.
    assert np.array_equal(middle.y[:, :8], last.y[:, 8:16])
    assert np.array_equal(middle.y[:, -8:], first.y[:, -16:-8])
    both = (first.y[:, :-16].astype(int) + last.y[:, 16:] + 1) // 2
    assert np.array_equal(middle.y[:, 8:-8], both)


@given(sizes, st.data())
def test_visibility_instances_and_coding_choices_do_not_matter(
    size: tuple[int, int], data: st.DataObject
) -> None:
    points = data.draw(trajectories(*size, 3))
    other = replace(
        points,
        visible=~points.visible,
        instance=points.instance[::-1],
        follows=~points.follows,
        lattice_log2=7 - points.lattice_log2,
    )
    first, last = random_picture(*size, 1), random_picture(*size, 2)
    for a, b in zip(
        baseline.reconstruct(Clip(3, points), first, last),
        baseline.reconstruct(Clip(3, other), first, last),
        strict=True,
    ):
        assert_same(a, b)


@settings(max_examples=15)
@given(st.tuples(st.integers(1, 90), st.integers(1, 70)), st.data())
def test_threads_and_selections_do_not_matter(size: tuple[int, int], data: st.DataObject) -> None:
    count = 8
    clip = Clip(count, data.draw(trajectories(*size, count)))
    first, last = random_picture(*size, 1), random_picture(*size, 2)
    alone = [p.md5() for p in baseline.reconstruct(clip, first, last)]
    for workers in (1, 4):
        with ThreadPoolExecutor(workers) as pool:
            assert [p.md5() for p in baseline.reconstruct(clip, first, last, mapper=pool.map)] == alone
    begin = data.draw(st.integers(1, count + 1))
    chosen = range(begin, data.draw(st.integers(begin, count + 1)))
    picked = [p.md5() for p in baseline.reconstruct(clip, first, last, chosen)]
    assert picked == alone[chosen.start - 1 : chosen.stop - 1]


# --- Real motion


def tracked(scene: Rendered, first: int, last: int, spacing: int, precision: int = 7) -> Trajectories:
    """True trajectories of a grid of surface points, from the frames in which each is inside the picture."""
    size = scene.pictures[0].width, scene.pictures[0].height
    grid = Grid.of(*size, precision, 0)
    y, x = np.mgrid[spacing // 2 : size[1] : spacing, spacing // 2 : size[0] : spacing]
    starts = np.stack([x.ravel(), y.ravel()], -1).astype(float)
    paths = [scene.trajectories(t, starts)[0][:, first : last + 1] for t in (first, last)]
    units = np.round(np.concatenate(paths) * 2**precision / 8).astype(np.int32)
    inside = ((units >= 0) & (units < [grid.width, grid.height])).all(-1)
    keep = inside[:, 0] | inside[:, -1]
    units, inside = units[keep], inside[keep]
    spans = []
    for row in inside:
        # From the end that is inside to the last frame before the point leaves.
        if row[0]:
            spans.append((0, len(row) - 1 if row.all() else int(np.argmin(row)) - 1))
        else:
            spans.append((len(row) - int(np.argmin(row[::-1])), len(row) - 1))
    points = Trajectories(
        positions=units,
        span=np.tile(np.array([0, last - first], np.int32), (len(units), 1)),
        visible=inside,
        instance=np.zeros(len(units), np.uint8),
        follows=np.zeros(len(units), np.bool_),
        precision=precision,
        lattice_log2=0,
    )
    points = shortened(points, spans)
    frames = np.arange(last - first + 1)
    alive = (frames >= points.span[:, :1]) & (frames <= points.span[:, 1:])
    return settle(replace(points, visible=points.visible & alive), *size)


def error(picture: Picture, original: Picture) -> float:
    return float(np.mean((picture.y.astype(float) - original.y) ** 2))


@pytest.mark.parametrize(("name", "gain"), [("pan", 100), ("zoom", 15), ("shake", 20), ("dolly", 3)])
def test_true_trajectories_give_the_frames_between(name: str, gain: float) -> None:
    """The middle frame has ``gain`` times less squared error than the cross-fade of the keyframes has."""
    count = 8
    scene = SCENES[name](3, 192, 128, count + 1)
    points = tracked(scene, 0, count, 16)
    first, last = scene.pictures[0], scene.pictures[-1]
    middle = count // 2
    got = list(baseline.reconstruct(Clip(count, points), first, last))
    fade = crossfade(first, last, middle, count)
    assert error(got[middle - 1], scene.pictures[middle]) * gain < error(fade, scene.pictures[middle])
