"""Adaptive binary coding through constriction (specification clauses 8.2, 8.4 and 8.5).

One interface, :class:`BinaryCoder`, serves both directions: every method takes the value to code and
returns the value coded. An encoder returns its argument, a decoder ignores it. A section describes its
syntax once, in terms of these methods, and encoder and decoder cannot drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from tgv_format.errors import TgvError
from tgv_format.range_coder import QuantileError, RangeDecoder, seal
from tgv_format.tables import load

#: The constants of the probability estimators and the layout of the contexts (``spec/tables/contexts.json``).
_CONTEXTS = load("contexts")
_FAST: int = _CONTEXTS["estimator"]["fast_rate"]
_SLOW: int = _CONTEXTS["estimator"]["slow_rate"]
_START: int = _CONTEXTS["estimator"]["start_rate"]
_PREFIX: int = _CONTEXTS["binarisation"]["prefix_contexts"]
_UNARY: int = _CONTEXTS["binarisation"]["unary_limit"]
_ESCAPE_BITS: int = _CONTEXTS["binarisation"]["escape_bits"]

#: The largest value that :meth:`BinaryCoder.unsigned` codes.
UNSIGNED_MAX = _UNARY - 2 + (2 << _ESCAPE_BITS)

#: The probability of an equiprobable bit, and the context index of bits without a context.
HALF = 2048
BYPASS = -1

TraceSink = Callable[[dict[str, object]], None]


def exact_model(frequencies: NDArray[np.int32]) -> Any:
    """constriction's model of symbols with these frequencies, which are at least 1 and sum to 2^24."""
    # constriction adds 1 to every weight and scales to 2^24: integer weights f - 1 make its scale exactly
    # 1, so that no rounding takes place.
    return constriction.stream.model.Categorical(frequencies.astype(np.float64) - 1.0, perfect=False)


class _Models(dict[int, Any]):
    """The model of a symbol by its probability, made when it is first asked for."""

    def __missing__(self, probability: int) -> Any:
        model = exact_model(np.array([(4096 - probability) << 12, probability << 12], np.int32))
        self[probability] = model
        return model


_MODELS = _Models()


#: An adaptive context: the fast and the slow estimate of the probability of a 1, and the rate (clause 8.4).
Context = list[int]


def probability(context: Context) -> int:
    """That of a 1 in units of 2^-12, 1 .. 4095."""
    return (context[0] + context[1]) >> 5


def adapt(context: Context, bit: int) -> None:
    """Let a context learn from a symbol."""
    fast, slow, rate = context
    if bit:
        context[0] = fast + ((65535 - fast) >> _FAST)
        context[1] = slow + ((65535 - slow) >> rate)
    else:
        context[0] = fast - (fast >> _FAST)
        context[1] = slow - (slow >> rate)
    if rate < _SLOW:
        context[2] = rate + 1


def fresh(initial: int) -> Context:
    """A context in its initial state."""
    return [initial, initial, _START]


class Layout:
    """The contexts of one section.

    ``initial`` are their initial states and ``names`` their names; ``first`` is the index of the first
    context of each set, ``signed`` those of a signed value's three sets.
    """

    def __init__(self, sets: dict[str, list[int]]) -> None:
        self.initial = [fresh(state) for states in sets.values() for state in states]
        self.names = [f"{name}[{i}]" for name, states in sets.items() for i in range(len(states))]
        sizes = map(len, sets.values())
        self.first = dict(zip(sets, accumulate(sizes, initial=0), strict=False))
        stems = [name.removesuffix("_zero") for name in sets if name.endswith("_zero")]
        self.signed = {
            stem: (self.first[f"{stem}_zero"], self.first[f"{stem}_sign"], self.first[f"{stem}_magnitude"])
            for stem in stems
        }

    def contexts(self) -> list[Context]:
        """All contexts in their initial states."""
        return [context.copy() for context in self.initial]


LAYOUTS = {section: Layout(sets) for section, sets in _CONTEXTS["sections"].items()}


class BinaryCoder:
    """Binarisations (clause 8.5) over one primitive, ``_code(index, probability, bit) -> bit``.

    A context is named by its set and an offset inside it, as in ``spec/tables/contexts.json``.
    ``element`` says what is being coded, for errors and traces: a name, or a tuple (name, index, member).
    """

    element: str | tuple[str, int, str] = ""

    def __init__(self, section: str) -> None:
        self._layout = LAYOUTS[section]
        self._contexts = self._layout.contexts()
        self._first = self._layout.first

    def _code(self, index: int, probability: int, bit: int) -> int:
        raise NotImplementedError

    def _fail(self, identifier: str, detail: str) -> Exception:
        raise NotImplementedError

    def _adaptive(self, index: int, value: int) -> int:
        context = self._contexts[index]
        bit = self._code(index, probability(context), value)
        adapt(context, bit)
        return bit

    def bit(self, name: str, offset: int, value: int = 0) -> int:
        """One bit in context ``name[offset]``."""
        return self._adaptive(self._first[name] + offset, value)

    def symbol(self, probability: int, value: int = 0) -> int:
        """One symbol without a context; ``probability`` is that of a 1, 1..4095 in 1/4096."""
        return self._code(BYPASS, probability, value)

    def bypass(self, bits: int, value: int = 0) -> int:
        """A value of ``bits`` equiprobable bits, most significant first."""
        result = 0
        for shift in range(bits - 1, -1, -1):
            result = result << 1 | self._code(BYPASS, HALF, value >> shift & 1)
        return result

    def uniform(self, count: int, value: int = 0) -> int:
        """A value of ``0 .. count - 1``, all alike in probability: bits from the most significant one."""
        result = 0
        for shift in reversed(range((count - 1).bit_length())):
            zeros = min(count - result, 1 << shift)
            ones = min(count - result - zeros, 1 << shift)
            if ones:
                probability = max(1, (ones << 12) // (zeros + ones))
                result |= self._code(BYPASS, probability, value >> shift & 1) << shift
        return result

    def unsigned(self, name: str, offset: int, value: int = 0) -> int:
        """A value of ``0 .. UNSIGNED_MAX``: unary prefix, then Exp-Golomb.

        Uses the contexts ``name[offset] .. name[offset + prefix_contexts - 1]``.
        """
        return self._unsigned(self._first[name] + offset, value)

    def _unsigned(self, first: int, value: int) -> int:
        for prefix in range(_UNARY):
            if not self._adaptive(first + prefix, value > prefix):
                return prefix
        coded = max(value - _UNARY, 0) + 1
        length = 0
        while self._adaptive(first + min(_UNARY + length, _PREFIX - 1), coded >> (length + 1) > 0):
            length += 1
            if length > _ESCAPE_BITS:
                raise self._fail("out-of-range", f"an escape longer than {_ESCAPE_BITS} bits")
        return _UNARY - 1 + (1 << length) + self.bypass(length, coded - (1 << length))

    def golomb(self, name: str, shift: int, value: int = 0) -> int:
        """A value of ``0 ..``: ``value >> shift`` as :meth:`unsigned`, then its ``shift`` low bits."""
        high = self.unsigned(name, 0, value >> shift)
        return high << shift | self.bypass(shift, value & ((1 << shift) - 1))

    def signed(self, name: str, offset: int, value: int = 0) -> int:
        """A signed value: zero flag, sign, and the magnitude minus one as :meth:`unsigned`.

        Contexts: ``NAME_zero[offset]``, ``NAME_sign[offset]`` and a row ``offset`` of ``NAME_magnitude``.
        """
        zero, sign, magnitude = self._layout.signed[name]
        if self._adaptive(zero + offset, value == 0):
            return 0
        negative = self._adaptive(sign + offset, value < 0)
        size = 1 + self._unsigned(magnitude + offset * _PREFIX, abs(value) - 1)
        return -size if negative else size


class Encoder(BinaryCoder):
    """Writes through constriction's ``RangeEncoder``."""

    def __init__(self, section: str) -> None:
        super().__init__(section)
        self._coder = constriction.stream.queue.RangeEncoder()

    def _code(self, index: int, probability: int, bit: int) -> int:
        self._coder.encode(bit, _MODELS[probability])
        return bit

    def _fail(self, identifier: str, detail: str) -> Exception:
        return ValueError(f"{self.element}: {identifier}, {detail}")

    def finish(self) -> bytes:
        """The canonical message (clause 8.3)."""
        return seal(self._coder.get_compressed().tolist(), self._coder.pos())


class Cost(BinaryCoder):
    """Counts bits instead of writing them: the rate of a rate-distortion decision.

    ``bits`` is the sum of -log2 of the adaptive probabilities; encoder-side, hence in floating point.
    """

    def __init__(self, section: str) -> None:
        super().__init__(section)
        self.bits = 0.0

    def _code(self, index: int, probability: int, bit: int) -> int:
        self.bits += BIT_COST[probability if bit else 4096 - probability]
        return bit

    def _fail(self, identifier: str, detail: str) -> Exception:
        return ValueError(f"{self.element}: {identifier}, {detail}")


#: Bits that a symbol of probability p / 4096 costs.
BIT_COST: list[float] = [math.inf, *(12.0 - math.log2(p) for p in range(1, 4097))]


class Decoder(BinaryCoder):
    """Reads through constriction's ``RangeDecoder``, encoding what it decodes again for :meth:`finish`.

    ``offset`` is the byte offset of ``data`` in the file, ``path`` the path of the section.
    """

    def __init__(self, section: str, data: bytes, offset: int, path: str) -> None:
        super().__init__(section)
        self._data = data
        self._offset = offset
        self._path = path
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4").astype(np.uint32)
        self._echo = constriction.stream.queue.RangeEncoder()
        self._decode_symbol = constriction.stream.queue.RangeDecoder(words).decode
        self._encode_symbol = self._echo.encode

    def _code(self, index: int, probability: int, bit: int) -> int:
        model = _MODELS[probability]
        try:
            bit = self._decode_symbol(model)
        except AssertionError:
            raise self._invalid() from None
        self._encode_symbol(bit, model)
        return bit

    def _adaptive(self, index: int, value: int) -> int:
        """As :class:`BinaryCoder` does it, but written out: a call costs as much as a symbol."""
        context = self._contexts[index]
        fast, slow, rate = context
        model = _MODELS[(fast + slow) >> 5]
        try:
            bit: int = self._decode_symbol(model)
        except AssertionError:
            raise self._invalid() from None
        self._encode_symbol(bit, model)
        if bit:
            context[0] = fast + ((65535 - fast) >> _FAST)
            context[1] = slow + ((65535 - slow) >> rate)
        else:
            context[0] = fast - (fast >> _FAST)
            context[1] = slow - (slow >> rate)
        if rate < _SLOW:
            context[2] = rate + 1
        return bit

    def error(self, identifier: str, detail: str) -> TgvError:
        """An error at the element being decoded."""
        name = self.element if isinstance(self.element, str) else "{}[{}].{}".format(*self.element)
        return TgvError(identifier, self._offset, f"{self._path}.{name}", detail)

    _fail = error

    def _invalid(self) -> TgvError:
        return self.error("entropy-invalid", "the data is no message of this model")

    def finish(self) -> None:
        """Check that the message is the canonical one of its symbols (clause 8.3)."""
        if seal(self._echo.get_compressed().tolist(), self._echo.pos()) != self._data:
            raise self.error("non-canonical", "another message is prescribed for these symbols")


class TracingDecoder(Decoder):
    """Reads through the plain-Python decoder and reports every symbol to ``sink``."""

    def __init__(self, section: str, data: bytes, offset: int, path: str, sink: TraceSink) -> None:
        super().__init__(section, data, offset, path)
        self._plain = RangeDecoder(data)
        self._sink = sink

    # Symbol by symbol, each through _code.
    _adaptive = BinaryCoder._adaptive

    def _code(self, index: int, probability: int, bit: int) -> int:
        plain = self._plain
        name = self.element if isinstance(self.element, str) else "{}[{}].{}".format(*self.element)
        record: dict[str, object] = {
            "path": f"{self._path}.{name}",
            "context": self._layout.names[index] if index != BYPASS else None,
            "probability": probability,
            "lower": f"{plain.lower:016x}",
            "range": f"{plain.range:016x}",
            "point": f"{plain.point:016x}",
            "bit_offset": 8 * (self._offset + plain.position - 8),
        }
        try:
            bit = plain.decode_bit(probability)
        except QuantileError:
            raise self._invalid() from None
        self._sink(record | {"value": bit})
        return bit

    def finish(self) -> None:
        if not self._plain.is_canonical_end():
            raise self.error("non-canonical", "another message is prescribed for these symbols")


def open_decoder(section: str, data: bytes, offset: int, path: str, trace: TraceSink | None) -> Decoder:
    """The decoder of a section's entropy-coded ``data``; the tracing one where there is a ``trace``."""
    if trace is None:
        return Decoder(section, data, offset, path)
    return TracingDecoder(section, data, offset, path, trace)
