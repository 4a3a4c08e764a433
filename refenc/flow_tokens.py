"""Flow tokens of a clip: dense flow, its lowest spatial frequencies, and the integers that are sent.

Tokens are chosen like the paths of trajectories: for each of them the dyadic interpolation of clause 9.4.2
that costs least, squared error plus the price of its bits, is found by dynamic programming. The quantiser
step is the largest one that keeps the mean squared error of the flow within its budget.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refenc.flow import shrunk, to_first
from tgv_format.flow_tokens import FREQUENCIES, MAX_STEP, FlowTokens
from tgv_format.picture import Picture

# Tokens are tried this far from the rounded one.
_REACH = 2

# Bits that splitting an interval takes and saves, by size class; typical of the trained contexts.
_SPLIT = ((0.35, 2.2), (0.45, 1.9), (0.8, 1.2), (1.0, 1.0))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FlowOptions:
    """How much of the flow is sent, and how exactly.

    ``tokens`` per frame and component. Quantising may add a mean squared error to the flow of
    ``floor`` ** 2 (``floor`` in luma samples) and ``share`` times what the frequencies that are not sent
    miss anyway. ``price`` of a bit in squared quantiser steps: a higher one makes smoother tokens of a
    smaller step.
    """

    tokens: int = 20
    floor: float = 0.25
    share: float = 0.25
    price: float = 0.4


@dataclass(frozen=True, eq=False)
class FlowAnalysis:
    """``coefficients`` float64 [L, 2, K] in luma samples; ``missed``: mean squared error of the flow
    that is made of them."""

    coefficients: Floats
    missed: float


def analyse(pictures: Sequence[Picture], tokens: int) -> FlowAnalysis:
    """The flow of a clip's pictures, frames 0 to L, in its ``tokens`` lowest frequencies.

    Cosines are orthonormal over the samples, so that their least-squares fit is a product with them. Their
    phase counts from the border, hence flow at half the size has the same coefficients, halved.
    """
    pictures, scale = shrunk(pictures)
    height, width = pictures[0].y.shape
    across, down = _cosines(width), _cosines(height)
    coefficients = []
    energy = 0.0
    for flow in to_first(pictures):
        planes = np.multiply(flow.transpose(2, 0, 1), scale, dtype=np.float64)
        spectrum = down.T @ planes @ across / (width * height)
        coefficients.append(spectrum[:, [v for _, v in FREQUENCIES], [u for u, _ in FREQUENCIES]][:, :tokens])
        energy += float(np.square(planes).mean((1, 2)).sum())
    found = np.array(coefficients)
    missed = (energy - float(np.square(found).sum())) / len(found)
    return FlowAnalysis(found, max(missed, 0.0))


def _cosines(size: int) -> Floats:
    """[size, M]: the cosines of all frequencies that a token can have, of mean square 1."""
    angle = np.pi * np.outer(np.arange(size) + 0.5, np.arange(1 + max(map(max, FREQUENCIES)))) / size
    cosines: Floats = np.cos(angle) * np.where(np.arange(angle.shape[1]) > 0, np.sqrt(2), 1)
    return cosines


def choose(analysis: FlowAnalysis, options: FlowOptions) -> FlowTokens:
    """The tokens to send, with the largest step whose error stays within the budget."""
    return coarsest(analysis, options, lambda step: quantise(analysis, step, options.price))


def coarsest(
    analysis: FlowAnalysis, options: FlowOptions, quantiser: Callable[[int], FlowTokens]
) -> FlowTokens:
    """The result of ``quantiser`` for the largest step within the budget; for step 1 if none is."""
    budget = options.floor**2 + options.share * analysis.missed
    steps = sorted({round(2 ** (k / 4)) for k in range(4 * (MAX_STEP.bit_length() - 1) + 1)})
    best = bisect_left(steps, True, lo=1, key=lambda step: error(quantiser(step), analysis) > budget)
    return quantiser(steps[best - 1])


def error(params: FlowTokens, analysis: FlowAnalysis) -> float:
    """Mean squared error that quantising adds to the flow, in squared luma samples."""
    difference = params.tokens * (params.step / 16) - analysis.coefficients
    return float(np.square(difference).sum((1, 2)).mean())


def quantise(analysis: FlowAnalysis, step: int, price: float) -> FlowTokens:
    """Tokens of quantiser step ``step`` that cost least: squared error in steps plus ``price`` times bits."""
    length, _, count = analysis.coefficients.shape
    wanted = analysis.coefficients.reshape(length, 2 * count) * (16 / step)
    tokens = _Trellis(wanted, price).solve()
    return FlowTokens(tokens.reshape(length, 2, count).astype(np.int16), step)


class _Trellis:
    """The best dyadic interpolation of every column of ``wanted`` [L, N], by dynamic programming.

    The state of an interval is a pair of candidates for the values at its ends.
    """

    def __init__(self, wanted: Floats, price: float) -> None:
        self.price = price
        self.last, self.count = wanted.shape
        self.wanted = np.concatenate([np.zeros((1, self.count)), wanted])
        rounded = np.rint(self.wanted).astype(np.int64)
        near = rounded[..., None] + np.arange(-_REACH, _REACH + 1)
        clipped = np.clip(near, -(1 << 15), (1 << 15) - 1)
        self.candidates: list[Ints] = [np.zeros((self.count, 1), np.int64), *clipped[1:]]
        self.choices: dict[tuple[int, int], tuple[NDArray[np.bool_], NDArray[np.intp]]] = {}

    def solve(self) -> Ints:
        """int64 [L, N]."""
        last, columns = self.last, np.arange(self.count)
        cost = self._interval(0, last)[:, 0] + self._miss(last) + self.price * _bits(self.candidates[last])
        end = cost.argmin(1)
        values = np.zeros((last + 1, self.count), np.int64)
        values[last] = self.candidates[last][columns, end]
        self._trace(values, 0, last, np.zeros(self.count, np.intp), end, np.ones(self.count, np.bool_))
        return values[1:]

    def _miss(self, t: int) -> Floats:
        """Squared error of the candidates of frame t."""
        return np.square(self.candidates[t] - self.wanted[t][:, None])

    def _interval(self, a: int, b: int) -> Floats:
        """[N, A, B]: least cost of the frames strictly between a and b, by candidates at a and b."""
        first, last = self.candidates[a][:, :, None], self.candidates[b][:, None, :]
        straight = np.zeros(np.broadcast_shapes(first.shape, last.shape))
        if b - a < 2:
            return straight
        middle, size = (a + b) >> 1, min(3, (b - a).bit_length() - 2)
        for t in range(a + 1, b):
            straight += np.square(_between(first, last, a, b, t) - self.wanted[t][:, None, None])
        whole, split = _SPLIT[size]
        straight += self.price * whole
        predicted = _between(first, last, a, b, middle)
        deviation = self.candidates[middle][:, None, :, None] - predicted[:, :, None]
        bits = split + _bits(deviation)
        if size == 0:
            # Nothing but the middle can make this interval other than straight.
            bits[deviation == 0] = np.inf
        divided = self._interval(a, middle)[..., None] + self._interval(middle, b)[:, None]
        divided += self._miss(middle)[:, None, :, None] + self.price * bits
        choice = divided.argmin(2)
        best = np.take_along_axis(divided, choice[:, :, None], 2)[:, :, 0]
        self.choices[a, b] = best < straight, choice
        return np.minimum(best, straight)

    def _trace(
        self,
        values: Ints,
        a: int,
        b: int,
        left: NDArray[np.intp],
        right: NDArray[np.intp],
        on: NDArray[np.bool_],
    ) -> None:
        """Fill ``values`` between a and b in the columns that are ``on``, given the candidates at both."""
        if b - a < 2 or not on.any():
            return
        columns, middle = np.arange(self.count), (a + b) >> 1
        for t in range(a + 1, b):
            values[t] = np.where(on, _between(values[a], values[b], a, b, t), values[t])
        divided, choice = self.choices[a, b]
        on = on & divided[columns, left, right]
        chosen = choice[columns, left, right]
        values[middle] = np.where(on, self.candidates[middle][columns, chosen], values[middle])
        self._trace(values, a, middle, left, chosen, on)
        self._trace(values, middle, b, chosen, right, on)


def _between(start: Ints, end: Ints, a: int, b: int, t: int) -> Ints:
    """The straight value of frame t (clause 9.4.2)."""
    steps = b - a
    return start + ((end - start) * 2 * (t - a) + steps) // (2 * steps)


def _bits(value: Ints) -> Floats:
    """Bits that a signed value typically takes."""
    size = np.abs(value)
    bits: Floats = np.where(size == 0, 1.0, 2.6 + 1.55 * np.log2(np.maximum(size, 1)))
    return bits
