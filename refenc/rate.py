"""Rate control: which keyframe quality fills the budget of a window of clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refenc.keyframes import CodedPicture, KeyframeCodec
from tgv_format.picture import Picture

# Of the logarithm of the size, by step of a ladder.
_SLOPE = 0.035
_NEAR = 0.015

Mapper = Callable[..., "list[list[CodedPicture]]"]


@dataclass
class Keyframes:
    """The keyframes of a window, coded at any step of the codec's ladder on demand, each group only once.

    ``groups`` are those that ``codec`` codes together; there is one step for each. ``mapper`` applies a
    function to several arguments, maybe at once, and returns a list in their order.
    """

    groups: Sequence[Sequence[Picture]]
    codec: KeyframeCodec
    mapper: Mapper
    _coded: dict[tuple[int, int], list[CodedPicture]] = field(default_factory=dict)

    def at(self, steps: Sequence[int]) -> list[CodedPicture]:
        """Every picture at the step of its group."""
        missing = [(i, s) for i, s in enumerate(steps) if (i, s) not in self._coded]
        coded = self.mapper(self.codec.encode, [self.groups[i] for i, _ in missing], [s for _, s in missing])
        self._coded.update(zip(missing, coded, strict=True))
        return [picture for i, s in enumerate(steps) for picture in self._coded[i, s]]

    def size(self, steps: Sequence[int]) -> int:
        """Bytes of all payloads."""
        return sum(len(c.payload) for c in self.at(steps))

    def fit(self, budget: float, start: int | None = None) -> list[int]:
        """Steps, at most one apart, whose size is nearest to ``budget`` bytes without a needless excess.

        All groups get the highest step that is found to fit, then as many as fit get the next one. The search
        begins at ``start``.
        """
        count, top = len(self.groups), len(self.codec.ladder) - 1
        low, high = -1, top + 1
        known: list[tuple[int, float]] = []
        step = top // 3 if start is None else start
        while True:
            known.append((step, math.log(self.size([step] * count) / max(budget, 1.0))))
            if -_NEAR < known[-1][1] <= 0:
                return [step] * count
            if known[-1][1] <= 0:
                low = step
            else:
                high = step
            if high - low <= 1:
                break
            step = min(max(_guess(known), low + 1), high - 1)
        if high > top or low < 0:
            return [min(max(low, 0), top)] * count
        steps = [low] * count
        for i in range(count):
            finer = [*steps[:i], high, *steps[i + 1 :]]
            if abs(self.size(finer) - budget) < abs(self.size(steps) - budget):
                steps = finer
        return steps


def _guess(known: list[tuple[int, float]]) -> int:
    """The step at which the logarithm of the size is 0, if sizes are exponential, by those that are known."""
    step, value = known[-1]
    slope = _SLOPE
    if len(known) > 1:
        before, other = min(known[:-1], key=lambda one: abs(one[1]))
        slope = min(max((value - other) / (step - before), _SLOPE / 2), 2 * _SLOPE)
    return step - math.floor(value / slope + 0.5)


@dataclass
class Budget:
    """Bytes to spend at a constant rate, carried from window to window."""

    bits_per_frame: float
    balance: float = 0.0

    def grant(self, frames: int) -> float:
        """Bytes for a window of ``frames`` frames, including what earlier windows left or overdrew."""
        share = self.bits_per_frame * frames / 8
        return share + max(-share / 2, min(self.balance, share / 2))

    def settle(self, frames: int, spent: int) -> None:
        self.balance += self.bits_per_frame * frames / 8 - spent
