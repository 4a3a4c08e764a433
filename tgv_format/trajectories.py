"""Trajectory sections (specification clause 9.2): points followed through a clip.

A point is sent as a position on a lattice at one end of its span (the anchor) and its path from there.
A path is either its displacement to the other end and, where straight interpolation is not enough,
deviations at the middle of ever shorter intervals; or, in a stepwise section, a step from every frame to
the next. Both are predicted from the nearest points of the same instance sent before.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Flag, Struct
from numpy.typing import NDArray

from tgv_format.entropy import BinaryCoder, Cost, Decoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import ParameterError, Reserved, build, parse, uleb128

SECTION = "trajectories"
MAX_TRAJECTORIES = 1024

HEADER = Struct(
    "head"
    / BitStruct(
        "precision" / BitsInteger(3),
        "lattice_log2" / BitsInteger(3),
        "stepwise" / Flag,
        "reserved" / Reserved(1),
    ),
    "count_minus1" / uleb128(0, MAX_TRAJECTORIES - 1),
)

Points = list[list[list[int]]]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """N points over the L + 1 frames of a clip.

    ``positions`` int32 [N, L+1, 2], (x, y) in units of ``2 ** -precision`` latent samples of 8 luma samples;
    outside ``span`` the position at the nearer end is repeated.
    ``span`` int32 [N, 2]: first and last frame with a position of its own.
    ``visible`` bool [N, L+1]: seen in that frame, for generators; false outside the span.
    ``instance`` uint8 [N]: the object that the point belongs to, numbered from 0 as they appear.
    ``follows`` bool [N]: the path between the ends is predicted from the reference point's; a choice of
    the coding that has no meaning for reconstruction.
    ``precision`` 0..7, ``lattice_log2`` 0..7: anchors lie on a lattice of ``2 ** lattice_log2`` units.
    ``stepwise``: paths are coded from frame to frame; as ``follows``, it has no meaning for reconstruction.
    Points are in canonical order (clause 9.2.3): :func:`canonical` puts them there.
    """

    positions: NDArray[np.int32]
    span: NDArray[np.int32]
    visible: NDArray[np.bool_]
    instance: NDArray[np.uint8]
    follows: NDArray[np.bool_]
    precision: int
    lattice_log2: int
    stepwise: bool = False

    @property
    def count(self) -> int:
        return int(self.positions.shape[0])

    @property
    def last_frame(self) -> int:
        """L, the index of the clip's last frame."""
        return int(self.positions.shape[1]) - 1

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {
            "precision": self.precision,
            "lattice_log2": self.lattice_log2,
            "stepwise": int(self.stepwise),
            "instance": self.instance.tolist(),
            "span": self.span.tolist(),
            "follows": self.follows.astype(int).tolist(),
            "visible": self.visible.astype(int).tolist(),
            "positions": self.positions.tolist(),
        }


@dataclass(frozen=True)
class Grid:
    """Extent of a picture in position units and in lattice cells (clause 9.2.2)."""

    width: int
    height: int
    lattice_log2: int

    @classmethod
    def of(cls, width: int, height: int, precision: int, lattice_log2: int) -> Grid:
        """``width`` and ``height`` in luma samples."""
        return cls(-(-(width << precision) // 8), -(-(height << precision) // 8), lattice_log2)

    @property
    def columns(self) -> int:
        return ((self.width - 1) >> self.lattice_log2) + 1

    @property
    def cells(self) -> int:
        return self.columns * (((self.height - 1) >> self.lattice_log2) + 1)

    def anchor(self, cell: int) -> list[int]:
        """The position at the centre of a lattice cell."""
        row, column = divmod(cell, self.columns)
        centre = (1 << self.lattice_log2) >> 1
        return [(column << self.lattice_log2) + centre, (row << self.lattice_log2) + centre]

    def cell(self, position: list[int]) -> int | None:
        """The lattice cell whose anchor ``position`` is, if there is one."""
        column, row = position[0] >> self.lattice_log2, position[1] >> self.lattice_log2
        cell = row * self.columns + column
        inside = 0 <= column < self.columns and row >= 0 and cell < self.cells
        return cell if inside and self.anchor(cell) == position else None

    def inside(self, position: list[int]) -> bool:
        return 0 <= position[0] < self.width and 0 <= position[1] < self.height

    def all_legal(self, path: list[list[int]]) -> bool:
        """Whether all positions are legal; legal ones fill a rectangle."""
        xs, ys = [x for x, _ in path], [y for _, y in path]
        return self.legal([min(xs), min(ys)]) and self.legal([max(xs), max(ys)])

    def legal(self, position: list[int]) -> bool:
        """Positions reach one picture size beyond the picture, and a lattice cell."""
        return (
            -self.width <= position[0] < 2 * self.width + 128
            and -self.height <= position[1] < 2 * self.height + 128
        )


def canonical(params: Trajectories, width: int, height: int) -> tuple[Trajectories, NDArray[np.intp]]:
    """``params`` with points and instances in canonical order, and the permutation of the points."""
    grid = Grid.of(width, height, params.precision, params.lattice_log2)
    order = np.argsort([_cell(grid, params, n) for n in range(params.count)], kind="stable")
    numbers: dict[int, int] = {}
    instance = [numbers.setdefault(label, len(numbers)) for label in params.instance[order].tolist()]
    ordered = replace(
        params,
        positions=params.positions[order],
        span=params.span[order],
        visible=params.visible[order],
        instance=np.array(instance, np.uint8),
        follows=params.follows[order],
    )
    return ordered, order


def _cell(grid: Grid, params: Trajectories, n: int) -> int:
    """The lattice cell of a point's anchor."""
    return _anchor(grid, params.positions[n].tolist(), params.span[n].tolist())[1]


def _anchor(grid: Grid, path: list[list[int]], span: list[int]) -> tuple[int, int]:
    """Side (0 first frame of the span, 1 last) and lattice cell of a point's anchor."""
    for side in (0, 1):
        cell = grid.cell(path[span[side]])
        if cell is not None:
            return side, cell
    raise ParameterError("out-of-range", "positions", "neither end of a point's span lies on the lattice")


def encode(params: Trajectories, width: int, height: int, limits: Level) -> bytes:
    """The section's bytes; the picture is ``width`` x ``height`` luma samples."""
    validate(params, width, height, limits)
    head = {
        "precision": params.precision,
        "lattice_log2": params.lattice_log2,
        "stepwise": params.stepwise,
    }
    coder = Encoder(SECTION)
    _Code.of(coder, params, width, height).points()
    data = build(HEADER, head=head, count_minus1=params.count - 1) + coder.finish()
    if len(data) > limits.section_bytes:
        raise ParameterError("limit-exceeded", "trajectories", f"a section of {len(data)} bytes")
    return data


def cost(params: Trajectories, width: int, height: int) -> float:
    """Bits that :func:`encode` would take, within a byte or so."""
    coder = Cost(SECTION)
    _Code.of(coder, params, width, height).points()
    return coder.bits + 16


def decode(
    data: bytes,
    offset: int,
    path: str,
    width: int,
    height: int,
    last_frame: int,
    limits: Level,
    trace: TraceSink | None = None,
) -> Trajectories:
    """Decode a section of a clip with frames 0 .. ``last_frame``; the picture is ``width`` x ``height``."""
    if len(data) > limits.section_bytes:
        raise TgvError("limit-exceeded", offset, path, f"a section of {len(data)} bytes")
    fields, used = parse(HEADER, data, offset, path)
    count = fields.count_minus1 + 1
    if count > limits.trajectories:
        raise TgvError("limit-exceeded", offset, f"{path}.count_minus1", f"{count} trajectories")
    body = data[used:]
    coder = open_decoder(SECTION, body, offset + used, path, trace)
    grid = Grid.of(width, height, fields.head.precision, fields.head.lattice_log2)
    code = _Code(
        coder, grid, count, last_frame, fields.head.precision, bool(fields.head.stepwise), decoder=coder
    )
    code.points()
    coder.finish()
    return Trajectories(
        positions=np.array(code.paths, np.int32),
        span=np.array(code.span, np.int32),
        visible=np.array(code.visible, np.bool_),
        instance=np.array(code.instance, np.uint8),
        follows=np.array(code.follows, np.bool_),
        precision=fields.head.precision,
        lattice_log2=fields.head.lattice_log2,
        stepwise=bool(fields.head.stepwise),
    )


def validate(params: Trajectories, width: int, height: int, limits: Level) -> None:
    """Raise ParameterError unless :func:`encode` can code ``params`` as they are."""
    count, frames = params.count, params.last_frame + 1
    if not 1 <= count <= limits.trajectories:
        raise ParameterError("limit-exceeded", "count_minus1", f"{count} trajectories")
    if not (0 <= params.precision <= 7 and 0 <= params.lattice_log2 <= 7):
        raise ParameterError("out-of-range", "head", "precision and lattice_log2 are 0..7")
    shapes = [
        params.positions.shape,
        params.span.shape,
        params.visible.shape,
        params.instance.shape,
        params.follows.shape,
    ]
    if shapes != [(count, frames, 2), (count, 2), (count, frames), (count,), (count,)] or frames < 2:
        raise ParameterError("out-of-range", "positions", f"the shapes {shapes} do not fit together")
    first, last = params.span[:, :1], params.span[:, 1:]
    if not ((first >= 0) & (first <= last) & (last < frames)).all():
        raise ParameterError("out-of-range", "span", "a span lies outside the clip")
    index = np.clip(np.arange(frames)[None], first, last)
    if not (params.positions == np.take_along_axis(params.positions, index[..., None], 1)).all():
        raise ParameterError("out-of-range", "positions", "positions outside a span do not repeat its ends")
    if (params.visible & (index != np.arange(frames)[None])).any():
        raise ParameterError("out-of-range", "visible", "a point is visible outside its span")
    unpredicted = (params.span[:, 1] - params.span[:, 0] < 2) | (np.arange(count) == 0)
    if (params.follows & (unpredicted | params.stepwise)).any():
        raise ParameterError("out-of-range", "follows", "a point follows where there is nothing to follow")
    grid = Grid.of(width, height, params.precision, params.lattice_log2)
    if not grid.all_legal(params.positions.reshape(-1, 2).tolist()):
        raise ParameterError(
            "out-of-range", "positions", "a point is more than a picture away from the picture"
        )
    cells = [_cell(grid, params, n) for n in range(count)]
    if cells != sorted(cells):
        raise ParameterError("non-canonical", "positions", "the points are not in canonical order")
    appearing = list(dict.fromkeys(params.instance.tolist()))
    if appearing != list(range(len(appearing))):
        raise ParameterError("non-canonical", "instance", "instances are not numbered as they appear")


class _Code:
    """The syntax of clause 9.2.4, once for both directions.

    In an encoder the lists hold what is coded; in a decoder, which is given as ``decoder`` and makes the
    errors, they are filled as the values come.
    """

    def __init__(
        self,
        coder: BinaryCoder,
        grid: Grid,
        count: int,
        last: int,
        precision: int,
        stepwise: bool,
        decoder: Decoder | None = None,
    ) -> None:
        self.coder = coder
        self.decoder = decoder
        self.grid = grid
        self.count = count
        self.last = last
        self.stepwise = stepwise
        self.paths: Points = [[[0, 0]] * (last + 1) for _ in range(count)]
        self.span = [[0, 0]] * count
        self.visible = [[False] * (last + 1) for _ in range(count)]
        self.instance = [0] * count
        self.follows = [False] * count
        # Whole and half latent samples have other statistics than finer units.
        self._coarse = int(precision < 2)
        self._anchors: list[list[int]] = []
        self._sides: list[int] = [0]
        self._explicit = [False] * count
        self._members: list[list[int]] = []

    @classmethod
    def of(cls, coder: BinaryCoder, params: Trajectories, width: int, height: int) -> _Code:
        """Ready to encode ``params``."""
        grid = Grid.of(width, height, params.precision, params.lattice_log2)
        code = cls(coder, grid, params.count, params.last_frame, params.precision, params.stepwise)
        code.paths, code.span, code.visible = (
            params.positions.tolist(),
            params.span.tolist(),
            params.visible.tolist(),
        )
        code.instance, code.follows = params.instance.tolist(), params.follows.tolist()
        return code

    def points(self) -> None:
        """points(): all trajectories."""
        cell = 0
        for n in range(self.count):
            cell = self.point(n, cell)

    def point(self, n: int, cell: int) -> int:
        """point(): one trajectory, and the lattice cell it returns."""
        coder, grid, path = self.coder, self.grid, self.paths[n]
        side, coded = (0, 0) if self.decoder else _anchor(grid, path, self.span[n])
        coder.element = ("points", n, "anchor_gap")
        shift = max(0, ((grid.cells - cell) // (self.count - n)).bit_length() - 2)
        cell += coder.golomb("anchor_gap", shift, coded - cell)
        if cell >= grid.cells:
            raise self._error("out-of-range", f"lattice cell {cell} is not one of {grid.cells}")
        position = grid.anchor(cell)
        self._instance(n, position)
        coder.element = ("points", n, "end_anchor")
        side = coder.bit("end_anchor", self._sides[-1], side)
        first, last = self._span(n)
        anchor, other = (last, first) if side else (first, last)
        path[anchor] = position
        references = self._references(n, anchor, position)
        if first < last:
            if self.stepwise:
                self._steps(n, anchor, other, [self.paths[m] for m in references])
            else:
                reference = self.paths[references[0]] if references else None
                self._displacement(n, anchor, other, reference)
                if last - first > 1:
                    self._path_between(n, first, last, reference)
            if side and self.decoder and grid.cell(path[other]) is not None:
                raise self._error("non-canonical", "the point could be anchored at its first frame")
        elif side:
            raise self._error("non-canonical", "a point of one frame is anchored at its first frame")
        self._visibility(n, first, last, references[:2])
        if self.decoder:
            for t in range(first):
                path[t] = path[first]
            for t in range(last + 1, self.last + 1):
                path[t] = path[last]
        self._anchors.append(position)
        self._sides.append(side)
        self._members[self.instance[n]].append(n)
        return cell

    def _instance(self, n: int, position: list[int]) -> None:
        """instance(): that of the nearest anchor, another one, or a new one (clause 9.2.5)."""
        coder, known = self.coder, len(self._members)
        coder.element = ("points", n, "instance")
        if n:
            close = [self.instance[m] for m in closest(self._anchors, position, 3)]
            agreeing = sum(label == close[0] for label in close[1:])
            context = agreeing + 3 * int(known > 1)
            if coder.bit("same_instance", context, int(self.instance[n] == close[0])):
                self.instance[n] = close[0]
            else:
                # All numbers but that of the nearest anchor, the next new one included.
                other = coder.uniform(known, self.instance[n] - int(self.instance[n] > close[0]))
                self.instance[n] = other + int(other >= close[0])
        if self.instance[n] > 255:
            raise self._error("out-of-range", "more than 256 instances")
        if self.instance[n] == known:
            self._members.append([])

    def _error(self, identifier: str, detail: str) -> Exception:
        if self.decoder:
            return self.decoder.error(identifier, detail)
        return ParameterError(identifier, str(self.coder.element), detail)

    def _span(self, n: int) -> tuple[int, int]:
        coder = self.coder
        first, last = self.span[n]
        coder.element = ("points", n, "span")
        if coder.bit("full_span", 0, int(first == 0 and last == self.last)):
            first, last = 0, self.last
        else:
            first = coder.uniform(self.last + 1, first)
            last = first + coder.uniform(self.last + 1 - first, last - first)
            if first == 0 and last == self.last:
                raise self._error("non-canonical", "the full span is coded by its flag")
        self.span[n] = [first, last]
        return first, last

    def _references(self, n: int, frame: int, position: list[int]) -> list[int]:
        """The up to four nearest points before n, of its instance if there is one (clause 9.2.6)."""
        members = self._members[self.instance[n]] or range(n)
        found = closest([self.paths[m][frame] for m in members], position, 4)
        return [members[k] for k in found]

    def _displacement(self, n: int, anchor: int, other: int, reference: list[list[int]] | None) -> None:
        coder, path = self.coder, self.paths[n]
        coder.element = ("points", n, "displacement")
        position = [0, 0]
        for axis in (0, 1):
            predicted = path[anchor][axis]
            if reference is not None:
                predicted += reference[other][axis] - reference[anchor][axis]
            offset = axis + (2 if reference is not None else 0) + 4 * self._coarse
            position[axis] = predicted + coder.signed("displacement", offset, path[other][axis] - predicted)
        path[other] = position
        self._check(position)

    def _steps(self, n: int, anchor: int, other: int, references: Points) -> None:
        """steps(): from the anchor to the other end, frame by frame (clause 9.2.8)."""
        coder, path = self.coder, self.paths[n]
        coder.element = ("points", n, "steps")
        direction = 1 if anchor < other else -1
        steppers = [Stepper(references, axis, anchor, path[anchor][axis]) for axis in (0, 1)]
        for t in range(anchor + direction, other + direction, direction):
            x, y = path[t - direction]
            path[t] = [
                x + steppers[0].step(coder, t, path[t][0] - x),
                y + steppers[1].step(coder, t, path[t][1] - y),
            ]
            self._check(path[t])

    def _path_between(self, n: int, first: int, last: int, reference: list[list[int]] | None) -> None:
        coder = self.coder
        coder.element = ("points", n, "path")
        if reference is not None:
            self.follows[n] = bool(coder.bit("follow", 0, int(self.follows[n])))
        self._interval(self.paths[n], first, last, reference if self.follows[n] else None)

    def _interval(self, path: list[list[int]], a: int, b: int, reference: list[list[int]] | None) -> None:
        """interval(): the positions strictly between a and b (clause 9.2.7)."""
        coder = self.coder
        size = min(3, (b - a).bit_length() - 2)
        offset = size + (4 if reference is not None else 0) + 8 * self._coarse
        split = not self.decoder and between(path[a], path[b], a, b, reference) != path[a + 1 : b]
        if not coder.bit("split", offset, split):
            path[a + 1 : b] = between(path[a], path[b], a, b, reference)
            if reference is not None and not self.grid.all_legal(path[a + 1 : b]):
                raise self._error("out-of-range", "a path goes too far from the picture")
            return
        middle = (a + b) >> 1
        [[x, y]] = _way(path[a], path[b], a, b, range(middle, middle + 1), reference)
        dx = coder.signed("deviation", size + 8 * self._coarse, path[middle][0] - x)
        dy = coder.signed("deviation", 4 + size + 8 * self._coarse, path[middle][1] - y)
        path[middle] = [x + dx, y + dy]
        self._check(path[middle])
        if middle - a > 1:
            self._interval(path, a, middle, reference)
        if b - middle > 1:
            self._interval(path, middle, b, reference)
        if not (dx or dy) and path[a + 1 : b] == between(path[a], path[b], a, b, reference):
            raise self._error("non-canonical", "an interval is split for nothing")

    def _visibility(self, n: int, first: int, last: int, references: list[int]) -> None:
        """visibility(): inside the picture, or runs of frames (clause 9.2.9)."""
        coder = self.coder
        coder.element = ("points", n, "visibility")
        width, height = self.grid.width, self.grid.height
        default = [0 <= x < width and 0 <= y < height for x, y in self.paths[n][first : last + 1]]
        shown = self.visible[n][first : last + 1]
        explicit = sum(self._explicit[m] for m in references) * (2 if len(references) == 1 else 1)
        context = explicit + 3 * self._coarse
        self._explicit[n] = bool(coder.bit("explicit_visibility", context, int(shown != default)))
        if self._explicit[n]:
            state = coder.bit("first_visible", 0, int(shown[0]))
            runs: list[bool] = []
            while len(runs) < len(default):
                left = run = len(default) - len(runs)
                if not self.decoder:
                    run = next((k for k in range(left) if shown[len(runs) + k] != bool(state)), left)
                if left > 1 and not coder.bit("last_run", int(bool(runs)), int(run == left)):
                    run = 1 + coder.uniform(left - 1, run - 1)
                else:
                    run = left
                runs += [bool(state)] * run
                state = 1 - state
            if runs == default:
                raise self._error("non-canonical", "the default visibility is coded explicitly")
            shown = runs
        else:
            shown = default
        self.visible[n][first : last + 1] = shown

    def _check(self, position: list[int]) -> None:
        if not self.grid.legal(position):
            raise self._error("out-of-range", f"the position {position} is too far from the picture")


def closest(positions: list[list[int]], position: list[int], count: int) -> list[int]:
    """Indices of the ``count`` nearest of ``positions``, nearest first; of equally near ones the first.

    Clauses 9.2.5 and 9.2.6 find instances and reference points so.
    """
    px, py = position
    distances = [(x - px) * (x - px) + (y - py) * (y - py) for x, y in positions]
    return heapq.nsmallest(count, range(len(positions)), distances.__getitem__)


class Stepper:
    """Codes the steps of one coordinate of a path, predicted from those of its reference points.

    ``references`` are the paths of up to four points, ``frame`` and ``value`` the start (clause 9.2.8).
    """

    def __init__(self, references: Points, axis: int, frame: int, value: int) -> None:
        """All in sixteenths of a unit, but the coordinate itself."""
        self._leader: list[int] = []
        if references:
            # One, two or four: the mean has no remainder.
            references = references[: 1 << (len(references).bit_length() - 1)]
            share = 16 // len(references)
            total = [share * sum(p[axis] for p in places) for places in zip(*references, strict=True)]
            around = zip([total[0], *total], total, [*total[1:], total[-1]], strict=False)
            self._leader = [(before + 2 * here + after + 2) >> 2 for before, here, after in around]
            self._apart = 16 * value - self._leader[frame]
        self._before = frame
        self._value = value
        self._latest = 0
        self._since = 4
        self._moves = 0

    def step(self, coder: BinaryCoder, frame: int, step: int) -> int:
        """Code the ``step`` to ``frame``, which is next to the frame before."""
        base = 0
        if self._leader:
            here = self._leader[frame]
            drift = here - self._leader[self._before]
            base = (abs(drift) + 4) >> 4
            base = -base if drift < 0 else base
            trend = _level(drift - 16 * base, _TREND)
            lag = _level(here + self._apart - 16 * (self._value + base), _LAG)
            sign = (base > 0) - (base < 0)
            latest = self._latest
            turned = (lag or trend or sign or latest) < 0
            if turned:
                lag, trend, sign, latest = -lag, -trend, -sign, -latest
            row = lag * 9 + trend + 4
            offset = (row * 3 + sign + 1) * 3 + latest + 1
        else:
            turned = self._latest < 0
            offset = 486 + 4 * self._since + min(self._moves, 3)
            row = 54
        coded = base - step if turned else step - base
        residual = 0
        if not coder.bit("step_zero", offset, int(coded == 0)):
            negative = coder.bit("step_sign", row, int(coded < 0))
            size = 1 + coder.unsigned("step_magnitude", 0, abs(coded) - 1)
            residual = -size if negative else size
        step = base + (-residual if turned else residual)
        self._value += step
        if self._leader:
            self._apart += (16 * self._value - here - self._apart) >> 1
        self._before = frame
        self._since = min(self._since + 1, 4)
        if step:
            self._latest = 1 if step > 0 else -1
            self._since = 0
            self._moves += 1
        return step


#: Sixteenths of a unit between the levels that choose a step's context.
_LAG = (2, 5, 8, 12, 17)
_TREND = (1, 3, 6, 10)


def _level(value: int, thresholds: tuple[int, ...]) -> int:
    """How many ``thresholds`` the magnitude of ``value`` reaches, with its sign."""
    return -bisect(thresholds, -value) if value < 0 else bisect(thresholds, value)


def between(
    start: list[int], end: list[int], a: int, b: int, reference: list[list[int]] | None
) -> list[list[int]]:
    """Positions strictly between frames a and b, straight or along the reference path (clause 9.2.7)."""
    return _way(start, end, a, b, range(a + 1, b), reference)


def _way(
    start: list[int], end: list[int], a: int, b: int, frames: range, reference: list[list[int]] | None
) -> list[list[int]]:
    """Positions at ``frames``, which lie between a and b."""
    (x, y), steps = start, b - a
    dx, dy = end[0] - x, end[1] - y
    if reference is None:
        ways = [2 * (t - a) for t in frames]
        return [
            [x + (dx * way + steps) // (2 * steps), y + (dy * way + steps) // (2 * steps)] for way in ways
        ]
    # The same for the difference from the reference path, which is added again.
    (ax, ay), (bx, by) = reference[a], reference[b]
    x, y, dx, dy = x - ax, y - ay, dx - bx + ax, dy - by + ay
    return [
        [
            reference[t][0] + x + (dx * 2 * (t - a) + steps) // (2 * steps),
            reference[t][1] + y + (dy * 2 * (t - a) + steps) // (2 * steps),
        ]
        for t in frames
    ]
