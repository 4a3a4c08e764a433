"""The range coder in plain Python integers (specification clauses 8.1 to 8.3).

This is the readable form of the specification's pseudo-code and the independent cross-check of
constriction's ``RangeDecoder``, whose state cannot be observed. :class:`RangeDecoder` serves the trace.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

PRECISION = 24
_STATE = (1 << 64) - 1


class QuantileError(ValueError):
    """The point lies outside the interval that the symbols of the model cover."""


class RangeDecoder:
    """Decodes symbols from ``data``, whose missing tail bytes are zero.

    ``lower``, ``range`` and ``point`` are the 64-bit state of clause 8.1, ``position`` the number of
    bytes read so far, counting supplied zeros.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.lower = 0
        self.range = _STATE
        self.position = 8
        self.point = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def decode_bit(self, probability: int) -> int:
        """One binary symbol; ``probability`` of a 1 is 1..4095, in units of 2^-12."""
        return self.decode([0, (4096 - probability) << (PRECISION - 12), 1 << PRECISION])

    def decode(self, cumulative: Sequence[int]) -> int:
        """One symbol of ``0 .. len(cumulative) - 2``.

        Symbol ``s`` has the interval from ``cumulative[s]`` to ``cumulative[s + 1]``, in units of 2^-24;
        the first number is 0, the last 2^24, and none is less than the one before.
        """
        scale = self.range >> PRECISION
        quantile = ((self.point - self.lower) & _STATE) // scale
        if quantile >> PRECISION:
            raise QuantileError
        symbol = bisect_right(cumulative, quantile) - 1
        self._narrow(scale * cumulative[symbol], scale * (cumulative[symbol + 1] - cumulative[symbol]))
        return symbol

    def _narrow(self, offset: int, width: int) -> None:
        self.lower = (self.lower + offset) & _STATE
        self.range = width
        if self.range >> 32 == 0:
            word = self._data[self.position : self.position + 4].ljust(4, b"\0")
            self.lower = (self.lower << 32) & _STATE
            self.range <<= 32
            self.point = ((self.point << 32) & _STATE) | int.from_bytes(word, "big")
            self.position += 4

    def is_canonical_end(self) -> bool:
        """Whether the message is the one that clause 8.3 prescribes for the symbols decoded so far.

        The message, extended by zeros, is a number inside the final interval. It has to be the least
        multiple of the greatest power of 256 that lies inside, and its trailing zero bytes are not stored.
        """
        stored = len(self._data)
        if stored > self.position or (stored and self._data[-1] == 0):
            return False
        inside = (self.point - self.lower) & _STATE
        return canonical_point(self.lower, self.range) == self.lower + inside


def canonical_point(lower: int, width: int) -> int:
    """The least multiple of the greatest power of 256 in ``[lower, lower + width)``."""
    unit = 1
    point = lower
    while True:
        unit <<= 8
        candidate = -(-lower // unit) * unit
        if candidate >= lower + width:
            return point
        point = candidate
        if unit > lower + width:
            return point


def seal(words: list[int], position: tuple[int, tuple[int, int]]) -> bytes:
    """The canonical message (clause 8.3) of an encoder that holds ``words`` at ``position``.

    ``words`` is what constriction's ``get_compressed()`` returns, any point of the final interval;
    ``position`` is its ``pos()``: the number of words before the 64-bit state, and (lower, range).
    """
    count, (lower, width) = position
    size = count + 2
    inside = 0
    for word in [*words, 0, 0][:size]:
        inside = inside << 32 | word
    inside <<= 32 * (size - min(size, len(words) + 2))
    low = inside - ((inside - lower) & _STATE)
    return canonical_point(low, width).to_bytes(4 * size, "big").rstrip(b"\0")
