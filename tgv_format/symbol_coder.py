"""Symbols of many values with fixed frequencies (specification clause 7.6.4), through constriction.

As in :mod:`tgv_format.entropy`, one interface serves both directions: every method takes the values to code
and returns the values coded, and a decoder only looks at how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from tgv_format.entropy import TraceSink, exact_model
from tgv_format.errors import TgvError
from tgv_format.range_coder import QuantileError, RangeDecoder, seal
from tgv_format.syntax import ParameterError
from tgv_format.tables import load

#: The greatest number of bits of an escape, see :meth:`SymbolCoder.escape`.
ESCAPE_BITS: int = load("latents")["escape_bits"]

Symbols = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Distribution:
    """Frequencies, int32, of ``low .. high`` and of an escape; they are positive and sum to 2^24."""

    low: int
    frequencies: NDArray[np.int32]

    @property
    def high(self) -> int:
        return self.low + len(self.frequencies) - 2

    @property
    def escape(self) -> int:
        """Its index, the last."""
        return len(self.frequencies) - 1

    @cached_property
    def model(self) -> Any:
        """constriction's model of the indices of ``frequencies``."""
        return exact_model(self.frequencies)

    @cached_property
    def cumulative(self) -> list[int]:
        """The sum of the frequencies before each index, and 2^24."""
        return list(accumulate(self.frequencies.tolist(), initial=0))


BIT = Distribution(0, np.array([1 << 23, 1 << 23], np.int32))


class SymbolCoder:
    """Codes values over one primitive, ``_code(element, distribution, indices) -> indices``."""

    def _code(self, element: str, distribution: Distribution, indices: Symbols) -> Symbols:
        raise NotImplementedError

    def _fail(self, element: str, detail: str) -> Exception:
        raise NotImplementedError

    def values(
        self, element: str, distribution: Distribution, values: Symbols
    ) -> tuple[Symbols, NDArray[np.intp]]:
        """Code ``values``; those outside ``low .. high`` as escapes.

        Returns the values, where there are escapes any number, and the positions of the escapes.
        """
        indices = self._code(element, distribution, values - distribution.low)
        return indices + distribution.low, np.flatnonzero(indices == distribution.escape)

    def escape(self, element: str, distribution: Distribution, value: int) -> int:
        """Code a value outside ``low .. high``: on which side, and how far away as an Exp-Golomb code."""
        low, high = distribution.low, distribution.high
        below = self._bit(element, value < low)
        away = low - value if below else value - high
        length = 0
        while self._bit(element, away >> (length + 1) > 0):
            length += 1
            if length > ESCAPE_BITS:
                raise self._fail(element, f"an escape longer than {ESCAPE_BITS} bits")
        away_coded = 1
        for shift in range(length - 1, -1, -1):
            away_coded = away_coded << 1 | self._bit(element, away >> shift & 1)
        return low - away_coded if below else high + away_coded

    def _bit(self, element: str, value: int) -> int:
        return int(self._code(element, BIT, np.array([value], np.int32))[0])


class SymbolEncoder(SymbolCoder):
    """Writes through constriction's ``RangeEncoder``."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def _code(self, element: str, distribution: Distribution, indices: Symbols) -> Symbols:
        inside = (indices >= 0) & (indices <= distribution.escape)
        coded = np.where(inside, indices, np.int32(distribution.escape))
        self._coder.encode(coded, distribution.model)
        return coded

    def _fail(self, element: str, detail: str) -> Exception:
        return ParameterError("out-of-range", element, detail)

    def finish(self) -> bytes:
        """The canonical message (clause 8.3)."""
        return seal(self._coder.get_compressed().tolist(), self._coder.pos())


class SymbolDecoder(SymbolCoder):
    """Reads ``data``, which stands at byte ``offset``, and encodes again what it reads for :meth:`finish`."""

    def __init__(self, data: bytes, offset: int, path: str) -> None:
        self._data = data
        self._offset = offset
        self._path = path
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._echo = SymbolEncoder()

    def _code(self, element: str, distribution: Distribution, indices: Symbols) -> Symbols:
        try:
            found: Symbols = self._coder.decode(distribution.model, len(indices))
        except AssertionError:
            raise self._invalid(element) from None
        return self._echo._code(element, distribution, found)

    def _error(self, identifier: str, element: str, detail: str) -> TgvError:
        return TgvError(identifier, self._offset, f"{self._path}.{element}", detail)

    def _fail(self, element: str, detail: str) -> Exception:
        return self._error("out-of-range", element, detail)

    def _invalid(self, element: str) -> TgvError:
        return self._error("entropy-invalid", element, "the data is no message of this model")

    def finish(self) -> None:
        """Check that the message is the canonical one of its symbols (clause 8.3)."""
        if self._echo.finish() != self._data:
            raise self._not_canonical()

    def _not_canonical(self) -> TgvError:
        detail = "another message is prescribed for these symbols"
        return TgvError("non-canonical", self._offset, self._path, detail)


class TracingSymbolDecoder(SymbolDecoder):
    """Reads through the plain-Python decoder and reports every symbol to ``sink``."""

    def __init__(self, data: bytes, offset: int, path: str, sink: TraceSink) -> None:
        super().__init__(data, offset, path)
        self._plain = RangeDecoder(data)
        self._sink = sink

    def _code(self, element: str, distribution: Distribution, indices: Symbols) -> Symbols:
        return np.array([self._symbol(element, distribution) for _ in range(len(indices))], np.int32)

    def _symbol(self, element: str, distribution: Distribution) -> int:
        plain = self._plain
        record: dict[str, object] = {
            "path": f"{self._path}.{element}",
            "lower": f"{plain.lower:016x}",
            "range": f"{plain.range:016x}",
            "point": f"{plain.point:016x}",
            "bit_offset": 8 * (self._offset + plain.position - 8),
        }
        try:
            index = plain.decode(distribution.cumulative)
        except QuantileError:
            raise self._invalid(element) from None
        self._sink(record | {"interval": distribution.cumulative[index : index + 2], "value": index})
        return index

    def finish(self) -> None:
        if not self._plain.is_canonical_end():
            raise self._not_canonical()
