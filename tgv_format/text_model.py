"""The model of text bytes (specification clause 9.3.2): contexts of one, two and four bytes, mixed.

Every bit of a byte is predicted from the bits before it in the byte and from the one, two and four bytes
before that. The predictions of those contexts that have been met are added in the logistic domain. A section
starts with the states that the captions of ``spec/tables/text.json`` leave behind.
"""

from __future__ import annotations

from functools import cache

from tgv_format.entropy import BinaryCoder
from tgv_format.tables import load

_TABLE = load("text")
#: The numbers of preceding bytes that make a context.
ORDERS: tuple[int, ...] = tuple(_TABLE["orders"])
_MASKS = [(1 << 8 * order) - 1 for order in ORDERS]
_COUNT_LIMIT: int = _TABLE["count_limit"]
_SQUASH: list[int] = _TABLE["squash"]
#: Weights of the orders, in 1/256, by the number of orders whose state has been met before.
WEIGHTS: list[list[int]] = _TABLE["weights"]

#: The byte after the last one of a text, and before the first.
END = 0
#: A state is a probability of 16 bits above a count of 8 bits; this one has not been met.
FRESH = 32768 << 8

#: The states of one context by node; a node is a 1 and the bits of the byte so far.
States = dict[int, int]
#: The node and the value of every bit of a byte, for all bytes.
_STEPS = [
    [((0x100 | byte) >> shift + 1, byte >> shift & 1) for shift in range(7, -1, -1)] for byte in range(256)
]


def squash(logit: int) -> int:
    """The probability, 1..4094 in 1/4096, of a logit in 1/256, which is clamped to -2048..2047."""
    index, part = divmod(min(max(logit, -2048), 2047) + 2048, 128)
    return (_SQUASH[index] * (128 - part) + _SQUASH[index + 1] * part + 64) >> 7


def _inverse() -> list[int]:
    logits: list[int] = []
    for logit in range(-2048, 2048):
        logits += [logit] * (squash(logit) + 1 - len(logits))
    return logits + [2047] * (4096 - len(logits))


#: The least logit whose probability is not smaller, for every probability in 1/4096.
STRETCH = _inverse()
#: The probability of every sum of weighted logits, beginning with -_REACH.
_REACH = 8 * max(map(sum, WEIGHTS)) + 1
_PROBABILITY = [squash(logit) for logit in range(-_REACH, _REACH)]


class TextModel:
    """Codes bytes, and learns from them; begins where ``primed`` ended, or from nothing."""

    def __init__(self, primed: TextModel | None = None) -> None:
        self._contexts: list[dict[int, States]] = [{} for _ in ORDERS]
        self._primed = primed._contexts if primed else self._contexts
        self._history = 0

    def states(self) -> list[States]:
        """The states for the next byte, one dictionary an order."""
        found = []
        for contexts, primed, mask in zip(self._contexts, self._primed, _MASKS, strict=True):
            key = self._history & mask
            if key not in contexts:
                contexts[key] = primed.get(key, {}).copy()
            found.append(contexts[key])
        return found

    def learn(self, byte: int) -> None:
        """Adapt to a byte without coding it."""
        for states in self.states():
            for node, bit in _STEPS[byte]:
                states[node] = updated(states.get(node, FRESH), bit)
        self._advance(byte)

    def code(self, coder: BinaryCoder, value: int = 0) -> int:
        """Code a byte, and adapt to it."""
        # Spelled out for three orders: text takes its time here.
        (a1,), (a2, b2), (a3, b3, c3) = WEIGHTS[1:]
        first, second, third = self.states()
        node = 1
        for shift in range(7, -1, -1):
            a, b, c = first.get(node, FRESH), second.get(node, FRESH), third.get(node, FRESH)
            # A context that has been met has been met without its first bytes, too.
            if c != FRESH:
                total = a3 * STRETCH[a >> 12] + b3 * STRETCH[b >> 12] + c3 * STRETCH[c >> 12]
            elif b != FRESH:
                total = a2 * STRETCH[a >> 12] + b2 * STRETCH[b >> 12]
            elif a != FRESH:
                total = a1 * STRETCH[a >> 12]
            else:
                total = 0
            bit = coder.symbol(_PROBABILITY[(total >> 8) + _REACH], value >> shift & 1)
            first[node] = updated(a, bit)
            second[node] = updated(b, bit)
            third[node] = updated(c, bit)
            node = node << 1 | bit
        self._advance(node & 0xFF)
        return node & 0xFF

    def _advance(self, byte: int) -> None:
        self._history = 0 if byte == END else (self._history << 8 | byte) & 0xFFFFFFFF


def updated(state: int, bit: int) -> int:
    """``state`` after ``bit``."""
    count = state & 0xFF
    probability = state >> 8
    if bit:
        probability += ((65535 - probability) << 2) // (4 * count + 5)
    else:
        probability -= (probability << 2) // (4 * count + 5)
    return probability << 8 | (count + 1 if count < _COUNT_LIMIT else count)


def coded(text: str) -> bytes:
    """The bytes that stand for ``text``: the complement of its UTF-8, and the end.

    No byte of UTF-8 is 0xFF, and the end comes where the bits of the section run out: they are zeros.
    """
    return bytes(0xFF - byte for byte in text.encode("utf-8")) + bytes([END])


@cache
def primed() -> TextModel:
    """The model at the start of a section; not to be changed."""
    model = TextModel()
    for caption in _TABLE["captions"]:
        for byte in coded(caption):
            model.learn(byte)
    return model
