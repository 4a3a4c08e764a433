"""From decoded units to frames (specification clauses 5.3, 5.5 and 10.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from refdec.baseline import Mapper, reconstruct
from refdec.interpolation import sharpened
from refdec.keyframes import KeyframeDecoder
from tgv_format.clip import Clip
from tgv_format.end import EndOfSequence
from tgv_format.errors import TgvError
from tgv_format.keyframe import Keyframe, Role
from tgv_format.picture import Picture
from tgv_format.reader import Element
from tgv_format.sequence import SequenceHeader


@dataclass
class Decoder:
    """Turns the units of a sequence into its pictures, one clip at a time.

    ``start`` and ``frames`` select the frames that are returned; frames outside are not reconstructed.
    ``mapper`` may compute the frames of a clip at once. With ``conceal``, what is missing or damaged is
    replaced by what there is (clause 5.5), and faults of keyframes are handed to it.
    """

    header: SequenceHeader
    start: int = 0
    frames: int | None = None
    mapper: Mapper = map
    conceal: Callable[[TgvError], None] | None = None

    def __post_init__(self) -> None:
        self._next = 0
        self._keyframes = 0
        self._track = KeyframeDecoder(self.header.width, self.header.height, self.header.colour)
        self._shown: Picture | None = None
        self._pending: tuple[Keyframe, Picture] | None = None
        # That of a leading keyframe, until it is known whether the clip after it sharpens it.
        self._waiting: Picture | None = None

    @property
    def finished(self) -> bool:
        """Whether every frame that was asked for has been returned."""
        waits = self._waiting is not None
        return self.frames is not None and self._next >= self.start + self.frames and not waits

    def pictures(self, elements: Iterable[Element]) -> Iterator[Picture]:
        """The pictures of the chosen frames, in order."""
        try:
            yield from self._pictures(elements)
        except TgvError:
            # What is known to be good is shown before the fault is told.
            yield from self._release()
            raise
        yield from self._release()

    def _pictures(self, elements: Iterable[Element]) -> Iterator[Picture]:
        for element in elements:
            if isinstance(element, Keyframe):
                yield from self._keyframe(element)
            elif isinstance(element, Clip):
                yield from self._clip(element)
            elif isinstance(element, EndOfSequence) and self.conceal:
                yield from self._flush()
                if self._next < element.frame_count <= self._next + 255 and self._shown is not None:
                    yield from self._clip(Clip(element.frame_count - self._next))
            if self.finished:
                return
        if self.conceal:
            yield from self._flush()

    def _release(self, sharp: int = 0) -> Iterator[Picture]:
        """The frame of a leading keyframe (clause 10.1)."""
        if self._waiting is not None:
            yield sharpened(self._waiting, sharp)
        self._waiting = None

    def _wanted(self, first: int, count: int) -> range:
        """Which of ``count`` frames from ``first`` on are asked for, counted from 0."""
        stop = count if self.frames is None else min(count, self.start + self.frames - first)
        return range(max(0, self.start - first), max(stop, 0))

    def _keyframe(self, keyframe: Keyframe) -> Iterator[Picture]:
        path = f"keyframe[{self._keyframes}]"
        self._keyframes += 1
        yield from self._flush()
        try:
            picture = self._track.decode(keyframe, path)
        except TgvError as error:
            if self.conceal is None:
                raise
            self.conceal(error)
            self._track.reset()
            return
        if keyframe.role is Role.TRAILING:
            self._pending = keyframe, picture
            return
        yield from self._release()
        if self.conceal:
            if self._shown is None:
                self._shown = picture
            yield from self._hold(self._ahead(keyframe))
        self._shown = picture
        if self._wanted(self._next, 1):
            self._waiting = picture
        self._next += 1

    def _ahead(self, keyframe: Keyframe) -> int:
        """How many frames come before the one that ``keyframe`` shows, as far as its number tells."""
        return (keyframe.frame_number - self._next) % 256

    def _hold(self, count: int) -> Iterator[Picture]:
        """``count`` frames whose units are lost: the latest picture, or the next one, standing still."""
        pending, self._pending = self._pending, None
        if self._shown is None and pending is not None:
            self._shown = pending[1]
        if count and self._shown is not None:
            yield from self._clip(Clip(count))
        self._pending = pending

    def _flush(self) -> Iterator[Picture]:
        """The frames up to a trailing keyframe whose clip is missing, as a cross-fade."""
        if self._pending is not None:
            yield from self._clip(Clip(self._ahead(self._pending[0]) + 1))

    def _clip(self, clip: Clip) -> Iterator[Picture]:
        if self.conceal and self._pending is not None:
            ahead = self._ahead(self._pending[0]) + 1
            if clip.frame_count > ahead:
                yield from self._flush()
            else:
                yield from self._hold(ahead - clip.frame_count)
        last = self._pending[1] if self._pending is not None else None
        self._pending = None
        section = clip.interpolation if last is not None else None
        yield from self._release(0 if section is None else section.sharp)
        first = self._shown if self._shown is not None else last
        if first is None:
            return
        count = clip.frame_count
        wanted = self._wanted(self._next, count)
        frames = range(wanted.start + 1, wanted.stop + 1)
        picture = None
        for picture in reconstruct(clip, first, last, frames, self.mapper):
            yield picture
        self._next += count
        if self.finished:
            return
        if last is None and (picture is None or frames.stop != count + 1):
            (picture,) = reconstruct(clip, first, last, range(count, count + 1))
        self._shown = last if last is not None else picture
