"""Rate control: which keyframe quality fills the budget of a window of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refenc.keyframes import CodedPicture, KeyframeCodec
from tgv_format.picture import Picture

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

    def fit(self, budget: float) -> list[int]:
        """Steps, at most one apart, whose size is nearest to ``budget`` bytes without a needless excess.

        All groups get the highest step that fits, then as many as fit get the next one.
        """
        count = len(self.groups)
        low, high = 0, len(self.codec.ladder) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.size([middle] * count) <= budget:
                low = middle
            else:
                high = middle - 1
        steps = [low] * count
        if low == len(self.codec.ladder) - 1 or self.size(steps) > budget:
            return steps
        for i in range(count):
            finer = [*steps[:i], low + 1, *steps[i + 1 :]]
            if abs(self.size(finer) - budget) < abs(self.size(steps) - budget):
                steps = finer
        return steps


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
