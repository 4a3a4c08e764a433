"""Motion fields of a clip (specification clause 10.2): where its frames are found in its keyframes.

Integers throughout. Where a float64 matrix product appears, every partial sum is an integer below 2^53,
so that the result does not depend on order, threads or BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from refdec.camera import Camera
from refdec.sampling import FRACTION_BITS
from tgv_format import flow_tokens
from tgv_format.clip import Clip
from tgv_format.masks import Masks, upsample
from tgv_format.tables import load
from tgv_format.trajectories import Trajectories

_TABLE = load("reconstruction")
SPACING_LOG2: int = _TABLE["node_spacing_log2"]
SPACING = 1 << SPACING_LOG2
#: The farthest that camera and flow tokens move anything, in 1/16 luma samples.
LIMIT = 1 << 16

# Searches for the position in the last frame, whose flow depends on it.
_SEARCHES = 3

# Weights that are held at a time; bounds the memory for large pictures with many points.
_BLOCK = 1 << 20

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Field:
    """Motion towards one keyframe at the nodes, in 1/16 luma samples.

    ``nodes`` int32 [F, rows, columns, 2], (x, y), of one field or several. ``choice`` uint8 [height, width]:
    which of them each luma sample follows, None where there is but one.
    """

    nodes: NDArray[np.int32]
    choice: NDArray[np.uint8] | None = None


class Motion:
    """Motion fields of the frames of ``clip``, whose pictures have ``height`` x ``width`` luma samples."""

    def __init__(self, clip: Clip, height: int, width: int) -> None:
        self.length = clip.frame_count
        self._size = height, width
        self._points, self._masks = clip.trajectories, clip.masks
        self._camera = None if clip.camera_poses is None else Camera(clip.camera_poses)
        self._tokens = flow_tokens.with_flow(clip.flow_tokens)
        #: What the smooth motion weighs beside the points that correct it (clause 10.2.3).
        self.rest: int = 0 if self._camera is None and self._tokens is None else _TABLE["smooth_weight"]
        if self._points is not None:
            self._positions = positions(self._points)
            self._labels = self.labels_of(self._positions, self._points.span)

    def fields(self, t: int, directions: int = 2) -> list[Field | None]:
        """Towards frame 0, and towards the last frame with two ``directions``, from frame ``t``.

        None where nothing is known.
        """
        return [self._field(t, to_last) for to_last in (False, True)[:directions]]

    def smooth(self, t: int, to_last: bool, place: Positions) -> Positions | None:
        """Motion by camera and flow tokens of frame t's positions ``place`` int64 [..., 2] (clause 10.2.2).

        int64 [..., 2] in 1/16 luma samples; None where the clip has neither.
        """
        if not self.rest:
            return None
        there = place + self._flow(t, place)
        if self._camera is not None:
            there = there + self._camera.to_first(t, place)
        if to_last:
            origin, there = there, self._forth(there)
            for _ in range(_SEARCHES if self._tokens is not None else 0):
                there = self._forth(origin - self._flow(self.length, there))
        moved: Positions = np.clip(there - place, -LIMIT, LIMIT)
        return moved

    def labels_of(self, place: Positions, span: NDArray[np.int32] | None = None) -> NDArray[np.uint8] | None:
        """The label that each point is at most often, of several the least (clause 10.2.4): uint8 [N].

        ``place`` int64 [N, L+1, 2] in 1/16 luma samples; of ``span`` int32 [N, 2] are the first and the last
        frame that count, by default all do. None where the clip has no masks.
        """
        masks = self._masks
        if masks is None:
            return None
        height, width = self._size
        inside = np.clip(place >> FRACTION_BITS, 0, [width - 1, height - 1]) >> masks.scale_log2
        frames = np.arange(self.length + 1)
        labels = masks.labels[frames, inside[..., 1], inside[..., 0]]
        counts = np.ones(labels.shape, np.bool_)
        if span is not None:
            counts = (span[:, :1] <= frames) & (frames <= span[:, 1:])
        votes = np.zeros((len(place), 256), np.int32)
        np.add.at(votes, (np.arange(len(place))[:, None], labels), counts)
        return votes.argmax(1).astype(np.uint8)

    def _flow(self, t: int, place: Positions) -> Positions:
        if self._tokens is None:
            return np.zeros_like(place)
        return flow_tokens.flow(self._tokens, t, place, *self._size)

    def _forth(self, place: Positions) -> Positions:
        """Where the camera takes positions of frame 0 in the last frame."""
        return place if self._camera is None else place + self._camera.from_first(self.length, place)

    def _field(self, t: int, to_last: bool) -> Field | None:
        smooth = self.smooth(t, to_last, node_positions(*self._size))
        nodes, choice = self._corrections(t, to_last)
        if smooth is None:
            return None if nodes is None else Field(nodes, choice)
        base = smooth.astype(np.int32)[None]
        return Field(base if nodes is None else base + nodes, choice)

    def _corrections(
        self, t: int, to_last: bool
    ) -> tuple[NDArray[np.int32] | None, NDArray[np.uint8] | None]:
        """What trajectories add at the nodes, int32 [F, rows, columns, 2], and the choice among it."""
        points = self._points
        if points is None:
            return None, None
        first, last = points.span[:, 0], points.span[:, 1]
        use = (first <= t) & (t <= last) & ((last == self.length) if to_last else (first == 0))
        if not use.any():
            return None, None
        now = self._positions[use, t]
        missing = self._positions[use, self.length if to_last else 0] - now
        smooth = self.smooth(t, to_last, now)
        if smooth is not None:
            missing = missing - smooth
        if self._masks is None or self._labels is None:
            return average(now, missing, self.rest, *self._size)[None], None
        return self._by_label(t, now, missing, self._labels[use], self._masks)

    def _by_label(
        self, t: int, now: Positions, missing: Positions, labels: NDArray[np.uint8], masks: Masks
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Corrections of the background and of every label that has a point (clause 10.2.4)."""
        nodes = [np.zeros((*node_grid(*self._size), 2), np.int32)]
        which = np.zeros(256, np.uint8)
        for label in np.unique(labels):
            mine = labels == label
            found = average(now[mine], missing[mine], self.rest, *self._size)
            if label == 0:
                nodes[0] = found
            else:
                which[label] = len(nodes)
                nodes.append(found)
        height, width = self._size
        return np.stack(nodes), which[upsample(masks.labels[t], width, height, masks.scale_log2)]


def positions(points: Trajectories) -> Positions:
    """int64 [N, L+1, 2] in 1/16 luma samples (clause 10.2.3)."""
    shift = 7 - points.precision
    centre = max(0, (1 << shift) - 16) >> 1
    return (points.positions.astype(np.int64) << shift) + centre


def node_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of nodes: one every 16 luma samples, and one past the last sample."""
    return ((height - 1) >> SPACING_LOG2) + 2, ((width - 1) >> SPACING_LOG2) + 2


@lru_cache(8)
def node_positions(height: int, width: int) -> Positions:
    """int64 [rows, columns, 2], (x, y) in 1/16 luma samples."""
    rows, columns = node_grid(height, width)
    grid = np.indices((rows, columns), np.int64)[::-1] << (SPACING_LOG2 + FRACTION_BITS)
    return np.ascontiguousarray(grid.transpose(1, 2, 0))


@cache
def _weight_table() -> NDArray[np.float64]:
    """The weight of a point by its distance class (clause 10.2.3), integers as float64."""
    offset, most = _TABLE["distance_offset"], _TABLE["distance_max"]
    one = 1 << _TABLE["weight_numerator_log2"]
    return np.array([max(1, one // e**3) for e in range(offset, most + 1)], np.float64)


def average(points: Positions, vectors: Positions, rest: int, height: int, width: int) -> NDArray[np.int32]:
    """Mean of the vectors of all points, weighted by distance, at every node, halves rounded up.

    ``points`` int64 [N, 2] in 1/16 luma samples; ``rest``: weight of a vector of zero.
    """
    rows, columns = node_grid(height, width)
    place, values = points >> FRACTION_BITS, vectors.astype(np.float64)
    dx = np.square((np.arange(columns) * SPACING)[:, None] - place[:, 0])
    dy = np.square((np.arange(rows) * SPACING)[:, None] - place[:, 1])
    mean = np.empty((rows, columns, 2), np.int32)
    block = max(1, _BLOCK // (columns * len(place)))
    for row in range(0, rows, block):
        weights = _weights(dy[row : row + block, None, :] + dx[None, :, :])
        total = weights.sum(2).astype(np.int64)[..., None] + rest
        sums = (weights.reshape(-1, len(place)) @ values).astype(np.int64).reshape(*total.shape[:2], 2)
        mean[row : row + block] = (2 * sums + total) // (2 * total)
    return mean


def _weights(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights by squared distance in luma samples, integers as float64."""
    table = _weight_table()
    index = np.minimum(distance >> _TABLE["distance_shift"], len(table) - 1)
    return table[index]
