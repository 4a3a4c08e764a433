"""Means and scales of latents from hyper latents, exactly (specification clause 7.6.6).

Sums of products of 16-bit weights and 24-bit activations stay below 2^53 in magnitude, in any order of
summation. A matrix product in double precision is therefore exact with any library and any number of
threads, and takes no longer than in a network that is not exact. Convolutions of libraries are not used:
they may transform their operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgv_format.illm_model import ACTIVATION_MAX, FRACTION_BITS, Layer, Model

#: Columns of a matrix product at most, so that large pictures take no more memory than small ones.
_BLOCK = 1 << 10

Activations = NDArray[np.int32]


def hyper_synthesis(
    z: Activations, model: Model, dtype: type[np.float64] | type[np.int64] = np.float64
) -> tuple[Activations, Activations]:
    """Means and scales, int32 (N, 4 h, 4 w) in units of 2^-12, of hyper latents ``z``, int32 (M, h, w).

    ``dtype`` is the type of the matrix products; the result is the same.
    """
    values = (z.astype(np.int64) << FRACTION_BITS) + model.medians[:, None, None]
    x = np.clip(values, -ACTIVATION_MAX, ACTIVATION_MAX).astype(np.int32)
    return _network(x, model.mean, dtype), _network(x, model.scale, dtype)


def _network(x: Activations, layers: tuple[Layer, ...], dtype: Any) -> Activations:
    first, second, last = layers
    for layer in (first, second):
        x = np.maximum(upsampled(x, layer, dtype), 0)
    return convolved(x, last, dtype)


def upsampled(x: Activations, layer: Layer, dtype: Any = np.float64) -> Activations:
    """The transposed convolution with a 5 x 5 kernel and stride 2 that doubles both sides."""
    _, height, width = x.shape
    out = np.empty((len(layer.bias), 2 * height, 2 * width), np.int32)
    for a in range(2):
        for b in range(2):
            # Outputs of rows 2i + a and columns 2j + b take every second row and column of the kernel.
            taps = [
                (i, j, layer.weights[:, :, 4 + a - 2 * i, 4 + b - 2 * j])
                for i in range(a, 3)
                for j in range(b, 3)
            ]
            _products(x, taps, layer, dtype, out[:, a::2, b::2])
    return out


def convolved(x: Activations, layer: Layer, dtype: Any = np.float64) -> Activations:
    """The convolution with a 3 x 3 kernel that keeps the size."""
    out = np.empty((len(layer.bias), *x.shape[1:]), np.int32)
    taps = [(i, j, layer.weights[:, :, i, j]) for i in range(3) for j in range(3)]
    _products(x, taps, layer, dtype, out)
    return out


def _products(
    x: Activations,
    taps: list[tuple[int, int, NDArray[np.int16]]],
    layer: Layer,
    dtype: Any,
    out: NDArray[np.int32],
) -> None:
    """Sums of ``matrix @ x`` over the taps (row, column, matrix) of a 3 x 3 window, scaled, into ``out``."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    matrices = [(i, j, matrix.astype(dtype)) for i, j, matrix in taps]
    shift = layer.shift.astype(np.int64)[:, None]
    offset = layer.bias[:, None] + (1 << (shift - 1))
    for top, rows in _blocks(height, width):
        sums = np.zeros((len(layer.bias), rows * width), dtype)
        for i, j, matrix in matrices:
            window = padded[:, top + i : top + i + rows, j : j + width].astype(dtype)
            sums += matrix @ window.reshape(len(x), -1)
        values = (sums.astype(np.int64) + offset) >> shift
        values = np.clip(values, -ACTIVATION_MAX, ACTIVATION_MAX)
        out[:, top : top + rows] = values.reshape(-1, rows, width)


def _blocks(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First rows and numbers of rows of parts of a plane."""
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        yield top, min(step, height - top)
