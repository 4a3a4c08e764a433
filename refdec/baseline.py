"""Baseline reconstruction (specification clause 10): the frames of a clip without a generator.

Integers throughout. Where a float64 matrix product appears, every partial sum is an integer below 2^53,
so that the result does not depend on order, threads or BLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from tgv_format.clip import Clip
from tgv_format.picture import Picture, Plane
from tgv_format.tables import load
from tgv_format.trajectories import Trajectories

_TABLE = load("reconstruction")
_SPACING_LOG2: int = _TABLE["node_spacing_log2"]
_SPACING = 1 << _SPACING_LOG2
_FRACTION_BITS = 4

# Weights that are held at a time; bounds the memory for large pictures with many points.
_BLOCK = 1 << 20

Motion = NDArray[np.int32]
Mapper = Callable[[Callable[[int], Picture], Iterable[int]], Iterable[Picture]]


def reconstruct(
    clip: Clip,
    first: Picture,
    last: Picture | None,
    frames: range | None = None,
    mapper: Mapper = map,
) -> Iterator[Picture]:
    """Pictures of the clip's frames ``frames``, by default 1 .. ``clip.frame_count`` (clause 10.1).

    ``first`` is the picture of frame 0, ``last`` that of the last frame where a trailing keyframe gives it.
    ``mapper`` may compute several frames at once; it has to keep their order.
    """
    anchors = [Anchor.of(picture) for picture in (first, last) if picture is not None]
    render = partial(frame, clip, anchors)
    yield from mapper(render, range(1, clip.frame_count + 1) if frames is None else frames)


@dataclass(frozen=True, eq=False)
class Anchor:
    """A keyframe picture prepared for sampling: per plane, each sample with its three right and lower
    neighbours in the four bytes of a uint32 (least significant first: itself, right, below, below right)."""

    picture: Picture
    quads: tuple[NDArray[np.uint32], ...]

    @classmethod
    def of(cls, picture: Picture) -> Anchor:
        return cls(picture, tuple(_quads(plane) for plane in picture.planes))


def _quads(plane: Plane) -> NDArray[np.uint32]:
    p = np.pad(plane, ((0, 1), (0, 1)), mode="edge").astype(np.uint32)
    quads: NDArray[np.uint32] = p[:-1, :-1] | p[:-1, 1:] << 8 | p[1:, :-1] << 16 | p[1:, 1:] << 24  # type: ignore[assignment]
    return quads


def frame(clip: Clip, anchors: Sequence[Anchor], t: int) -> Picture:
    """Frame t: each anchor warped along the motion field, then blended by temporal distance (clause 10.4).

    ``anchors``: the picture of frame 0, and that of the last frame where there is one.
    """
    if len(anchors) == 2 and t == clip.frame_count:
        return anchors[1].picture
    picture = anchors[0].picture
    shape = picture.y.shape
    warped = [
        _warp(anchor, None if nodes is None else upsample(nodes, *shape))
        for anchor, nodes in zip(anchors, motion(clip.trajectories, t, *shape), strict=False)
    ]
    if len(warped) == 1:
        return Picture(*(plane.astype(np.uint8) for plane in warped[0][0]))
    (a, inside_a), (b, inside_b) = warped
    weight = (t * 256 + (clip.frame_count >> 1)) // clip.frame_count
    weights = np.full(shape, weight, np.uint16)
    if inside_a is not None and inside_b is not None:
        weights[inside_a & ~inside_b] = 0
        weights[inside_b & ~inside_a] = 256
    planes = []
    for p, q, w in zip(a, b, (weights, weights[::2, ::2], weights[::2, ::2]), strict=True):
        planes.append(((p * (256 - w) + q * w + 128) >> 8).astype(np.uint8))
    return Picture(*planes)


def motion(
    points: Trajectories | None, t: int, height: int, width: int
) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """Motion of frame t's samples towards frame 0 and the last frame at the nodes (clause 10.2).

    int32 [rows, columns, 2], (x, y) in 1/16 luma samples, each; None where no point says anything.
    """
    if points is None:
        return None, None
    shift = 7 - points.precision
    centre = max(0, (1 << shift) - 16) >> 1
    position = (points.positions.astype(np.int64) << shift) + centre
    now = position[:, t]
    first, last = points.span[:, 0], points.span[:, 1]
    alive = (first <= t) & (t <= last)
    to_first = _average(now, position[:, 0] - now, alive & (first == 0), height, width)
    to_last = _average(now, position[:, -1] - now, alive & (last == points.last_frame), height, width)
    return to_first, to_last


@cache
def _weight_table() -> NDArray[np.float64]:
    """The weight of a point by its distance class (clause 10.2), integers as float64."""
    offset, most = _TABLE["distance_offset"], _TABLE["distance_max"]
    one = 1 << _TABLE["weight_numerator_log2"]
    return np.array([max(1, one // e**3) for e in range(offset, most + 1)], np.float64)


def node_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of nodes: one every 16 luma samples, and one past the last sample."""
    return ((height - 1) >> _SPACING_LOG2) + 2, ((width - 1) >> _SPACING_LOG2) + 2


def _average(
    points: NDArray[np.int64], vectors: NDArray[np.int64], use: NDArray[np.bool_], height: int, width: int
) -> NDArray[np.int32] | None:
    """Mean of the vectors of the points in ``use``, weighted by distance, at every node, halves rounded up.

    ``points`` int64 [N, 2] in 1/16 luma samples.
    """
    if not use.any():
        return None
    rows, columns = node_grid(height, width)
    place, vectors = points[use] >> _FRACTION_BITS, vectors[use].astype(np.float64)
    dx = np.square((np.arange(columns) * _SPACING)[:, None] - place[:, 0])
    dy = np.square((np.arange(rows) * _SPACING)[:, None] - place[:, 1])
    mean = np.empty((rows, columns, 2), np.int32)
    block = max(1, _BLOCK // (columns * len(place)))
    for row in range(0, rows, block):
        weights = _weights(dy[row : row + block, None, :] + dx[None, :, :])
        total = weights.sum(2).astype(np.int64)[..., None]
        sums = (weights.reshape(-1, len(place)) @ vectors).astype(np.int64).reshape(*total.shape[:2], 2)
        mean[row : row + block] = (2 * sums + total) // (2 * total)
    return mean


def _weights(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights by squared distance in luma samples, integers as float64."""
    table = _weight_table()
    index = np.minimum(distance >> _TABLE["distance_shift"], len(table) - 1)
    return table[index]


def upsample(nodes: NDArray[np.int32], height: int, width: int) -> Motion:
    """Bilinear interpolation of the nodes at every luma sample (clause 10.3): int32 [2, height, width]."""
    steps = np.arange(_SPACING, dtype=np.int32)
    v = nodes.transpose(2, 0, 1)
    rows = v[:, :-1, None] * (_SPACING - steps)[:, None] + v[:, 1:, None] * steps[:, None]
    rows = rows.reshape(2, -1, v.shape[2])[:, :height]
    samples = rows[:, :, :-1, None] * (_SPACING - steps)
    samples += rows[:, :, 1:, None] * steps
    samples += 1 << (2 * _SPACING_LOG2 - 1)
    samples >>= 2 * _SPACING_LOG2
    return np.ascontiguousarray(samples.reshape(2, height, -1)[:, :, :width])


def _warp(anchor: Anchor, field: Motion | None) -> tuple[list[NDArray[np.uint16]], NDArray[np.bool_] | None]:
    """The anchor's planes sampled along ``field``, and where the sampling position is inside the picture."""
    if field is None:
        return [plane.astype(np.uint16) for plane in anchor.picture.planes], None
    y, inside = _sample(anchor.quads[0], field)
    chroma = field[:, ::2, ::2] >> 1
    return [y, *(_sample(quads, chroma)[0] for quads in anchor.quads[1:])], inside


def _sample(quads: NDArray[np.uint32], field: Motion) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Bilinear sampling with four fractional bits, coordinates clamped to the plane (clause 10.3)."""
    height, width = quads.shape
    x = field[0] + (np.arange(width, dtype=np.int32) << _FRACTION_BITS)
    y = field[1] + (np.arange(height, dtype=np.int32) << _FRACTION_BITS)[:, None]
    cx = np.clip(x, 0, (width - 1) << _FRACTION_BITS)
    cy = np.clip(y, 0, (height - 1) << _FRACTION_BITS)
    inside = (cx == x) & (cy == y)
    index = (cy >> _FRACTION_BITS) * width + (cx >> _FRACTION_BITS)
    quad = quads.ravel().take(index)
    fx = (cx & 15).astype(np.uint32)
    fy = (cy & 15).astype(np.uint16)
    # Two 16-bit lanes: the upper row in the low half, the lower row in the high half.
    lanes = (quad & 0x00FF00FF) * (16 - fx) + (quad >> 8 & 0x00FF00FF) * fx
    upper, lower = lanes.astype(np.uint16), (lanes >> 16).astype(np.uint16)
    return (upper * (16 - fy) + lower * fy + 128) >> 8, inside
