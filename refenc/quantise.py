"""Rate-distortion-optimised quantisation of tracks to trajectory sections (brief: T-GVC §3.3 coding).

A track becomes an anchor on the lattice, an end point, and as few deviations as its shape is worth:
the path of every interval is either the predicted one or split at its middle, whichever is cheaper in
squared error plus ``rate_weight`` times bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgv_format.trajectories import Grid, Trajectories, between, canonical, closest

#: Typical bits of a residual by its magnitude; what the adaptive contexts settle at.
_RESIDUAL_BITS = (0.6, 3.2, 4.4, 5.4, 6.2, 6.8, 7.4, 7.8)
_SPLIT_BITS = (0.35, 1.8)
#: Bits of an explicit visibility.
_HIDDEN_BITS = 6.0
#: What an error counts where a track is not seen.
_UNSEEN = 0.01


LATENT = 8  # luma samples per latent sample

Path = list[list[int]]
Target = list[list[float]]


@dataclass(eq=False)
class Quantiser:
    """Quantises choices of a clip's tracks; distances in luma samples.

    ``positions`` float32 [M, L+1, 2] and ``instance`` uint8 [M] are those of all tracks; ``width`` and
    ``height`` of the picture. ``precision`` and ``lattice_log2`` as in the bitstream; ``rate_weight`` in
    squared samples, summed over the frames of a path, per bit. ``visible`` bool [M, L+1]: where a track is
    seen; elsewhere its error hardly counts. None when it is the motion that matters, everywhere, and not the
    place: then a track is moved to its anchor.
    """

    positions: NDArray[np.float32]
    instance: NDArray[np.uint8]
    width: int
    height: int
    precision: int = 3
    lattice_log2: int = 4
    rate_weight: float = 2.0
    visible: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        self._grid = Grid.of(self.width, self.height, self.precision, self.lattice_log2)
        # Most tracks keep their reference point from one choice to the next. The reference path is kept
        # with the result, so that its identity stays unique.
        self._known: dict[tuple[int, int, int], tuple[Path, bool, float, Path | None]] = {}

    @property
    def unit(self) -> float:
        """Luma samples in a position unit."""
        return LATENT / (1 << self.precision)

    def __call__(self, tracks: NDArray[np.intp]) -> Trajectories:
        """Trajectories of ``tracks``, indices [N].

        Tracks whose neither end lies in the picture are left out, and without ``visible`` all but one of an
        instance in a lattice cell.
        """
        grid = self._grid
        paths: list[Path] = []
        follows: list[bool] = []
        kept: list[int] = []
        members: dict[int, list[Path]] = {}
        for n, side, anchor in self._order(tracks):
            same = members.setdefault(int(self.instance[n]), [])
            path, follow, _ = self._coded(n, side, anchor, same or paths)
            if grid.all_legal(path) and not (side and grid.cell(path[0]) is not None):
                paths.append(path)
                follows.append(follow)
                kept.append(n)
                same.append(path)
        frames = self.positions.shape[1]
        inside = np.array([[grid.inside(p) for p in path] for path in paths], np.bool_).reshape(-1, frames)
        numbers: dict[int, int] = {}
        instance = [numbers.setdefault(label, len(numbers)) for label in self.instance[kept].tolist()]
        return Trajectories(
            positions=np.array(paths, np.int32).reshape(-1, frames, 2),
            span=np.tile(np.array([0, frames - 1], np.int32), (len(paths), 1)),
            visible=inside if self.visible is None else self.visible[kept],
            instance=np.array(instance, np.uint8),
            follows=np.array(follows, np.bool_),
            precision=self.precision,
            lattice_log2=self.lattice_log2,
        )

    def cheapest(self, wanted: NDArray[np.intp], radius: float) -> NDArray[np.intp]:
        """For each of the ``wanted`` tracks [N] itself, or one that stands for it at less cost, [N].

        Another track of the same instance may do so if it is no farther than ``radius`` luma samples away,
        in the mean of all frames, and seen in no fewer of them. Needs ``visible``.
        """
        assert self.visible is not None
        seen = self.visible.sum(1)
        free = np.ones(len(self.positions), np.bool_)
        paths: list[Path] = []
        members: dict[int, list[Path]] = {}
        chosen: dict[int, int] = {}
        for start in self._order(wanted):
            n = start[0]
            same = members.setdefault(int(self.instance[n]), [])
            apart = np.linalg.norm(self.positions - self.positions[n], axis=2).mean(1)
            near = free & (self.instance == self.instance[n]) & (seen >= seen[n]) & (apart <= radius)
            starts = self._order(np.flatnonzero(near)) or [start]
            found = [(*self._coded(*start, same or paths), start[0]) for start in starts]
            path, _, _, best = min(found, key=lambda f: (f[2] + self._hidden(f[3]), f[3]))
            paths.append(path)
            same.append(path)
            free[best] = False
            chosen[n] = best
        return np.array([chosen.get(n, n) for n in wanted.tolist()], np.intp)

    def _hidden(self, n: int) -> float:
        """What it costs that track ``n`` is not seen throughout."""
        return 0.0 if self.visible is None or self.visible[n].all() else self.rate_weight * _HIDDEN_BITS

    def _order(self, tracks: NDArray[np.intp]) -> list[tuple[int, int, list[int]]]:
        """(track, side, anchor) in canonical order."""
        grid = self._grid
        taken: dict[tuple[int, int, int, int], int] = {}
        for n in tracks.tolist():
            for side in (0, 1):
                x, y = np.floor((self.positions[n, -side] + 0.5) / self.unit).astype(int).tolist()
                if grid.inside([x, y]):
                    cell = (y >> self.lattice_log2) * grid.columns + (x >> self.lattice_log2)
                    # Of the motion in a cell one track tells enough.
                    same = 0 if self.visible is None else n
                    taken.setdefault((cell, side, int(self.instance[n]), same), n)
                    break
        return [(n, side, grid.anchor(cell)) for (cell, side, _, _), n in sorted(taken.items())]

    def _coded(self, n: int, side: int, anchor: list[int], coded: list[Path]) -> tuple[Path, bool, float]:
        """The path of track n after ``coded`` ones, whether it follows its reference, and its cost."""
        end = -1 if side else 0
        reference = next((coded[k] for k in closest([path[end] for path in coded], anchor, 1)), None)
        key = n, side, id(reference)
        if key not in self._known:
            self._known[key] = *self._path(self._target(n, side, anchor), anchor, side, reference), reference
        path, follow, cost, _ = self._known[key]
        return path, follow, cost

    def _target(self, n: int, side: int, anchor: list[int]) -> Target:
        """Wanted x, y in units and what a squared unit of error costs, for every frame of track ``n``."""
        track = self.positions[n].astype(np.float64)
        weight = np.full(len(track), self.unit**2)
        if self.visible is None:
            wanted = (track - track[-side]) / self.unit + anchor
        else:
            # Positions are the centres of units.
            wanted = (track + 0.5) / self.unit - 0.5
            weight *= np.where(self.visible[n], 1.0, _UNSEEN)
        target: Target = np.column_stack([wanted, weight]).tolist()
        return target

    def _path(
        self, target: Target, start: list[int], side: int, reference: Path | None
    ) -> tuple[Path, bool, float]:
        length = len(target) - 1
        anchor, other = (length, 0) if side else (0, length)
        # The whole path leans on its far end: an error there shrinks linearly towards the anchor.
        weight = sum(w * ((t - anchor) / length) ** 2 for t, (_, _, w) in enumerate(target))
        end, ends_cost = [], 0.0
        for axis in (0, 1):
            ends_cost += target[anchor][2] * (start[axis] - target[anchor][axis]) ** 2
            predicted = start[axis] + (reference[other][axis] - reference[anchor][axis] if reference else 0)
            value = self._value(target[other][axis], predicted, weight)
            ends_cost += target[other][2] * (value - target[other][axis]) ** 2
            ends_cost += self.rate_weight * _residual_bits(value - predicted)
            end.append(value)
        ends = {anchor: start, other: end}
        choices = []
        for follow in (False, True) if reference is not None and length > 1 else (False,):
            path: list[list[int]] = [[0, 0]] * (length + 1)
            path[0], path[length] = ends[0], ends[length]
            cost = (
                self._interval(path, target, 0, length, reference if follow else None) if length > 1 else 0.0
            )
            choices.append((cost + (0.2 if follow else 0.0) * self.rate_weight, follow, path))
        cost, follow, path = min(choices, key=lambda c: c[0])
        return path, follow, ends_cost + cost

    def _value(self, target: float, predicted: int, weight: float) -> int:
        """The integer between the rounded target and the prediction of least cost."""
        nearest = math.floor(target + 0.5)
        step = 1 if nearest >= predicted else -1
        best, least = predicted, weight * (predicted - target) ** 2 + self.rate_weight * _RESIDUAL_BITS[0]
        for value in (nearest - 2 * step, nearest - step, nearest):
            cost = weight * (value - target) ** 2 + self.rate_weight * _residual_bits(value - predicted)
            if cost < least:
                best, least = value, cost
        return best

    def _interval(self, path: Path, target: Target, a: int, b: int, reference: Path | None) -> float:
        """Fill ``path`` between a and b with its cheapest coding; returns error plus weighted bits."""
        straight = between(path[a], path[b], a, b, reference)
        error = 0.0
        # Most intervals are short: NumPy would take longer.
        for (x, y), (tx, ty, w) in zip(straight, target[a + 1 : b], strict=True):
            error += w * ((x - tx) * (x - tx) + (y - ty) * (y - ty))
        plain = error + self.rate_weight * _SPLIT_BITS[0]
        if error <= self.rate_weight * _SPLIT_BITS[1]:
            path[a + 1 : b] = straight
            return plain
        middle = (a + b) >> 1
        (px, py), (tx, ty, w) = straight[middle - a - 1], target[middle]
        weight = sum(w for _, _, w in target[a + 1 : b]) / 3
        x, y = self._value(tx, px, weight), self._value(ty, py, weight)
        path[middle] = [x, y]
        bits = _SPLIT_BITS[1] + _residual_bits(x - px) + _residual_bits(y - py)
        split = self.rate_weight * bits + w * ((x - tx) * (x - tx) + (y - ty) * (y - ty))
        if middle - a > 1:
            split += self._interval(path, target, a, middle, reference)
        if b - middle > 1 and split < plain:
            split += self._interval(path, target, middle, b, reference)
        if split < plain and path[a + 1 : b] != straight:
            return split
        path[a + 1 : b] = straight
        return plain


def _residual_bits(residual: int) -> float:
    return _RESIDUAL_BITS[min(abs(residual), len(_RESIDUAL_BITS) - 1)]


def rounded(
    tracks: NDArray[np.float32],
    visible: NDArray[np.bool_],
    instance: NDArray[np.uint8],
    width: int,
    height: int,
) -> tuple[Trajectories, NDArray[np.intp]]:
    """Every position of ``tracks`` [N, L+1, 2] rounded to the latent grid on its own, as T-GVC has it.

    Points whose positions at neither end lie in the picture of ``width`` x ``height`` luma samples are left
    out. The others are in canonical order: returns also their indices.
    """
    grid = Grid.of(width, height, 0, 0)
    cells = np.floor((tracks + 0.5) / LATENT).astype(np.int32)
    kept = [
        n
        for n, path in enumerate(cells.tolist())
        if (grid.inside(path[0]) or grid.inside(path[-1])) and grid.all_legal(path)
    ]
    frames = tracks.shape[1]
    params = Trajectories(
        positions=cells[kept],
        span=np.tile(np.array([0, frames - 1], np.int32), (len(kept), 1)),
        visible=visible[kept],
        instance=instance[kept],
        follows=np.zeros(len(kept), np.bool_),
        precision=0,
        lattice_log2=0,
        stepwise=True,
    )
    ordered, order = canonical(params, width, height)
    return ordered, np.array(kept, np.intp)[order]
