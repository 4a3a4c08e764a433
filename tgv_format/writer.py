"""Writing a sequence unit by unit, in memory bounded by one unit (specification clause 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

from tgv_format import clip as clip_module
from tgv_format import end as end_module
from tgv_format import generator_hint, group, keyframe, sequence
from tgv_format.canonical import SequenceDigest
from tgv_format.clip import Clip
from tgv_format.container import SIGNATURE, UnitType, write_unit
from tgv_format.end import EndOfSequence
from tgv_format.generator_hint import GeneratorHint
from tgv_format.keyframe import Keyframe
from tgv_format.reader import Order, Track
from tgv_format.sequence import SequenceHeader


class Writer:
    """Writes a stream to ``stream``, which need not be seekable.

    ``bytes_by_part`` counts every byte written so far, by what it is spent on; the values add up to the
    size of the file. Units out of order raise :class:`tgv_format.errors.TgvError`, parameters that cannot
    be coded raise :class:`tgv_format.syntax.ParameterError`.
    """

    def __init__(self, stream: BinaryIO, header: SequenceHeader) -> None:
        self._stream = stream
        self.header = header
        self.bytes_by_part: Counter[str] = Counter()
        self._order = Order()
        self._track = Track()
        self._digest = SequenceDigest()
        self._digest.update(header.to_json())
        self._put("signature", SIGNATURE)
        self._unit(UnitType.SEQUENCE, sequence.encode(header), {"sequence_header": -1}, crc=True)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.bytes_by_part.total()

    @property
    def frames(self) -> int:
        """Frames that the units written so far describe."""
        return self._order.frames

    def keyframe(self, unit: Keyframe) -> None:
        payload = keyframe.encode(unit)
        self._take(unit)
        self._unit(UnitType.KEYFRAME, payload, {"keyframes": len(unit.payload), "keyframe_framing": -1})

    def clip(self, unit: Clip) -> None:
        payload = clip_module.encode(unit, self.header)
        self._take(unit)
        self._unit(UnitType.CLIP, payload, {**self._sections(payload), "clip_framing": -1})

    def group(self, pairs: Sequence[group.Pair]) -> list[Counter[str]]:
        """Write trailing dependent keyframes and their clips, all of one length, as one unit (clause 5.6).

        Returns the bytes by part that each pair takes, the first those of the unit's own framing too.
        """
        head, *intervals = group.encode(pairs, self.header)
        costs = []
        before = b""
        for interval, (coded, described) in zip(intervals, pairs, strict=True):
            self._take(coded)
            self._take(described)
            sections = clip_module.encode(described, self.header)
            cost = Counter({"keyframes": len(coded.payload)})
            cost.update(self._sections(sections) if sections != before else {})
            cost["group_framing"] = len(interval) - cost.total()
            costs.append(cost)
            before = sections
        payload = head + b"".join(intervals)
        size = self.size
        self._unit(UnitType.GROUP, payload, {**sum(costs, Counter()), "group_framing": -1})
        costs[0]["group_framing"] += self.size - size - sum(cost.total() for cost in costs)
        return costs

    def generator_hint(self, unit: GeneratorHint) -> None:
        self._unit(UnitType.GENERATOR_HINT, generator_hint.encode(unit), {"generator_hint": -1})

    def finish(self) -> None:
        """Write the end-of-sequence unit."""
        end = EndOfSequence(self.frames, self._digest.value())
        self._order.check(end, self.size)
        self._unit(UnitType.END, end_module.encode(end), {"end_of_sequence": -1})

    def _take(self, unit: Keyframe | Clip) -> None:
        """Check the order and go on with the digest."""
        if isinstance(unit, Keyframe):
            self._track.check(unit, self.size, "keyframe")
        self._order.check(unit, self.size)
        self._digest.update(unit.to_json())

    def _sections(self, payload: bytes) -> dict[str, int]:
        """Bytes of the sections of a clip unit's payload, by name."""
        _, sections = clip_module.split(payload, 0, "clip", self.header.limits)
        return {clip_module.SectionType(s.section_type).name.lower(): len(s.body) for s in sections}

    def _unit(self, kind: UnitType, payload: bytes, parts: dict[str, int], crc: bool | None = None) -> None:
        data = write_unit(kind, payload, self.header.crc if crc is None else crc)
        rest = len(data) - sum(size for size in parts.values() if size >= 0)
        self.bytes_by_part.update({name: rest if size < 0 else size for name, size in parts.items()})
        self._stream.write(data)

    def _put(self, part: str, data: bytes) -> None:
        self.bytes_by_part[part] += len(data)
        self._stream.write(data)
