"""Rate-distortion-optimised quantisation of tracks to trajectory sections (brief: T-GVC §3.3 coding).

A track becomes an anchor on the lattice, an end point, and as few deviations as its shape is worth:
the path of every interval is either the predicted one or split at its middle, whichever is cheaper in
squared error plus ``rate_weight`` times bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgv_format.trajectories import Grid, Trajectories, between

#: Typical bits of a residual by its magnitude; what the adaptive contexts settle at.
_RESIDUAL_BITS = (0.6, 3.2, 4.4, 5.4, 6.2, 6.8, 7.4, 7.8)
_SPLIT_BITS = (0.35, 1.8)


@dataclass(frozen=True)
class Quantiser:
    """Settings of the quantisation; distances in luma samples.

    ``precision`` and ``lattice_log2`` as in the bitstream; ``rate_weight`` in squared samples, summed over
    the frames of a path, per bit.
    """

    width: int
    height: int
    precision: int = 3
    lattice_log2: int = 4
    rate_weight: float = 2.0

    @property
    def unit(self) -> float:
        """Luma samples in a position unit."""
        return 8 / (1 << self.precision)

    def __call__(
        self, positions: NDArray[np.float32], instance: NDArray[np.uint8]
    ) -> tuple[Trajectories, NDArray[np.intp]]:
        """Trajectories of the tracks ``positions`` float32 [N, L+1, 2], and which track each one codes.

        Tracks whose neither end lies in the picture, and all but one of a lattice cell, are left out.
        """
        grid = Grid.of(self.width, self.height, self.precision, self.lattice_log2)
        paths: list[list[list[int]]] = []
        follows: list[bool] = []
        kept: list[int] = []
        for n, side, anchor in self._order(grid, positions, instance):
            same = [path for path, m in zip(paths, kept, strict=True) if instance[m] == instance[n]]
            path, follow = self._path(self._target(positions[n], side, anchor), side, same or paths)
            if all(grid.legal(p) for p in path) and not (side and grid.cell(path[0]) is not None):
                paths.append(path)
                follows.append(follow)
                kept.append(n)
        coded = np.array(paths, np.int32).reshape(-1, positions.shape[1], 2)
        inside = np.array([[grid.inside(p) for p in path] for path in paths], np.bool_).reshape(
            coded.shape[:2]
        )
        return (
            Trajectories(
                coded,
                np.tile(np.array([0, positions.shape[1] - 1], np.int32), (len(paths), 1)),
                inside,
                instance[kept].astype(np.uint8),
                np.array(follows, np.bool_),
                self.precision,
                self.lattice_log2,
            ),
            np.array(kept, np.intp),
        )

    def _order(
        self, grid: Grid, positions: NDArray[np.float32], instance: NDArray[np.uint8]
    ) -> list[tuple[int, int, list[int]]]:
        """(track, side, anchor) in canonical order."""
        taken: dict[tuple[int, int, int], int] = {}
        for n in range(len(positions)):
            for side in (0, 1):
                x, y = np.floor((positions[n, -side] + 0.5) / self.unit).astype(int).tolist()
                if grid.inside([x, y]):
                    cell = (y >> self.lattice_log2) * grid.columns + (x >> self.lattice_log2)
                    taken.setdefault((int(instance[n]), side, cell), n)
                    break
        return [(n, side, grid.anchor(cell)) for (_, side, cell), n in sorted(taken.items())]

    def _target(self, track: NDArray[np.float32], side: int, anchor: list[int]) -> NDArray[np.float64]:
        """The track in units, shifted so that its end ``side`` lies on the anchor."""
        motion = (track - track[-side]).astype(np.float64) / self.unit
        return motion + np.array(anchor, np.float64)

    def _path(
        self, target: NDArray[np.float64], side: int, coded: list[list[list[int]]]
    ) -> tuple[list[list[int]], bool]:
        length = len(target) - 1
        anchor, other = (length, 0) if side else (0, length)
        start = target[anchor].astype(int).tolist()
        reference = None
        if coded:
            reference = min(
                coded, key=lambda p: (p[anchor][0] - start[0]) ** 2 + (p[anchor][1] - start[1]) ** 2
            )
        # The whole path leans on its far end: an error there shrinks linearly towards the anchor.
        weight = self.unit**2 * length / 3
        end = []
        for axis in (0, 1):
            predicted = start[axis] + (reference[other][axis] - reference[anchor][axis] if reference else 0)
            end.append(self._value(float(target[other, axis]), predicted, weight))
        ends = {anchor: start, other: end}
        choices = []
        for follow in (False, True) if reference is not None and length > 1 else (False,):
            path: list[list[int]] = [[0, 0]] * (length + 1)
            path[0], path[length] = ends[0], ends[length]
            cost = (
                self._interval(path, target, 0, length, reference if follow else None) if length > 1 else 0.0
            )
            choices.append((cost + (0.2 if follow else 0.0) * self.rate_weight, follow, path))
        _, follow, path = min(choices, key=lambda c: c[0])
        return path, follow

    def _value(self, target: float, predicted: int, weight: float) -> int:
        """The integer between the rounded target and the prediction of least cost."""
        nearest = int(np.floor(target + 0.5))
        step = 1 if nearest >= predicted else -1
        candidates = {predicted, *range(nearest - 2 * step, nearest + step, step), nearest}
        return min(
            sorted(candidates),
            key=lambda v: (
                weight * (v - target) ** 2
                + self.rate_weight * _RESIDUAL_BITS[min(abs(v - predicted), len(_RESIDUAL_BITS) - 1)]
            ),
        )

    def _interval(
        self,
        path: list[list[int]],
        target: NDArray[np.float64],
        a: int,
        b: int,
        reference: list[list[int]] | None,
    ) -> float:
        """Fill ``path`` between a and b with its cheapest coding; returns error plus weighted bits."""
        straight = between(path[a], path[b], a, b, reference)
        error = self.unit**2 * float(((np.array(straight) - target[a + 1 : b]) ** 2).sum())
        plain = error + self.rate_weight * _SPLIT_BITS[0]
        if error <= self.rate_weight * _SPLIT_BITS[1]:
            path[a + 1 : b] = straight
            return plain
        middle = (a + b) >> 1
        predicted = straight[middle - a - 1]
        weight = self.unit**2 * (b - a) / 3
        path[middle] = [self._value(float(target[middle, i]), predicted[i], weight) for i in (0, 1)]
        bits = _SPLIT_BITS[1] + sum(
            _RESIDUAL_BITS[min(abs(path[middle][i] - predicted[i]), len(_RESIDUAL_BITS) - 1)] for i in (0, 1)
        )
        split = self.rate_weight * bits + self.unit**2 * float(
            ((np.array(path[middle]) - target[middle]) ** 2).sum()
        )
        if middle - a > 1:
            split += self._interval(path, target, a, middle, reference)
        if b - middle > 1:
            split += self._interval(path, target, middle, b, reference)
        if split < plain and path[a + 1 : b] != straight:
            return split
        path[a + 1 : b] = straight
        return plain
