"""Motion-compensated interpolation between two keyframes (specification clause 10.6).

The decoder finds the motion itself, at the moment half way between the keyframes and on a grid of nodes, one
every four luma samples. Integers throughout.
"""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray

from refdec.sampling import Anchor, Vectors, quads, sample
from tgv_format.flow_tokens import FlowTokens, PlaneFlow
from tgv_format.picture import Picture, Plane
from tgv_format.tables import load

_TABLE = load("interpolation")
_LAST: int = _TABLE["last_level"]

# Nodes in sixteenths of a luma sample.
_SPACING_LOG2 = _LAST + 4

Integers = NDArray[np.int32]


class Interpolation:
    """Frames 1 .. ``length - 1`` between ``first`` and ``last``.

    They are corrected by ``vectors`` int8 [length - 1, 2] or [0, 2], (x, y) by frame in quarters of a luma
    sample, and by the flow of ``tokens``.
    """

    def __init__(
        self,
        first: Anchor,
        last: Anchor,
        length: int,
        vectors: NDArray[np.int8],
        tokens: FlowTokens | None = None,
    ) -> None:
        self._first, self._last, self._length = first, last, length
        self._vectors = np.zeros((length - 1, 2, 1, 1), np.int32)
        self._vectors[: len(vectors), :, 0, 0] = vectors
        self._flow = None if tokens is None else PlaneFlow(tokens, *first.picture.y.shape)
        self._nodes = estimate(first.picture.y, last.picture.y)

    def frame(self, t: int) -> Picture:
        """Frame ``t``: both keyframes moved and blended (clause 10.6.4); the last one as it is."""
        if t == self._length:
            return self._last.picture
        height, width = self._first.picture.y.shape
        weight = (256 * t + (self._length >> 1)) // self._length
        shift = self._shift(t)
        field = projected(self._nodes, t, self._length, shift)[:, :height, :width]
        to_first = shift - ((field * weight + 128) >> 8)
        to_last = field + to_first
        weights = _weights(weight, _depth(to_first), _depth(to_last))
        planes = []
        for i, (a, b) in enumerate(zip(self._first.quads, self._last.quads, strict=True)):
            if i == 1:
                to_first, to_last = (v[:, ::2, ::2] >> 1 for v in (to_first, to_last))
                weights = weights[::2, ::2]
            p, q = sample(a, to_first)[0], sample(b, to_last)[0]
            planes.append(((p * (256 - weights) + q * weights + 128) >> 8).astype(np.uint8))
        return Picture(*planes)

    def _shift(self, t: int) -> Vectors:
        """The correction of frame ``t``, int32 [2, height, width] in sixteenths of a luma sample."""
        shift = self._vectors[t - 1] << 2
        if self._flow is not None:
            shift = shift + self._flow.frame(t).astype(np.int32)
        return np.broadcast_to(shift, (2, *self._first.picture.y.shape))


def estimate(first: Plane, last: Plane) -> Vectors:
    """Motion from ``first`` to ``last`` at the nodes half way (clauses 10.6.1 and 10.6.2).

    int32 [2, rows, columns], (x, y) in sixteenths of the distance of nodes.
    """
    size = min(first.shape).bit_length() - _TABLE["coarsest_bits"]
    top = max(_LAST, min(size, _TABLE["pyramid_levels"]))
    a, b = _pyramid(first, top), _pyramid(last, top)
    nodes = _search(a[top].astype(np.int32), b[top].astype(np.int32))
    for level in range(top, _LAST - 1, -1):
        if level < top:
            nodes = _doubled(nodes)
        packed = quads(a[level]), quads(b[level])
        for _ in range(_TABLE["flow_steps"]):
            nodes = _refined(*packed, nodes)
    return nodes


def _pyramid(plane: Plane, top: int) -> list[Plane]:
    """The plane, its sides extended to whole samples of level ``top``, and its halvings up to there."""
    height, width = plane.shape
    side = 1 << top
    levels = [np.pad(plane, ((0, -height % side), (0, -width % side)), mode="edge")]
    for _ in range(top):
        p = levels[-1].astype(np.uint16)
        levels.append(((p[::2, ::2] + p[::2, 1::2] + p[1::2, ::2] + p[1::2, 1::2] + 2) >> 2).astype(np.uint8))
    return levels


def _search(a: Integers, b: Integers) -> Vectors:
    """The best of all whole vectors up to a range, for every sample of the coarsest level."""
    height, width = a.shape
    reach, radius = _TABLE["search_range"], _TABLE["search_radius"]
    wide_a, wide_b = (np.pad(p, reach, mode="edge") for p in (a, b))
    # The first of equal ones is taken.
    order = sorted(range(-reach, reach + 1), key=abs)
    vectors = np.array([(x, y) for y, x in product(order, order)], np.int32)

    def shifted(plane: Integers, x: int, y: int) -> Integers:
        return plane[reach + y : reach + y + height, reach + x : reach + x + width]

    differences = np.stack(
        [
            abs(shifted(wide_a, -(x >> 1), -(y >> 1)) - shifted(wide_b, x - (x >> 1), y - (y >> 1)))
            for x, y in vectors.tolist()
        ]
    )
    penalty = (_TABLE["search_penalty"] * abs(vectors).sum(1)) >> 4
    best = (box(differences, radius) + penalty[:, None, None]).argmin(0)
    return _median(np.ascontiguousarray(np.moveaxis(vectors[best] << 4, 2, 0)))


def _refined(a: NDArray[np.uint32], b: NDArray[np.uint32], nodes: Vectors) -> Vectors:
    """One step of Lucas and Kanade's method, after which the field is smoothed."""
    back = nodes >> 1
    p, q = (sample(quad, v, 2)[0].astype(np.int32) for quad, v in ((a, -back), (b, nodes - back)))
    mean, error = np.pad((p + q) >> 1, 1, mode="edge"), q - p
    gx = (mean[1:-1, 2:] - mean[1:-1, :-2]) >> 1
    gy = (mean[2:, 1:-1] - mean[:-2, 1:-1]) >> 1
    products = np.stack([gx * gx, gy * gy, gx * gy, gx * error, gy * error]) >> 4
    xx, yy, xy, xe, ye = box(products, _TABLE["flow_radius"]).astype(np.int64)
    xx += _TABLE["flow_damping"]
    yy += _TABLE["flow_damping"]
    steps = 16 * np.stack([ye * xy - xe * yy, xe * xy - ye * xx]) // (xx * yy - xy * xy)
    limit = _TABLE["step_max"]
    moved = _median(nodes + np.clip(steps, -limit, limit).astype(np.int32))
    radius = _TABLE["smooth_radius"]
    area = (2 * radius + 1) ** 2
    for _ in range(2):
        moved = (box(moved, radius) + (area >> 1)) // area
    return moved


def box(planes: Integers, radius: int) -> Integers:
    """Sums of the squares of samples around each, edges repeated; int32 [..., height, width]."""
    height, width = planes.shape[-2:]
    wide = np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(radius, radius)] * 2, mode="edge")
    reach = range(2 * radius + 1)
    rows = reduce(np.add, (wide[..., i : i + height, :] for i in reach))
    return reduce(np.add, (rows[..., j : j + width] for j in reach))


def _median(planes: Integers) -> Integers:
    """Medians of 3x3 samples, edges repeated; int32 [n, height, width]."""
    p = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low, middle, high = _sorted(p[:, :-2], p[:, 1:-1], p[:, 2:])

    def three(q: Integers) -> tuple[Integers, Integers, Integers]:
        return _sorted(q[..., :-2], q[..., 1:-1], q[..., 2:])

    return _sorted(three(low)[2], three(middle)[1], three(high)[0])[1]


def _sorted(a: Integers, b: Integers, c: Integers) -> tuple[Integers, Integers, Integers]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(low, c), np.maximum(low, np.minimum(high, c)), np.maximum(high, c)


def _doubled(nodes: Vectors) -> Vectors:
    """The field of the next finer level: twice the nodes, and vectors twice as long."""
    count, height, width = nodes.shape
    wide = np.pad(nodes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    near = 3 * wide[:, 1:-1]
    rows = np.stack([near + wide[:, :-2], near + wide[:, 2:]], 2).reshape(count, 2 * height, width + 2)
    near = 3 * rows[:, :, 1:-1]
    fine = np.stack([near + rows[:, :, :-2], near + rows[:, :, 2:]], 3).reshape(count, 2 * height, 2 * width)
    return (fine + 4) >> 3


def projected(nodes: Vectors, t: int, length: int, shift: Vectors) -> Vectors:
    """The field of all luma samples at frame ``t``, int32 [2, rows, columns] (clause 10.6.3).

    ``shift`` int32 [2, height, width] is the correction of the frame in sixteenths of a luma sample.
    """
    _, rows, columns = nodes.shape
    moment = (256 * t) // length - 128
    y, x = (
        np.minimum((np.arange(count) << _LAST) + (1 << _LAST - 1), side - 1)
        for count, side in zip((rows, columns), shift.shape[1:], strict=True)
    )
    shift = (shift[:, y[:, None], x] + (1 << _SPACING_LOG2 - 1)) >> _SPACING_LOG2
    j, i = np.arange(columns) + shift[0], np.arange(rows)[:, None] + shift[1]
    found = nodes
    for _ in range(_TABLE["projection_steps"]):
        x, y = (found * moment + 2048) >> 12
        found = nodes[:, np.clip(i - y, 0, rows - 1), np.clip(j - x, 0, columns - 1)]
    for _ in range(_LAST):
        found = _doubled(found)
    return found


def _depth(field: Vectors) -> Integers:
    """How far inside the picture the places of luma samples are, 1 .. ``border_ramp`` (clause 10.6.4)."""
    _, height, width = field.shape
    x = field[0] + 16 * np.arange(width, dtype=np.int32)
    y = field[1] + 16 * np.arange(height, dtype=np.int32)[:, None]
    x, y = (np.minimum(p, 16 * (side - 1) - p) for p, side in ((x, width), (y, height)))
    return np.clip(np.minimum(x, y) - _TABLE["border_width"], 1, _TABLE["border_ramp"])


def _weights(weight: int, depth_a: Integers, depth_b: Integers) -> NDArray[np.uint16]:
    """Weights of the last keyframe's luma samples, 0 .. 256 (clause 10.6.4)."""
    weights = np.full(depth_a.shape, weight, np.uint16)
    for near, far, w, base in ((depth_b, depth_a, weight, 0), (depth_a, depth_b, weight - 256, 256)):
        uneven = np.flatnonzero(near < far)
        a, b = near.ravel()[uneven], far.ravel()[uneven]
        weights.ravel()[uneven] = base + (w * a + (b >> 1)) // b
    return weights


def sharpened(picture: Picture, sharp: int) -> Picture:
    """The picture with its luma's differences from a blurred one enlarged (clause 10.6.5).

    ``sharp``: 0 .. 20, by how many eighths.
    """
    if not sharp:
        return picture
    radius = _TABLE["sharp_radius"]
    area = (2 * radius + 1) ** 4
    y = picture.y.astype(np.int32)
    blurred = box(box(y, radius), radius)
    y = (y * (area * (8 + sharp)) - sharp * blurred + 4 * area) // (8 * area)
    return Picture(np.clip(y, 0, 255).astype(np.uint8), picture.u, picture.v)
