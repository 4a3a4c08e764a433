"""Entropy coders that watch a section being decoded, or write it anew with other values.

Both stand in for the decoder that a section opens (``open_decoder``), so that they work for every section
whatever its syntax is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tgv_format import camera_poses, flow_tokens, interpolation, masks, text, trajectories
from tgv_format.entropy import BinaryCoder, Decoder, Encoder
from tgv_format.errors import TgvError
from tgv_format.range_coder import PRECISION, RangeDecoder, canonical_point

SECTIONS = (trajectories, flow_tokens, camera_poses, masks, text, interpolation)

#: What is being coded (``points[1].span``), and the context set, or the kind of a value without contexts.
Key = tuple[str, str]
Factory = Callable[[str, bytes, int, str], Any]


@contextmanager
def opened_by(factory: Factory) -> Iterator[None]:
    """Sections are decoded by the coder that ``factory`` makes of section, data, offset and path."""
    originals = [vars(module)["open_decoder"] for module in SECTIONS]

    def open_decoder(section: str, data: bytes, offset: int, path: str, trace: object) -> Any:
        return factory(section, data, offset, path)

    for module in SECTIONS:
        vars(module)["open_decoder"] = open_decoder
    try:
        yield
    finally:
        for module, original in zip(SECTIONS, originals, strict=True):
            vars(module)["open_decoder"] = original


@dataclass(frozen=True)
class State:
    """The range decoder after the last symbol of a section."""

    symbols: int
    lower: int
    range: int
    point: int
    next: int


class Observer(Decoder):
    """Decodes in plain Python integers; :attr:`state` is the state reached, :attr:`probabilities` the way."""

    def __init__(self, section: str, data: bytes, offset: int, path: str) -> None:
        super().__init__(section, data, offset, path)
        self._plain = RangeDecoder(data)
        self.bits: list[tuple[int, int]] = []

    # Symbol by symbol, each through _code.
    _adaptive = BinaryCoder._adaptive

    def _code(self, index: int, probability: int, bit: int) -> int:
        bit = self._plain.decode_bit(probability)
        self.bits.append((probability, bit))
        return bit

    def finish(self) -> None:
        """Nothing: the message has been checked before."""

    @property
    def state(self) -> State:
        plain = self._plain
        return State(len(self.bits), plain.lower, plain.range, plain.point, plain.position)


class _Keyed(BinaryCoder):
    """Hands every value to :meth:`_given` and :meth:`_seen` by its key: what is coded, and in which set."""

    _within = False

    def _given(self, key: Key) -> int:
        """The value to code."""
        return 0

    def _seen(self, key: Key, value: int) -> None:
        """The value that was coded."""

    def bit(self, name: str, offset: int, value: int = 0) -> int:
        return self._value(name, value, partial(super().bit, name, offset))

    def bypass(self, bits: int, value: int = 0) -> int:
        return self._value("bypass", value, partial(super().bypass, bits))

    def uniform(self, count: int, value: int = 0) -> int:
        return self._value("uniform", value, partial(super().uniform, count))

    def unsigned(self, name: str, offset: int, value: int = 0) -> int:
        return self._value(name, value, partial(super().unsigned, name, offset))

    def signed(self, name: str, offset: int, value: int = 0) -> int:
        return self._value(name, value, partial(super().signed, name, offset))

    def _value(self, name: str, value: int, code: Callable[[int], int]) -> int:
        # An escape uses bypass() for its own bits.
        if self._within:
            return code(value)
        element = self.element
        key = (element if isinstance(element, str) else "{}[{}].{}".format(*element)), name
        self._within = True
        try:
            coded = code(self._given(key))
        finally:
            self._within = False
        self._seen(key, coded)
        return coded


class Recorder(_Keyed, Decoder):
    """Decodes, and keeps all values in order, by key."""

    def __init__(self, section: str, data: bytes, offset: int, path: str) -> None:
        super().__init__(section, data, offset, path)
        self.values: defaultdict[Key, list[int]] = defaultdict(list)

    def _seen(self, key: Key, value: int) -> None:
        self.values[key].append(value)


class Rewriter(_Keyed, Encoder):
    """Stands in for a decoder, but takes its values from ``values`` and writes them to :attr:`message`.

    Where the values of a key are used up, they are 0.
    """

    message = b""

    def __init__(self, section: str, path: str, values: Mapping[Key, list[int]]) -> None:
        super().__init__(section)
        self._path = path
        self._left = {key: iter(found) for key, found in values.items()}

    def _given(self, key: Key) -> int:
        return next(self._left.get(key, iter(())), 0)

    def error(self, identifier: str, detail: str) -> TgvError:
        """An error at the element being written."""
        element = self.element
        name = element if isinstance(element, str) else "{}[{}].{}".format(*element)
        return TgvError(identifier, 0, f"{self._path}.{name}", detail)

    _fail = error

    def finish(self) -> bytes:
        self.message = super().finish()
        return self.message


def beyond(bits: list[tuple[int, int]]) -> bytes:
    """The least message that begins with these symbols and then names no symbol at all (clause 8.2).

    ``bits`` are probabilities and symbols. ValueError when the range leaves no room behind the symbols.
    """
    lower, width, power = 0, (1 << 64) - 1, 64
    for probability, bit in bits:
        scale = width >> PRECISION
        split = scale * ((4096 - probability) << (PRECISION - 12))
        lower, width = (lower + split, scale * (probability << 12)) if bit else (lower, split)
        if width >> 32 == 0:
            lower, width, power = lower << 32, width << 32, power + 32
    first = lower + ((width >> PRECISION) << PRECISION)
    if first == lower + width:
        raise ValueError("there is no number behind the symbols")
    return canonical_point(first, lower + width - first).to_bytes(power // 8, "big").rstrip(b"\0")
