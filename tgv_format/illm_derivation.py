"""From the parameters of a trained hyperprior network to a model file (specification annex D).

This is done once for a checkpoint. It uses floating point, and its result need not be the same on every
machine: what counts is the file, which streams name by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgv_format.illm_model import (
    ACTIVATION_MAX,
    FRACTION_BITS,
    KERNELS,
    MAX_BIAS,
    MAX_CHANNELS,
    MAX_SHIFT,
    MAX_SYMBOL,
    Layer,
    write,
)
from tgv_format.range_coder import PRECISION
from tgv_format.symbol_coder import Distribution

_WEIGHT_MAX = (1 << 15) - 1
#: The layers of the density model of compressai's ``EntropyBottleneck``.
_DENSITY_LAYERS = 5

Tensors = Mapping[str, NDArray[Any]]
Array = NDArray[np.float64]


def derive(tensors: Tensors) -> bytes:
    """The model file of a network whose parameters are ``tensors``, by the names of its state dictionary.

    Needed are ``hyper_bottleneck.quantiles`` (M, 1, 3), ``hyper_bottleneck._matrix0`` and so on, and weight
    and bias of layers 0, 2 and 4 of ``hyper_synthesis_mean`` and ``hyper_synthesis_scale``: (M, M, 5, 5) with
    the inputs first, twice, and (N, M, 3, 3) with the outputs first. All others are ignored. ValueError for
    parameters that are missing, of other shapes, not finite or too great.
    """
    latent = _get(tensors, "hyper_synthesis_mean.4.bias").size
    hidden = _get(tensors, "hyper_bottleneck.quantiles").size // 3
    if not (1 <= latent <= MAX_CHANNELS and 1 <= hidden <= MAX_CHANNELS):
        raise ValueError(f"{latent} and {hidden} channels; there may be {MAX_CHANNELS}")
    quantiles = _get(tensors, "hyper_bottleneck.quantiles", (hidden, 1, 3))[:, 0]
    medians = np.rint(quantiles[:, 1] * (1 << FRACTION_BITS))
    if (np.abs(medians) > ACTIVATION_MAX).any():
        raise ValueError("hyper_bottleneck.quantiles: a median is too great")
    return write(_hyper(tensors, quantiles), medians.astype(np.int32), *layers(tensors))


def layers(tensors: Tensors) -> tuple[list[Layer], list[Layer]]:
    """The integer networks of means and of scales; ValueError as for :func:`derive`. They are exact."""
    latent = _get(tensors, "hyper_synthesis_mean.4.bias").size
    hidden = _get(tensors, "hyper_bottleneck.quantiles").size // 3
    mean, scale = (_network(tensors, f"hyper_synthesis_{name}", hidden, latent) for name in ("mean", "scale"))
    return mean, scale


def _get(tensors: Tensors, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """A tensor in double precision; ValueError when it is not there, of another shape or not finite."""
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    found = np.asarray(tensors[name], np.float64)
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name} is {found.shape}, not {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} is not finite")
    return found


# The networks


def _network(tensors: Tensors, name: str, hidden: int, latent: int) -> list[Layer]:
    layers = []
    for number, (outputs, size) in enumerate(zip((hidden, hidden, latent), KERNELS, strict=True)):
        place = f"{name}.{2 * number}"
        last = number == len(KERNELS) - 1
        shape = (outputs, hidden, size, size) if last else (hidden, outputs, size, size)
        weights = _get(tensors, f"{place}.weight", shape)
        bias = _get(tensors, f"{place}.bias", (outputs,))
        layers.append(_layer(weights if last else weights.swapaxes(0, 1), bias, place))
    return layers


def _layer(weights: Array, bias: Array, place: str) -> Layer:
    """Each output channel at the greatest scale at which its weights and its bias fit."""
    shifts = np.arange(MAX_SHIFT, 0, -1)
    greatest = np.abs(weights).max(axis=(1, 2, 3))[:, None]
    fits = np.rint(np.ldexp(greatest, shifts)) <= _WEIGHT_MAX
    fits &= np.rint(np.ldexp(np.abs(bias)[:, None], shifts + FRACTION_BITS)) <= MAX_BIAS
    if not fits.any(axis=1).all():
        raise ValueError(f"{place}: a weight or bias is too great")
    shift = shifts[fits.argmax(axis=1)]
    return Layer(
        np.rint(np.ldexp(weights, shift[:, None, None, None])).astype(np.int16),
        shift.astype(np.uint8),
        np.rint(np.ldexp(bias, shift + FRACTION_BITS)).astype(np.int64),
    )


# The frequencies of hyper latents


def _hyper(tensors: Tensors, quantiles: Array) -> list[Distribution]:
    """As ``EntropyBottleneck.update`` finds them, with frequencies that sum to 2^24."""
    density = _Density(tensors, len(quantiles))
    below, above = (
        np.clip(np.ceil(away), 0, MAX_SYMBOL).astype(int)
        for away in (quantiles[:, 1] - quantiles[:, 0], quantiles[:, 2] - quantiles[:, 1])
    )
    out = []
    for channel, (first, last) in enumerate(zip(below.tolist(), above.tolist(), strict=True)):
        edges = quantiles[channel, 1] + np.arange(-first, last + 2) - 0.5
        logits = density.logits(channel, edges)
        tails = _sigmoid(logits[0]) + _sigmoid(-logits[-1])
        shares = np.append(np.diff(_sigmoid(logits)), tails)
        out.append(Distribution(-first, frequencies(shares)))
    return out


def frequencies(shares: Array) -> NDArray[np.int32]:
    """Positive integers that sum to 2^24, in proportion to ``shares``; the greatest makes up for rounding."""
    total = 1 << PRECISION
    rounded = np.maximum(np.rint(shares * total), 1).astype(np.int64)
    greatest = rounded.argmax()
    rounded[greatest] += total - rounded.sum()
    if rounded[greatest] < 1:
        raise ValueError("hyper_bottleneck: shares that sum to much more than 1")
    return rounded.astype(np.int32)


class _Density:
    """The cumulative distributions of the hyper latents, by their logits."""

    def __init__(self, tensors: Tensors, channels: int) -> None:
        name = "hyper_bottleneck."
        widths = [_get(tensors, f"{name}_bias{i}").size // channels for i in range(_DENSITY_LAYERS)]
        if widths[-1] != 1:
            raise ValueError(f"{name}_bias{_DENSITY_LAYERS - 1} is not of one value a channel")
        self._layers = []
        for i, (inputs, outputs) in enumerate(zip([1, *widths], widths, strict=False)):
            matrix = _get(tensors, f"{name}_matrix{i}", (channels, outputs, inputs))
            bias = _get(tensors, f"{name}_bias{i}", (channels, outputs, 1))
            factor = np.zeros_like(bias)
            if i < _DENSITY_LAYERS - 1:
                factor = _get(tensors, f"{name}_factor{i}", (channels, outputs, 1))
            self._layers.append((np.logaddexp(0, matrix), bias, np.tanh(factor)))

    def logits(self, channel: int, values: Array) -> Array:
        """Logits of the shares of ``channel`` that lie below ``values``."""
        x = values[None]
        for matrix, bias, factor in self._layers:
            x = matrix[channel] @ x + bias[channel]
            x = x + factor[channel] * np.tanh(x)
        return x[0]


def _sigmoid(x: Array) -> Array:
    out: Array = np.exp(-np.logaddexp(0, -x))
    return out
