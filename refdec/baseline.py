"""Baseline reconstruction (specification clause 10): the frames of a clip without a generator.

Keyframes are sampled along the motion fields of :mod:`refdec.motion` and blended; integers throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdec.interpolation import Interpolation, sharpened
from refdec.motion import SPACING, SPACING_LOG2, Field, Motion
from refdec.sampling import Anchor, Vectors, sample
from tgv_format.clip import Clip
from tgv_format.flow_tokens import with_flow
from tgv_format.interpolation import Mode
from tgv_format.picture import Picture

# Samples that are interpolated one by one at a time; bounds the memory for hostile masks.
_BLOCK = 1 << 18
_HALF = 1 << (2 * SPACING_LOG2 - 1)

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
    wanted = range(1, clip.frame_count + 1) if frames is None else frames
    if wanted:
        anchors = [Anchor.of(picture) for picture in (first, last) if picture is not None]
        yield from mapper(renderer(clip, anchors), wanted)


def renderer(clip: Clip, anchors: Sequence[Anchor]) -> Callable[[int], Picture]:
    """What makes frame t of ``clip`` (clause 10.1); for ``anchors`` see :func:`frame`."""
    guided = partial(frame, Motion(clip, *anchors[0].picture.y.shape), anchors)
    section = clip.interpolation
    if section is None or len(anchors) == 1:
        return guided
    if section.mode == Mode.GUIDED or clip.frame_count == 1:
        return lambda t: sharpened(guided(t), section.sharp)
    first, last = anchors
    between = Interpolation(first, last, clip.frame_count, section.vectors, with_flow(clip.flow_tokens))
    return lambda t: sharpened(between.frame(t), section.sharp)


def frame(motion: Motion, anchors: Sequence[Anchor], t: int) -> Picture:
    """Frame t: each anchor warped along the motion field, then blended by temporal distance (clause 10.4).

    ``anchors``: the picture of frame 0, and that of the last frame where there is one.
    """
    if len(anchors) == 2 and t == motion.length:
        return anchors[1].picture
    picture = anchors[0].picture
    shape = picture.y.shape
    warped = [
        warp(anchor, None if field is None else upsample(field, *shape))
        for anchor, field in zip(anchors, motion.fields(t, len(anchors)), strict=True)
    ]
    if len(warped) == 1:
        return Picture(*(plane.astype(np.uint8) for plane in warped[0][0]))
    (a, inside_a), (b, inside_b) = warped
    weight = (t * 256 + (motion.length >> 1)) // motion.length
    weights = np.full(shape, weight, np.uint16)
    if inside_a is not None and inside_b is not None:
        weights[inside_a & ~inside_b] = 0
        weights[inside_b & ~inside_a] = 256
    planes = []
    for p, q, w in zip(a, b, (weights, weights[::2, ::2], weights[::2, ::2]), strict=True):
        planes.append(((p * (256 - w) + q * w + 128) >> 8).astype(np.uint8))
    return Picture(*planes)


def upsample(field: Field, height: int, width: int) -> Vectors:
    """The vectors of all luma samples by bilinear interpolation, int32 [2, height, width] (clause 10.3).

    The samples of a cell, which four nodes surround, are interpolated together; those that follow another
    field than the rest of their cell are then replaced one by one.
    """
    nodes, choice = field.nodes, field.choice
    rows, columns = nodes.shape[1] - 1, nodes.shape[2] - 1
    common = np.zeros((rows, columns), np.uint8)
    if choice is not None:
        margin = rows * SPACING - height, columns * SPACING - width
        choice = np.pad(choice, ((0, margin[0]), (0, margin[1])), mode="edge")
        common = choice.reshape(rows, SPACING, columns, SPACING).min((1, 3))
    i, j = np.indices((rows, columns))
    steps = np.arange(SPACING, dtype=np.int32)

    def side(right: int) -> Vectors:
        upper, lower = (nodes[common, i + down, j + right].transpose(2, 0, 1) for down in (0, 1))
        return _between(upper[:, :, None], lower[:, :, None], steps[:, None])

    samples = _between(side(0)[..., None], side(1)[..., None], steps)
    samples += _HALF
    samples >>= 2 * SPACING_LOG2
    samples = samples.reshape(2, rows * SPACING, columns * SPACING)
    if choice is not None:
        others = np.flatnonzero(choice != common.repeat(SPACING, 0).repeat(SPACING, 1))
        for begin in range(0, len(others), _BLOCK):
            y, x = np.divmod(others[begin : begin + _BLOCK], choice.shape[1])
            which, i, j = choice[y, x], y >> SPACING_LOG2, x >> SPACING_LOG2
            v, u = (p[:, None] & (SPACING - 1) for p in (y, x))
            left, right = (
                _between(nodes[which, i, j + right], nodes[which, i + 1, j + right], v) for right in (0, 1)
            )
            samples[:, y, x] = ((_between(left, right, u) + _HALF) >> 2 * SPACING_LOG2).T
    return np.ascontiguousarray(samples[:, :height, :width])


def _between(a: Vectors, b: Vectors, step: NDArray[Any]) -> Vectors:
    """``SPACING`` times the value ``step`` samples from a node with value ``a`` on the way to ``b``."""
    value: Vectors = a * (SPACING - step) + b * step
    return value


def warp(anchor: Anchor, field: Vectors | None) -> tuple[list[NDArray[np.uint16]], NDArray[np.bool_] | None]:
    """The anchor's planes sampled along ``field``, and where the sampling position is inside the picture."""
    if field is None:
        return [plane.astype(np.uint16) for plane in anchor.picture.planes], None
    y, inside = sample(anchor.quads[0], field)
    chroma = field[:, ::2, ::2] >> 1
    return [y, *(sample(quads, chroma)[0] for quads in anchor.quads[1:])], inside
