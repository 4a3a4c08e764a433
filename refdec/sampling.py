"""Bilinear sampling of pictures along vectors (specification clause 10.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Picture

FRACTION_BITS = 4

Quads = NDArray[np.uint32]
Vectors = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Anchor:
    """A keyframe picture prepared for sampling: per plane, each sample with its three right and lower
    neighbours in the four bytes of a uint32 (least significant first: itself, right, below, below right)."""

    picture: Picture
    quads: tuple[Quads, ...]

    @classmethod
    def of(cls, picture: Picture) -> Anchor:
        return cls(picture, tuple(quads(plane) for plane in picture.planes))


def quads(plane: NDArray[np.uint8]) -> Quads:
    """uint32 [height, width] of a plane: see :class:`Anchor`."""
    p = np.pad(plane, ((0, 1), (0, 1)), mode="edge").astype(np.uint32)
    packed: Quads = p[:-1, :-1] | p[:-1, 1:] << 8 | p[1:, :-1] << 16 | p[1:, 1:] << 24  # type: ignore[assignment]
    return packed


def sample(quads: Quads, field: Vectors, extra_bits: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Samples at vectors int32 [2, height, width], (x, y) in sixteenths, and whether their place is inside.

    Coordinates are clamped to the plane. With ``extra_bits`` results have as many fractional bits.
    """
    height, width = quads.shape
    x = field[0] + (np.arange(width, dtype=np.int32) << FRACTION_BITS)
    y = field[1] + (np.arange(height, dtype=np.int32) << FRACTION_BITS)[:, None]
    cx = np.clip(x, 0, (width - 1) << FRACTION_BITS)
    cy = np.clip(y, 0, (height - 1) << FRACTION_BITS)
    inside = (cx == x) & (cy == y)
    index = (cy >> FRACTION_BITS) * width + (cx >> FRACTION_BITS)
    quad = quads.ravel().take(index)
    fx = (cx & 15).astype(np.uint32)
    fy = (cy & 15).astype(np.uint16)
    # Two 16-bit lanes: the upper row in the low half, the lower row in the high half.
    lanes = (quad & 0x00FF00FF) * (16 - fx) + (quad >> 8 & 0x00FF00FF) * fx
    upper, lower = lanes.astype(np.uint16), (lanes >> 16).astype(np.uint16)
    shift = 8 - extra_bits
    return (upper * (16 - fy) + lower * fy + (1 << shift - 1)) >> shift, inside
