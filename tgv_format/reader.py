"""Reading a sequence unit by unit (specification clauses 5.3, 5.5 and 11.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from tgv_format import clip as clip_module
from tgv_format import end as end_module
from tgv_format import generator_hint, group, keyframe, sequence
from tgv_format.canonical import SequenceDigest
from tgv_format.clip import Clip
from tgv_format.container import Unit, UnitReader, UnitType
from tgv_format.end import EndOfSequence
from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.generator_hint import GeneratorHint
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.sequence import SequenceHeader

Element = Keyframe | Clip | GeneratorHint | EndOfSequence


class Reader:
    """The decoded units of a stream, in order, in memory bounded by one unit.

    ``header`` is read at once. Iterating yields keyframes, clips and generator hints as they arrive and
    the end of the sequence last; a fault raises :class:`TgvError`. With ``conceal``, a function, faults
    after the sequence header are handed to it instead and reading goes on at the next intact unit.
    ``trace`` receives every entropy-coded symbol.
    """

    def __init__(
        self,
        stream: BinaryIO,
        trace: TraceSink | None = None,
        conceal: Callable[[TgvError], None] | None = None,
    ) -> None:
        self._units = UnitReader(stream)
        self._units.signature()
        unit = self._units.read()
        if unit is None:
            raise TgvError("truncated", self._units.offset, "sequence", "there is no sequence header")
        if unit.unit_type != UnitType.SEQUENCE:
            raise TgvError("unit-order", unit.offset, "sequence", "the first unit is no sequence header")
        self.header: SequenceHeader = sequence.decode(unit.payload, unit.offset)
        self._units.crc = self.header.crc
        self._units.max_bytes = self.header.limits.unit_bytes
        self._trace = trace
        self._conceal = conceal
        self._damaged = False
        self._digest = SequenceDigest()
        self._digest.update(self.header.to_json())
        self._order = Order()
        self._track = Track()
        self._counts = {"keyframe": 0, "clip": 0, "group": 0}
        self._group: Iterator[Unit] = iter(())

    def __iter__(self) -> Iterator[Element]:
        while True:
            try:
                element = self._next()
            except TgvError as error:
                if self._conceal is None:
                    raise
                self._damaged = True
                self._conceal(error)
                if not error.path.startswith("clip"):
                    self._track = Track()
                if self._stuck(error) and not self._units.resynchronise():
                    return
                continue
            if element is not None:
                yield element
            if isinstance(element, EndOfSequence):
                return

    def _stuck(self, error: TgvError) -> bool:
        """Whether the fault lies in the framing, so that the unit has not been consumed."""
        return error.path.startswith("unit")

    def _next(self) -> Element | None:
        unit = next(self._group, None) or self._units.read()
        if unit is None:
            raise TgvError("truncated", self._units.offset, "unit", "there is no end-of-sequence unit")
        element = self._decode(unit)
        if element is None or isinstance(element, GeneratorHint):
            return element
        if isinstance(element, EndOfSequence):
            self._end(element, unit.offset)
        else:
            if self._conceal is None:
                self._order.check(element, unit.offset)
            self._digest.update(element.to_json())
        return element

    def _decode(self, unit: Unit) -> Element | None:
        kind, data, offset = unit.unit_type, unit.payload, unit.offset
        if kind == UnitType.KEYFRAME:
            path = self._path("keyframe")
            found = keyframe.decode(data, offset, path)
            self._track.check(found, offset, path)
            return found
        if kind == UnitType.CLIP:
            return clip_module.decode(data, offset, self._path("clip"), self.header, self._trace)
        if kind == UnitType.GROUP:
            self._group = group.decode(data, offset, self._path("group"))
            return None
        if kind == UnitType.END:
            return end_module.decode(data, offset)
        if kind == UnitType.GENERATOR_HINT:
            return generator_hint.decode(data, offset, "generator_hint")
        if kind == UnitType.SEQUENCE:
            raise TgvError("unit-order", offset, "sequence", "a second sequence header")
        if unit.ancillary:
            return None
        raise TgvError("unknown-critical", offset, "file", f"unit type {kind:#04x} is unknown")

    def _path(self, name: str) -> str:
        self._counts[name] += 1
        return f"{name}[{self._counts[name] - 1}]"

    def _end(self, end: EndOfSequence, offset: int) -> None:
        if self._conceal is None:
            self._order.check(end, offset)
        # Where something was damaged, the digest would only say so again.
        if not self._damaged and end.digest != self._digest.value():
            error = TgvError(
                "digest-mismatch", offset, "end.digest", "the decoded parameters have another digest"
            )
            if self._conceal is None:
                raise error
            else:
                self._conceal(error)
        if not self._units.at_end():
            error = TgvError(
                "trailing-data", self._units.offset, "file", "bytes follow the end of the sequence"
            )
            if self._conceal is None:
                raise error
            self._conceal(error)


class Order:
    """The order of units and the count of frames (clause 5.3): what may follow what."""

    def __init__(self) -> None:
        self.frames = 0
        self._pending: Keyframe | None = None
        self._counts = {Keyframe: 0, Clip: 0, EndOfSequence: 0}

    def check(self, element: Keyframe | Clip | EndOfSequence, offset: int) -> None:
        """Take the next unit; TgvError ``unit-order`` or ``frame-number`` when it may not stand here."""
        number = self._counts[type(element)]
        self._counts[type(element)] += 1
        if isinstance(element, Clip):
            self._clip(element, offset, f"clip[{number}]")
            return
        path = f"keyframe[{number}]" if isinstance(element, Keyframe) else "end"
        if self._pending is not None:
            raise TgvError("unit-order", offset, path, "a trailing keyframe waits for its clip")
        if isinstance(element, EndOfSequence):
            if element.frame_count != self.frames:
                detail = f"{element.frame_count} frames announced, {self.frames} coded"
                raise TgvError("frame-number", offset, f"{path}.frame_count", detail)
        elif element.role is Role.TRAILING:
            if not self.frames:
                raise TgvError("unit-order", offset, path, "the first keyframe is a trailing one")
            self._pending = element
        else:
            self._number(element, self.frames, offset, path)
            self.frames += 1

    def _clip(self, clip: Clip, offset: int, path: str) -> None:
        if not self.frames:
            raise TgvError("unit-order", offset, path, "a clip before the first keyframe")
        self.frames += clip.frame_count
        if self._pending is not None:
            self._number(self._pending, self.frames - 1, offset, path)
            self._pending = None

    @staticmethod
    def _number(keyframe: Keyframe, expected: int, offset: int, path: str) -> None:
        if keyframe.frame_number != expected % 256:
            detail = f"the keyframe is numbered {keyframe.frame_number}, not {expected % 256}"
            raise TgvError("frame-number", offset, f"{path}.frame_number", detail)


class Track:
    """The keyframe before, which a dependent one continues (clause 5.3)."""

    def __init__(self) -> None:
        self._before: tuple[Codec, int] | None = None

    def check(self, keyframe: Keyframe, offset: int, path: str) -> None:
        """Take the next keyframe; TgvError ``unit-order`` when it depends on one that there is not."""
        kind = keyframe.codec, keyframe.downscale_log2
        if keyframe.dependent and kind != self._before:
            detail = "the keyframe before is none of its codec and size, on which it could depend"
            raise TgvError("unit-order", offset, path, detail)
        self._before = kind
